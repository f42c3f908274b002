"""The contracts between notebooks: label file, manifest, folds, scores and submission.

All are checked both where they are written and where they are read. Labels are 1 (bona fide) or
0 (spoof).
"""

import hashlib
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
    """A file breaks a contract. The message names the file, the row and what to do."""


def is_reserved(repo: str) -> bool:
    """Whether the owner of a repository, `owner/name`, is kept for evaluation and never trains."""
    owner = repo.split("/")[0].lower()
    reserved = (paths.ROOT / "inputs" / "reserved_owners.sha256").read_text().split()
    return hashlib.sha256(owner.encode()).hexdigest() in reserved


def _text(path: Path) -> str:
    try:
        return Path(path).read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise ContractError(
            f"{path}: not text in UTF-8 ({error.reason} at byte {error.start})"
        ) from error


def read_labels(path: Path) -> pd.Series:
    """Read `train_label.txt` (lines `<name>.wav, 1`, no header) as id → label.

    Raises ContractError for a malformed line, a label that is neither 0 nor 1, or a name that
    occurs twice.
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
    repeated = manifest.loc[manifest["id"].duplicated(), "id"]
    if len(repeated):
        raise ContractError(f"{name}: {repeated.iloc[0]} occurs twice")
    train_labels = manifest.loc[manifest["split"] == "train", "label"]
    test_labels = manifest.loc[manifest["split"] == "test", "label"]
    if not train_labels.isin([0, 1]).all() or test_labels.notna().any():
        raise ContractError(f"{name}: training clips need labels 0 or 1, test clips must have none")
    escaping = manifest["path"].map(lambda p: Path(p).is_absolute() or ".." in Path(p).parts)
    if escaping.any():
        first = manifest.loc[escaping, "path"].iloc[0]
        raise ContractError(f"{name}: {first} leaves the project folder")
    return manifest


def read_manifest(run: Path) -> pd.DataFrame:
    """`manifest.csv` of a run, checked: one row per clip, columns `MANIFEST`.

    Raises ContractError.
    """
    path = run / "manifest.csv"
    if not path.exists():
        raise ContractError(f"{path} is missing: run notebook 02 first (./run_all.sh --from 02)")
    # only a missing label is a missing value: a speaker or language may well be called "NA"
    manifest = pd.read_csv(
        path, dtype={"label": "Int64"}, keep_default_na=False, na_values={"label": [""]}
    )
    return check_manifest(manifest, str(path))


def training(manifest: pd.DataFrame) -> pd.DataFrame:
    """The rows to learn from: training clips and labelled clips of external sources, in order."""
    rows = (manifest["split"] != "test") & manifest["label"].notna()
    return manifest[rows].reset_index(drop=True)


def make_folds(train: pd.DataFrame, folds: int, seed: int) -> pd.Series:
    """Fold of each training clip as id → 0 … `folds` - 1.

    Groups stay whole; labels are balanced as far as groups allow. Raises ContractError if a fold
    lacks a class.
    """
    splitter = StratifiedGroupKFold(folds, shuffle=True, random_state=seed)
    result = pd.Series(-1, index=train["id"], name="fold")
    splits = splitter.split(train, train["label"].astype(int), train["group"])
    for fold, (_, rows) in enumerate(splits):
        result.iloc[rows] = fold
    check_folds(result, train)
    return result


def check_folds(folds: pd.Series, train: pd.DataFrame) -> pd.Series:
    """Return `folds` (id → fold), checked against the training rows of the manifest.

    Raises ContractError if a clip has no fold, a group lies in two folds, or a fold lacks a class.
    """
    if set(folds.index) != set(train["id"]) or folds.index.duplicated().any():
        raise ContractError(
            "folds.csv does not hold every training clip once; run notebook 02 again"
        )
    table = train.assign(fold=train["id"].map(folds))
    folds_of_group = table.groupby("group")["fold"].nunique()
    if (folds_of_group > 1).any():
        raise ContractError(
            f"group {folds_of_group.idxmax()!r} crosses folds: clips made from the same recording "
            "would be in training and in validation"
        )
    classes = table.groupby("fold")["label"].nunique()
    if (classes < 2).any():
        raise ContractError(
            f"fold {classes.idxmin()} holds one class only; use fewer folds or more speakers"
        )
    return folds


def read_folds(run: Path, train: pd.DataFrame) -> pd.Series:
    """`folds.csv` of a run as id → fold, checked against the training rows of the manifest.

    Raises ContractError.
    """
    path = run / "folds.csv"
    if not path.exists():
        raise ContractError(f"{path} is missing: run notebook 02 first (./run_all.sh --from 02)")
    return check_folds(pd.read_csv(path, index_col="id")["fold"], train)


def load_run(run: Path) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Manifest and training clips of a run, both checked: what most notebooks start with.

    Returns (manifest, train). `train` holds the labelled rows of the manifest in its order, with
    integer columns `label` (1 bona fide, 0 spoof) and `fold`. Raises ContractError.
    """
    manifest = read_manifest(run)
    train = training(manifest)
    folds = read_folds(run, train)
    return manifest, train.assign(
        label=train["label"].astype(int), fold=train["id"].map(folds).astype(int)
    )


