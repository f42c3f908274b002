"""A detector of two statistics, and sounds that it tells apart, for the tests of this folder."""

from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest

from tests import helpers
from utils.detector.embedding import RATE


class Toy(NamedTuple):
    folder: Path  # of the detector
    waves: list[np.ndarray]  # 8 hisses (bona fide), then 8 hums (spoof), of 1.5 s at 16 kHz


@pytest.fixture(scope="session")
def toy(tmp_path_factory):
    """A detector that tells hisses (bona fide) from hums (spoof): its decisions are certain.

    The hisses reach up to 8 kHz and have the wide head, the hums have the narrow one.
    """
    rng, time = np.random.default_rng(0), np.arange(24000) / RATE
    waves = [rng.normal(size=24000).astype(np.float32) * 0.1 for _ in range(8)]
    hums = [0.1 * np.sin(2 * np.pi * hertz * time) for hertz in range(200, 1000, 100)]
    waves += [hum.astype(np.float32) for hum in hums]
    folder = tmp_path_factory.mktemp("detector")
    helpers.write_toy_detector(folder)
    return Toy(folder, waves)
