"""What pages quote of the run `mini` that is no single cell of a table: see `values`."""

from utils import paths, plots, reference
from utils.evaluation import calibration, stacking
from utils.reference import read, rows

NAMED = {  # what a field may call a row of a table of mini → name of that model there
    "submitted": lambda: vote()["vote"],
    "best single": lambda: vote()["best_single"],
    "best on the test": lambda: read("mini/results", index_col="model")["f1"].idxmax(),
}


def vote() -> dict:
    """What notebook 07 wrote about the vote of mini."""
    return paths.read_json(reference.FOLDER / "mini" / "vote.json")


def model(name: str) -> str:
    """Name on pages of a model or of what `NAMED` calls it."""
    name = NAMED[name]() if name in NAMED else name
    return plots.model(name)


def floor(prior: float) -> float:
    """F1 of calling every clip bona fide."""
    return calibration.f1_at_prior(1.0, 1.0, prior)


def test_counts() -> tuple[int, int]:
    """Bona fide clips and spoofs of mini's test."""
    first = read("mini/results").iloc[0]
    return int(first["bonafide"]), int(first["spoofs"])


def test_prior() -> float:
    """Fraction of bona fide clips in mini's test."""
    return test_counts()[0] / sum(test_counts())


def training(count: str) -> int:
    """Number of `clips` or `groups` of mini's training set."""
    row = read("mini/clips").query("split == 'train' and `class` == 'all'").iloc[0]
    return int(row[count])


def result_rows() -> str:
    """Every model of mini, on the test and out of fold; floor last."""
    table, submitted = read("mini/results"), vote()["vote"]
    out_of_fold = read("mini/oof_results", index_col="model")["f1"]
    cells = []
    for row in table.itertuples():
        name = model(row.model)
        known = f" (`{row.model}`)" if name != row.model else ""  # what files call it
        bold = f"**{name} (submitted)**" if row.model == submitted else name
        f1 = f"{row.f1:.3f} [{row.f1_low:.3f}, {row.f1_high:.3f}]"
        numbers = (f"{row.eer:.3f}", f"{row.auc:.3f}", f"{out_of_fold[row.model]:.3f}")
        cells.append((bold + known, f1, *numbers))
    test = f"{floor(test_prior()):.3f}"
    trained = f"{floor(vote()['training_prior']):.3f}"
    return rows([*cells, ("all called bona fide (floor)", test, "0.500", "0.500", trained)])


def harder_on_the_test() -> str:
    """ "11 of 13": models of mini whose EER is higher on the test than out of fold."""
    table = read("mini/results")
    return f"{(table['eer'] > table['oof_eer']).sum()} of {len(table)}"


def correlations() -> tuple[int, float]:
    """Members of mini's stack, and the mean correlation of their errors, as notebook 06 says it."""
    table = read("mini/error_correlation", index_col="model").to_numpy()
    members = len(table)
    return members, (table.sum() - members) / (members * (members - 1))


def variance_left(rho: float | None = None) -> str:
    """Variance of the mean of mini's members, as a fraction of one member's."""
    members, measured = correlations()
    rho = measured if rho is None else rho
    return f"{stacking.variance_of_mean(members, 1.0, rho):.2f}"


def conditioning(strength: float, protocol: str, column: str) -> str:
    """Mean over families or sources of a column of mini's `conditioning.csv`."""
    table = read("mini/conditioning")
    some = table[(table["strength"] == strength) & (table["protocol"] == protocol)]
    return f"{some[column].mean():.2f}"


def trained_by_plan(competition: str = "mini") -> tuple[set, set]:
    """(systems, languages) of a competition's training clips, as its recipe names them."""
    from utils.competition import plans
    from utils.sources import real_speech

    plan = plans.PLANS[competition]["train"]
    systems = {system for system, *_ in (*plan.vocoded, *plan.tts)}
    languages = {real_speech.SOURCES[source].language for source, *_ in plan.bonafide}
    return systems, languages | {language for _, language, *_ in plan.tts}


def sources_of_full() -> str:
    """How many sources of bona fide speech train in `full`, as its recipe names them."""
    from utils.competition import plans

    return str(len({source for source, *_ in plans.PLANS["full"]["train"].bonafide}))


def new_languages() -> str:
    """Languages of mini's test that no training clip has by its recipe."""
    test = set(read("mini/breakdown").query("by == 'language'")["value"])
    return ", ".join(f"`{name}`" for name in sorted(test - trained_by_plan()[1] - {"mixed"}))


def prior_estimate(which: str) -> str:
    """Of mini's test: `value`, `low` or `high` of the estimate that decides."""
    return f"{vote()['prior_estimates']['mean of voters'][which]:.2f}"


def test_clips_of(lengths: str) -> str:
    """Clips of mini's test of these lengths, as `breakdown.csv` names them."""
    table = read("mini/breakdown").query("by == 'length'").set_index("value")
    return str(table.loc[[lengths], "clips"].sum())


def gain(member: str) -> str:
    """Fraction of the gain of LightGBM's trees that a member of mini's stack brings, over folds."""
    folds = read("mini/importances", index_col="member").loc[member]
    return f"{folds.min():.2f} to {folds.max():.2f}"


def submitted_threshold() -> str:
    """Threshold of the submitted model or vote of mini, on its probability."""
    said = vote()
    return f"{said['thresholds'][said['vote']]:.2f}"


