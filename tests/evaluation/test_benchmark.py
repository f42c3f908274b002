"""Costs: operations counted, processes apart, rivals that score and train."""

import matplotlib.pyplot as plt
import numpy as np
import pytest
import torch
from transformers import WhisperConfig
from transformers.models.whisper.modeling_whisper import WhisperEncoder

from utils.audio import dsp
from utils.evaluation import benchmark, rivals
from utils.models import encoders, finetune


@pytest.fixture(scope="module")
def waves():
    """Three clips of one second of noise at 8 kHz."""
    return [0.1 * dsp.coloured_noise(8000, 3, np.random.default_rng(i)) for i in range(3)]


def test_the_operations_of_whisper_are_those_counted_by_hand():
    width, layers, inner, mels = 64, 2, 128, 80
    encoder = WhisperEncoder(
        WhisperConfig(
            d_model=width,
            encoder_layers=layers,
            encoder_ffn_dim=inner,
            encoder_attention_heads=4,
            num_mel_bins=mels,
        )
    )
    counted = benchmark.count_operations(encoders.WhisperBackbone(encoder, layers), 1.0)
    # 100 mel frames, 50 positions; a multiplication and an addition are two operations
    assert counted == {
        "convolutions": 2 * (100 * mels * width * 3 + 50 * width * width * 3),
        "linear layers": layers * 2 * 50 * (4 * width * width + 2 * width * inner),
        "attention": layers * 2 * 2 * 50 * 50 * width,
    }


def test_operations_of_a_time_delay_network_are_counted_too():
    short, long = (
        sum(benchmark.count_operations(encoders.load("campplus", 3), seconds).values())
        for seconds in (1.0, 2.0)
    )
    assert short > 1e8 and long == pytest.approx(2 * short, rel=0.1)


def test_the_speed_of_matrix_products_is_that_of_a_machine_of_today():
    threads = torch.get_num_threads()
    try:
        assert 1e9 < benchmark.matrix_speed(1, seconds=0.05) < 1e13
    finally:
        torch.set_num_threads(threads)


def test_the_machine_names_its_instructions():
    assert benchmark.machine().endswith(f"({torch.backends.cpu.get_cpu_capability()})")


@pytest.mark.slow
def test_cost_is_that_of_a_process_of_its_own(waves):
    ballast = np.ones(300_000_000)  # 2.4 GB here must not count there
    cost = benchmark.cost_alone([(benchmark.random_engine, ("ge2e", 1, "fp32"))], waves[:2])
    assert ballast.nbytes / 1e9 > cost["peak_ram_gb"]
    same_process = benchmark.random_engine("ge2e", 1, "fp32").scores(waves[:2])
    assert np.allclose(cost["scores"][:, 0], same_process, atol=1e-4)
    assert cost["parameters_millions"] == pytest.approx(1.35, abs=0.1)
    assert cost["times_real_time"] > 1


@pytest.mark.slow
def test_an_error_of_an_engine_is_raised_here(waves):
    with pytest.raises(ValueError, match="precision"):
        benchmark.cost_alone([(benchmark.random_engine, ("ge2e", 1, "fp8"))], waves[:1])


def test_the_baseline_rival_scores_and_learns(waves):
    cost = rivals.measure("cnn", "step", waves, threads=1)
    assert set(cost) == {"wall_s", "cpu_s", "peak_mb"} and min(cost.values()) > 0
    torch.manual_seed(0)
    rival = rivals.cnn()
    labels = torch.tensor([0, 1, 1])
    optimiser = torch.optim.SGD(rival.model.parameters(), 0.5)
    before = rival.score(waves)
    for _ in range(150):
        optimiser.zero_grad()
        rival.backward(waves, labels)
        optimiser.step()
    after = rival.score(waves)
    assert before.shape == (3,)
    assert after[1:].mean() - after[0] > before[1:].mean() - before[0]  # the classes move apart


def test_gradients_of_micro_batches_add_up_to_those_of_the_batch(monkeypatch):
    waves = [dsp.coloured_noise(4000, 3, np.random.default_rng(i)) for i in range(3)]
    rival, gradients = rivals.ours(layers=1), []
    values = 25 * 512  # of a clip: half a second is 25 positions
    for limit, pieces in ((3 * values, 1), (values, 3)):
        monkeypatch.setattr(finetune, "VALUES_PER_STEP", limit)
        assert len(finetune.micro_batches(3, values)) == pieces
        rival.model.zero_grad()
        rival.backward(waves, torch.tensor([0, 1, 1]))
        parameters = [p.grad for p in rival.model.parameters() if p.grad is not None]
        gradients.append(torch.cat([gradient.flatten() for gradient in parameters]))
    largest = float(gradients[0].abs().max())
    assert float((gradients[0] - gradients[1]).abs().max()) < 1e-4 * largest


@pytest.mark.slow
@pytest.mark.parametrize("name", rivals.RIVALS)
def test_every_rival_gives_a_score_per_clip_and_gradients(name, waves):
    rival = rivals.RIVALS[name]()
    assert np.isfinite(rival.score(waves)).all() and rival.score(waves).shape == (3,)
    rival.backward(waves, torch.tensor([0, 1, 1]))
    assert any(
        float(p.grad.abs().max()) > 0 for p in rival.model.parameters() if p.grad is not None
    )


def test_names_of_like_f1_stand_apart_in_the_figure_of_cost():
    axis = plt.figure().subplots()
    benchmark.plot_cost(axis, ["stack", "vote", "base"], [4.0, 4.0, 12.0], [0.65, 0.651, 0.6], "k")
    axis.figure.draw_without_rendering()
    boxes = {text.get_text(): text.get_window_extent() for text in axis.texts}
    assert set(boxes) == {"stack", "vote", "base"}
    assert not boxes["stack"].overlaps(boxes["vote"])
    plt.close("all")
