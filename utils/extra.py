"""More real speech beside a competition's own, for notebooks 12 and 13."""
from dataclasses import replace

import numpy as np
import pandas as pd

from utils import audio, build, workers
from utils.plans import PLANS


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
