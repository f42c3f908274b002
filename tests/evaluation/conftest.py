"""Synthetic clips for the tests of protocols and comparisons."""

import numpy as np
import pandas as pd
import pytest

from utils.evaluation import ablation

FAMILIES = ("hifigan", "world", "kokoro", "pico", "espeak")


@pytest.fixture(scope="session")
def clips():
    """240 training clips of 24 groups, 12 corpora and 5 families; 40 of a test, 30 external ones.

    Spoofs of kokoro come from text-to-speech: their source is the system, not a corpus.
    """
    rows = []
    for i in range(240):
        family = "bonafide" if i % 2 else FAMILIES[i // 2 % 5]
        source = "kokoro" if family == "kokoro" else f"corpus {i // 20}"
        group = f"kokoro {i // 60}" if family == "kokoro" else f"g{i // 10}"
        row = {"id": f"{i:03d}", "label": i % 2, "family": family, "source": source}
        rows.append(row | {"group": group, "set": "train"})
    for i in range(70):
        family = "bonafide" if i % 2 else "vits"
        row = {"id": f"t{i:02d}", "label": i % 2, "family": family, "source": "x"}
        rows.append(row | {"group": f"x{i // 7}", "set": "test" if i < 40 else "external"})
    return pd.DataFrame(rows)


@pytest.fixture(scope="session")
def features(clips):
    """Noise (310, 6) whose first column separates the classes by so many standard deviations."""

    def of(apart, seed=0):
        x = np.random.default_rng(seed).normal(size=(len(clips), 6)).astype(np.float32)
        x[:, 0] += apart * clips["label"]
        return x

    return of


@pytest.fixture(scope="session")
def tables(clips, features):
    """Scores of four models whose errors are independent."""
    return [
        ablation.score_condition(clips, 0, "logistic", features(1.5, seed), None)
        for seed in range(4)
    ]
