"""What it costs to score by the released detector."""

import pytest
from scipy.special import expit

from utils.audio import dsp
from utils.detector.studies import speed


def test_the_released_detector_is_an_engine_like_those_of_members(speechlike):
    """Notebook 08 times it beside them, on the same waves at 8 kHz."""
    ((opener, arguments),) = speed.alone()
    engine = opener(*arguments)
    stated = engine.released.probability(speechlike, dsp.RATE)
    assert expit(engine.scores([speechlike, speechlike])) == pytest.approx([stated, stated])
    assert engine.parameters / 1e6 == pytest.approx(11.6, abs=0.2)
