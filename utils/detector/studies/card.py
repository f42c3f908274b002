"""The model card of the released detector, and what notebook 09 reads from its reference run.

    python -m utils.detector.studies.card      # outputs/reference/detector/README.md, notebook 09

The words are in `card.md` and `readings.md` beside this module; every number in braces comes from a
table here or from `card_facts`, so that none can be stale.
"""

import argparse
import re
import sys
from pathlib import Path

import nbformat
import numpy as np
import pandas as pd

from utils import paths
from utils.detector import detector
from utils.detector.embedding import NARROW, WIDE
from utils.detector.studies import card_facts, results
from utils.reference import rows

REFERENCE = results.TABLES
NOTEBOOK = paths.NOTEBOOKS / "09_detector.ipynb"
TEMPLATE = Path(__file__).with_suffix(".md")
AS_RELEASED = "as released (16 kHz head where there is sound)"
READINGS = Path(__file__).with_name("readings.md")  # a paragraph for each cell that reads a table


def with_interval(row: pd.Series, name: str = "eer") -> str:
    """ "0.128 [0.113, 0.145]" of a row with `name`, `name`_low and `name`_high."""
    return f"{row[name]:.3f} [{row[name + '_low']:.3f}, {row[name + '_high']:.3f}]"


def difference(row: pd.Series) -> str:
    """ "+0.010 [+0.004, +0.017]" of a row with delta and its interval."""
    return f"{row['delta']:+.3f} [{row['delta_low']:+.3f}, {row['delta_high']:+.3f}]"


def lines(table: pd.DataFrame, cells) -> str:
    """Rows of a table in Markdown; cells(name, row) → the cells of a row."""
    return rows(cells(name, row) for name, row in table.iterrows())


def of_release(released: Path) -> dict:
    """What the released files say of themselves."""
    card = paths.read_json(released / "card.json")
    trained = card["trained_on"]
    agree = sorted(card["windows_agree"].items())
    statistics = len(detector.load_heads(released / "heads.npz")[NARROW].weight)
    return {
        "encoders": card["encoders"],
        "heads_kb": f"{(released / 'heads.npz').stat().st_size / 1e3:.0f}",
        "encoders_mb": f"{(released / 'encoders.onnx').stat().st_size / 1e6:.0f}",
        "clips": f"{trained['clips']:,}",
        "bonafide": f"{trained['bonafide']:,}",
        "spoofs": f"{trained['clips'] - trained['bonafide']:,}",
        "owners": trained["owners"],
        "systems": f"{trained['systems']:,}",
        "languages": trained["languages"],
        "plain_owners": trained["owners_of_plain_recordings"],
        "seed": card["seed"],
        "threshold": f"{card['threshold']:.2f}",
        "ece": f"{card['ece']:.3f}",
        "cllr": f"{card['cllr']:.3f}",
        "partly": card["partly_spoofed_recordings"],
        "windows_agree": ", ".join(f"{share:.1%} ({band})" for band, share in agree),
        "rbf_mb": f"{trained['clips'] * statistics * 4 / 1e6:.0f}",
        "statistics": f"{statistics:,}",
    }


def base_rate(one_in: int, false_alarms: float, misses: float) -> str:
    """Row of what an alarm is worth where one recording in so many is fake."""
    true, false = (1 - misses) / one_in, (1 - 1 / one_in) * false_alarms
    return f"| 1 in {one_in:,} | {true / (true + false):.1%} | {true + false:.1%} |"


