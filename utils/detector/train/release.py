"""Train the detector from clips of demo pages, and score every owner by heads that never met it.

    python -m utils.sources.demo_pages         # the clips
    python -m utils.detector.train.release     # outputs/detector/detector/

writes what `utils/detector/detector.py` opens (`encoders.onnx`, `heads.npz`, `card.json`) and what
notebook 09 evaluates: `scores.csv` (see `results`), `candidates.csv`, `learning.csv`,
`corpora.csv`, `segments.csv`, `systems.csv`, `speech.csv`, `audit.csv`,
`robustness.csv`. Statistics are cached.
"""

import argparse
import json
import sys
from pathlib import Path

import numpy as np
import pandas as pd

from utils import metrics, parallel, paths
from utils.audio import dsp
from utils.detector import detector, embedding
from utils.detector.embedding import NARROW, WIDE
from utils.detector.studies import comparisons, results, robustness
from utils.detector.studies.comparisons import SEED
from utils.detector.train import graph, heads, material, sounds
from utils.evaluation import calibration

TIMELINE_CLIPS = 600  # whose windows calibrate the timeline
FALSE_ALARMS = 0.05  # on plain recordings, at the released threshold
PARTLY_SPOOFED = 2  # recordings of each owner
DEGRADED_FRACTION = 1 / 3  # of clips, which train once more as if they had been recorded badly …
DEGRADED_SHARE = 0.3  # … with so much of the weight of a clip
QUIET_EVERY = 8  # of so many clips, one shows what the rounding of a quiet file changes


class Trained:
    """Heads of one band: the released one, and those of the folds, calibrated."""

    def __init__(self, clips: pd.DataFrame, x: np.ndarray, nuisance: np.ndarray | None = None):
        """Train on statistics `x` (N, D) of `clips`.

        clips: a row each, with owner, label, fold, `scored` (false: a further version of a clip,
        which trains only) and `share` (factor of its weight). nuisance: see `heads.Clips`.
        """
        label, owner = clips["label"].to_numpy(), clips["owner"].to_numpy()
        self.fold, self.scored = clips["fold"].to_numpy(), clips["scored"].to_numpy()
        weight = heads.clip_weights(owner, label) * clips["share"].to_numpy()
        self.statistics = statistics = heads.Clips(x, nuisance)
        self.lines = heads.lines_of_folds(statistics, label, weight, self.fold)
        rows = self.scored
        raw = heads.scores_of_folds(self.lines, x[rows], self.fold[rows])
        self.platt = calibration.fit_platt(raw, label[rows], balanced=True)
        self.log_odds = self.platt.log_odds(raw)  # of the scored clips
        line = statistics.line(np.arange(len(label)), label, weight)
        self.weight = (line.weight * self.platt.slope).astype(np.float32)
        self.bias = float(line.bias * self.platt.slope + self.platt.offset)
        self.speech = heads.Line(np.zeros(x.shape[1], np.float32), 1.0)
        self.window_slope = 1.0

    def scored_statistics(self) -> np.ndarray:
        """Statistics of the clips as they are."""
        return self.statistics.x[self.scored]

    def fold_log_odds(self, x: np.ndarray, fold: np.ndarray) -> np.ndarray:
        """Calibrated log-odds of further statistics by the heads of the folds."""
        return self.platt.log_odds(heads.scores_of_folds(self.lines, x, fold))

    def head(self) -> detector.Head:
        """What is released."""
        speech = self.speech.weight.astype(np.float32), float(self.speech.bias)
        return detector.Head(self.weight, self.bias, *speech, self.window_slope)


