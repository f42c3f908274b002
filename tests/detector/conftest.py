"""A detector that is trained in seconds, for the tests of this folder."""

from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd
import pytest

from utils.audio import dsp
from utils.detector import detector
from utils.models import classifiers, pooled_features

# not in the order of the alphabet, into which JSON could bring them
DEPTHS = {"ge2e": (0, 1, 2), "campplus": (0,)}
SLOPE, OFFSET = 2.0, -0.5


class Toy(NamedTuple):
    folder: Path  # of the detector
    waves: list[np.ndarray]  # 8 hisses (bona fide), then 8 hums (spoof), of 1.5 s at 8 kHz
    log_odds: np.ndarray  # of `waves`, by the model before it was saved


@pytest.fixture(scope="session")
def toy(tmp_path_factory):
    """A detector that tells hisses (bona fide) from hums (spoof): its decisions are certain."""
    rng, time = np.random.default_rng(0), np.arange(12000) / dsp.RATE
    waves = [rng.normal(size=12000).astype(np.float32) * 0.1 for _ in range(8)]
    hums = [0.1 * np.sin(2 * np.pi * hertz * time) for hertz in range(200, 1000, 100)]
    waves += [hum.astype(np.float32) for hum in hums]
    label = np.array([1] * 8 + [0] * 8)
    features = pooled_features.features_in_this_process(waves, DEPTHS)
    model = classifiers.fit_svm(features, label)
    clips = pd.DataFrame(
        {
            "label": label,
            "system": [f"clip {i}" for i in range(16)],
            "page": "page-test",
            "language": "en",
        }
    )
    card = {
        "depths": list(DEPTHS.items()),
        "threshold": 0.5,
        "familiar": 0.1,
        "recall_bonafide": 0.9,
        "recall_spoof": 0.8,
    }
    folder = tmp_path_factory.mktemp("detector")
    detector.save(folder, model, SLOPE, OFFSET, card, clips)
    return Toy(folder, waves, SLOPE * model.decision_function(features) + OFFSET)
