"""What pages quote that is no single cell of a table: tables in Markdown, counts, differences.

`VALUES` holds a function for each name; templates name them in double braces (see `filling`).
"""

import html
import inspect
import math
import re

from utils import paths, reference
from utils.audio import augmentation
from utils.competition import selection
from utils.pipeline import run, steps
from utils.pipeline.pages import ablation, mini, speed
from utils.pipeline.profiles import PROFILES
from utils.reference import read, rows
from utils.sources import demo_pages, page_repos


def alarms_true(one_in: int, chosen_for: str = "released") -> float:
    """Share of alarms that are true where one recording in so many is fake, at a threshold."""
    from utils.detector.studies import results

    row = read("detector/thresholds", index_col="chosen_for").loc[chosen_for]
    table = results.base_rates(row["false_alarms_plain"], row["misses"])
    return table.loc[one_in, "true_share_of_alarms"]


def of_card(name: str) -> str:
    """A number of the model card that is no single cell of a table."""
    from utils.detector.studies import card

    return str(card.values()[name])


def example(name: str) -> str:
    """p(bona fide) that the released detector gives an example of the page."""
    from utils.detector.studies import card_facts

    return f"{card_facts.example_scores()[name]:.3f}"


def setup(scoring: bool) -> str:
    """What `./run_all.sh` says that an environment costs: "about 4 minutes and 4 GB"."""
    return re.findall(r'size="(.+?)"', (paths.ROOT / "run_all.sh").read_text())[scoring]


def first_run() -> int:
    """Minutes of `./run_all.sh` from nothing, as measured: set-up, inputs, notebooks."""
    before = read("costs", index_col="what")["minutes"][["environment", "inputs of mini"]]
    return 5 * round((before.sum() + read("mini/times")["minutes"].sum()) / 5)


def disk() -> int:
    """GB that `./run_all.sh` takes, downloads and features included."""
    gb = read("costs", index_col="what")["gb"].drop("environment of scoring")
    return math.ceil(gb.sum())


def announced(name: str) -> tuple[int, str]:
    """(number of steps of a profile, how long it says at its start that they take)."""
    chosen = steps.steps_of(name, PROFILES[name])
    return len(chosen), run.time_of(PROFILES[name], chosen, inputs_there=False)


def page_limits() -> str:
    """How much of a demo page is taken at most."""
    files = inspect.signature(demo_pages.build).parameters["per_row"].default
    return (
        f"{files} files per row, {page_repos.MOST_PER_LABEL} per repository and label, "
        f"{page_repos.MAX_FILE / 1e6:.0f} MB per file, {page_repos.MAX_PAGE_S / 60:.0f} minutes "
        "per page"
    )


def page_chain() -> str:
    """The chain that clips of demo pages of both classes pass."""
    return (
        f"quiet ends cut, the middle {page_repos.LONGEST_S:g} s, at most "
        f"{page_repos.WIDE_RATE / 1000:g} kHz, one peak"
    )


def overlapping_corpora() -> tuple[int, int]:
    """(pairs of public corpora that share recordings, public corpora), as notebook 02 says it."""
    from utils.sources import public_corpora

    names = list(public_corpora.CORPORA)
    shared = public_corpora.contamination().loc[names, names].to_numpy()
    return int((shared.sum() - shared.trace()) / 2), len(names)


def system_rows() -> str:
    """Every synthesiser with its licence and where its weights or program come from."""
    from utils.synthesis import systems

    cells = []
    for name, system in systems.SYSTEMS.items():
        weights = [*system.packages, *system.on_demand, *getattr(system, "weights", ())]
        hub = "model hub: " if getattr(system, "weights", ()) else ""
        named = hub + ", ".join(weights)
        cells.append((name, system.kind, system.licence, named or "Python or Debian packages"))
    return rows(cells)