def train_versions(clips: pd.DataFrame, encoders: Path, versions: dict[str, np.ndarray]) -> Trained:
    """Train on clips as they are, the first of `versions`, and on further versions of them.

    versions: kind of statistics (`material.statistics`) → which clips have it (N,).
    """
    parts, statistics = [], []
    for number, (kind, rows) in enumerate(versions.items()):
        if number and not rows.any():  # of a few clips
            continue
        share = DEGRADED_SHARE if "degraded" in kind else 1.0
        parts.append(clips[rows].assign(scored=number == 0, share=share))
        statistics.append(material.statistics(clips.loc[rows, "path"].tolist(), encoders, kind))
    # no head reads what only the rounding of a quiet file changes
    band, quiet = next(iter(versions)), np.arange(0, len(parts[0]), QUIET_EVERY)
    files = parts[0]["path"].iloc[quiet].tolist()
    nuisance = material.statistics(files, encoders, f"{band}, quiet") - statistics[0][quiet]
    return Trained(pd.concat(parts, ignore_index=True), np.concatenate(statistics), nuisance)


def train(clips: pd.DataFrame, encoders: Path) -> tuple[pd.DataFrame, dict[str, Trained]]:
    """(the table of scores, heads by band) of clips with facts and folds."""
    every = np.ones(len(clips), bool)
    drawn = [parallel.seeded_rng("trains degraded too", name).random() for name in clips["id"]]
    badly = np.array(drawn) < DEGRADED_FRACTION
    narrow = train_versions(clips, encoders, {NARROW: every, f"{NARROW}, degraded": badly})
    reaches = (clips["bandwidth_hz"] >= embedding.WIDE_FROM_HZ).to_numpy()
    # low-passed versions of both classes: where the sound ends must not tell the class
    versions = {WIDE: reaches, "low-passed": reaches & ~badly}
    wide = train_versions(clips, encoders, versions | {"low-passed, degraded": reaches & badly})
    table = clips.assign(score_8khz=narrow.log_odds, score_16khz=np.nan)
    table.loc[reaches, "score_16khz"] = wide.log_odds
    table["score"] = table["score_16khz"].fillna(table["score_8khz"])
    return table, {NARROW: narrow, WIDE: wide}


def log_odds_of_parts(
    waves: list[np.ndarray], fold: np.ndarray, encoders: Path, trained: Trained, *how: str
) -> list[np.ndarray]:
    """Log-odds of each part of waves, by the heads that saw nothing of their fold.

    how: the band, and "windows" or "pieces".
    """
    jobs = parallel.map_chunks(_statistics, waves, 20, str(encoders), *how, label=how[-1])
    return [
        trained.fold_log_odds(x, np.full(len(x), number))
        for x, number in zip(jobs, fold, strict=True)
    ]


def _statistics(waves: list[np.ndarray], encoders: str, band: str, parts: str) -> list[np.ndarray]:
    session, result = embedding.Encoders(Path(encoders)), []
    for wave in waves:
        if parts == "windows":
            cut = [wave[window] for window in detector.windows(len(wave))]
        else:
            inner = wave[dsp.between_quiet_ends(wave, embedding.RATE)]
            cut = [inner[start:end] for start, end in embedding.pieces(len(inner))]
        heard = cut if band == WIDE else [embedding.telephone_band(part) for part in cut]
        if parts == "pieces":
            heard = [embedding.filled(part) for part in heard]
        result.append(np.concatenate([session.statistics(part[None]) for part in heard]))
    return result


def calibrate_windows(
    table: pd.DataFrame, encoders: Path, trained: Trained, band: str, column: str
) -> tuple[float, float]:
    """(slope of windows, share of clips whose windows alone and score decide alike).

    Windows count by their clip: each clip weighs the same.
    """
    rows = table[table[column].notna()]
    rows = rows.sample(min(TIMELINE_CLIPS, len(rows)), random_state=SEED)
    waves = [material.read_wave(path) for path in rows["path"]]
    logits = log_odds_of_parts(waves, rows["fold"].to_numpy(), encoders, trained, band, "windows")
    mean = np.array([values.mean() for values in logits])
    # a line through the clips: the mean of the windows says what the score of the clip says
    slope, offset = np.polyfit(mean, rows[column], 1)
    agree = np.sign(slope * mean + offset) == np.sign(rows[column])
    return float(slope), float(agree.mean())


