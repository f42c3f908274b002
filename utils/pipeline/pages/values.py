"""What pages quote that is no single cell of a table: tables in Markdown, counts, differences.

`VALUES` holds a function for each name; templates name them in double braces (see `filling`).
"""

from utils import paths, reference
from utils.pipeline.pages import ablation, speed
from utils.reference import read, rows

RELEASED = paths.ROOT / "utils" / "detector" / "released"
MODELS = {  # names of the tables → names on pages
    "campplus": "CAM++, fine-tuned",
    "campplus-svm": "CAM++, SVM",
    "whisper-base": "Whisper base, 3 layers, fine-tuned",
    "whisper-base-svm": "Whisper base, 3 layers, SVM",
    "ge2e": "GE2E, fine-tuned",
    "ge2e-svm": "GE2E, SVM",
    "deep-svdd": "deep SVDD, bona fide speech only",
    "mean": "mean of scores",
    "logistic": "stack: logistic regression",
    "lightgbm": "stack: LightGBM",
}


def vote_of(run: str) -> dict:
    """What notebook 07 wrote about the vote of a run."""
    return paths.read_json(reference.FOLDER / run / "vote.json")


def model(name: str) -> str:
    """Name of a model on pages."""
    return MODELS.get(name, name)


def test_counts() -> tuple[int, int]:
    """Bona fide clips and spoofs of mini's test."""
    table = read("mini/results")
    if "spoofs" in table:
        return table["bonafide"][0], table["spoofs"][0]
    # an older run: from a table that lacks lengths with few clips
    counts = read("mini/breakdown").query("by == 'length'").groupby("class")["clips"].sum()
    return counts["bona fide"], counts["spoof"]


def test_prior() -> float:
    """Fraction of bona fide clips in mini's test."""
    return test_counts()[0] / sum(test_counts())


def bonafide_sources() -> int:
    """How many sources the bona fide clips of mini's test come from."""
    table = read("mini/breakdown").query("by == 'system or source' and `class` == 'bona fide'")
    return (table["value"] != "splice").sum()


def floor(prior: float) -> float:
    """F1 of calling every clip bona fide."""
    return 2 * prior / (1 + prior)


def result_rows(run: str) -> str:
    """Every model of a run of the mini competition, on the test and out of fold; floor last."""
    table, submitted = read(f"{run}/results"), vote_of(run)["vote"]
    out_of_fold = read(f"{run}/oof_results", index_col="model")["f1"]
    cells = []
    for row in table.itertuples():
        name = model(row.model)
        bold = f"**{name} (submitted)**" if row.model == submitted else name
        f1 = f"{row.f1:.3f} [{row.f1_low:.3f}, {row.f1_high:.3f}]"
        numbers = (f"{row.eer:.3f}", f"{row.auc:.3f}", f"{out_of_fold[row.model]:.3f}")
        cells.append((bold, f1, *numbers))
    test = f"{floor(test_prior()):.3f}"
    trained = f"{floor(vote_of(run).get('training_prior', float('nan'))):.3f}".replace("nan", "–")
    return rows([*cells, ("all called bona fide (floor)", test, "0.500", "0.500", trained)])


def harder_out_of_fold() -> str:
    """ "12 of 12": models of mini whose EER is lower on the test than out of fold."""
    table = read("mini/results")
    return f"{(table['eer'] < table['oof_eer']).sum()} of {len(table)}"


def correlations() -> tuple[int, float]:
    """Members of mini's stack, and the mean correlation of their errors, as notebook 06 says it."""
    table = read("mini/error_correlation", index_col="model").to_numpy()
    members = len(table)
    return members, (table.sum() - members) / (members * (members - 1))


def variance_left(rho: float | None = None) -> str:
    """Variance of the mean of mini's members, as a fraction of one member's."""
    members, measured = correlations()
    rho = measured if rho is None else rho
    return f"{(1 - rho) / members + rho:.2f}"


def conditioning(strength: float, protocol: str, column: str) -> str:
    """Mean over families or sources of a column of mini's `conditioning.csv`."""
    table = read("mini/conditioning")
    some = table[(table["strength"] == strength) & (table["protocol"] == protocol)]
    return f"{some[column].mean():.2f}"


def new_languages() -> str:
    """Languages of mini's test that its training clips of both classes do not have."""
    test = set(read("mini/breakdown").query("by == 'language'")["value"])
    trained = set(read("mini/shortcut_leaks").query("by == 'language'")["value"])
    return ", ".join(f"`{name}`" for name in sorted(test - trained - {"mixed"}))


def alarms_true(one_in: int) -> float:
    """Share of alarms that are true where one recording in so many is fake (released threshold)."""
    row = read("detector/thresholds", index_col="chosen_for").loc["released"]
    true = (1 - row["misses"]) / one_in
    return true / (true + (1 - 1 / one_in) * row["false_alarms_plain"])


def of_card(name: str) -> str:
    """A number of the model card that is no single cell of a table."""
    from utils.detector.studies import card

    return str(card.values()[name])


def example(name: str) -> str:
    """p(bona fide) that the released detector gives an example of the page."""
    from utils.detector.studies import card_facts

    return f"{card_facts.example_scores()[name]:.3f}"


def prior_estimate(which: str) -> str:
    """Of mini's test: `value`, `low` or `high` of the estimate that decides."""
    return f"{vote_of('mini')['prior_estimates']['mean of voters'][which]:.2f}"


def test_clips_of(lengths: str) -> str:
    """Clips of mini's test of these lengths, as `breakdown.csv` names them."""
    table = read("mini/breakdown").query("by == 'length'").set_index("value")
    return str(table.loc[[lengths], "clips"].sum())


