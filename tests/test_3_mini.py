"""The plan of the mini competition keeps its promises, before and after it is built."""
import numpy as np
import pytest

from utils import audio, mini, synth

TRAIN, TEST = (mini.PLANS["mini"][split] for split in ("train", "test"))


def test_the_test_holds_what_training_does_not():
    systems = [{s for s, *_ in (*plan.copy, *plan.tts)} for plan in (TRAIN, TEST)]
    unseen = systems[1] - systems[0]
    assert unseen >= {"piper", "melgan", "mellotron"} and len(unseen) >= 5 and len(systems[0]) >= 6
    families = [{synth.SYSTEMS[s].family for s in part} for part in systems]
    assert {synth.SYSTEMS[s].family for s in unseen}.isdisjoint(families[0])  # parts shared by families do not leak
    speakers = [{(source, group) for source, group, _ in plan.real} for plan in (TRAIN, TEST)]
    assert speakers[0].isdisjoint(speakers[1])
    assert not {s for s, g in speakers[0] if g is None} & {s for s, _ in speakers[1]}
    assert {v for s, _, v, _ in TRAIN.tts if s == "kokoro"}.isdisjoint({v for s, _, v, _ in TEST.tts if s == "kokoro"})
    assert set(TEST.codecs) - set(TRAIN.codecs)


def test_splices_share_their_seams_and_stay_short(speechlike):
    joined = mini.splice([speechlike, speechlike * 0.1, speechlike])
    assert len(joined) == 3 * len(speechlike) - 2 * 80
    thirds = [audio.dbfs(part) for part in np.array_split(joined, 3)]
    assert max(thirds) - min(thirds) < 1  # one level
    assert len(mini.splice([speechlike] * 20)) == 15 * audio.RATE


def test_names_follow_from_the_plan_alone():
    clip = mini.Clip("train", 1, "bonafide", "bonafide", "en", "x", "x", "s", "l", "k")
    assert clip.id == mini.Clip(**vars(clip)).id and clip.id != mini.Clip(**vars(clip) | {"made_from": "j"}).id
    assert len(clip.id) == 36 and clip.id.endswith(".wav")


@pytest.mark.parametrize("system", ["world", "griffin-lim", "psola", "lpc", "espeak", "pico"])
def test_synthesisers_speak_and_repeat(system, speechlike):
    code = {"espeak": "ru", "pico": "es-ES"}.get(system, "")
    item = synth.Line("Uno dos tres, probando la voz." if system == "pico" else "Раз два три, проверка.", "", code) if code \
        else (speechlike, 8000)
    wave, rate = synth.SYSTEMS[system].load(1)(item)
    audio.check_wave(wave, system, rate)
    assert 0.8 < len(wave) / rate < 6 and rate >= 8000
    if system not in ("espeak", "pico"):  # those keep state inside a process: each job has its own
        assert np.array_equal(wave, synth.SYSTEMS[system].load(1)(item)[0])