def of_quality(folder: Path) -> dict:
    """Quality on owners left out and on the external set, thresholds, errors by group."""
    quality = pd.read_csv(folder / "quality.csv", index_col="scored")
    external = pd.read_csv(folder / "external_test.csv").iloc[0]
    thresholds = pd.read_csv(folder / "thresholds.csv", index_col="chosen_for")
    errors = pd.read_csv(folder / "errors.csv").sort_values("errors", ascending=False)

    released = thresholds.loc["released"]

    def eer(scored):
        return f"{quality.loc[scored, 'eer']:.3f}"

    def counted(row):
        clips = f"{int(row['clips']):,} ({int(row['bonafide']):,})"
        return with_interval(row), f"{row['auc']:.3f}", f"{clips}, {int(row['owners'])}"

    def wrong(by, label):
        some = errors[(errors["by"] == by) & (errors["label"] == label)].itertuples()
        return "; ".join(f"{row.group} {row.errors:.0%} of {row.clips}" for row in some)

    return {
        "released": with_interval(quality.loc[AS_RELEASED]),
        "released_eer": f"{quality.loc[AS_RELEASED, 'eer']:.3f}",
        "released_auc": f"{quality.loc[AS_RELEASED, 'auc']:.3f}",
        "narrow": with_interval(quality.loc["8 kHz head, all clips"]),
        "against_people": eer("as released, spoofs against people"),
        "on_pages": eer("as released, demo pages only"),
        "wide_eer": eer("16 kHz head, the same clips"),
        "narrow_of_wide": eer("8 kHz head, clips with sound above 4 kHz"),
        "people_alarms": f"{released['false_alarms_plain']:.1%}",
        "all_alarms": f"{released['false_alarms']:.1%}",
        "misses": f"{released['misses']:.1%}",
        "quality_rows": lines(quality, lambda name, row: (name, *counted(row))),
        "external": " | ".join(counted(external)),
        "family_errors": wrong("family", 0),
        "kind_errors": wrong("kind", 1),
        "base_rate_rows": "\n".join(
            base_rate(one_in, released["false_alarms_plain"], released["misses"])
            for one_in in (2, 10, 100, 1000)
        ),
        "threshold_rows": lines(
            thresholds,
            lambda name, row: (
                name,
                f"{row['threshold']:.2f}",
                *(f"{row[each]:.1%}" for each in ("false_alarms_plain", "false_alarms", "misses")),
            ),
        ),
    }


def of_studies(folder: Path) -> dict:
    """Other models, fewer owners, corpora left out, packaging."""
    candidates = pd.read_csv(folder / "candidates.csv", index_col="model")
    corpora = pd.read_csv(folder / "corpora.csv", index_col="corpus")
    audit = pd.read_csv(folder / "audit.csv")
    every = audit[audit["feature_group"] == "all features"].set_index("stage")["auc"]
    after = audit[(audit["stage"] == "after") & (audit["feature_group"] != "all features")]
    worst = after.sort_values("auc").iloc[-1]
    learning = pd.read_csv(folder / "learning.csv")
    slope = {
        model: np.polyfit(np.log2(some["owners"]), some["eer"], 1)[0]
        for model, some in learning.groupby("model")
    }
    of_line = learning[learning["model"] == "line"].groupby("owners")["eer"].mean()
    model_eers = candidates["eer"].map("{:.3f}".format)
    return {
        "both_eer": model_eers["both encoders, a line"],
        "campplus_eer": model_eers["CAM++ alone"],
        "whisper_eer": model_eers["Whisper alone"],
        "campplus_delta": difference(candidates.loc["CAM++ alone"]),
        "rbf_delta": difference(candidates.loc["both encoders, RBF likeness"]),
        "fewest_owners": of_line.index[0],
        "fewest_eer": f"{of_line.iloc[0]:.3f}",
        "most_owners": of_line.index[-1],
        "most_eer": f"{of_line.iloc[-1]:.3f}",
        "candidate_rows": lines(
            candidates,
            lambda name, row: (name, with_interval(row), f"{row['auc']:.3f}", difference(row)),
        ),
        "doubling": f"{slope['line']:+.3f}",
        "doubling_rbf": f"{slope['RBF likeness']:+.3f}",
        "last_doubling": f"{of_line.iloc[-1] - of_line.iloc[-2]:+.3f}",
        "corpora": "; ".join(
            f"{difference(row)} ({name}, {int(row['clips'])} clips)"
            for name, row in corpora.iterrows()
        ),
        "audit_before": f"{every['before']:.3f}",
        "audit_after": f"{every['after']:.3f}",
        "audit_worst": f"{worst['feature_group']} ({worst['auc']:.3f})",
    }


