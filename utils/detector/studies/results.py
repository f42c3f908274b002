"""What the table of scores of owners left out says: quality, thresholds, errors by group.

The table (`scores.csv`) has a row for each clip: id, owner, system, language, label (1 bona fide,
0 spoof), kind, corpus, seconds, bandwidth_hz, fold, and the calibrated log-odds of bona fide by
heads that saw no clip of the owner: `score_8khz`, and `score_16khz` where the clip holds sound
above 4 kHz. `score` is the one that the detector gives: that of the wide head where there is one.
"""

from pathlib import Path

import numpy as np
import pandas as pd
from scipy.special import expit
from sklearn.model_selection import GroupKFold

from utils import bootstrap, metrics, reference
from utils.evaluation import calibration

TABLES = reference.FOLDER / "detector"  # of the released detector
REPEATS = 1000  # bootstrap draws, of owners
BASE_RATES = (1 / 2, 1 / 10, 1 / 100, 1 / 1000)  # share of fakes among what is scored
FAMILIES = {  # what names of systems look like, the first that fits counts
    "partly fake": r"partial|edit|inpaint|infill|ssr-speech|voicecraft|fluentspeech",
    "vocoder": r"vocoder|vocod|gan\b|hifi|wavenet|wavern|waveglow|lpcnet|diffwave|wavegrad"
    r"|bigvgan|vocos|griffin|codec|units",
    "voice conversion": r"\bvc\b|vc$|vcc20|voicemixer|blow|conver|rvc|sovits|so-vits|autovc"
    r"|freevc|knn|seed-?vc|starga",
    "commercial service": r"eleven|openai|azure|google|polly|gtts|edge|murf|play\.?ht|cartesia"
    r"|deepgram|gemini|minimax|aura|wavenet-|neural2|siri|watson|yandex|baidu|iflytek|naver",
    "language model on codes": r"vall|bark|gpt|llm|lm\b|cosyvoice|parler|tortoise|fish|index"
    r"|spark|xtts|orpheus|sesame|csm|dia\b|chatterbox|llasa|higgs|vibe|qwen|zonos|moshi|speartts",
    "flow or diffusion": r"f5|e2[- ]?tts|diff|flow|matcha|grad|voicebox|naturalspeech|maskgct",
    "acoustic model and vocoder": r"tacotron|fastspeech|vits|glow|style|kokoro|piper|melo"
    r"|mms|transformer|fastpitch|espeak|deepvoice|silero|adaspeech|portaspeech|syntaspeech"
    r"|generspeech|yourtts|fs2|hierspeech",
    "other text-to-speech": r"tts|speech|voice",
}
OTHER = "other or not named"


def read(path: Path) -> pd.DataFrame:
    """The table with the column `score` and `family` of spoofs."""
    table = pd.read_csv(path, keep_default_na=False, na_values={"score_16khz": [""]})
    score = table["score_16khz"].astype(float).fillna(table["score_8khz"])
    return table.assign(score=score, family=families(table["system"], table["label"]))


def families(system: pd.Series, label: pd.Series) -> pd.Series:
    """Family of each spoof by the name of its system; "bona fide" for the others."""
    name = system.str.lower()
    result = pd.Series(OTHER, index=system.index)
    for family, pattern in reversed(FAMILIES.items()):
        result[name.str.contains(pattern)] = family
    return result.where(label == 0, "bona fide")


def quality(table: pd.DataFrame, column: str = "score", seed: int = 2024) -> dict[str, float]:
    """EER, AUC with 95 % intervals over owners, and counts, of the clips that have the score."""
    rows = table[table[column].notna()]
    label, score, owner = (rows[name].to_numpy() for name in ("label", column, "owner"))
    _, number = np.unique(owner, return_inverse=True)
    weights = bootstrap.group_weights(owner, REPEATS, seed)[:, number]
    low, high = bootstrap.interval(bootstrap.eer(label, score, weights))
    auc_low, auc_high = metrics.group_bootstrap(
        metrics.auc, owner, label, score, repeats=200, seed=seed
    )
    return {
        "eer": metrics.eer(label, score),
        "eer_low": low,
        "eer_high": high,
        "auc": metrics.auc(label, score),
        "auc_low": auc_low,
        "auc_high": auc_high,
        "clips": len(rows),
        "bonafide": int(label.sum()),
        "owners": rows["owner"].nunique(),
    }