def trained_by_plan() -> tuple[set, set]:
    """(systems, languages) of mini's training clips, as its recipe names them."""
    from utils.competition import plans
    from utils.sources import real_speech

    plan = plans.PLANS["mini"]["train"]
    systems = {system for system, *_ in (*plan.vocoded, *plan.tts)}
    languages = {real_speech.SOURCES[source].language for source, *_ in plan.bonafide}
    return systems, languages | {language for _, language, *_ in plan.tts}


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
    counts = paths.read_json(RELEASED / "card.json")["trained_on"]
    counts["spoofs"] = counts["clips"] - counts["bonafide"]
    return f"{counts[which]:,}"


def executed(run: str) -> str:
    """A further row: links to the executed notebooks that `pipeline.publish` wrote; "" if none."""
    pages = sorted((reference.FOLDER / run / "html").glob("*.html"))
    links = ", ".join(f"[{page.stem}](html/{page.name})" for page in pages)
    told = "the notebooks as executed: save a page and open it in a browser"
    return f"\n| {links} | {told} |" if links else ""


def gain(member: str) -> str:
    """Fraction of the gain of LightGBM's trees that a member of mini's stack brings, over folds."""
    folds = read("mini/importances", index_col="member").loc[member]
    return f"{folds.min():.2f} to {folds.max():.2f}"


def submitted_threshold() -> str:
    """Threshold of the submitted model or vote of mini, on its probability."""
    vote = vote_of("mini")
    return f"{vote['thresholds'][vote['vote']]:.2f}"


def submitted_clips() -> tuple[int, int]:
    """Bona fide clips and spoofs of mini's test that the submission calls bona fide."""
    row = read("mini/results", index_col="model").loc[vote_of("mini")["vote"]]
    bonafide, spoofs = test_counts()
    return round(bonafide * row["recall"]), round(spoofs * row["false_acceptance"])


def oof_above_floor() -> str:
    """ "2 of 12": models and votes of mini whose F1 out of fold is beyond the floor."""
    table = read("mini/oof_results")
    return f"{(table['f1_low'] > floor(vote_of('mini')['training_prior'])).sum()} of {len(table)}"


def slides_vote_gain() -> str:
    """F1 of the best vote on the slides less that of their best single model."""
    f1 = read("slides", index_col="system")["f1"]
    return f"{f1['best vote'] - f1['Whisper small, clips cut at 15 s']:+.3f}"


VALUES = (
    speed.VALUES
    | ablation.VALUES
    | {
        "mini_executed": lambda: executed("mini"),
        "mini_rows": lambda: result_rows("mini"),
        "mini_clips": lambda: f"{read('ablation/ablation')['clips'].iloc[0]:,}",
        "mini_groups": lambda: str(read("ablation/ablation")["groups"].iloc[0]),
        "test_clips": lambda: str(sum(test_counts())),
        "bonafide_sources": lambda: str(bonafide_sources()),
        "test_floor": lambda: f"{floor(test_prior()):.3f}",
        "test_prior": lambda: f"{test_prior():.2f}",
        "training_floor": lambda: f"{floor(vote_of('mini')['training_prior']):.3f}",
        "training_prior": lambda: f"{vote_of('mini')['training_prior']:.2f}",
        "prior_value": lambda: prior_estimate("value"),
        "prior_low": lambda: prior_estimate("low"),
        "prior_high": lambda: prior_estimate("high"),
        "harder_out_of_fold": harder_out_of_fold,
        "mean_correlation": lambda: f"{correlations()[1]:.2f}",
        "members": lambda: str(correlations()[0]),
        "variance_left": variance_left,
        "variance_left_apart": lambda: variance_left(0.2),
        "families_raw": lambda: conditioning(0.0, "unseen synthesiser families", "eer"),
        "families_conditioned": lambda: conditioning(1.0, "unseen synthesiser families", "eer"),
        "sources_raw": lambda: conditioning(0.0, "unseen sources", "eer"),
        "sources_conditioned": lambda: conditioning(1.0, "unseen sources", "eer"),
        "packaging_raw": lambda: conditioning(0.0, "unseen sources", "packaging_auc"),
        "packaging_conditioned": lambda: conditioning(1.0, "unseen sources", "packaging_auc"),
        "new_languages": new_languages,
        "train_systems": lambda: str(len(trained_by_plan()[0])),
        "train_languages": lambda: str(len(trained_by_plan()[1])),
        "corpora_pairs": lambda: str(overlapping_corpora()[0]),
        "corpora": lambda: str(overlapping_corpora()[1]),
        "test_bonafide": lambda: str(test_counts()[0]),
        "test_under_2s": lambda: test_clips_of("under 2 s"),
        "test_over_8s": lambda: test_clips_of("over 8 s"),
        "system_rows": system_rows,
        "recording_rows": recording_rows,
        "alarms_true_100": lambda: f"{100 * alarms_true(100):.0f} %",
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
        "gain_svm": lambda: gain("campplus-svm"),
        "gain_svdd": lambda: gain("deep-svdd"),
        "slides_vote_gain": slides_vote_gain,
        "submitted_threshold": submitted_threshold,
        "submitted_bonafide": lambda: str(sum(submitted_clips())),
        "submitted_spoofs": lambda: str(submitted_clips()[1]),
        "submitted_called": lambda: f"{sum(submitted_clips()) / sum(test_counts()):.2f}",
        "oof_above_floor": oof_above_floor,
    }
)
