"""More real speech beside a competition's own, for notebooks 12 and 13."""

from dataclasses import replace

import numpy as np
import pandas as pd

from utils import parallel
from utils.audio import channel, dsp
from utils.competition import selection, splicing
from utils.competition.plans import PLANS


def more_bonafide(
    train: pd.DataFrame, seed: int, competition: str = "mini", times: int = 3
) -> tuple[list[np.ndarray], np.ndarray]:
    """More real clips of the sources and speakers of a plan's training clips, with babble and conditioned as `build` does it.

    Args: `train` its table (`train_meta.csv`); `times` as many clips of each source, those of `train` among them, are looked at.
    Returns (waves, row of `train` with the same group (M,)): none is a recording that `train` holds.
    """
    plan, chosen = PLANS[competition]["train"], {}
    for source, group, count in plan.bonafide:
        try:
            chosen |= selection.choose_bonafide(
                "train", replace(plan, bonafide=((source, group, count and times * count),)), []
            )
        except ValueError:  # there are not so many: all that there is
            chosen |= selection.choose_bonafide(
                "train", replace(plan, bonafide=((source, group, None),)), []
            )
    held, first = set(train["made_from"]), train.reset_index().groupby("group")["index"].first()
    ordered = sorted(chosen.items(), key=lambda pair: pair[0].id)
    at_8k = {clip: dsp.trim(dsp.resample(*wave, dsp.RATE)) for clip, wave in ordered}
    waves, rows = [], []
    for clip, wave in at_8k.items():
        if clip.made_from in held or clip.group not in first:
            continue
        rng = parallel.seeded_rng(seed, "more real", clip.id)
        if rng.random() < plan.noisy:
            wave, _ = splicing.add_background(
                wave, [w for other, w in at_8k.items() if other.group != clip.group], [], rng
            )
        wave = channel.condition(wave, dsp.RATE, rng, plan.codecs, plan.loss)[0][
            : int(selection.MAX_S * dsp.RATE)
        ]
        waves.append(dsp.check_wave(wave.astype(np.float32), clip.id))
        rows.append(first[clip.group])
    return waves, np.array(rows)