def compared(
    table: pd.DataFrame, one: np.ndarray, other: np.ndarray, seed: int = 2024
) -> tuple[float, float, float]:
    """EER of scores `one` less that of `other`, with its 95 % interval over owners, paired."""
    label, owner = table["label"].to_numpy(), table["owner"].to_numpy()
    _, number = np.unique(owner, return_inverse=True)
    weights = bootstrap.group_weights(owner, REPEATS, seed)[:, number]
    draws = bootstrap.eer(label, one, weights) - bootstrap.eer(label, other, weights)
    return metrics.eer(label, one) - metrics.eer(label, other), *bootstrap.interval(draws)


def calibrated_out_of_fold(
    score: np.ndarray, label: np.ndarray, owner: np.ndarray, folds: int = 5
) -> np.ndarray:
    """Probability of bona fide (N,) at a prior of one half, calibrated on other owners."""
    stated = np.zeros(len(label))
    for inside, outside in GroupKFold(folds).split(score, label, owner):
        platt = calibration.fit_platt(score[inside], label[inside], balanced=True)
        stated[outside] = platt.probability(score[outside])
    return stated


def reliability(label: np.ndarray, probability: np.ndarray, bins: int = 10) -> pd.DataFrame:
    """Points of a calibration curve if both classes weigh the same.

    Returns a row per bin of `probability` with clips: `stated` (mean probability of bona fide),
    `bonafide` (share that is bona fide), `clips`.
    """
    weight = np.where(label == 1, 0.5 / label.mean(), 0.5 / (1 - label.mean()))
    bin_of = np.minimum((probability * bins).astype(int), bins - 1)
    table = pd.DataFrame({"weight": weight, "stated": weight * probability, "clips": 1})
    table["bonafide"] = weight * label
    sums = table.groupby(bin_of).sum()
    return sums[["stated", "bonafide"]].div(sums["weight"], axis=0).assign(clips=sums["clips"])


def rates(table: pd.DataFrame, threshold: float) -> dict[str, float]:
    """Error rates where a probability of at most `threshold` is called spoof.

    false_alarms_plain: of recordings of people who have nothing to do with synthesis;
    false_alarms: of all bona fide clips; misses: of spoofs.
    """
    called, bonafide = expit(table["score"]) <= threshold, table["label"] == 1
    return {
        "threshold": threshold,
        "false_alarms_plain": called[plain_recordings(table)].mean(),
        "false_alarms": called[bonafide].mean(),
        "misses": (~called[~bonafide]).mean(),
    }


def threshold_for(table: pd.DataFrame, false_alarms: float) -> float:
    """The probability at which so many plain recordings are called spoof."""
    plain = table.loc[plain_recordings(table), "score"]
    return float(np.quantile(expit(plain), false_alarms))


def plain_recordings(table: pd.DataFrame) -> pd.Series:
    """Which clips are recordings of people; where there is none, all bona fide clips."""
    bonafide = table["label"] == 1
    plain = bonafide & (table["kind"] == "plain")
    return plain if plain.any() else bonafide


def threshold_table(table: pd.DataFrame, chosen: float) -> pd.DataFrame:
    """`rates` for false alarms of 1, 2, 5, 10 and 20 % on plain recordings, and at the EER."""
    rows = {f"{share:.0%} false alarms": threshold_for(table, share) for share in (0.01, 0.02)}
    rows |= {"released": chosen}
    rows |= {f"{share:.0%} false alarms": threshold_for(table, share) for share in (0.1, 0.2)}
    rows |= {"one half": 0.5}
    return pd.DataFrame({name: rates(table, value) for name, value in rows.items()}).T


def base_rates(false_alarms: float, misses: float) -> pd.DataFrame:
    """Of 1,000 recordings: alarms, true ones among them, fakes that pass, by the share of fakes."""
    share = np.array(BASE_RATES)
    true, false = share * (1 - misses), (1 - share) * false_alarms
    table = pd.DataFrame(
        {
            "one_fake_in": (1 / share).round().astype(int),
            "alarms_per_1000": 1000 * (true + false),
            "true_share_of_alarms": true / (true + false),
            "missed_per_1000": 1000 * share * misses,
        }
    )
    return table.set_index("one_fake_in")


def errors_by(table: pd.DataFrame, by: str, threshold: float, least: int = 20) -> pd.DataFrame:
    """Share of clips that are decided wrongly, by a column and class, with counts and owners.

    Groups of fewer than `least` clips are put into one, "fewer clips".
    """
    wrong = (expit(table["score"]) <= threshold) == (table["label"] == 1)
    rows = table[[by, "label", "owner"]].assign(wrong=wrong)
    size = rows.groupby([by, "label"])["wrong"].transform("size")
    rows[by] = rows[by].where(size >= least, "fewer clips")
    grouped = rows.groupby([by, "label"])
    found = grouped.agg(
        errors=("wrong", "mean"), clips=("wrong", "size"), owners=("owner", "nunique")
    )
    return found.reset_index()
