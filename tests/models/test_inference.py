"""Engines: precisions agree, company does not change a score, files in processes resume and lose nothing; what is counted."""

import csv
import os
import subprocess
import sys
import time

import numpy as np
import psutil
import pytest
import soundfile as sf
import torch
from transformers import WhisperConfig
from transformers.models.whisper.modeling_whisper import WhisperEncoder

from utils import parallel, paths
from utils.audio import dsp, reading
from utils.detector import batch_scoring
from utils.evaluation import benchmark
from utils.models import encoders, finetune, inference


def small() -> finetune.Classifier:
    torch.manual_seed(0)
    encoder = WhisperEncoder(
        WhisperConfig(d_model=64, encoder_layers=2, encoder_ffn_dim=128, encoder_attention_heads=4)
    )
    return benchmark.detector_of(encoders.WhisperBackbone(encoder, 2))


@pytest.fixture
def waves(speechlike):
    rng = np.random.default_rng(1)
    return [
        np.float32(speechlike[: 6000 + 400 * i] + 0.01 * rng.standard_normal(6000 + 400 * i))
        for i in range(12)
    ]


def test_a_clip_scores_the_same_in_any_company(waves):
    model = small()
    engine = inference.Engine(model)
    together = engine.scores([*waves, *waves[:3]])
    assert np.allclose(together[:12], [finetune.score(model, wave) for wave in waves], atol=1e-4)
    assert np.allclose(together[:12], [engine.scores([wave])[0] for wave in waves], atol=1e-4)
    assert np.allclose(together[12:], together[:3], atol=1e-4) and engine.scores([]).shape == (0,)
    threads = torch.get_num_threads()
    assert (
        np.allclose(engine.scores(waves, threads=2), together[:12], atol=1e-4)
        and torch.get_num_threads() == threads
    )
    rounded = inference.Engine(model, "int8")
    assert np.allclose(rounded.scores(waves, threads=3), rounded.scores(waves), atol=0.05)
    long = np.tile(waves[0], 25)
    assert (
        engine.scores([long])[0]
        == engine.scores([long[: 15 * 8000]])[0]
        != inference.Engine(model, max_s=30).scores([long])[0]
    )


def test_precisions_agree(waves):
    model = small()
    exact = inference.Engine(model, "fp64").scores(waves)
    spread = exact.std()
    for precision, within in (("fp32", 1e-4), ("fp16", 0.05), ("bf16", 0.3), ("int8", 0.5)):
        assert (
            np.abs(inference.Engine(model, precision).scores(waves) - exact).max() < within * spread
        ), precision
    assert {p.dtype for p in model.parameters()} == {
        torch.float32
    }  # the model itself is left alone
    with pytest.raises(ValueError, match="fp8"):
        inference.Engine(model, "fp8")


def test_int8_is_refused_where_it_changes_nothing():
    with pytest.raises(ValueError, match="no linear layer"):
        inference.Engine(
            finetune.Classifier(encoders.CAMPPlusBackbone(encoders.CAMPPlus()), 1), "int8"
        )


class Loudness:
    """A judge that is cheap: the level of each wave."""

    def rows(self, waves):
        return [{"score": f"{dsp.dbfs(wave):.3f}"} for wave in waves]


def test_files_are_scored_in_order_and_bad_ones_named(waves, tmp_path, monkeypatch):
    monkeypatch.setattr(inference, "SHARD", 5)
    files = [tmp_path / f"{i}.wav" for i in range(12)]
    for file, wave in zip(files, waves, strict=True):
        reading.write(file, wave)
    files[3].write_text("words")
    files[7].unlink()
    rows = list(batch_scoring.score_files(files, Loudness))
    assert [row["file"] for row in rows] == [str(f) for f in files]
    assert [i for i, row in enumerate(rows) if row["error"]] == [3, 7] and "not audio" in rows[3][
        "error"
    ]
    assert float(rows[0]["score"]) == pytest.approx(dsp.dbfs(reading.read(files[0])), abs=1e-3)
    assert list(batch_scoring.score_files([], Loudness)) == []
    assert rows == list(batch_scoring.score_files(files, Loudness, processes=1))
    ahead = list(
        batch_scoring.score_files(files, benchmark.random_engine, ("ge2e", 1, "fp32"), processes=1)
    )  # an engine's features are made ahead
    alone = benchmark.random_engine("ge2e", 1, "fp32").scores(waves[:1])[0]
    assert [bool(row["error"]) for row in ahead] == [bool(row["error"]) for row in rows]
    assert float(ahead[0]["score"]) == pytest.approx(alone, abs=1e-3)


