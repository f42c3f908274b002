"""The contracts between notebooks: label file, manifest, folds, scores and submission, checked where read and written."""

from pathlib import Path

import numpy as np
import pandas as pd
from sklearn.model_selection import StratifiedGroupKFold

from utils import paths

MANIFEST = [
    "id",
    "path",
    "label",
    "split",
    "source",
    "system",
    "language",
    "speaker",
    "group",
    "duration_s",
    "sample_rate",
    "licence",
    "spans",
]


class ContractError(ValueError):
    """A file breaks the agreement between notebooks. The message names the file, the row and the remedy."""


def _text(path: Path) -> str:
    try:
        return Path(path).read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise ContractError(
            f"{path}: not text in UTF-8 ({error.reason} at byte {error.start})"
        ) from error


def read_labels(path: Path) -> pd.Series:
    """Read `train_label.txt` (`<name>.wav, 1`, no header, comma and space) as id → label (1 real, 0 fake).

    Raises ContractError for a malformed line, a label that is neither 0 nor 1, or a name that occurs twice.
    """
    labels = {}
    for number, line in enumerate(_text(path).splitlines(), start=1):
        if not line.strip():
            continue
        fields = [field.strip() for field in line.split(",")]
        if len(fields) != 2 or not fields[0] or fields[1] not in ("0", "1"):
            raise ContractError(
                f"{path}, line {number}: {line!r} is not '<name>.wav, 0' or '<name>.wav, 1'"
            )
        if fields[0] in labels:
            raise ContractError(f"{path}, line {number}: {fields[0]} occurs twice")
        labels[fields[0]] = int(fields[1])
    if not labels:
        raise ContractError(f"{path}: holds no label")
    return pd.Series(labels, name="label", dtype=int)


def check_manifest(manifest: pd.DataFrame, name: str = "manifest.csv") -> pd.DataFrame:
    """Return the manifest, or raise ContractError naming the first thing wrong with it."""
    missing = [column for column in MANIFEST if column not in manifest]
    if missing:
        raise ContractError(f"{name}: columns {missing} are missing; run notebook 02 again")
    if manifest["id"].duplicated().any():
        raise ContractError(
            f"{name}: {manifest.loc[manifest['id'].duplicated(), 'id'].iloc[0]} occurs twice"
        )
    labels = manifest.loc[manifest["split"] == "train", "label"]
    if (
        not labels.isin([0, 1]).all()
        or manifest.loc[manifest["split"] == "test", "label"].notna().any()
    ):
        raise ContractError(f"{name}: training clips need labels 0 or 1, test clips must have none")
    escaping = manifest["path"].map(lambda p: Path(p).is_absolute() or ".." in Path(p).parts)
    if escaping.any():
        raise ContractError(
            f"{name}: {manifest.loc[escaping, 'path'].iloc[0]} leaves the project folder"
        )
    return manifest


def read_manifest(run: Path) -> pd.DataFrame:
    """`manifest.csv` of a run, checked."""
    path = run / "manifest.csv"
    if not path.exists():
        raise ContractError(f"{path} is missing: run notebook 02 first (./run_all.sh --from 02)")
    return check_manifest(
        pd.read_csv(
            path, dtype={"label": "Int64"}, keep_default_na=False, na_values={"label": [""]}
        ),
        str(path),
    )


def training(manifest: pd.DataFrame) -> pd.DataFrame:
    """The rows to learn from: the competition's training clips and labelled clips of external sources."""
    return manifest[(manifest["split"] != "test") & manifest["label"].notna()].reset_index(
        drop=True
    )


def make_folds(train: pd.DataFrame, folds: int, seed: int) -> pd.Series:
    """Fold 0 … folds-1 of each training clip, by id: groups stay whole, labels balanced as far as groups allow."""
    splitter = StratifiedGroupKFold(folds, shuffle=True, random_state=seed)
    result = pd.Series(-1, index=train["id"], name="fold")
    for fold, (_, rows) in enumerate(
        splitter.split(train, train["label"].astype(int), train["group"])
    ):
        result.iloc[rows] = fold
    check_folds(result, train)
    return result