def of_recordings(folder: Path) -> dict:
    """Partly fake recordings, speech and other sounds, conditions of recordings."""
    segments = pd.read_csv(folder / "segments.csv", index_col="method")
    speech = pd.read_csv(folder / "speech.csv")
    of_speech = speech[speech["sound"] == "speech"].set_index("head")["share"]
    robustness = pd.read_csv(folder / "robustness.csv", index_col="condition")
    robustness = robustness.sort_values("eer", ascending=False)
    changed = robustness.drop(index="as it is")
    return {
        "robust_as_is": f"{robustness.loc['as it is', 'eer']:.3f}",
        "robust_worst_eer": ", ".join(
            f"{n} ({eer:.3f})" for n, eer in robustness["eer"][:3].items()
        ),
        "robust_quiet": difference(robustness.loc["40 dB quieter"]),
        "robust_beyond": f"{(changed['delta_low'] > 0).sum()} of {len(changed)}",
        "segment_eer": f"{segments.loc['timeline', 'segment_eer']:.3f}",
        "segment_chance": f"{segments.loc['chance', 'segment_eer']:.3f}",
        "segment_f1": f"{segments.loc['timeline', 'f1_spoof']:.3f}",
        "segment_all": f"{segments.loc['always fake', 'f1_spoof']:.3f}",
        "speech_narrow": f"{of_speech[NARROW]:.1%}",
        "speech_wide": f"{of_speech[WIDE]:.1%}",
        "no_speech": f"{speech.loc[speech['sound'] != 'speech', 'share'].max():.1%}",
        "robust_owners": int(robustness["owners"].iloc[0]),
        "robust_clips": int(robustness["clips"].iloc[0]),
        "robust_worst": "; ".join(robustness.index[:3]),
        "noise_misses": f"{robustness.loc[card_facts.NOISE, 'misses']:.0%}",
        "robust_rows": lines(
            robustness,
            lambda name, row: (
                name,
                with_interval(row),
                difference(row),
                f"{row['false_alarms']:.0%}",
                f"{row['misses']:.0%}",
            ),
        ),
    }


def values(folder: Path = REFERENCE, released: Path = detector.FOLDER) -> dict:
    """What stands in braces. Raises FileNotFoundError if a table is missing."""
    return of_release(released) | of_quality(folder) | of_studies(folder) | of_recordings(folder)


def facts(folder: Path, released: Path) -> dict:
    """What stands in braces in the card alone: settings, data, groups, clips, releases."""
    table, errors = results.read(folder / "scores.csv"), pd.read_csv(folder / "errors.csv")
    external = pd.read_csv(folder / "external_test.csv").iloc[0]
    card = paths.read_json(released / "card.json")
    threshold, owners = card["threshold"], card["trained_on"]["owners"]
    return (
        card_facts.of_recording()
        | card_facts.of_training()
        | card_facts.of_degraded()
        | card_facts.of_data(table)
        | card_facts.of_groups(table, errors, threshold)
        | card_facts.of_examples(card_facts.example_scores(released), threshold)
        | card_facts.of_releases(external, owners)
        | card_facts.of_project(folder)
    )


def text(folder: Path = REFERENCE, released: Path = detector.FOLDER) -> str:
    """The card. Raises KeyError if a number is missing."""
    filled = values(folder, released) | facts(folder, released)
    return TEMPLATE.read_text(encoding="utf-8").format(**filled)


def read(notebook: nbformat.NotebookNode, folder: Path = REFERENCE) -> nbformat.NotebookNode:
    """The notebook with the numbers of the tables: cells that begin as a paragraph of `READINGS`.

    Raises ValueError for a paragraph that no cell, or more than one, begins with.
    """
    paragraphs = READINGS.read_text(encoding="utf-8").strip().format(**values(folder)).split("\n\n")
    for paragraph in paragraphs:
        found = re.match(r"Reference run \([^)]*\)", paragraph)
        if not found:
            raise ValueError(f"{READINGS.name}: a paragraph begins otherwise: {paragraph[:60]!r}")
        begins = found[0]
        cells = [cell for cell in notebook["cells"] if cell["source"].startswith(begins)]
        if len(cells) != 1:
            raise ValueError(f"{len(cells)} cells begin with {begins!r}, expected 1")
        cells[0]["source"] = paragraph
    return notebook


def main(argv: list[str] | None = None) -> int:
    """Command line; returns the exit status."""
    parser = argparse.ArgumentParser(
        prog="python -m utils.detector.studies.card",
        description="Write the model card, and numbers of notebook 09, from the reference run.",
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    parser.add_argument("--folder", type=Path, default=REFERENCE, help="folder of the tables")
    options = parser.parse_args(argv)
    with paths.whole(options.folder / "README.md") as temporary:
        temporary.write_text(text(options.folder), encoding="utf-8")
    print(options.folder / "README.md")
    notebook = read(nbformat.read(NOTEBOOK, as_version=4), options.folder)
    with paths.whole(NOTEBOOK) as temporary:
        nbformat.write(notebook, temporary)
    print(NOTEBOOK)
    return 0


if __name__ == "__main__":
    sys.exit(main())