def submitted_clips() -> tuple[int, int]:
    """Bona fide clips and spoofs of mini's test that the submission calls bona fide."""
    row = read("mini/results", index_col="model").loc[vote()["vote"]]
    bonafide, spoofs = test_counts()
    return round(bonafide * row["recall"]), round(spoofs * row["false_acceptance"])


def detector_cost() -> str:
    """What the released detector costs with one thread; that it is not timed, where it is not."""
    table = read("mini/hardware", index_col="model")
    if "detector" not in table.index:
        return "is not timed in this run"
    row = table.loc["detector"]
    pace, memory = f"{row['times_real_time']:.1f}", f"{row['peak_ram_gb']:.1f}"
    return f"scores {pace} seconds of audio per second and holds {memory} GB"


def above_floor(table: str, prior: float) -> str:
    """ "2 of 12": models and votes of a table of mini whose F1 is beyond the floor."""
    low = read(f"mini/{table}")["f1_low"]
    return f"{(low > floor(prior)).sum()} of {len(low)}"


def extreme(kind: str, hardest: bool) -> str:
    """System (`kind` "spoof") or source ("bona fide") of mini's test that the submission decides
    rightly least or most often, with the number; splices, which mix several, apart."""
    table = read("mini/breakdown").query("by == 'system or source'")
    table = table[(table["class"] == kind) & ~table["value"].isin(["splice", "spliced"])]
    row = table.loc[table["right"].idxmin() if hardest else table["right"].idxmax()]
    return f"`{row['value']}`, {row['right'] * row['clips']:.0f} of {row['clips']}"


def leaks(by: str) -> str:
    """The two languages, systems or sources that packaging tells best after conditioning."""
    table = read("mini/shortcut_leaks").query("stage == 'after'")
    worst = table[table["by"] == by].nlargest(2, "auc")
    return " and ".join(f"`{row.value}` ({row.auc:.3f})" for row in worst.itertuples())


def left_out(protocol: str) -> str:
    """How many families or sources `conditioning.csv` leaves out, one by one."""
    return str(read("mini/conditioning").query("protocol == @protocol")["left_out"].nunique())


def highest_column() -> str:
    """Highest AUC that columns of mini's key tell the class by (`columns_test.csv`)."""
    return f"{read('mini/columns_test')['auc'].max():.3f}"


def misfit_of_folds() -> str:
    """Least and largest distance of a fold's scores from the nearest mixture of the others'."""
    found = vote()["misfit_of_folds"]
    return f"{min(found):.3f} to {max(found):.3f}"


VALUES = {
    "mini_rows": result_rows,
    "mini_clips": lambda: f"{training('clips'):,}",
    "mini_groups": lambda: str(training("groups")),
    "submitted": lambda: model("submitted"),
    "best_single": lambda: model("best single"),
    "best_on_test": lambda: model("best on the test"),
    "test_clips": lambda: str(sum(test_counts())),
    "test_bonafide": lambda: str(test_counts()[0]),
    "test_floor": lambda: f"{floor(test_prior()):.3f}",
    "test_prior": lambda: f"{test_prior():.2f}",
    "training_floor": lambda: f"{floor(vote()['training_prior']):.3f}",
    "training_prior": lambda: f"{vote()['training_prior']:.2f}",
    "prior_value": lambda: prior_estimate("value"),
    "prior_low": lambda: prior_estimate("low"),
    "prior_high": lambda: prior_estimate("high"),
    "misfit": lambda: f"{vote()['misfit']:.3f}",
    "misfit_of_folds": misfit_of_folds,
    "harder_on_test": harder_on_the_test,
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
    "conditioned_families": lambda: left_out("unseen synthesiser families"),
    "conditioned_sources": lambda: left_out("unseen sources"),
    "highest_column": highest_column,
    "leaking_languages": lambda: leaks("language"),
    "leaking_systems": lambda: leaks("made_by"),
    "leaking_sources": lambda: leaks("source"),
    "new_languages": new_languages,
    "train_systems": lambda: str(len(trained_by_plan()[0])),
    "train_languages": lambda: str(len(trained_by_plan()[1])),
    "full_sources": sources_of_full,
    "full_systems": lambda: str(len(trained_by_plan("full")[0])),
    "full_languages": lambda: str(len(trained_by_plan("full")[1])),
    "test_under_2s": lambda: test_clips_of("under 2 s"),
    "test_over_8s": lambda: test_clips_of("over 8 s"),
    "gain_best_single": lambda: gain(vote()["best_single"]),
    "gain_detector": lambda: gain("detector"),
    "submitted_threshold": submitted_threshold,
    "submitted_bonafide": lambda: str(sum(submitted_clips())),
    "submitted_spoofs": lambda: str(submitted_clips()[1]),
    "submitted_called": lambda: f"{sum(submitted_clips()) / sum(test_counts()):.2f}",
    "detector_cost": detector_cost,
    "oof_above_floor": lambda: above_floor("oof_results", vote()["training_prior"]),
    "test_above_floor": lambda: above_floor("results", test_prior()),
    "hardest_spoof": lambda: extreme("spoof", hardest=True),
    "easiest_spoof": lambda: extreme("spoof", hardest=False),
    "hardest_source": lambda: extreme("bona fide", hardest=True),
}
