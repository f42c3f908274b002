"""What may train the detector, and how its clips are heard."""

import numpy as np
import pandas as pd
import pytest

from utils import contracts
from utils.audio import reading
from utils.detector import embedding
from utils.detector.train import material


@pytest.fixture
def folder(tmp_path, speechlike):
    """A folder as `sources.demo_pages` writes it: four clips of two owners."""
    (tmp_path / "clips").mkdir()
    rows = []
    paths = ("VCTK/p225_001.wav", "tts/x.mp3", "LJ001-0001.wav", "mine.wav")
    for number, path in enumerate(paths):
        reading.write(tmp_path / "clips" / f"{number}.wav", speechlike)
        owner = "Maker" if number < 3 else "other"
        facts = {"id": f"demo_pages/{number}.wav", "file": f"clips/{number}.wav"}
        facts |= {"label": ["1", "0", "1", ""][number], "system": "s", "language": "en"}
        facts |= {"kind": "page", "repo": f"{owner}/demo", "page_path": path, "native_hz": 22050}
        rows.append(facts)
    pd.DataFrame(rows).to_csv(tmp_path / "meta.csv", index=False)
    return tmp_path


def test_clips_with_a_label_are_read_with_owner_corpus_and_original(folder):
    clips = material.read_clips(folder)
    assert clips["label"].tolist() == [1, 0, 1]  # that of a neural codec has none
    assert clips["owner"].tolist() == ["maker"] * 3
    assert clips["corpus"].tolist() == ["VCTK", "", "LJSpeech"]
    assert clips["suffix"].tolist() == [".wav", ".mp3", ".wav"]
    assert clips["native_hz"].tolist() == [22050] * 3


def test_recordings_whose_bandwidth_was_extended_are_neither_class(folder):
    meta = pd.read_csv(folder / "meta.csv", keep_default_na=False)
    meta.loc[1, "system"] = "bwe:NVSR"
    meta.to_csv(folder / "meta.csv", index=False)
    assert material.read_clips(folder)["label"].tolist() == [1, 1]


def test_an_owner_that_is_reserved_for_evaluation_never_trains(folder):
    meta = pd.read_csv(folder / "meta.csv")
    meta.loc[1, "repo"] = "Rhasspy/larynx"
    meta.to_csv(folder / "meta.csv", index=False)
    with pytest.raises(contracts.ContractError, match="reserved for evaluation: Rhasspy/larynx"):
        material.read_clips(folder)


def test_low_passed_clips_hold_nothing_above_their_edge():
    noise = np.random.default_rng(0).standard_normal(embedding.RATE).astype(np.float32)
    edges = {material.low_passed(noise, name).tobytes() for name in ("a", "b", "a")}
    assert len(edges) == 2  # drawn by the name
    for name in ("a", "b", "c", "d"):
        found = embedding.bandwidth_hz(material.low_passed(noise, name))
        assert material.LOWPASS_HZ[0] - 200 < found < material.LOWPASS_HZ[1] + 500


def test_short_clips_are_heard_as_the_detector_hears_them(folder):
    """2 s of a clip at 8 kHz: repeated to 4 s, nothing above 4 kHz."""
    heard = material._heard(str(folder / "clips" / "0.wav"), embedding.NARROW)
    assert len(heard) == 4 * embedding.RATE
    assert embedding.bandwidth_hz(heard) <= 4100


def test_versions_of_a_clip_are_drawn_by_its_name(folder):
    path = str(folder / "clips" / "0.wav")
    for kind in ("8 kHz, degraded", "low-passed, degraded", "16 kHz, quiet"):
        heard = material._heard(path, kind)
        assert np.array_equal(heard, material._heard(path, kind)), kind
        assert not np.array_equal(heard, material._heard(path, kind.split(",")[0])), kind
    assert embedding.bandwidth_hz(material._heard(path, "8 kHz, degraded")) <= 4100
    quiet = material._heard(path, "16 kHz, quiet")
    assert 0.005 < np.abs(quiet).max() < 0.008  # 40 dB under 0.7
