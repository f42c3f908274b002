"""What trains the detector: clips of demo pages with their owners, and statistics of the encoders.

Each clip has *narrow* statistics, of what lies below 4 kHz. One whose sound reaches higher has
*wide* ones too. Some clips train once more as if they had been recorded badly (`degradation`). No
clip of an owner that is reserved for evaluation is let in.
"""

import hashlib
from pathlib import Path

import numpy as np
import pandas as pd
from scipy import signal

from utils import contracts, feature_cache, parallel
from utils.audio import dsp, reading
from utils.code_digest import code_digest
from utils.detector import embedding
from utils.detector.embedding import RATE, WIDE, Encoders
from utils.detector.train import degradation

CLIPS_PER_JOB = 40
NATIVE = ("native_hz", "native_s", "native_peak", "native_dbfs", "native_lead_s", "native_tail_s")
QUIET_DB = 40.0
LOWPASS_HZ = (4600.0, 7600.0)  # edges of the low-passed copies of wide clips
CORPORA = {  # recordings that many owners show → what their paths and systems look like
    "VCTK": r"vctk|(?<![a-z])p[23]\d\d(?!\d)",
    "LibriSpeech": r"libri|\d+_\d+_\d{6}|\d+-\d+-\d{4}",
    "LJSpeech": r"ljs|lj\d",
}


def read_clips(folder: Path) -> pd.DataFrame:
    """Clips with a label of a folder that `sources.demo_pages` wrote, sorted by id.

    Recordings whose bandwidth was extended are left out: below 4 kHz they are what was recorded.

    Columns: id, path, owner, repo, system, language, label (1 bona fide, 0 spoof), kind (page,
    plain), corpus ("" for none of `CORPORA`), suffix of the original file, and `native_…`, what
    that was like (NaN where it is not known). Raises ContractError if an owner is reserved for
    evaluation.
    """
    meta = pd.read_csv(folder / "meta.csv", keep_default_na=False)
    extended = meta["system"].str.startswith("bwe:")  # recordings, up to where they are extended
    meta = meta[(meta["label"] != "") & ~extended].sort_values("id", ignore_index=True)
    reserved = sorted({repo for repo in set(meta["repo"]) if contracts.is_reserved(repo)})
    if reserved:
        raise contracts.ContractError(f"{folder}: reserved for evaluation: {', '.join(reserved)}")
    text = (meta["page_path"] + " " + meta["system"]).str.lower()
    corpus = pd.Series("", index=meta.index)
    for name, pattern in CORPORA.items():
        corpus[(corpus == "") & text.str.contains(pattern)] = name
    return pd.DataFrame(
        {
            "id": meta["id"],
            "path": [str(folder / name) for name in meta["file"]],
            "owner": meta["repo"].str.split("/").str[0].str.lower(),
            "repo": meta["repo"],
            "system": meta["system"],
            "language": meta["language"],
            "label": meta["label"].astype(int),
            "kind": meta["kind"],
            "corpus": corpus,
            "suffix": meta["page_path"].str.extract(r"(\.\w+)$")[0].str.lower().fillna(""),
            **{name: pd.to_numeric(meta.get(name), errors="coerce") for name in NATIVE},
        }
    )


def read_wave(path: str) -> np.ndarray:
    """A clip at 16 kHz, float32 (samples,)."""
    return reading.read(Path(path), RATE)


def low_passed(wave: np.ndarray, key: str) -> np.ndarray:
    """A wave without what lies above an edge within `LOWPASS_HZ`, drawn by its name."""
    edge = parallel.seeded_rng("low pass", key).uniform(*LOWPASS_HZ)
    sections = signal.butter(12, edge, fs=RATE, output="sos")
    return signal.sosfiltfilt(sections, wave).astype(np.float32)


def degraded(wave: np.ndarray, key: str) -> np.ndarray:
    """`degradation.degraded`, drawn by the clip's name, and cut to the clip's length."""
    rng = parallel.seeded_rng("degraded", key)
    return degradation.degraded(wave, rng)[: len(wave)]


def _heard(path: str, kind: str) -> np.ndarray:
    """What a clip's statistics are made of. Kinds: those of `statistics`."""
    wave, name = read_wave(path), Path(path).name
    if "degraded" in kind:
        wave = degraded(wave, name)
    elif "quiet" in kind:
        wave = degradation.quieter(wave * (embedding.PEAK / max(1e-9, dsp.peak(wave))), QUIET_DB)
    if "low-passed" in kind:
        wave = low_passed(wave, name)
    elif WIDE not in kind:
        wave = embedding.telephone_band(wave)
    return embedding.filled(wave)


def _statistics(paths: list[str], encoders: str, name: str, kind: str) -> list[np.ndarray]:
    session = None

    def compute(missing):
        nonlocal session
        session = session or Encoders(Path(encoders))
        return [session.statistics(wave[None])[0] for wave in missing]

    waves = [_heard(path, kind) for path in paths]
    return feature_cache.cached(waves, name, compute)


def statistics(paths: list[str], encoders: Path, kind: str) -> np.ndarray:
    """Statistics, float32 (N, D), of clips in parallel processes; each clip is cached.

    encoders: the ONNX file. kind: `NARROW`, `WIDE` or "low-passed"; behind it can stand
    ", degraded" or ", quiet" (`QUIET_DB` below full level, in 16 bits).
    """
    name = f"detector {hashlib.sha256(encoders.read_bytes()).hexdigest()[:16]}"
    name += f" {code_digest(Encoders.statistics)}"
    settings = (CLIPS_PER_JOB, str(encoders), name, kind)
    return np.stack(parallel.map_chunks(_statistics, paths, *settings, label=f"{kind} statistics"))


def _facts(paths: list[str]) -> list[tuple[float, float]]:
    waves = [read_wave(path) for path in paths]
    return [(len(wave) / RATE, embedding.bandwidth_hz(wave)) for wave in waves]


def with_facts(clips: pd.DataFrame) -> pd.DataFrame:
    """The clips with `seconds` and `bandwidth_hz`."""
    facts = parallel.map_chunks(_facts, clips["path"].tolist(), 200, label="lengths, bandwidths")
    seconds, bandwidth = zip(*facts, strict=True)
    return clips.assign(seconds=np.round(seconds, 2), bandwidth_hz=bandwidth)
