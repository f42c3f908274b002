"""The plans of the competitions keep their promises, before anything is built."""

from collections import Counter

import pytest

from utils.competition import mini, selection
from utils.competition.plans import PLANS
from utils.sources import real_speech
from utils.synthesis.systems import SYSTEMS


def systems_of(plan):
    return {system for system, *_ in (*plan.vocoded, *plan.tts)}


def kokoro_voices_of(plan):
    return {voice for system, _, voice, _ in plan.tts if system == "kokoro"}


def groups_of(plan):
    """Groups of bona fide clips, as far as the tables tell them."""
    return {
        group or real_speech.ONE_GROUP.get(source, source) for source, group, _ in plan.bonafide
    }


def clips_by_language(plan):
    """{language: (bona fide clips, spoofed clips)}, before splicing."""
    bonafide, spoof = mini.languages(plan.bonafide), Counter()
    for _, language, *_, clips in (*plan.vocoded, *plan.tts):
        spoof[language] += clips
    return {language: (bonafide[language], spoof[language]) for language in bonafide | spoof}


def test_mini_has_many_people_and_synthesisers():
    train, test = PLANS["mini"]["train"], PLANS["mini"]["test"]
    assert len(groups_of(train)) >= 70 and len(groups_of(test)) >= 30
    assert len(systems_of(train)) >= 14 and len(systems_of(test)) >= 9
    for plan in (train, test):
        of_group = Counter()
        for source, group, clips in plan.bonafide:
            of_group[group or real_speech.ONE_GROUP.get(source, source)] += clips
        assert max(of_group.values()) <= 20
        assert max(clips for *_, clips in plan.tts) <= 20


@pytest.mark.parametrize("name", ["mini", "full"])
def test_training_and_test_share_no_person_source_synthesiser_or_family(name):
    train, test = PLANS[name]["train"], PLANS[name]["test"]
    assert groups_of(train).isdisjoint(groups_of(test))
    sources = [{source for source, *_ in plan.bonafide} for plan in (train, test)]
    assert sources[0].isdisjoint(sources[1])
    shared = set.intersection(*({real_speech.SOURCES[s].package for s in part} for part in sources))
    assert shared <= {real_speech.MFA}  # its tests are clips of several corpora
    families = [{SYSTEMS[system].family for system in systems_of(plan)} for plan in (train, test)]
    assert families[0].isdisjoint(families[1])
    voices = [{voice for *_, voice, _ in plan.tts} for plan in (train, test)]
    assert voices[0].isdisjoint(voices[1])


@pytest.mark.parametrize("split", ["train", "test"])
def test_in_every_language_of_mini_the_spoofed_clips_are_as_many_times_the_bona_fide_ones(split):
    ratio = {"train": 1, "test": 7 / 3}[split]
    for language, (bonafide, spoof) in clips_by_language(PLANS["mini"][split]).items():
        assert bonafide and abs(spoof - ratio * bonafide) <= 0.5, language


def test_voices_of_mini_speak_their_own_language():
    for plan in PLANS["mini"].values():
        for system, language, voice, _ in plan.tts:
            speaks = SYSTEMS[system].languages
            assert language in speaks or speaks == ("100+",), (system, language)
            if system == "kokoro":
                assert voice in mini.KOKORO_VOICES[language].split()
            if system in ("pico", "espeak", "espeak-klatt"):
                assert voice.split("+")[0].split("-")[0] == language


@pytest.mark.slow
@pytest.mark.parametrize("split", ["train", "test"])
def test_the_packages_hold_the_groups_and_clips_of_mini(split):
    plan = PLANS["mini"][split]
    chosen = selection.choose_bonafide(split, plan, [])
    assert len({clip.group for clip in chosen}) == len(groups_of(plan))
    assert len(chosen) == sum(clips for *_, clips in plan.bonafide)


def test_the_test_of_mini_has_codecs_that_training_lacks():
    assert set(PLANS["mini"]["test"].codecs) - set(PLANS["mini"]["train"].codecs)


@pytest.mark.parametrize("name", PLANS)
def test_every_name_in_a_plan_is_in_its_table(name):
    for plan in PLANS[name].values():
        assert {source for source, *_ in plan.bonafide} <= set(real_speech.SOURCES)
        assert systems_of(plan) <= set(SYSTEMS)
        assert {SYSTEMS[system].kind for system, *_ in plan.vocoded} == {"vocoder"}
        assert {SYSTEMS[system].kind for system, *_ in plan.tts} == {"tts"}


def test_the_full_plan_is_wide():
    plans = PLANS["full"].values()
    assert len({system for plan in plans for system in systems_of(plan)}) >= 25
    assert len({language for plan in plans for _, language, *_ in plan.tts}) >= 20
    voices = {voice for plan in plans for voice in kokoro_voices_of(plan)}
    assert len([voice for voice in voices if "*" in voice]) >= 100


@pytest.mark.parametrize(
    ("group", "joined"),
    [
        ("flite-diphone-kal16", "kal"),
        ("festival-units-msu_ru_nsh_clunits", "nsh"),
        ("june", "june"),
    ],
)
def test_one_voice_in_two_synthesisers_is_one_group(group, joined):
    assert selection.tied(group, PLANS["full"]["train"]) == joined
