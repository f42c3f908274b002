"""The encoders as an ONNX file: the same as PyTorch, the same at any level, small."""

import numpy as np
import onnx
import onnxruntime
import pytest
import torch

from utils.audio import dsp
from utils.detector import embedding
from utils.detector.train import graph
from utils.models import encoders, frozen_features, pooled_features

DEPTHS = {"whisper-base": (0, 1, 2), "campplus": (0, 1, 2, 3)}
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
            if len(outputs) <= max(depths):
                outputs = [*outputs, *backbone.upper_layers(*outputs[-1])]
            expected.append(frozen_features.pool([outputs[depth] for depth in depths])[0])
    with torch.no_grad():
        found = module(torch.from_numpy(heard)[None])[0]
    expected = torch.cat(expected)
    assert found.shape == expected.shape == (pooled_width(),)
    # above 4 kHz both see rounding only, each its own: that is what the floor is for
    assert (found - expected).abs().median() < 0.01


def pooled_width():
    return 3 * sum(pooled_features._channels(name, d) for name in DEPTHS for d in DEPTHS[name])


def test_the_file_gives_what_pytorch_gives(files, wave):
    module, exact, rounded = files
    with torch.no_grad():
        expected = module(torch.from_numpy(wave)[None]).numpy()
    found = embedding.Encoders(exact).statistics(wave[None])
    weight = np.random.default_rng(1).standard_normal(found.shape[1])
    weight *= 10 / np.abs(expected[0] @ weight)  # a head whose log-odds are ± 10
    assert np.abs((found - expected) @ weight).max() < 1e-3
    smaller = embedding.Encoders(rounded).statistics(wave[None])
    assert np.abs(smaller - expected).max() < 0.3 and np.abs(smaller - expected).mean() < 0.01


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
    assert rounded.stat().st_size < 25e6 < exact.stat().st_size


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
    assert np.abs(moved).mean() < 0.05


def test_the_file_needs_nothing_but_onnx_runtime(files):
    session = onnxruntime.InferenceSession(files[2], providers=["CPUExecutionProvider"])
    assert [each.name for each in session.get_inputs()] == ["wave"]
    assert [each.name for each in session.get_outputs()] == ["statistics"]
    domains = {node.domain for node in onnx.load(files[2]).graph.node}
    assert domains <= {"", "com.microsoft"}