def write_scores(run: Path, model: str, oof: pd.DataFrame, test: pd.DataFrame) -> None:
    """Write the scores of one model, `oof/<model>.csv` and `test/<model>.csv`, sorted by id.

    A score is a log-odds of bona fide: higher is more bona fide.

    Args:
        oof: out-of-fold scores of the training clips; columns `id`, `label`, `fold`, `score`.
        test: scores of the test clips; columns `id`, `score` and, optionally, the scores of the
            single fold models, `fold_0`, `fold_1`, …: one column for each fold in `oof`, with
            `score` as their mean.
    Raises ContractError if a clip occurs twice, a score is not finite, or columns `fold_…` are not
    those of the folds or do not average to `score`. Further columns are not written.
    """
    fold_columns = [c for c in test if isinstance(c, str) and c.startswith("fold_")]
    expected = [f"fold_{fold}" for fold in sorted(oof["fold"].unique())]
    if fold_columns and sorted(fold_columns) != sorted(expected):
        raise ContractError(
            f"test scores of {model}: columns {fold_columns} where {expected} are expected"
        )
    tables = {
        "oof": oof[["id", "label", "fold", "score"]],
        "test": test[["id", "score", *(expected if fold_columns else [])]],
    }
    for kind, table in tables.items():
        scores = table.drop(columns=["id", "label", "fold"], errors="ignore").to_numpy(float)
        if table["id"].duplicated().any() or not np.isfinite(scores).all():
            raise ContractError(
                f"{kind} scores of {model}: a clip occurs twice or a score is not finite"
            )
    if fold_columns and not np.allclose(
        test[fold_columns].mean(axis=1), test["score"], rtol=1e-4, atol=1e-4
    ):
        raise ContractError(f"test scores of {model}: `score` is not the mean of {fold_columns}")
    for kind, table in tables.items():
        with paths.whole(run / kind / f"{model}.csv") as temporary:
            table.sort_values("id").to_csv(temporary, index=False, float_format="%.6f")


def read_scores(run: Path, kind: str, models: list[str] | None = None) -> pd.DataFrame:
    """Scores of a run's models, one column per model, indexed by id.

    Args:
        kind: "oof" (out of fold, of the training clips) or "test".
        models: names of the models, in the order of the columns; None: all that have scores there,
            sorted, also those that an earlier list of models left behind.
    Raises ContractError if there are no scores, a named model has none, or files differ in clips.
    """
    files = {file.stem: file for file in sorted((run / kind).glob("*.csv"))}
    if not files:
        raise ContractError(
            f"{run / kind}: no scores there; run notebooks 04 and 05 first (./run_all.sh --from 04)"
        )
    missing = [model for model in models or [] if model not in files]
    if missing:
        raise ContractError(
            f"{run / kind / missing[0]}.csv is missing: run notebook 04 for this model first"
        )
    names = list(files) if models is None else models
    scores = {name: pd.read_csv(files[name], index_col="id")["score"] for name in names}
    table = pd.DataFrame(scores)
    incomplete = table.columns[table.isna().any()]
    if len(incomplete):
        raise ContractError(
            f"{run / kind / incomplete[0]}.csv does not hold the same clips as the others; "
            "run 04 again for it"
        )
    return table


def read_fold_scores(run: Path, model: str) -> pd.DataFrame:
    """Test scores of the single fold models of `model`: columns `fold_0`, `fold_1`, …, by id.

    Raises ContractError if the model has no test scores or they hold only the mean.
    """
    path = run / "test" / f"{model}.csv"
    table = pd.read_csv(path, index_col="id") if path.exists() else pd.DataFrame()
    if not any(column.startswith("fold_") for column in table):
        raise ContractError(f"{path}: no scores of single folds there; run notebook 04 again")
    return table.filter(regex="^fold_")


def write_submission(path: Path, decisions: pd.Series, expected: list[str]) -> None:
    """Write the official two columns `<name>.wav,1`: no header, every test file once, sorted.

    Args:
        decisions: id → 0 (spoof) or 1 (bona fide).
        expected: names of all files of the test folder, readable or not.
    Raises ContractError, and writes nothing, if a test file has no decision, one has two, or a
    decision is not 0 or 1.
    """
    missing = sorted(set(expected) - set(decisions.index))
    if missing:
        raise ContractError(
            f"{len(missing)} test clips have no decision, first {missing[0]}; nothing is written. "
            "Look them up in outputs/<run>/rejected.csv, put the original files back and start "
            "again, or decide them by hand with MISSING_AS = 0 (spoof) or 1 (bona fide) in "
            "notebook 07."
        )
    unknown = sorted(set(decisions.index) - set(expected))
    if unknown:
        raise ContractError(f"{unknown[0]} is decided, but is no test file")
    if decisions.index.duplicated().any() or not decisions.isin([0, 1]).all():
        raise ContractError("each test file needs exactly one decision, 0 or 1")
    lines = [f"{name},{int(decisions[name])}\n" for name in sorted(expected)]
    with paths.whole(path) as temporary:
        temporary.write_text("".join(lines))


def check_submission(path: Path, expected: list[str]) -> pd.Series:
    """Read a submission back as name → decision, checked against the names of all test files.

    Raises ContractError.
    """
    rows = [line.split(",") for line in _text(path).splitlines()]
    names = [row[0] for row in rows]
    if any(len(row) != 2 or row[1] not in ("0", "1") for row in rows) or names != sorted(expected):
        raise ContractError(
            f"{path}: must hold every test file once, sorted, as '<name>.wav,0' or '<name>.wav,1'"
        )
    return pd.Series({name: int(label) for name, label in rows})