def recording_rows() -> str:
    """Every package of recordings with its licence."""
    from utils.sources import real_speech

    by_package: dict[tuple, list] = {}
    for name, source in real_speech.SOURCES.items():
        by_package.setdefault((source.package, source.licence), []).append(name)
    return rows(
        [(*key, f"bona fide speech: {', '.join(names)}") for key, names in by_package.items()]
    )


def trained_on(which: str) -> str:
    """A count of what the released detector learned from, as its card says."""
    from utils.detector import detector

    counts = paths.read_json(detector.FOLDER / "card.json")["trained_on"]
    counts["spoofs"] = counts["clips"] - counts["bonafide"]
    return f"{counts[which]:,}"


def executed(run: str) -> str:
    """A further row: links to the executed notebooks that `pipeline.publish` wrote; "" if none."""
    pages = sorted((reference.FOLDER / run / "html").glob("*.html"))
    links = ", ".join(f"[{page.stem}](html/{page.name})" for page in pages)
    told = "the notebooks as executed: save a page and open it in a browser"
    return f"\n| {links} | {told} |" if links else ""


def printed(notebook: str, pattern: str) -> str:
    """What an executed notebook of mini printed: the group of a regular expression.

    It is looked for in what its cells put out, in one line with single spaces. Raises KeyError
    unless all places that fit say the same.
    """
    page = (reference.FOLDER / "mini" / "html" / f"{notebook}.html").read_text(encoding="utf-8")
    wrapper = '<div class="output_wrapper">'
    outputs = [cell.partition(wrapper)[2] for cell in page.split('<div class="cell ')]
    text = html.unescape(re.sub(r"<style.*?</style>|<[^>]+>", " ", " ".join(outputs), flags=re.S))
    found = set(re.findall(pattern, " ".join(text.split())))
    if len(found) != 1:
        raise KeyError(f"{notebook}.html: {len(found)} outputs fit {pattern}, not one")
    return found.pop()


def slides_vote_gain() -> str:
    """F1 of the best vote on the slides less that of their best single model."""
    f1 = read("slides", index_col="system")["f1"]
    return f"{f1['best vote'] - f1['Whisper small, clips cut at 15 s']:+.3f}"


VALUES = (
    speed.VALUES
    | ablation.VALUES
    | mini.VALUES
    | {
        "setup": lambda: setup(scoring=False),
        "setup_scoring": lambda: setup(scoring=True).split(" and ")[0],
        "first_run": lambda: str(first_run()),
        "disk": lambda: str(disk()),
        "mini_steps": lambda: str(announced("mini")[0]),
        "mini_announced": lambda: announced("mini")[1],
        "speed_minutes": lambda: f"{PROFILES['speed'].minutes['10_speed']:g}",
        "page_limits": page_limits,
        "page_chain": page_chain,
        "mini_seed": lambda: str(selection.SEED),
        "pitch_kept": lambda: f"{1 - augmentation.PROBABILITIES['pitch']:g}",
        "mini_executed": lambda: executed("mini"),
        "corpora_pairs": lambda: str(overlapping_corpora()[0]),
        "corpora": lambda: str(overlapping_corpora()[1]),
        "system_rows": system_rows,
        "recording_rows": recording_rows,
        "alarms_true_100": lambda: f"{100 * alarms_true(100):.0f} %",
        "alarms_true_100_strict": lambda: f"{100 * alarms_true(100, '1% false alarms'):.0f} %",
        "owners_doubled": lambda: of_card("doubling").replace("-", "−"),
        "trained_clips": lambda: trained_on("clips"),
        "trained_owners": lambda: trained_on("owners"),
        "trained_bonafide": lambda: trained_on("bonafide"),
        "trained_spoofs": lambda: trained_on("spoofs"),
        "trained_systems": lambda: trained_on("systems"),
        "trained_languages": lambda: trained_on("languages"),
        "trained_plain": lambda: trained_on("owners_of_plain_recordings"),
        "example_computer": lambda: example("computer.flac"),
        "example_person": lambda: example("person.flac"),
        "slides_vote_gain": slides_vote_gain,
    }
)
