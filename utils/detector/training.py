"""Steps of notebook 09, in which the detector is trained and evaluated on samples of demo pages.

A demo page is a web page on which the authors of a speech synthesiser publish samples: recordings
(bona fide) and synthetic clips (spoof). "Package clips" are the training clips of a competition
that this project builds from packages of PyPI and Debian. Labels: 1 bona fide, 0 spoof.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import pandas as pd
from sklearn.base import clone
from sklearn.model_selection import GroupKFold
from sklearn.pipeline import Pipeline
from sklearn.svm import SVC

from utils import metrics, parallel, paths
from utils.audio import augmentation, channel, dsp
from utils.competition import archive
from utils.detector import detector
from utils.evaluation import calibration
from utils.models import pooled_features

PACKET_LOSS = 0.1  # fraction of the clips that lose packets in the simulated telephone channel
PART_S = (2.0, 5.0)  # length of a part of a partly spoofed recording
UNLIKE_S = 4  # length of a clip of noise, tones or music


def simulated_telephone(wave: np.ndarray, clip_id: str, seed: int, strength: float) -> np.ndarray:
    """An 8 kHz wave after a simulated telephone channel: noise, band, codec, lost packets.

    Its strength is random, from 0 to `strength` (see `channel.condition`), and follows from `seed`
    and `clip_id`.
    """
    rng = parallel.seeded_rng(seed, "copy", clip_id)
    # rng is used here before `condition` uses it: the order decides the result
    clip_strength = rng.uniform(0, strength)
    codecs = channel.TELEPHONE
    return channel.condition(wave, dsp.RATE, rng, codecs, PACKET_LOSS, clip_strength)[0]


def package_clips(competition: str, per_name: int, seed: int) -> pd.DataFrame:
    """Rows of the manifest of the training clips of `inputs/<competition>`, splices left out.

    At most `per_name` random clips of each synthesiser (spoof) and of each source of recordings
    (bona fide), sorted by label and id.
    """
    manifest, _ = archive.build_manifest(paths.INPUTS / competition)
    train = manifest.query("split == 'train' and source != 'splice'")
    train = train.sample(frac=1, random_state=seed)
    name = train["system"].where(train["label"] == 0, train["source"])
    chosen = train.groupby(name).head(per_name)
    return chosen.sort_values(["label", "id"], ignore_index=True)


# ---------------------------------------------------------------- unseen demo pages
@dataclass(frozen=True)
class PageFolds:
    """Folds of demo-page clips: all clips of one page are in one fold."""

    page: np.ndarray  # of each clip, (N,)
    rows: list[np.ndarray]  # of each fold: its clips

    @classmethod
    def split(cls, label: np.ndarray, page: np.ndarray, folds: int) -> "PageFolds":
        """Folds of about equal size. Raises ValueError for fewer pages than folds."""
        return cls(page, [rows for _, rows in GroupKFold(folds).split(label, label, page)])

    def fit(
        self, function: Callable, x: np.ndarray, label: np.ndarray, group: np.ndarray, title: str
    ) -> list:
        """One model per fold, `function(x, label)` of the rows whose group is no page of the fold.

        Args: features `x` (M, D), `label` (M,) and `group` (M,) of all that may train: clips of
        pages (the group is the page) and others; `title` of the progress bar.
        """
        jobs = []
        for rows in self.rows:
            known = ~np.isin(group, self.page[rows])
            jobs.append((x[known], label[known]))
        return parallel.run_in_processes(function, jobs, title)

    def scores(self, models: list, x: np.ndarray) -> np.ndarray:
        """Score each clip, features (N, D), by the model that saw no clip of its page: (N,)."""
        result = np.zeros(len(self.page))
        for model, rows in zip(models, self.rows, strict=True):
            result[rows] = model.decision_function(x[rows])
        return result

    def by_page(self, models: list) -> dict[str, Pipeline]:
        """Page → the model that saw no clip of it."""
        return {
            page: model
            for model, rows in zip(models, self.rows, strict=True)
            for page in np.unique(self.page[rows])
        }

    def can_leave_out(self, label: np.ndarray, left_out: np.ndarray) -> bool:
        """Whether `left_out` (N,) holds clips, and every fold can train on both classes without."""
        training = [~np.isin(self.page, self.page[rows]) & ~left_out for rows in self.rows]
        return bool(left_out.any() and all(len(set(label[rows])) == 2 for rows in training))

    def scores_without(
        self, models: list[Pipeline], components: list[np.ndarray], label: np.ndarray, left_out
    ) -> np.ndarray:
        """What `scores` gives if the clips `left_out` (N,) train no SVM either: (N,).

        Args: `models` from `fit_svm`; `components` of each, what all its steps but the last give
        for the clips. The principal components stay as they are: only the SVMs are trained anew.
        """
        jobs = []
        for rows, model, x in zip(self.rows, models, components, strict=True):
            known = ~np.isin(self.page, self.page[rows]) & ~left_out
            jobs.append((clone(model[-1]), x[known], label[known]))
        svms = parallel.run_in_processes(SVC.fit, jobs)
        result = np.zeros(len(label))
        for rows, svm, x in zip(self.rows, svms, components, strict=True):
            result[rows] = svm.decision_function(x[rows])
        return result


def mean_auc(label: np.ndarray, scores: np.ndarray, page: np.ndarray) -> float:
    """Mean over the pages that have clips of both classes of the AUC on the clips of one page."""
    values = []
    for name in np.unique(page):
        rows = page == name
        if len(set(label[rows])) == 2:
            values.append(metrics.auc(label[rows], scores[rows]))
    return float(np.mean(values))


def result_row(label, scores, page, seed: int, repeats: int = 300) -> dict[str, float]:
    """EER with its 95 % interval over pages, AUC and mean AUC over pages, of (N,) arrays."""
    label, scores, page = np.asarray(label), np.asarray(scores), np.asarray(page)
    low, high = metrics.group_bootstrap(
        metrics.eer, page, label, scores, repeats=repeats, seed=seed
    )
    return {
        "eer": metrics.eer(label, scores),
        "eer_low": low,
        "eer_high": high,
        "auc": metrics.auc(label, scores),
        "mean_auc_over_pages": mean_auc(label, scores, page),
    }


def eer_change(label: np.ndarray, scores: np.ndarray, reference: np.ndarray) -> float:
    """EER of `scores` less the EER of `reference`; above 0: `scores` are worse."""
    return metrics.eer(label, scores) - metrics.eer(label, reference)


def clips_by_source(clips: pd.DataFrame, patterns: dict[str, str]) -> dict[str, np.ndarray]:
    """Which clips of demo pages come from a corpus, by the paths that the pages publish.

    Args: `clips` of a manifest; `patterns`, name of a corpus → regular expression, which is looked
    for in the path and the name of the system, both in lower case.
    Returns name → boolean (N,), False for clips that are not of demo pages.
    """
    meta = pd.read_csv(paths.INPUTS / "external" / "demo_pages" / "meta.csv", dtype=str)
    text = (meta["page_path"] + " " + meta["system"]).str.lower()
    text_of = dict(zip("demo_pages/" + meta["file"], text, strict=True))
    where = clips["id"].map(text_of).where(clips["source"] == "demo_pages", "").fillna("")
    return {name: where.str.contains(pattern).to_numpy() for name, pattern in patterns.items()}


def reliability(label: np.ndarray, probability: np.ndarray, bins: int = 10) -> pd.DataFrame:
    """Points of a calibration curve if both classes weigh the same.

    Returns a row per bin of `probability` with clips: `stated` (mean probability of bona fide),
    `bonafide` (fraction that is bona fide), `clips`.
    """
    weight = np.where(label == 1, 0.5 / label.mean(), 0.5 / (1 - label.mean()))
    bin_of = np.minimum((probability * bins).astype(int), bins - 1)
    table = pd.DataFrame({"weight": weight, "stated": weight * probability, "clips": 1})
    table["bonafide"] = weight * label
    sums = table.groupby(bin_of).sum()
    return sums[["stated", "bonafide"]].div(sums["weight"], axis=0).assign(clips=sums["clips"])


# ---------------------------------------------------------------- where is it fake?
def partly_spoofed(
    waves: list[np.ndarray], bonafide: np.ndarray, spoof: np.ndarray, rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray]:
    """A recording whose middle is fake: a random bona fide clip, a spoof, another bona fide clip.

    Args: `waves` at 8 kHz; `bonafide` and `spoof`, the numbers of those to choose from, two and one
    at least. Each part is a random stretch of `PART_S`, or the whole clip if that is shorter.
    Returns (8 kHz wave, whether the middle of each step of `detector.STEP_S` is fake).
    """
    first, last = rng.choice(bonafide, 2, replace=False)
    parts = []
    for i in (first, rng.choice(spoof), last):
        size = int(min(rng.uniform(*PART_S) * dsp.RATE, len(waves[i])))
        start = rng.integers(len(waves[i]) - size + 1)
        parts.append(waves[i][start : start + size])
    recording = augmentation.splice(parts)
    start, end, _ = np.cumsum([len(part) for part in parts])
    middles = detector.step_middles(len(recording))
    return recording, (start <= middles) & (middles < end)


def partly_spoofed_recordings(
    waves: list, label: np.ndarray, page: np.ndarray, per_page: int, seed: int
) -> list[tuple[str, np.ndarray, np.ndarray]]:
    """(page, wave, whether each step is fake): `per_page` of each page that has clips for them."""
    rng, result = np.random.default_rng(seed), []
    for name in np.unique(page):
        bonafide = np.flatnonzero((page == name) & (label == 1))
        spoof = np.flatnonzero((page == name) & (label == 0))
        if len(bonafide) > 1 and len(spoof):
            result += [
                (name, *partly_spoofed(waves, bonafide, spoof, rng)) for _ in range(per_page)
            ]
    return result


def score_timelines(
    recordings: list[tuple], models: dict[str, Pipeline], platt: calibration.Platt
) -> list[pd.DataFrame]:
    """Timelines of `partly_spoofed_recordings` by the models that saw no clip of their pages.

    Returns of each recording a row per step: page, spoof (whether it is fake), p (of bona fide).
    """
    cuts = [detector.windows(len(wave)) for _, wave, _ in recordings]
    pieces = [wave[cut] for (_, wave, _), its in zip(recordings, cuts, strict=True) for cut in its]
    features = pooled_features.features(pieces, detector.DEPTHS, "windows")
    result, start = [], 0
    for (page, wave, spoof), its in zip(recordings, cuts, strict=True):
        scores = models[page].decision_function(features[start : start + len(its)])
        start += len(its)
        log_odds = detector.by_step(len(wave), platt.log_odds(scores))
        p = 1 / (1 + np.exp(-log_odds))
        result.append(pd.DataFrame({"page": page, "spoof": spoof, "p": p}))
    return result


def segment_row(spoof: np.ndarray, p: np.ndarray) -> dict[str, float]:
    """Errors of a timeline: `spoof` (steps,) true where a step is fake, `p` (steps,) of bona fide.

    Returns segment_eer, and of the steps with p at most 0.5 the F1 of spoof and the intersection
    over union (IoU) with the fake steps.
    """
    flagged = p <= 0.5
    return {
        "segment_eer": metrics.eer(1 - spoof.astype(int), p),
        "f1_spoof": metrics.f1(spoof.astype(int), flagged.astype(int)),
        "iou": float((spoof & flagged).sum() / max(1, (spoof | flagged).sum())),
    }


# ---------------------------------------------------------------- unlike the training clips
def no_speech(songs: list[np.ndarray], seed: int) -> dict[str, list[np.ndarray]]:
    """Clips of `UNLIKE_S` at 8 kHz without speech: 40 of noise, 40 tones, 8 of each song."""
    rng, size = np.random.default_rng(seed), UNLIKE_S * dsp.RATE
    noise = [
        dsp.coloured_noise(size, slope_db, rng) * np.float32(0.05)
        for slope_db in np.linspace(0, 6, 40)
    ]
    tones = [np.float32(0.1 * np.sin(np.arange(size) * f)) for f in np.linspace(0.1, 2, 40)]
    starts = [(song, rng.integers(len(song) - size)) for song in songs for _ in range(8)]
    music = [song[start : start + size] for song, start in starts]
    clips = {"noise": noise, "tones": tones, "music": music}
    return {name: waves for name, waves in clips.items() if waves}
