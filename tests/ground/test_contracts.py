"""Label file, manifest, folds, scores, submission: what breaks the contracts is refused by name."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import soundfile as sf

from utils import contracts, paths
from utils.competition import archive

SHARED = Path(__file__).resolve().parents[3] / "shared" / "competition_sample"


def test_a_label_file_may_have_spaces_and_no_last_newline(tmp_path):
    path = tmp_path / "train_label.txt"
    path.write_text("a.wav, 1\nb.wav,0\r\nc.wav , 1")
    assert contracts.read_labels(path).to_dict() == {"a.wav": 1, "b.wav": 0, "c.wav": 1}


@pytest.mark.parametrize("text", ["a.wav 1", "a.wav, 2", "a.wav, 1\na.wav, 0", "", ", 1"])
def test_broken_label_files_are_refused(tmp_path, text):
    path = tmp_path / "train_label.txt"
    path.write_text(text)
    with pytest.raises(contracts.ContractError, match="train_label"):
        contracts.read_labels(path)


def write(path, wave, rate=8000, **options):
    path.parent.mkdir(parents=True, exist_ok=True)
    sf.write(path, wave, rate, **options)


def make_competition(folder, wave):
    for name in ("a", "b", "c"):
        write(folder / "train" / f"{name}.wav", wave)
    for name in ("x", "y"):
        write(folder / "test" / f"{name}.wav", wave)
    (folder / "train_label.txt").write_text("a.wav, 1\nb.wav, 0\nc.wav, 1\n")


def test_files_that_cannot_be_read_are_named_and_not_in_the_manifest(speechlike):
    folder = paths.INPUTS / "contracts"
    make_competition(folder, speechlike)
    (folder / "train" / "c.wav").write_text("this is a text file\n")
    (folder / "test" / "y.wav").write_bytes(b"")
    write(folder / "test" / "z.wav", np.full(8000, np.nan, np.float32), subtype="FLOAT")
    write(folder / "test" / "w.wav", np.repeat(speechlike, 2), 16000)
    manifest, bad = archive.build_manifest(folder)
    assert set(manifest["id"]) == {"a.wav", "b.wav", "x.wav"}
    reasons = dict(zip(bad["id"], bad["reason"], strict=True))
    assert "not audio" in reasons["c.wav"] and "empty" in reasons["y.wav"]
    assert "NaN" in reasons["z.wav"] and "16000 Hz" in reasons["w.wav"]
    assert manifest.loc[manifest["split"] == "test", "label"].isna().all()


def test_a_labelled_clip_without_a_file_is_named(tmp_path, speechlike):
    folder = paths.INPUTS / "missing"
    make_competition(folder, speechlike)
    (folder / "train" / "b.wav").unlink()
    _, bad = archive.build_manifest(folder)
    assert "no such file" in bad.set_index("id")["reason"]["b.wav"]


def table(groups, labels):
    return pd.DataFrame(
        {"id": [f"{i}.wav" for i in range(len(groups))], "label": labels, "group": groups}
    )


def test_folds_keep_groups_whole_and_follow_from_the_seed():
    rng = np.random.default_rng(0)
    train = table([f"g{i}" for i in rng.integers(0, 20, 200)], rng.integers(0, 2, 200))
    folds = contracts.make_folds(train, 4, seed=1)
    assert set(folds) == {0, 1, 2, 3}
    assert (train.assign(f=train["id"].map(folds)).groupby("group")["f"].nunique() == 1).all()
    assert folds.equals(contracts.make_folds(train, 4, seed=1)) and not folds.equals(
        contracts.make_folds(train, 4, seed=2)
    )


def test_a_group_that_crosses_folds_is_refused():
    train = table(["a", "a", "b", "b"], [0, 1, 0, 1])
    leaking = pd.Series([0, 1, 1, 1], index=train["id"])
    with pytest.raises(contracts.ContractError, match="crosses"):
        contracts.check_folds(leaking, train)
    with pytest.raises(contracts.ContractError, match="every training clip"):
        contracts.check_folds(leaking.iloc[:3], train)


def test_a_path_in_the_manifest_may_not_leave_the_project(speechlike):
    folder = paths.INPUTS / "escape"
    make_competition(folder, speechlike)
    manifest, _ = archive.build_manifest(folder)
    for path in ("/etc/passwd", "inputs/../../x.wav"):
        with pytest.raises(contracts.ContractError, match="leaves"):
            contracts.check_manifest(manifest.assign(path=path))
    with pytest.raises(contracts.ContractError, match="none"):
        contracts.check_manifest(manifest.assign(label=1))  # a labelled test clip


def scores_of(*ids, **columns):
    return pd.DataFrame({"id": ids, "label": 1, "fold": 0, "score": 0.5} | columns)


def test_scores_of_all_models_must_hold_the_same_clips(tmp_path):
    contracts.write_scores(tmp_path, "m1", scores_of("a", "b"), scores_of("x"))
    contracts.write_scores(tmp_path, "m2", scores_of("a"), scores_of("x"))
    assert list(contracts.read_scores(tmp_path, "test")) == ["m1", "m2"]
    with pytest.raises(contracts.ContractError, match="m2"):
        contracts.read_scores(tmp_path, "oof")


@pytest.mark.parametrize("bad", [scores_of("a", "a"), scores_of("a", score=np.nan)])
def test_doubled_or_infinite_scores_are_not_written(tmp_path, bad):
    for oof, test in ((bad, scores_of("x")), (scores_of("a"), bad)):
        with pytest.raises(contracts.ContractError, match="twice or a score is not finite"):
            contracts.write_scores(tmp_path, "m", oof, test)
    assert not list(tmp_path.rglob("*.csv"))


def test_only_the_named_models_are_read(tmp_path):
    """A model of an earlier list of models stayed a member of every later stack."""
    with pytest.raises(contracts.ContractError, match="no scores there"):
        contracts.read_scores(tmp_path, "oof", ["b"])
    for model in ("a", "b", "left over"):
        contracts.write_scores(tmp_path, model, scores_of("1", "2"), scores_of("3"))
    assert list(contracts.read_scores(tmp_path, "oof", ["b", "a"])) == ["b", "a"]
    with pytest.raises(contracts.ContractError, match="oof/c.csv is missing"):
        contracts.read_scores(tmp_path, "oof", ["a", "c"])


def test_test_scores_keep_those_of_single_folds(tmp_path):
    oof = scores_of("a", "b", fold=[0, 1])
    test = pd.DataFrame({"id": ["y", "x"], "fold_0": [1.0, 2.0], "fold_1": [3.0, 2.0]})
    test["score"] = [2.0, 2.0]
    contracts.write_scores(tmp_path, "m", oof, test)
    found = contracts.read_fold_scores(tmp_path, "m")
    assert found.to_dict("list") == {"fold_0": [2.0, 1.0], "fold_1": [2.0, 3.0]}
    assert contracts.read_scores(tmp_path, "test", ["m"])["m"].to_dict() == {"x": 2.0, "y": 2.0}
    contracts.write_scores(tmp_path, "mean only", oof, test[["id", "score"]])
    for model in ("mean only", "none"):
        with pytest.raises(contracts.ContractError, match="no scores of single folds"):
            contracts.read_fold_scores(tmp_path, model)


def test_scores_of_single_folds_must_be_of_the_folds_and_average_to_the_score(tmp_path):
    oof = scores_of("a", "b", fold=[0, 1])
    test = pd.DataFrame({"id": ["x"], "fold_0": [1.0], "fold_1": [3.0], "score": [2.0]})
    for wrong, reason in (
        (test.drop(columns="fold_1"), "are expected"),
        (test.assign(fold_2=2.0), "are expected"),
        (test.assign(score=2.1), "not the mean"),
        (test.assign(fold_0=np.nan), "not finite"),
    ):
        with pytest.raises(contracts.ContractError, match=reason):
            contracts.write_scores(tmp_path, "m", oof, wrong)


def test_a_run_is_loaded_with_folds_and_labels_as_integers(tmp_path, speechlike):
    folder = paths.INPUTS / "load_run"
    make_competition(folder, speechlike)
    manifest, _ = archive.build_manifest(folder)
    manifest["group"] = manifest["id"]
    manifest.to_csv(tmp_path / "manifest.csv", index=False)
    with pytest.raises(contracts.ContractError, match="folds.csv is missing"):
        contracts.load_run(tmp_path)
    pd.DataFrame({"id": ["c.wav", "b.wav", "a.wav"], "fold": 0}).to_csv(
        tmp_path / "folds.csv", index=False
    )
    loaded, train = contracts.load_run(tmp_path)
    assert list(loaded["id"]) == list(manifest["id"])
    assert list(train["id"]) == ["a.wav", "b.wav", "c.wav"] and list(train.index) == [0, 1, 2]
    assert list(train["label"]) == [1, 0, 1] and list(train["fold"]) == [0, 0, 0]
    assert train["label"].dtype == train["fold"].dtype == int


def test_a_submission_holds_each_test_file_once_or_is_not_written(tmp_path):
    path, names = tmp_path / "s.csv", ["b.wav", "a.wav"]
    contracts.write_submission(path, pd.Series({"a.wav": 1, "b.wav": 0}), names)
    assert path.read_text() == "a.wav,1\nb.wav,0\n"
    assert contracts.check_submission(path, names).to_dict() == {"a.wav": 1, "b.wav": 0}
    for decisions in ({"a.wav": 1}, {"a.wav": 1, "b.wav": 2}, {"a.wav": 1, "b.wav": 0, "c.wav": 0}):
        with pytest.raises(contracts.ContractError):
            contracts.write_submission(tmp_path / "t.csv", pd.Series(decisions), names)
    assert not (tmp_path / "t.csv").exists()
    path.write_text("a.wav,1\n")
    with pytest.raises(contracts.ContractError, match="every test file"):
        contracts.check_submission(path, names)


@pytest.mark.skipif(not SHARED.exists(), reason="the sample of the real competition is not at hand")
def test_the_sample_of_the_official_archive_is_read(tmp_path):
    import shutil

    folder = paths.INPUTS / "real"
    shutil.copytree(SHARED, folder)
    manifest, bad = archive.build_manifest(folder)
    assert (manifest["split"].value_counts().to_dict() == {"test": 20, "train": 10}) and bad.empty
    assert manifest["duration_s"].between(1, 15).all()
    train = manifest[manifest["split"] == "train"].reset_index(drop=True)
    contracts.make_folds(train, 2, 0)