def test_a_killed_scoring_goes_on(waves, tmp_path):
    files = [tmp_path / f"{i}.wav" for i in range(8)]
    for file, wave in zip(files, waves, strict=False):
        reading.write(file, wave)
    (tmp_path / "slow.py").write_text(
        "import sys, time\nfrom pathlib import Path\nfrom utils import engines\nengines.SHARD = 2\n"
        "class Slow:\n    def rows(self, waves):\n        time.sleep(0.4)\n        return [{'score': str(len(w))} for w in waves]\n"
        "if __name__ == '__main__':\n    here = Path(sys.argv[1])\n"
        "    rows = list(engines.score_files(sorted(here.glob('*.wav')), Slow, (), here / 'keep', processes=1))\n"
        "    print(len(rows), flush=True)\n"
    )
    command = [sys.executable, str(tmp_path / "slow.py"), str(tmp_path)]
    options = {
        "env": os.environ | {"PYTHONPATH": str(paths.ROOT)},
        "stdout": subprocess.PIPE,
        "text": True,
    }
    first = subprocess.Popen(command, **options)
    while len(list((tmp_path / "keep").glob("*.csv"))) < 2:
        time.sleep(0.02)
    first.kill()
    first.wait()
    before = {p: p.stat().st_mtime_ns for p in (tmp_path / "keep").glob("*.csv")}
    assert 2 <= len(before) < 4
    assert subprocess.run(command, check=True, **options).stdout.strip() == "8"
    assert all(
        p.stat().st_mtime_ns == stamp for p, stamp in before.items()
    )  # finished shards are not scored again
    batch_scoring.clear(tmp_path / "keep")
    assert not (tmp_path / "keep").exists()


def test_read_ahead_keeps_order_and_raises():
    assert (
        list(batch_scoring.read_ahead([1, 2, 3], lambda n: n * n)) == [1, 4, 9]
        and list(batch_scoring.read_ahead([], abs)) == []
    )
    with pytest.raises(ZeroDivisionError):
        list(batch_scoring.read_ahead([1, 0], lambda n: 1 / n))


def test_operations_by_hand():
    parts = benchmark.whisper_operations(
        1.0, width=4, layers=2, inner=8, mels=3
    )  # 100 mel frames, 50 positions
    assert parts == {
        "convolutions": 2 * (100 * 3 * 4 * 3 + 50 * 4 * 4 * 3),
        "projections": 2 * 2 * 50 * 4 * 16,
        "attention": 2 * 2 * (2 * 50 * 50 * 4),
        "feed-forward": 2 * 2 * 50 * 2 * 4 * 8,
    }
    assert benchmark.matrix_rate(1, seconds=0.05) > 1e9


def test_cost_is_that_of_a_process_of_its_own(waves):
    found = benchmark.cost_alone([(benchmark.random_engine, ("ge2e", 1, "fp32"))], waves[:2])
    assert np.allclose(
        found["scores"][:, 0],
        benchmark.random_engine("ge2e", 1, "fp32").scores(waves[:2]),
        atol=1e-4,
    )
    assert (
        found["parameters (M)"] == pytest.approx(1.35, abs=0.1)
        and found["peak RAM (GB)"] < 4
        and found["× real time"] > 1
    )
    with pytest.raises(ValueError, match="precision"):
        benchmark.cost_alone([(benchmark.random_engine, ("ge2e", 1, "fp8"))], waves[:1])


def test_rows_of_files_are_written_as_csv(tmp_path, waves):
    sf.write(tmp_path / "a.wav", waves[0], 8000)
    batch_scoring._shard(Loudness, (), [tmp_path / "a.wav"], tmp_path / "out.csv")
    with (tmp_path / "out.csv").open() as file:
        assert list(next(csv.DictReader(file))) == ["file", "score", "error"]


def _memory_of_lengths(lengths: range) -> list[float]:
    engine, noise = (
        benchmark.random_engine("campplus", 1, "fp32"),
        np.random.default_rng(0).standard_normal(16000).astype(np.float32),
    )
    found = []
    for length in lengths:
        engine.scores([noise[:length]])
        found.append(psutil.Process().memory_info().rss / 1e6)
    return found


def test_memory_does_not_grow_with_the_lengths_of_clips():
    with parallel.process_pool(1) as pool:
        memory = pool.submit(
            parallel.run_single_threaded, _memory_of_lengths, (range(8000, 16000, 80),)
        ).result()
    assert memory[-1] < 1.1 * memory[9], memory[::10]
