"""Engines: precisions agree; neither other clips nor threads change the score of a clip."""

import logging

import numpy as np
import psutil
import pytest
import torch
from transformers import WhisperConfig
from transformers.models.whisper.modeling_whisper import WhisperEncoder

from utils import parallel
from utils.evaluation import benchmark
from utils.models import encoders, finetune, inference


@pytest.fixture(scope="module")
def model() -> finetune.Classifier:
    """A small Whisper with random weights under a random head."""
    torch.manual_seed(0)
    config = WhisperConfig(
        d_model=64, encoder_layers=2, encoder_ffn_dim=128, encoder_attention_heads=4
    )
    return benchmark.detector_of(encoders.WhisperBackbone(WhisperEncoder(config), 2))


@pytest.fixture
def waves(speechlike):
    """12 clips of different length, 0.75 to 1.3 s."""
    rng = np.random.default_rng(1)
    lengths = [6000 + 400 * i for i in range(12)]
    return [np.float32(speechlike[:n] + 0.01 * rng.standard_normal(n)) for n in lengths]


def alone(model, wave):
    """The score of one clip by the model itself."""
    features = model.backbone.prepare(wave)
    with torch.inference_mode():
        return float(model(features[None], torch.tensor([len(features)])))


def test_the_other_clips_of_a_batch_do_not_change_a_score(model, waves):
    scores = inference.Engine(model).scores([*waves, *waves[:3]])
    expected = [alone(model, wave) for wave in [*waves, *waves[:3]]]
    assert scores == pytest.approx(expected, abs=1e-4)


def test_no_clips_give_no_scores(model):
    assert inference.Engine(model).scores([]).shape == (0,)


@pytest.mark.parametrize("precision, within", [("fp32", 1e-4), ("int8", 0.05)])
def test_threads_do_not_change_a_score(model, waves, precision, within):
    engine, before = inference.Engine(model, precision), torch.get_num_threads()
    assert engine.scores(waves, threads=3) == pytest.approx(engine.scores(waves), abs=within)
    assert torch.get_num_threads() == before


def test_a_long_clip_is_cut_at_max_s(model, waves):
    long = np.tile(waves[0], 25)  # 18.75 s
    engine, longer = inference.Engine(model), inference.Engine(model, max_s=30)
    assert engine.scores([long])[0] == engine.scores([long[: 15 * 8000]])[0]
    assert engine.scores([long])[0] != longer.scores([long])[0]


@pytest.mark.parametrize(
    "precision, within", [("fp32", 1e-4), ("fp16", 0.05), ("bf16", 0.3), ("int8", 0.5)]
)
def test_precisions_agree_with_double_precision(model, waves, precision, within):
    exact = inference.Engine(model, "fp64").scores(waves)
    scores = inference.Engine(model, precision).scores(waves)
    assert scores == pytest.approx(exact, abs=within * exact.std())
    assert {p.dtype for p in model.parameters()} == {torch.float32}  # the model is left alone


def test_an_unknown_precision_is_refused(model):
    with pytest.raises(ValueError, match="fp8"):
        inference.Engine(model, "fp8")


def test_int8_is_refused_where_it_changes_nothing():
    backbone = encoders.CAMPPlusBackbone(encoders.CAMPPlus())
    with pytest.raises(ValueError, match="no linear layer"):
        inference.Engine(finetune.Classifier(backbone, 1), "int8")


def test_quantising_silences_onnx_runtime_and_nobody_else(model, monkeypatch, caplog):
    """Failed while all logging was off meanwhile."""
    import onnxruntime.quantization

    quantise = onnxruntime.quantization.quantize_dynamic

    def speak_and_quantise(*arguments, **options):
        logging.getLogger("another").warning("said meanwhile")
        quantise(*arguments, **options)

    monkeypatch.setattr(onnxruntime.quantization, "quantize_dynamic", speak_and_quantise)
    with caplog.at_level(logging.INFO):
        inference.Engine(model, "int8")
        logging.warning("said by the root logger afterwards")
    said = [record.getMessage() for record in caplog.records]
    assert said == ["said meanwhile", "said by the root logger afterwards"]


def _memory_of_lengths(lengths: range) -> list[float]:
    """Memory in MB after a clip of each length was scored."""
    engine = benchmark.random_engine("campplus", 1, "fp32")
    noise = np.random.default_rng(0).standard_normal(16000).astype(np.float32)
    memory = []
    for length in lengths:
        engine.scores([noise[:length]])
        memory.append(psutil.Process().memory_info().rss / 1e6)
    return memory


@pytest.mark.slow
def test_memory_does_not_grow_with_the_number_of_different_lengths():
    with parallel.process_pool(1) as pool:
        job = (range(8000, 16000, 80),)
        memory = pool.submit(parallel.run_single_threaded, _memory_of_lengths, job).result()
    assert memory[-1] < 1.1 * memory[9], memory[::10]
