"""Training clips beside a competition's own, for notebook 12: twins of real clips by vocoders, and more real speech."""
import hashlib
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd

from utils import audio, build, cache, synth_full, workers
from utils.plans import PLANS

VOCODERS = ("hifigan", "world")  # systems of `mini`'s training set: views that leave their families out drop twins too


def _twins_here(system: str, waves: list[np.ndarray], seed: int) -> list[np.ndarray]:
    make, result = synth_full.SYSTEMS[system].load(seed), []
    for wave in waves:
        try:
            made = audio.resample(*make((wave, audio.RATE)), audio.RATE)
            made = made * (np.abs(wave).max() / max(float(np.abs(made).max()), 1e-6))
            result.append(audio.check_wave(made.astype(np.float32), "twin"))
        except ValueError:  # what a vocoder cannot say: clips that are too short for it, silence
            result.append(np.zeros(0, np.float32))
    return result


def twins(waves: list[np.ndarray], seed: int, label: str = "twins") -> tuple[list[np.ndarray], np.ndarray, np.ndarray]:
    """Real clips at 8 kHz passed through a vocoder each, to train as fakes (paired copy synthesis, arXiv 2210.10570).

    Returns (waves, rows of the originals (M,), family of the vocoder of each (M,)); what a vocoder cannot say is left out. Twins
    are kept by content (`utils/cache.py`).
    """
    system = np.array(VOCODERS)[workers.generator(seed, "twins").integers(len(VOCODERS), size=len(waves))]
    files = ("extra", "synth", "synth_full", "fetch", "audio")  # vocoders, and the versions of their weights
    code = hashlib.sha256(b"".join(Path(__file__).with_name(f"{name}.py").read_bytes() for name in files))
    kept = []
    for name in VOCODERS:

        def compute(missing, name=name):
            parts = np.array_split(np.arange(len(missing)), max(1, len(missing) // 50))
            jobs = [(name, [missing[i] for i in part], seed) for part in parts]
            return [wave for part in workers.in_processes(_twins_here, jobs, f"{label} by {name}") for wave in part]

        rows = np.flatnonzero(system == name)
        made = cache.cached([waves[i] for i in rows], f"twin {name} {seed} {code.hexdigest()}", compute)
        kept += [(wave, i) for wave, i in zip(made, rows, strict=True) if len(wave)]
    at = np.array([i for _, i in kept])
    return [wave for wave, _ in kept], at, np.array([synth_full.SYSTEMS[name].family for name in system[at]])


def more_real(train: pd.DataFrame, seed: int, competition: str = "mini", times: int = 3) -> tuple[list[np.ndarray], np.ndarray]:
    """More real clips of the sources and speakers of a plan's training clips, with babble and conditioned as `build` does it.

    Args: `train` its table (`train_meta.csv`); `times` as many clips of each source, those of `train` among them, are looked at.
    Returns (waves, row of `train` with the same group (M,)): none is a recording that `train` holds.
    """
    plan, chosen = PLANS[competition]["train"], {}
    for source, group, count in plan.real:
        try:
            chosen |= build.choose_real("train", replace(plan, real=((source, group, count and times * count),)), [])
        except ValueError:  # there are not so many: all that there is
            chosen |= build.choose_real("train", replace(plan, real=((source, group, None),)), [])
    held, first = set(train["made_from"]), train.reset_index().groupby("group")["index"].first()
    ordered = sorted(chosen.items(), key=lambda pair: pair[0].id)
    at_8k = {clip: audio.trim(audio.resample(*wave, audio.RATE)) for clip, wave in ordered}
    waves, rows = [], []
    for clip, wave in at_8k.items():
        if clip.made_from in held or clip.group not in first:
            continue
        rng = workers.generator(seed, "more real", clip.id)
        if rng.random() < plan.noisy:
            wave, _ = build.add_background(wave, [w for other, w in at_8k.items() if other.group != clip.group], [], rng)
        wave = audio.condition(wave, audio.RATE, rng, plan.codecs, plan.loss)[0][: int(build.MAX_S * audio.RATE)]
        waves.append(audio.check_wave(wave.astype(np.float32), clip.id))
        rows.append(first[clip.group])
    return waves, np.array(rows)
