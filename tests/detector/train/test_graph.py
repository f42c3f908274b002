"""The encoders as an ONNX file: the same as PyTorch, the same at any level, small."""

import numpy as np
import onnx
import onnxruntime
import pytest
import torch

from utils.audio import dsp
from utils.detector import embedding
from utils.detector.train import graph
from utils.models import encoders, frozen_features

DEPTHS = {"whisper-base": (0, 1), "campplus": (0, 1, 2, 3, 4)}
NO_FLOOR = -300.0  # dBFS


@pytest.fixture(scope="module")
def wave():
    """A voiced tone with noise, 3 s at 16 kHz, whose peak is that which the encoders get."""
    time = np.arange(3 * embedding.RATE) / embedding.RATE
    tone = sum(np.sin(2 * np.pi * 140 * k * time) / k for k in range(1, 40))
    noise = np.random.default_rng(0).standard_normal(len(time)) * 0.3
    loud = (tone + noise) * (0.6 + 0.4 * np.sin(2 * np.pi * 3 * time))
    return (embedding.PEAK * loud / np.abs(loud).max()).astype(np.float32)


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """(graph in PyTorch, the exact file, the rounded file)."""
    folder = tmp_path_factory.mktemp("encoders")
    graph.write(folder / "exact.onnx", eight_bits=False)
    graph.write(folder / "rounded.onnx")
    return graph.Statistics(), folder / "exact.onnx", folder / "rounded.onnx"


def test_without_a_floor_the_statistics_are_those_of_the_encoders(wave, monkeypatch):
    """The other way through the project: log-mels by FFT, layers of the encoders, pooling."""
    monkeypatch.setattr(graph, "LOWEST_HZ", 0)
    module, expected = graph.Statistics(NO_FLOOR), []
    narrow = dsp.resample(wave, embedding.RATE, dsp.RATE)
    heard = dsp.resample(narrow, dsp.RATE, embedding.RATE)
    scale = embedding.PEAK / np.abs(heard).max()
    for name, depths in DEPTHS.items():
        backbone = encoders.load(name, max(depths) + 1).eval()
        inputs = backbone.prepare(narrow * scale)
        with torch.no_grad():
            outputs = backbone.lower_layers(inputs[None], torch.tensor([len(inputs)]))
            if name == "campplus":  # the second block's end, and the third
                outputs = [*outputs, *backbone.upper_layers(*outputs[-1])]
                parts, (second, padding) = backbone.network.xvector, outputs[-1]
                third = parts["transit3"](parts["block3"](second.transpose(1, 2)))
                outputs = [*outputs, (third.transpose(1, 2), padding)]
            expected.append(frozen_features.pool([outputs[depth] for depth in depths])[0])
    with torch.no_grad():
        found = module(torch.from_numpy(heard)[None])[0]
    expected = torch.cat(expected)
    assert found.shape == expected.shape == (pooled_width(),)
    # above 4 kHz both see rounding only, each its own: that is what the floor is for
    assert (found - expected).abs().median() < 0.01


def pooled_width():
    return 3 * (2 * 512 + 320 + 256 + 768 + 512 + 512)


def test_the_file_gives_what_pytorch_gives(files, wave):
    module, exact, rounded = files
    with torch.no_grad():
        expected = module(torch.from_numpy(wave)[None]).numpy()
    found = embedding.Encoders(exact).statistics(wave[None])
    weight = np.random.default_rng(1).standard_normal(found.shape[1])
    weight *= 10 / np.abs(expected[0] @ weight)  # a head whose log-odds are ± 10
    assert np.abs((found - expected) @ weight).max() < 1e-3
    smaller = embedding.Encoders(rounded).statistics(wave[None])
    assert np.abs(smaller - expected).mean() < 0.04
    assert np.corrcoef(smaller[0], expected[0])[0, 1] > 0.999


def test_rumble_and_hum_are_not_heard(files, wave):
    """Below 80 Hz nothing counts: the sum of a wave and of such tones has the same statistics."""
    module, _, _ = files
    time = np.arange(len(wave)) / embedding.RATE
    rumble = 0.03 * np.sin(2 * np.pi * 30 * time) + 0.03 * np.sin(2 * np.pi * 50 * time)
    tone = 0.03 * np.sin(2 * np.pi * 500 * time)
    with torch.no_grad():
        found = [
            module(torch.from_numpy((wave + other).astype(np.float32))[None])[0]
            for other in (np.zeros_like(wave), rumble, tone)
        ]
    change = [(other - found[0]).abs().mean() for other in found[1:]]
    assert change[0] < 0.3 * change[1]


def test_the_file_holds_weights_in_few_bytes(files):
    _, exact, rounded = files
    assert rounded.stat().st_size < 20e6 < exact.stat().st_size


def test_level_changes_nothing_and_a_batch_is_as_its_clips(files, wave):
    encoders_ = embedding.Encoders(files[2])
    one = encoders_.statistics(wave[None])
    exact = embedding.Encoders(files[1])
    moved = exact.statistics(0.01 * wave[None]) - exact.statistics(wave[None])
    assert np.abs(moved).max() < 1e-4
    assert np.abs(encoders_.statistics(0.01 * wave[None]) - one).max() < 0.03
    two = encoders_.statistics(np.stack([wave[::-1], wave]))
    assert np.abs(two[1] - one[0]).max() < 0.1  # 8 bits are chosen for a batch as a whole


def test_rounding_of_samples_changes_little(files, wave):
    """16 bits of a clip that is 40 dB too quiet lie under the noise floor, or nearly so."""
    quiet = np.round(wave * 0.01 * 32768) / 32768
    encoders_ = embedding.Encoders(files[2])
    moved = encoders_.statistics(quiet[None].astype(np.float32)) - encoders_.statistics(wave[None])
    assert np.abs(moved).mean() < 0.02


def test_weights_of_products_have_7_bits(files):
    """A processor without VNNI sums two products in 16 bits: 8 bits would not always fit."""
    graph_ = onnx.load(files[2]).graph
    weights = [onnx.numpy_helper.to_array(w) for w in graph_.initializer if w.data_type == 3]
    largest = [np.abs(each.astype(int)).max() for each in weights if each.size > 1]
    assert len(largest) > 40 and max(largest) <= 64


def test_clips_of_any_length_are_as_in_pytorch(files):
    """Segments of CAM++ last a second: ends inside the first, at an edge and behind it."""
    module, exact, _ = files
    noise = np.random.default_rng(3).standard_normal((1, 16_000 * 5)).astype(np.float32)
    for samples in (4000, 16_240, 32_240, 32_560, 80_000):
        with torch.no_grad():
            expected = module(torch.from_numpy(noise[:, :samples])).numpy()
        found = embedding.Encoders(exact).statistics(noise[:, :samples])
        assert np.abs(found - expected).max() < 2e-3, samples


def test_the_file_needs_nothing_but_onnx_runtime(files):
    session = onnxruntime.InferenceSession(files[2], providers=["CPUExecutionProvider"])
    assert [each.name for each in session.get_inputs()] == ["wave"]
    assert [each.name for each in session.get_outputs()] == ["statistics"]
    domains = {node.domain for node in onnx.load(files[2]).graph.node}
    assert domains <= {"", "com.microsoft"}