def check_folds(folds: pd.Series, train: pd.DataFrame) -> pd.Series:
    """Return `folds` (id → fold), or raise ContractError if a clip has none, a group crosses, or a fold lacks a class."""
    if set(folds.index) != set(train["id"]) or folds.index.duplicated().any():
        raise ContractError(
            "folds.csv does not hold every training clip once; run notebook 02 again"
        )
    table = train.assign(fold=train["id"].map(folds))
    crossing = table.groupby("group")["fold"].nunique()
    if (crossing > 1).any():
        raise ContractError(
            f"group {crossing.idxmax()!r} crosses folds: its copies would leak into validation"
        )
    for fold, part in table.groupby("fold"):
        if part["label"].nunique() < 2:
            raise ContractError(
                f"fold {fold} holds one class only; use fewer folds or more speakers"
            )
    return folds


def read_folds(run: Path, train: pd.DataFrame) -> pd.Series:
    """`folds.csv` of a run as id → fold, checked against the training rows of the manifest."""
    return check_folds(pd.read_csv(run / "folds.csv").set_index("id")["fold"], train)


def write_scores(run: Path, model: str, oof: pd.DataFrame, test: pd.DataFrame) -> None:
    """Write `oof/<model>.csv` (id, label, fold, score) and `test/<model>.csv` (id, fold, score; fold -1 = mean of folds).

    Score = log-odds of real. Raises ContractError if a score is missing, doubled or not finite.
    """
    for table, kind, columns in (
        (oof, "oof", ["id", "label", "fold", "score"]),
        (test, "test", ["id", "fold", "score"]),
    ):
        if table["id"].duplicated().any() or not np.isfinite(table["score"]).all():
            raise ContractError(
                f"{kind} scores of {model}: a clip is doubled or a score is not finite"
            )
        with paths.whole(run / kind / f"{model}.csv") as part:
            table[columns].sort_values("id").to_csv(part, index=False, float_format="%.6f")


def read_scores(run: Path, kind: str) -> pd.DataFrame:
    """All `oof` or `test` scores of a run, one column a model, indexed by id. Raises ContractError on a mismatch."""
    files = sorted((run / kind).glob("*.csv"))
    if not files:
        raise ContractError(
            f"{run / kind}: no scores there; run notebooks 04 and 05 first (./run_all.sh --from 04)"
        )
    columns = {file.stem: pd.read_csv(file).set_index("id")["score"] for file in files}
    table = pd.DataFrame(columns)
    if table.isna().any().any():
        model = table.columns[table.isna().any()][0]
        raise ContractError(
            f"{run / kind / model}.csv does not hold the same clips as the others; run 04 again for it"
        )
    return table


def write_submission(path: Path, decisions: pd.Series, expected: list[str]) -> None:
    """Write the official two columns `<name>.wav,1`: no header, every test file once, sorted.

    Args: decisions id → 0 or 1; expected: names of all files of the test folder, readable or not.
    Raises ContractError, and writes nothing, if a test file has no decision, one has two, or a label is not 0 or 1.
    """
    missing = sorted(set(expected) - set(decisions.index))
    if missing:
        raise ContractError(
            f"{len(missing)} test clips have no decision, first {missing[0]}; nothing is written. Look them up in "
            "outputs/<run>/rejected.csv, put the original files back and start again, or decide them by hand with "
            "MISSING_AS = 0 (fake) or 1 (real) in notebook 07."
        )
    if set(decisions.index) - set(expected):
        raise ContractError(
            f"{sorted(set(decisions.index) - set(expected))[0]} is decided, but is no test file"
        )
    if decisions.index.duplicated().any() or not decisions.isin([0, 1]).all():
        raise ContractError("each test file needs exactly one decision, 0 or 1")
    with paths.whole(path) as part:
        part.write_text("".join(f"{name},{int(decisions[name])}\n" for name in sorted(expected)))


def check_submission(path: Path, expected: list[str]) -> pd.Series:
    """Read a submission back and check it against the test folder's names. Raises ContractError."""
    rows = [line.split(",") for line in _text(path).splitlines()]
    names = [row[0] for row in rows]
    if any(len(row) != 2 or row[1] not in ("0", "1") for row in rows) or names != sorted(expected):
        raise ContractError(
            f"{path}: must hold every test file once, sorted, as '<name>.wav,0' or '<name>.wav,1'"
        )
    return pd.Series({name: int(label) for name, label in rows})
