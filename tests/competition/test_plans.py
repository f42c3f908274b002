"""The plans of the competitions keep their promises, before anything is built."""

import pytest

from utils.competition import selection
from utils.competition.plans import PLANS
from utils.sources import real_speech
from utils.synthesis.systems import SYSTEMS


def systems_of(plan):
    return {system for system, *_ in (*plan.vocoded, *plan.tts)}


def kokoro_voices_of(plan):
    return {voice for system, _, voice, _ in plan.tts if system == "kokoro"}


@pytest.mark.parametrize("name", ["mini", "full"])
def test_the_test_has_families_of_synthesisers_that_training_lacks(name):
    train, test = PLANS[name]["train"], PLANS[name]["test"]
    unseen = systems_of(test) - systems_of(train)
    assert unseen >= {"piper", "melgan", "mellotron"}
    assert len(unseen) >= 5 and len(systems_of(train)) >= 6
    families = {SYSTEMS[system].family for system in systems_of(train)}
    assert {SYSTEMS[system].family for system in unseen}.isdisjoint(families)
    assert kokoro_voices_of(train).isdisjoint(kokoro_voices_of(test))


@pytest.mark.parametrize("name", ["mini", "full"])
def test_training_and_test_share_no_speaker(name):
    speakers = [
        {(source, group) for source, group, _ in PLANS[name][split].bonafide}
        for split in ("train", "test")
    ]
    assert speakers[0].isdisjoint(speakers[1])
    whole_sources = {source for source, group in speakers[0] if group is None}
    assert not whole_sources & {source for source, _ in speakers[1]}


def test_the_test_of_mini_has_codecs_that_training_lacks():
    assert set(PLANS["mini"]["test"].codecs) - set(PLANS["mini"]["train"].codecs)


@pytest.mark.parametrize("name", PLANS)
def test_every_name_in_a_plan_is_in_its_table(name):
    for plan in PLANS[name].values():
        assert {source for source, *_ in plan.bonafide} <= set(real_speech.SOURCES)
        assert systems_of(plan) <= set(SYSTEMS)
        assert {SYSTEMS[system].kind for system, _ in plan.vocoded} == {"vocoder"}
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
        ("tuxpaint-be", "tuxpaint"),  # she also speaks in ktuberling-ru
        ("festival-units-msu_ru_nsh_clunits", "nsh"),
        ("june", "june"),
    ],
)
def test_one_person_in_two_packages_is_one_group(group, joined):
    assert selection.tied(group, PLANS["full"]["train"]) == joined
