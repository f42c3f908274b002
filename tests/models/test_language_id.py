"""Language identification: the answer of real prompts, alone, in a batch and by openai-whisper."""

import numpy as np
import pytest
import torch

from utils.audio import dsp, log_mels
from utils.models import encoders, language_id
from utils.sources import real_speech

CODES = ["es", "fr", "ru"]


@pytest.fixture(scope="module")
def prompts():
    """The longest of the first prompts of three sources, one per language of `CODES`."""
    waves = []
    for source in ("es-co", "armelle", "asterisk-ru"):
        clips = [clip.load() for clip in real_speech.recordings(source)[:60]]
        wave, rate = max(clips, key=lambda pair: len(pair[0]))
        waves.append(dsp.resample(wave, rate, 8000))
    return waves


@pytest.mark.slow
def test_the_languages_of_prompts_are_found(prompts):
    answers = language_id.detect(prompts)
    assert [code for code, _, _ in answers] == CODES
    assert max(no_speech for _, _, no_speech in answers) < 0.5


@pytest.mark.slow
def test_the_other_clips_of_a_batch_do_not_change_an_answer(prompts):
    shortest = min(map(len, prompts))
    waves = [wave[:shortest] for wave in prompts]  # of equal length: they share a batch
    batched = language_id.detect_in_this_process(waves)
    (alone,) = language_id.detect_in_this_process(waves[1:2])
    assert alone[0] == batched[1][0]
    assert alone[1:] == pytest.approx(batched[1][1:], abs=1e-4)


@pytest.mark.slow
def test_openai_whisper_gives_about_the_same_answer(prompts):
    reference = language_id.openai_model(encoders.whisper_base())
    code, probability = language_id.detect_openai(reference, prompts[2])
    (ours,) = language_id.detect_in_this_process(prompts[2:])
    assert code == ours[0] == "ru" and probability == pytest.approx(ours[1], abs=0.1)


@torch.inference_mode()
def test_kept_positions_stand_for_all_positions_of_30_seconds(speechlike):
    wave = dsp.fit_length(dsp.resample(speechlike, 8000, 16000), 3 * 16000)
    mel = log_mels.whisper_log_mel(wave)[None]
    x, weight = language_id._thinned(encoders.whisper_base().encoder, mel)
    assert x.shape[1] == weight.shape[-1] < 250  # of 1500
    assert float(weight.exp().sum()) == pytest.approx(1500, abs=0.1)
    assert np.all(np.diff(weight[0, 0, 0, :-1].numpy()) >= 0)  # more and more per kept one
