"""Read a competition folder, ours or the real archive, into the manifest that all notebooks use."""

from pathlib import Path

import pandas as pd

from utils import paths
from utils.audio import dsp, reading
from utils.contracts import MANIFEST, ContractError, check_manifest, read_labels

KNOWN = ["system", "language", "speaker", "group", "source", "licence", "spans"]


def scan(folder: Path, labels: pd.Series | None = None) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Read every WAV file of a folder once.

    Args: `labels` by id, if there are any.
    Returns (good, bad). good: id, path (relative to the project, links are not followed),
    duration_s, sample_rate, and label if there are labels. bad: id and reason (unreadable, empty,
    silent, NaN, truncated, wrong rate, labelled but missing, not labelled). Raises ContractError if
    the folder holds no WAV file.
    """
    folder = Path(folder)
    names = sorted(path.name for path in folder.glob("*.wav"))
    if not names:
        raise ContractError(
            f"{folder}: holds no .wav file. Put the archive's folder there, or run ./run_all.sh"
        )
    good, bad = [], []
    for name in names:
        try:
            wave = reading.read(folder / name, expect_rate=dsp.RATE)
            if labels is not None and name not in labels.index:
                raise dsp.AudioError(f"{name}: not in the label file")
        except dsp.AudioError as error:
            bad.append({"id": name, "reason": str(error)})
            continue
        row = {
            "id": name,
            "path": paths.relative_to_home(folder / name).as_posix(),
            "duration_s": round(len(wave) / dsp.RATE, 4),
            "sample_rate": dsp.RATE,
        }
        if labels is not None:
            row["label"] = int(labels[name])
        good.append(row)
    if labels is not None:
        for name in labels.index.difference(names, sort=False):
            reason = f"{name}: labelled, but there is no such file"
            bad.append({"id": name, "reason": reason})
    columns = ["id", "path", "duration_s", "sample_rate"]
    if labels is not None:
        columns.append("label")
    return pd.DataFrame(good, columns=columns), pd.DataFrame(bad, columns=["id", "reason"])


def expected_names(competition: Path) -> list[str]:
    """Names that a submission must hold, sorted.

    These are the files of `test/` and, where there is one, the list `test_files.txt`. The mini
    competition has it, so that a lost clip is noticed.
    """
    names = {path.name for path in (competition / "test").glob("*.wav")}
    listed = competition / "test_files.txt"
    if listed.exists():
        names |= set(listed.read_text().split())
    return sorted(names)


def build_manifest(competition: Path) -> tuple[pd.DataFrame, pd.DataFrame]:
    """(manifest, bad) of a competition folder.

    The folder holds `train/`, `test/`, `train_label.txt` and maybe `train_meta.csv`. Where nothing
    is known of a clip (the real archive), system, language, speaker, source and licence are
    "unknown", and each clip is its own group. Test rows never carry a label, whatever lies in the
    folder.
    bad: id, reason and split of the clips that are left out, see `scan`. Raises ContractError for a
    folder without clips and for a training clip without a row in train_meta.csv.
    """
    train, bad_train = scan(competition / "train", read_labels(competition / "train_label.txt"))
    test, bad_test = scan(competition / "test")
    read = {*test["id"], *bad_test["id"]}
    lost = [name for name in expected_names(competition) if name not in read]
    reasons = [f"{name}: a test clip, but there is no such file" for name in lost]
    bad_test = pd.concat([bad_test, pd.DataFrame({"id": lost, "reason": reasons})])
    if (competition / "train_meta.csv").exists():
        train = _with_facts(train, competition / "train_meta.csv")
    train, test = _filled(train), _filled(test)
    train["split"], test["split"], test["label"] = "train", "test", pd.NA
    manifest = pd.concat([train, test], ignore_index=True)
    manifest["label"] = manifest["label"].astype("Int64")
    bad = pd.concat(
        [bad_train.assign(split="train"), bad_test.assign(split="test")], ignore_index=True
    )
    return check_manifest(manifest[MANIFEST]), bad


def _with_facts(train: pd.DataFrame, meta: Path) -> pd.DataFrame:
    """Training clips with the columns `KNOWN` of train_meta.csv."""
    facts = pd.read_csv(meta, dtype=str, keep_default_na=False)[["id", *KNOWN]]
    train = train.merge(facts, on="id", how="left", validate="one_to_one")
    without = train["group"].isna()
    if without.any():
        raise ContractError(f"{meta}: no row for {train.loc[without, 'id'].iloc[0]}")
    return train


def _filled(clips: pd.DataFrame) -> pd.DataFrame:
    """The clips with all columns `KNOWN`; a new one gets the value for "nothing known"."""
    clips = clips.copy()
    nothing_known = {"group": clips.get("id"), "spans": ""}
    for column in KNOWN:
        if column not in clips:
            clips[column] = nothing_known.get(column, "unknown")
    return clips
