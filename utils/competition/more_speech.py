"""More bona fide speech beside a competition's own, from the same sources and speakers."""

from dataclasses import replace

import numpy as np
import pandas as pd

from utils import parallel
from utils.audio import channel, dsp
from utils.competition import selection, splicing
from utils.competition.plans import PLANS, Plan


def more_bonafide(
    train: pd.DataFrame, seed: int, competition: str = "mini", times: int = 2
) -> tuple[list[np.ndarray], np.ndarray]:
    """Further bona fide clips of the sources and speakers of a competition's training clips.

    They get background noise and go through the channel as those of `competition.build` do.

    Args:
        train: the competition's train_meta.csv.
        seed: of noise and channel.
        competition: name of its plan.
        times: up to this many times the plan's clips are chosen of each source.
    Returns waves (float32, 8 kHz) and for each a bona fide row of `train` with the same group,
    (M,). None of them is a recording of `train`.
    """
    plan = PLANS[competition]["train"]
    recorded = train[train["label"] == 1]  # a spoof does not train where its family is left out
    known = frozenset(
        (clip.source, key)
        for clip in recorded.itertuples()
        for key in clip.made_from.split(selection.JOIN)
    )
    chosen = sorted(_chosen(plan, times, known).items(), key=lambda pair: pair[0].id)
    at_8k = {clip: dsp.resample(*wave, dsp.RATE) for clip, wave in chosen}
    row_of_group = recorded.reset_index().groupby("group")["index"].first()
    waves, rows = [], []
    for clip, wave in at_8k.items():
        if clip.group not in row_of_group:
            continue
        rng = parallel.seeded_rng(seed, "more real", clip.id)
        wave = wave[channel.heard_part(wave, rng)]
        if rng.random() < plan.noisy:
            others = [w for other, w in at_8k.items() if other.group != clip.group]
            wave, _ = splicing.add_background(wave, others, [], rng)
        wave, _ = channel.condition(wave, dsp.RATE, rng, plan.codecs, plan.loss, cut=False)
        wave = wave[: int(selection.MAX_S * dsp.RATE)]
        waves.append(dsp.check_wave(wave.astype(np.float32), clip.id))
        rows.append(row_of_group[clip.group])
    return waves, np.array(rows)


def _chosen(
    plan: Plan, times: int, known: frozenset[tuple[str, str]]
) -> dict[selection.Clip, tuple[np.ndarray, int]]:
    """`times` as many new clips of each source as the plan has, or all where there are fewer."""
    chosen = {}
    for source, group, count in plan.bonafide:
        wanted = replace(plan, bonafide=((source, group, count and times * count),))
        everything = replace(plan, bonafide=((source, group, None),))
        try:
            chosen |= selection.choose_bonafide("train", wanted, [], known)
        except selection.TooFewError:
            chosen |= selection.choose_bonafide("train", everything, [], known)
    return chosen
