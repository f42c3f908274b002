"""Profiles become steps; a step is done again when something that it reads has changed."""

import pytest

from utils import paths
from utils.pipeline import notebooks, profiles, run, steps


@pytest.mark.parametrize("name", profiles.PROFILES)
def test_every_notebook_has_the_parameters_that_a_profile_sets(name):
    chosen = steps.steps_of(name, profiles.PROFILES[name])
    assert len({step.name for step in chosen}) == len(chosen)
    for step in chosen:
        assert step.parameters["RUN"] == name
        assert set(step.parameters) <= notebooks.declared(step.notebook)


def test_the_profiles_are_these():
    names = ["smoke", "mini", "full", "finvcup9", "detector", "speed", "ablation"]
    assert list(profiles.PROFILES) == names


def test_every_notebook_of_a_timed_profile_has_its_minutes():
    for name, profile in profiles.PROFILES.items():
        if name != "finvcup9":
            assert set(profile.minutes) == {"inputs", *profile.notebooks}


def test_stacking_gets_the_models_of_the_profile():
    """A model that an earlier profile left in oof/ kept voting before."""
    chosen = steps.steps_of("smoke", profiles.PROFILES["smoke"])
    given = [step.parameters["MODELS"] for step in chosen if step.notebook == "06_stacking"]
    assert given == [["ge2e", "ge2e-svm", "deep-svdd"]]


def test_steps_need_the_fine_tuning_of_every_model():
    chosen = steps.steps_of("mini", profiles.PROFILES["mini"])
    (stacking,) = [step for step in chosen if step.notebook == "06_stacking"]
    tuned = ("04_finetune_whisper-base", "04_finetune_campplus", "04_finetune_ge2e")
    assert stacking.needs == (*tuned, "05_one_class")


def test_a_setting_reaches_the_notebooks_that_declare_it():
    chosen = steps.steps_of("smoke", profiles.PROFILES["smoke"])
    changed = steps.override(chosen, ["EXTERNAL=['demo_pages']", "RUN=pages"])
    assert {step.parameters["RUN"] for step in changed} == {"pages"}
    having = [step.notebook for step in changed if "EXTERNAL" in step.parameters]
    assert "02_sourcing" in having and "06_stacking" not in having


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--set", "EPOCH=1"], "no notebook of this profile has a parameter 'EPOCH'"),
        (["--only", "09"], "no notebook '09'"),
        (["--from", "x"], "no notebook 'x'"),
        (["--set", "RUN=../x"], "plain folder name"),
        (["--profile", "finvcup9"], "Unpack the archive"),  # it is not here
    ],
)
def test_what_cannot_be_run_is_refused(capsys, arguments, message):
    assert run.main(["--profile", "smoke", *arguments]) == 1
    assert message in capsys.readouterr().err


def test_a_parameter_that_the_notebook_lacks_is_refused():
    with pytest.raises(run.RunError, match="EPOCHZ"):
        steps.check_parameters(steps.Step("04_finetune", {"EPOCHZ": 1}))


def test_two_runs_in_one_folder_are_refused():
    folder = paths.run_dir("locked")
    with run.locked(folder), pytest.raises(run.RunError, match="in use"), run.locked(folder):
        pass


def test_speed_is_measured_anew_when_the_run_that_it_reads_was_trained_anew():
    """Only the step's own inputs counted before."""
    other = paths.OUTPUTS / "other"
    step = steps.Step("10_speed", {"RUN": "speed", "COMPETITION": "x", "TRAINED": "other"})

    def digest():
        return steps.digests([step], "inputs")[step.name]

    missing = digest()
    stamp = other / ".stamps" / "04_finetune_ge2e.json"
    paths.write_json(stamp, {"digest": "one", "files": {}})
    trained = digest()
    paths.write_json(other / ".stamps" / "07_vote.json", {"digest": "one", "files": {}})
    assert digest() == trained != missing
    paths.write_json(stamp, {"digest": "two", "files": {}})
    assert digest() not in (trained, missing)
    trained = digest()
    # its hardware.csv goes into the table of notebook 10
    paths.write_json(other / ".stamps" / "08_evaluation.json", {"digest": "one", "files": {}})
    assert digest() != trained


@pytest.mark.parametrize("name", profiles.PROFILES)
def test_a_profile_names_every_other_run_that_it_reads(name):
    """Where only the notebook's default named it, nothing of that run counted."""
    for step in steps.steps_of(name, profiles.PROFILES[name]):
        others = set(profiles.OTHER_RUNS) & notebooks.declared(step.notebook)
        assert others <= set(step.parameters)


def test_a_step_does_not_claim_the_submission_of_another_run():
    """All of submissions/ counted as a step's own before."""
    folder = paths.run_dir("mine")
    paths.SUBMISSIONS.mkdir(parents=True, exist_ok=True)
    before = steps.files_of(folder)
    (paths.SUBMISSIONS / "mine.csv").write_text("a.wav,1\n")
    (paths.SUBMISSIONS / "others.csv").write_text("a.wav,1\n")
    (folder / steps.LOG).write_text("chatter\n")
    steps.write_stamp(steps.Step("07_vote"), folder, "digest", before)
    files = paths.read_json(folder / ".stamps" / "07_vote.json")["files"]
    assert files == {"submissions/mine.csv": 8}