def partly_spoofed(table: pd.DataFrame, encoders: Path, trained: Trained, threshold: float):
    """`comparisons.segment_table` of recordings whose middle is fake, by the narrow head."""
    rows = table.groupby(["owner", "label"]).head(12)
    waves = [material.read_wave(path) for path in rows["path"]]
    label, owner = rows["label"].to_numpy(), rows["owner"].to_numpy()
    made = comparisons.partly_spoofed_recordings(waves, label, owner, PARTLY_SPOOFED, SEED)
    fold_of = rows.groupby("owner")["fold"].first()
    fold, steps = np.array([fold_of[name] for name, _, _ in made]), []
    parts = [
        log_odds_of_parts([wave for _, wave, _ in made], fold, encoders, trained, NARROW, how)
        for how in ("windows", "pieces")
    ]
    for (name, wave, spoof), windows, pieces in zip(made, *parts, strict=True):
        logits = detector.around(windows, pieces.mean(), trained.window_slope)
        p = 1 / (1 + np.exp(-detector.by_step(len(wave), logits)))
        steps.append(pd.DataFrame({"owner": name, "spoof": spoof, "p": p}))
    return comparisons.segment_table(pd.concat(steps), threshold, SEED), len(made)


def learn_speech(encoders: Path, trained: Trained, x: np.ndarray, band: str) -> pd.DataFrame:
    """Give heads the line that tells speech from other sounds; its table (`sounds.speech_line`).

    x: statistics of clips in which somebody speaks.
    """
    waves, sorts = sounds.pieces(SEED, min(sounds.OF_EACH, len(x) // 10))
    others = sounds.statistics(waves, encoders, band)
    trained.speech, table = sounds.speech_line(x, others, sorts, SEED)
    return table.assign(head=band)


def card_of(table: pd.DataFrame, trained: dict, facts: dict) -> dict:
    """The card: what is released, on what it was trained, how good it is on owners left out."""
    threshold = results.threshold_for(table, FALSE_ALARMS)
    stated = results.calibrated_out_of_fold(
        table["score"].to_numpy(), table["label"].to_numpy(), table["owner"].to_numpy()
    )
    log_odds = np.log(stated / (1 - stated))
    plain, rates = table[table["kind"] == "plain"], results.rates(table, threshold)
    return {
        "encoders": "Whisper base (convolutions, layer 1) and CAM++ (front end, three blocks)",
        "head": f"logistic regression, C = {heads.C}, weights of owners",
        "probability": "of bona fide, where half of all clips are",
        "threshold": round(threshold, 4),
        "threshold_from": f"{FALSE_ALARMS:.0%} of recordings of people (owners left out) are below",
        "wide_from_hz": embedding.WIDE_FROM_HZ,
        "trained_on": {
            "clips": len(table),
            "bonafide": int(table["label"].sum()),
            "owners": int(table["owner"].nunique()),
            "owners_of_plain_recordings": int(plain["owner"].nunique()),
            "systems": int(table.loc[table["label"] == 0, "system"].str.lower().nunique()),
            "languages": len(set(table["language"]) - {"und", "mul"}),
        },
        "owners_left_out": {
            name: {k: round(float(v), 4) for k, v in results.quality(table, column).items()}
            for name, column in (("8 kHz", "score_8khz"), ("16 kHz", "score_16khz"))
        },
        "ece": round(metrics.ece(table["label"], stated, balanced=True), 4),
        "cllr": round(metrics.cllr(table["label"], log_odds), 4),
        "recall_bonafide": round(1 - rates["false_alarms"], 4),
        "recall_spoof": round(1 - rates["misses"], 4),
        "rates": {k: round(float(v), 4) for k, v in rates.items()},
        "seed": SEED,
        "limits": "nobody checked the labels by ear; no evidence in a court",
    } | facts


def release(clips: pd.DataFrame, out: Path, compare: bool) -> dict:
    """Train, and write everything; returns the card. compare: also what notebook 09 compares."""
    encoders = out / "encoders.onnx"
    table, trained = train(clips, encoders)
    x = trained[NARROW].scored_statistics()
    facts, heard = {"windows_agree": {}}, []
    for band, column in ((NARROW, "score_8khz"), (WIDE, "score_16khz")):
        one = trained[band]
        one.window_slope, agrees = calibrate_windows(table, encoders, one, band, column)
        facts["windows_agree"][band] = round(agrees, 4)
        heard.append(learn_speech(encoders, one, one.scored_statistics(), band))
    threshold = results.threshold_for(table, FALSE_ALARMS)
    segments, made = partly_spoofed(table, encoders, trained[NARROW], threshold)
    facts["segment_eer"] = round(float(segments.loc["timeline", "segment_eer"]), 4)
    facts["partly_spoofed_recordings"] = made
    detector.save_heads(out / "heads.npz", {band: one.head() for band, one in trained.items()})
    card = card_of(table, trained, facts)
    paths.write_json(out / "card.json", card)
    write_scores(table, out / "scores.csv")
    tables = {"segments": segments, "systems": comparisons.system_map(table, x)}
    tables["speech"] = pd.concat(heard)
    if compare:
        tables["candidates"], of_all = comparisons.candidates(clips, x)
        tables["learning"] = comparisons.learning_curve(clips, x, of_all).set_index("model")
        tables["corpora"] = comparisons.without_corpora(clips, x, of_all["line"])
        tables["audit"] = comparisons.audits(clips).set_index("stage")
        tables["robustness"] = robustness.table(table, trained, encoders, threshold, SEED)
    for name, frame in tables.items():
        frame.to_csv(out / f"{name}.csv", float_format="%.4f")
    return card


def write_scores(table: pd.DataFrame, path: Path) -> None:
    """The table of `results`: no audio, no features."""
    table = table.assign(id=table["id"].str.extract(r"(\w{12})\w*\.wav$")[0])
    columns = ["id", "owner", "system", "language", "label", "kind", "corpus", "seconds"]
    columns += ["bandwidth_hz", "fold", "score_8khz", "score_16khz"]
    with paths.whole(path) as temporary:
        table[columns].to_csv(temporary, index=False, float_format="%.4g")


def main(argv: list[str] | None = None) -> int:
    """Command line; returns the exit status."""
    parser = argparse.ArgumentParser(
        prog="python -m utils.detector.train.release",
        description=__doc__.split("\n")[0],
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    external = paths.INPUTS / "external" / "demo_pages"
    parser.add_argument("--clips", type=Path, default=external, help="folder of the clips")
    out = paths.OUTPUTS / "detector" / "detector"
    parser.add_argument("--out", type=Path, default=out, help="folder to write")
    parser.add_argument("--folds", type=int, default=heads.FOLDS, help="owners left out at once")
    parser.add_argument("--quick", action="store_true", help="the detector, without the studies")
    options = parser.parse_args(argv)
    if not (options.clips / "meta.csv").exists():
        print(
            f"FAILED: {options.clips}/meta.csv is missing: python -m utils.sources.demo_pages",
            file=sys.stderr,
        )
        return 1
    options.out.mkdir(parents=True, exist_ok=True)
    encoders = options.out / "encoders.onnx"
    if not encoders.exists():
        graph.write(encoders)
    clips = material.with_facts(material.read_clips(options.clips))
    clips["fold"] = heads.owner_folds(
        clips["label"].to_numpy(), clips["owner"].to_numpy(), SEED, options.folds
    )
    card = release(clips, options.out, not options.quick)
    print(json.dumps(card, indent=1))
    return 0


if __name__ == "__main__":
    sys.exit(main())
