"""The model card: front matter, counts, errors by group, clips to hear, and no typed result."""

import re

import numpy as np
import pandas as pd
import pytest
import yaml

from utils.audio import reading
from utils.detector.embedding import RATE
from utils.detector.studies import card_facts, results
from utils.pipeline.pages import filling

SETTINGS = {"0.5", "3.11", "0.001", "1.0"}  # a coin, Python, the bound of a test


def part_of_a_table(text, heading):
    """Rows of the first table behind a heading, as lists of cells."""
    lines = text[text.index(heading) :].splitlines()
    first = next(number for number, line in enumerate(lines) if line.startswith("|"))
    found = []
    for line in lines[first:]:
        if not line.startswith("|"):
            return found
        found.append([cell.strip() for cell in line.strip("|").split("|")])
    return found


@pytest.fixture(scope="module")
def written():
    """The card as it lies in the reference run."""
    return (results.TABLES / "README.md").read_text(encoding="utf-8")


def test_the_front_matter_is_what_the_hub_reads(written):
    _, front, _ = written.split("---\n", 2)
    said = yaml.safe_load(front)
    assert said["license"] == "apache-2.0" and said["pipeline_tag"] == "audio-classification"
    assert said["library_name"] == "onnxruntime" and "en" in said["language"]
    assert all(re.fullmatch("[a-z]{2,3}", code) for code in said["language"])
    inner, external = said["model-index"][0]["results"]
    quality = pd.read_csv(results.TABLES / "quality.csv", index_col="scored")
    found = {each["type"]: each["value"] for each in inner["metrics"]}
    released = quality.loc["as released (16 kHz head where there is sound)"]
    assert found["eer"] == pytest.approx(released["eer"], abs=6e-4)
    expected = pd.read_csv(results.TABLES / "external_test.csv").iloc[0]
    assert external["metrics"][0]["value"] == pytest.approx(expected["eer"], abs=6e-4)


def test_the_template_types_no_result():
    template = filling.TEMPLATES / "outputs/reference/detector/README.md"
    text = filling.FIELD.sub("", template.read_text(encoding="utf-8"))
    text = re.sub(r"https?://[^\s)]*", "", text)
    typed = re.findall(r"(?<![\w.{-])\d+\.\d+|\d+(?=\s?%)", text)
    assert set(typed) - SETTINGS - {"95"} == set()


def test_languages_and_kinds_add_up_to_all_clips(written):
    table = results.read(results.TABLES / "scores.csv")
    for heading in ("| kind | bona fide | spoofs", "| language (ISO 639"):
        rows = part_of_a_table(written, heading)[2:]
        counts = np.array([[int(cell.replace(",", "")) for cell in row[1:3]] for row in rows])
        bonafide = table["label"].sum()
        assert counts.sum(axis=0).tolist() == [bonafide, len(table) - bonafide]


@pytest.fixture
def clips():
    """Six clips of three owners; the threshold 0.5 takes the second spoof for bona fide."""
    return pd.DataFrame(
        {
            "label": [1, 1, 1, 0, 0, 0],
            "owner": ["a", "b", "b", "a", "a", "c"],
            "kind": ["plain", "page", "page", "page", "page", "page"],
            "language": ["en", "en", "fr", "en", "en", "und"],
            "corpus": ["", "VCTK", "", "", "VCTK", ""],
            "seconds": [1.5, 3.0, 6.0, 6.0, 6.0, 2.0],
            "score_16khz": [1.0, np.nan, 1.0, -1.0, 1.0, -1.0],
            "score": [1.0, -1.0, 1.0, -1.0, 1.0, -1.0],
        }
    )


def test_errors_are_told_by_group_with_counts_and_owners(clips):
    errors = pd.DataFrame(
        {
            "by": ["family", "language", "language"],
            "group": ["vocoder", "en", "fr"],
            "label": [0, 1, 1],
            "errors": [0.25, 0.5, 0.0],
            "clips": [8, 2, 1],
            "owners": [3, 2, 1],
        }
    )
    found = card_facts.of_groups(clips, errors, 0.5)
    assert "| kind | demo pages | 33% | 3 (2) | 50% | 2 (1) |" in found["group_rows"]
    assert "| kind | recordings of people | – | – | 0% | 1 (1) |" in found["group_rows"]
    assert "| language | English | 50% | 2 (1) | 50% | 2 (2) |" in found["group_rows"]
    assert "| length | up to 2 s | 0% | 1 (1) | 0% | 1 (1) |" in found["group_rows"]
    assert found["family_rows"] == "| vocoder | 25% | 8 (3) |"
    assert found["language_error_rows"].splitlines()[0] == "| en | – | – | 50% | 2 (2) |"


def test_a_clip_that_is_decided_wrongly_is_marked():
    scores = {"person.flac": 0.9, "computer.flac": 0.1, card_facts.NOISY.name: 0.8}
    person, computer, noisy = card_facts.of_examples(scores, 0.5)["example_rows"].splitlines()
    assert person.endswith("| 0.90 | bona fide | right |")
    assert computer.endswith("| 0.10 | spoof | right |")
    assert noisy.endswith("| 0.80 | bona fide | **wrong** |")


def test_the_noisy_clip_is_the_computers_with_noise_and_small():
    assert card_facts.NOISY.stat().st_size < 100_000
    found = reading.read(card_facts.NOISY, RATE)
    assert np.allclose(found, card_facts.noisy_clip(), atol=1e-3)


def test_earlier_releases_stand_beside_this_one(monkeypatch):
    external = {"eer": 0.15, "eer_low": 0.1, "eer_high": 0.2, "auc": 0.92}
    external = pd.Series(external | {"clips": 716.0, "owners": 11.0, "ece": 0.06})
    rows = card_facts.of_releases(external, 1337)["release_rows"].splitlines()
    shown = [row.split(" | ")[0] for row in rows]
    assert shown == ["| 67", "| 441", "| 671", "| 883", "| **1,337**"]
    assert "0.150 [0.100, 0.200] | 0.920" in rows[-1]
    monkeypatch.setitem(card_facts.CHANGES, 2000, "more owners")
    assert len(card_facts.of_releases(external, 2000)["release_rows"].splitlines()) == 6
