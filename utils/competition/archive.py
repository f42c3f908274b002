"""TODO competition.archive."""

from pathlib import Path

import pandas as pd

from utils import paths
from utils.audio import dsp, reading
from utils.contracts import MANIFEST, ContractError, check_manifest, read_labels


def scan(folder: Path, labels: pd.Series | None = None) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Read every WAV of a competition folder once.

    Returns (good, bad): good has id, path (relative to the project), duration_s, sample_rate and label if given; bad has
    id and reason: unreadable, empty, silent, NaN, truncated, wrong rate, labelled but missing, there but not labelled.
    """
    good, bad = [], []
    names = sorted(p.name for p in Path(folder).glob("*.wav"))
    if not names:
        raise ContractError(
            f"{folder}: holds no .wav file. Put the archive's folder there, or run ./run_all.sh"
        )
    for name in names:
        try:
            wave = reading.read(Path(folder) / name, expect_rate=dsp.RATE)
            if labels is not None and name not in labels.index:
                raise dsp.AudioError(f"{name}: not in the label file")
        except dsp.AudioError as error:
            bad.append({"id": name, "reason": str(error)})
            continue
        row = {
            "id": name,
            "path": (Path(folder) / name).resolve().relative_to(paths.HOME).as_posix(),
            "duration_s": round(len(wave) / dsp.RATE, 4),
            "sample_rate": dsp.RATE,
        }
        good.append(row | ({"label": int(labels[name])} if labels is not None else {}))
    if labels is not None:
        bad += [
            {"id": name, "reason": f"{name}: labelled, but there is no such file"}
            for name in labels.index
            if name not in set(names)
        ]
    return pd.DataFrame(good), pd.DataFrame(bad, columns=["id", "reason"])


def expected_names(competition: Path) -> list[str]:
    """Names that a submission must hold, sorted: the test folder's files and, where there is one, the list
    `test_files.txt` (the mini competition has it, so that a clip that got lost is missed)."""
    listed = competition / "test_files.txt"
    names = {p.name for p in (competition / "test").glob("*.wav")}
    return sorted(names | set(listed.read_text().split() if listed.exists() else []))


def build_manifest(competition: Path) -> tuple[pd.DataFrame, pd.DataFrame]:
    """(manifest, bad) of a competition folder (`train/`, `test/`, `train_label.txt`, optionally `train_meta.csv`).

    Where nothing is known of a clip (the real archive), system, language and speaker are 'unknown' and each clip is its
    own group. Test rows never carry a label, whatever lies in the folder.
    """
    train, bad_train = scan(competition / "train", read_labels(competition / "train_label.txt"))
    test, bad_test = scan(competition / "test")
    lost = sorted(set(expected_names(competition)) - set(test["id"]) - set(bad_test["id"]))
    lost = pd.DataFrame(
        {"id": lost, "reason": [f"{name}: a test clip, but there is no such file" for name in lost]}
    )
    bad_test = pd.concat([bad_test, lost], ignore_index=True)
    meta = competition / "train_meta.csv"
    known = ["system", "language", "speaker", "group", "source", "licence", "spans"]
    if meta.exists():
        facts = pd.read_csv(meta, dtype=str, keep_default_na=False)[["id", *known]]
        train = train.merge(facts, on="id", how="left", validate="one_to_one")
        if train["group"].isna().any():
            raise ContractError(
                f"{meta}: no row for {train.loc[train['group'].isna(), 'id'].iloc[0]}"
            )
    for column in known:
        if column not in train:
            train[column] = (
                train["id"] if column == "group" else "" if column == "spans" else "unknown"
            )
        test[column] = test["id"] if column == "group" else "" if column == "spans" else "unknown"
    train["split"], test["split"], test["label"] = "train", "test", pd.NA
    manifest = pd.concat([train, test], ignore_index=True)
    manifest["label"] = manifest["label"].astype("Int64")
    bad = pd.concat(
        [bad_train.assign(split="train"), bad_test.assign(split="test")], ignore_index=True
    )
    return check_manifest(manifest[MANIFEST]), bad
