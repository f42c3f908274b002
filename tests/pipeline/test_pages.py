"""Pages that quote results are what their templates and the tables of the reference runs make."""

import re

import nbformat
import pandas as pd
import pytest

from utils import paths, reference
from utils.detector.studies import card, card_facts, results
from utils.detector.studies.card_facts import example_scores
from utils.pipeline import steps
from utils.pipeline.pages import __main__ as command
from utils.pipeline.pages import figure, filling, notebooks, values
from utils.pipeline.profiles import PROFILES
from utils.sources import public_corpora

README = paths.ROOT / "README.md"
EXAMPLE = r"([01]\.\d{3})  .{9}    \S*/examples/"
ON_CARD = r"\| \[(\w+\.flac)\].*? \| ([01]\.\d\d) \|"
NAMES = {"2024", "3.11"}  # of the competition and of Python
PLACES = r"^\| \d:\d\d |[Nn]otebook \d\d|exercises? \d( and \d)?|[A-Za-z]-\d[\d.]*|\d(?=D-)"
DEFINED = {"0", "1", "0.5", "95"}  # no difference, certain, a coin's, the level of all intervals
TYPED = {  # what a template types besides: names and lengths, no result
    "README.md": {"15"},  # s, of the finalist's cut
    "inputs/README.md": {"8"},  # kHz of the format
    "notebooks/README.md": {"50", "0.2"},  # Hz in the name of a feature, asked in an exercise
    "outputs/reference/ablation/README.md": set(),
    "outputs/reference/detector/README.md": {"4", "8", "16", "100", "639", "883"}  # kHz, bits, ISO
    | {"7", "0.001"},  # bits and difference of the ONNX file: `tests/detector/train/test_graph.py`
    "outputs/reference/mini/README.md": set(),
    "outputs/reference/speed/README.md": {"3", "4", "8", "30", "100,000"},  # layers, s, kHz
}


@pytest.fixture
def printed(monkeypatch):
    """The scores that README and the model card show stand for those of this processor."""
    scores = re.findall(EXAMPLE, README.read_text(encoding="utf-8"))
    assert len(scores) == 2
    for name, score in zip(("example_computer", "example_person"), scores, strict=True):
        monkeypatch.setitem(values.VALUES, name, lambda score=score: score)
    on_card = re.findall(ON_CARD, (results.TABLES / "README.md").read_text(encoding="utf-8"))
    on_card = {name: float(score) for name, score in on_card}
    monkeypatch.setattr(card_facts, "example_scores", lambda: on_card)
    card.values.cache_clear()
    yield [float(score) for score in scores], on_card
    card.values.cache_clear()


@pytest.mark.parametrize("page", filling.names())
def test_a_page_is_what_its_template_and_the_tables_make(page, printed):
    """`python -m utils.pipeline.pages` would change nothing. Change the template, not the page."""
    assert filling.text(page) == (paths.ROOT / page).read_text(encoding="utf-8")


@pytest.mark.parametrize("name", notebooks.names())
def test_a_notebook_reads_what_its_template_and_the_tables_make(name):
    """`python -m utils.pipeline.pages` would change no cell. Change the template, not the cell."""
    found = nbformat.read(paths.ROOT / name, 4).cells
    made = nbformat.reads(notebooks.text(name), 4).cells
    assert [cell.source for cell in made] == [cell.source for cell in found]


@pytest.mark.parametrize("name", notebooks.names())
def test_a_notebook_types_no_result(name):
    """A number with two decimals comes from a table; 0.05 is a probability of the slides."""
    filled = notebooks.cells(name).values()
    cells = nbformat.read(paths.ROOT / name, 4).cells
    typed = [c.source for c in cells if c.cell_type == "markdown" and c.source not in filled]
    template = (filling.TEMPLATES / f"{name}.md").read_text(encoding="utf-8")
    typed.append(filling.FIELD.sub("", template))
    assert set(re.findall(r"(?<![\w.])\d\.\d\d+", prose("\n".join(typed)))) <= {"0.05"}


def test_pages_show_what_the_detector_says_of_the_examples(printed):
    in_readme, on_card = printed
    found = example_scores()
    assert [found["computer.flac"], found["person.flac"]] == pytest.approx(in_readme, abs=0.01)
    assert found == pytest.approx(on_card, abs=0.015)


def prose(text):
    """Text without code, addresses and the intervals that belong to a value."""
    text = re.sub(r"```.*?```|`[^`]*`", "", text, flags=re.DOTALL)
    text = re.sub(r"\]\([^)]*\)", "]", text)
    text = re.sub(r"^\d+\. ", "", text, flags=re.MULTILINE)
    return re.sub(r"(\d) \[[^\]]*\d, [^\]]*\d\]", r"\1", text)


def numbers(text):
    return re.findall(r"(?<![\w.])[+−]?\d[\d,.]*\d|(?<![\w.])\d", prose(text))


def test_the_readme_is_short_and_has_few_numbers():
    text = README.read_text(encoding="utf-8")
    assert len(text.splitlines()) <= 200
    assert len(text.encode()) <= 14_000
    assert len([number for number in numbers(text) if number not in NAMES]) <= 40


@pytest.mark.parametrize("page", sorted(set(filling.names()) - {"LICENCES.md"}))
def test_a_template_types_no_result(page):
    """Every result, time and size comes from a table or from code."""
    text = filling.FIELD.sub("", (filling.TEMPLATES / page).read_text(encoding="utf-8"))
    text = re.sub(PLACES, "", text, flags=re.MULTILINE)
    typed = {number.rstrip(".,") for number in numbers(text)} - NAMES - DEFINED
    assert sorted(typed - TYPED[page]) == []


def test_what_the_command_says_of_its_costs_is_what_was_measured():
    costs = reference.read("costs", index_col="what")
    for scoring, what in enumerate(("environment", "environment of scoring")):
        minutes, gb = costs.loc[what, ["minutes", "gb"]]
        said = "less than a minute" if minutes < 1 else f"about {minutes:.0f} minutes"
        assert values.setup(bool(scoring)) == f"{said} and {gb:.{scoring}f} GB"
    assert paths.read_json(reference.FOLDER / "mini" / "env.json")["cores"] == 2


def test_the_manual_types_no_other_size_than_the_code_has():
    """`utils/README.md` has no template."""
    manual = (paths.ROOT / "utils" / "README.md").read_text(encoding="utf-8")
    speed = re.search(r"(\d+ GB) of memory", PROFILES["speed"].about)[1]
    assert f"and {speed} of memory" in manual
    assert f"| {len(public_corpora.CORPORA)} public corpora " in manual
    assert f"(default: {paths.CACHE_GB:g})" in manual
    assert f"(`.venv-score`, {values.setup(scoring=True).split(' and ')[1]}, under a" in manual


@pytest.mark.parametrize("name", ["mini", "ablation"])
def test_the_time_that_a_profile_announces_is_near_that_of_its_reference_run(name):
    """The run had other work beside it; the announcement is of idle cores."""
    times = reference.read(f"{name}/times", index_col="step")["minutes"]
    chosen = steps.steps_of(name, PROFILES[name])
    assert sorted(times.index) == sorted(step.name for step in chosen)
    said = sum(PROFILES[name].minutes[step.notebook] for step in chosen)
    assert times.sum() / 3 <= said <= times.sum() * 1.1


def test_times_are_summed_from_nothing_and_room_is_rounded_up(tables):
    (tables / "mini").mkdir()
    (tables / "mini" / "times.csv").write_text("step,minutes\na,10\nb,21.5\n")
    (tables / "costs.csv").write_text(
        "what,minutes,gb\nenvironment,4,2\nenvironment of scoring,1,50\n"
        "inputs of mini,12,0.1\nfeatures,,0.2\nall tests,90,\n"
    )
    assert (values.first_run(), values.disk()) == (50, 3)


def test_every_value_is_quoted_by_a_page():
    texts = [file.read_text(encoding="utf-8") for file in filling.TEMPLATES.rglob("*.md")]
    quoted = {field.strip() for text in texts for field in filling.FIELD.findall(text)}
    made = set(values.VALUES) | {f"card; {name}" for name in card.values()}
    assert sorted(made - quoted) == []


@pytest.fixture
def tables(tmp_path, monkeypatch):
    """One table, `run/made.csv`, and a template that quotes it."""
    table = {"model": ["a", "b", "b two"], "against": ["", "a", "a"], "eer": [0.1, 0.25, 0.3]}
    frame = pd.DataFrame(table).assign(eer_low=0.05, eer_high=0.5, clips=1234, delta=-0.0312)
    frame = frame.assign(delta_low=-0.1, delta_high=0.04)
    table = {"quantity": ["eer", "eer_delta"], "value": [0.1, -0.01], "low": -0.02, "high": 0.03}
    (tmp_path / "run").mkdir()
    frame.to_csv(tmp_path / "run" / "made.csv", index=False)
    pd.DataFrame(table).to_csv(tmp_path / "run" / "long.csv", index=False)
    monkeypatch.setattr(reference, "FOLDER", tmp_path)
    monkeypatch.setattr(filling, "TEMPLATES", tmp_path)
    filling._table.cache_clear()
    yield tmp_path
    filling._table.cache_clear()


@pytest.mark.parametrize(
    ("field", "expected"),
    [
        ("run/made; b; eer", "0.250"),
        ("run/made; b; eer interval", "0.250 [0.050, 0.500]"),
        ("run/made; model=a; eer 0%", "10 %"),
        ("run/made; model=a; eer .1%", "10.0 %"),
        ("run/made; b t*; eer in 100", "30 in 100"),
        ("run/made; b; clips ,d", "1,234"),
        ("run/made; b; delta +.2f", "−0.03"),
        ("run/made; b; delta interval", "−0.031 [−0.100, +0.040]"),
        ("run/long; eer_delta; value interval", "−0.010 [−0.020, +0.030]"),
        ("run/long; eer; value interval", "0.100 [−0.020, 0.030]"),
    ],
)
def test_fields_are_filled_from_a_table(tables, field, expected):
    assert filling.filled(field) == expected


@pytest.mark.parametrize(
    "field",
    [
        "run/made; a; eer",
        "run/made; c; eer",
        "run/made; b; none",
        "run/none; b; eer",
        "no",
        "card; no",
    ],
)
def test_a_number_that_is_not_there_is_an_error_that_names_the_field(tables, field):
    (tables / "page.md").write_text("{{" + field + "}}")
    with pytest.raises(KeyError, match=re.escape("page.md: {{" + field)):
        filling.text("page.md")


def test_the_command_writes_what_changed_and_tells_it(tables, monkeypatch, capsys):
    root = tables.with_name(f"{tables.name}-root")
    monkeypatch.setattr(paths, "ROOT", root)
    (tables / "page.md").write_text("{{run/made; b; eer}}")
    assert command.main(["--check"]) == 1
    assert not root.exists()
    assert command.main([]) == 0
    assert (root / "page.md").read_text() == "0.250"
    assert command.main(["--check"]) == 0
    assert "up to date" in capsys.readouterr().out


@pytest.fixture
def run(tables):
    """The folder of a run `mini` whose stack `b` was submitted; model `c` is best on its test."""
    folder = tables / "mini"
    folder.mkdir()
    (folder / "vote.json").write_text('{"vote": "b", "best_single": "a", "training_prior": 0.5}')
    rows = ("a,0.5,0.4,0.3,0.2", "b,0.6,0.5,0.3,0.4", "c,0.8,0.7,0.1,0.2")
    rows = [f"{row},40,160" for row in rows]
    head = "model,f1,f1_low,eer,oof_eer,bonafide,spoofs"
    (folder / "results.csv").write_text("\n".join((head, *rows)))
    return folder


@pytest.mark.parametrize(
    ("field", "expected"),
    [
        ("mini/results; submitted; f1", "0.600"),
        ("mini/results; best single; f1", "0.500"),
        ("mini/results; best on the test; f1", "0.800"),
        ("submitted", "b"),
        ("test_clips", "200"),
        ("test_prior", "0.20"),
        ("test_floor", "0.333"),
        ("test_above_floor", "3 of 3"),
        ("harder_on_test", "1 of 3"),
    ],
)
def test_a_model_is_named_by_what_the_run_made_of_it(run, field, expected):
    assert filling.filled(field) == expected


def test_the_hardest_system_and_source_are_no_splices(run):
    (run / "breakdown.csv").write_text(
        "by,value,class,right,clips\n"
        "system or source,spliced,spoof,0.1,9\nsystem or source,x,spoof,0.25,8\n"
        "system or source,y,spoof,0.75,4\nsystem or source,splice,bona fide,0,3\n"
        "system or source,z,bona fide,0.5,6\nlanguage,en,spoof,0,7\n"
    )
    found = [filling.filled(n) for n in ("hardest_spoof", "easiest_spoof", "hardest_source")]
    assert found == ["`x`, 2 of 8", "`y`, 3 of 4", "`z`, 3 of 6"]


def test_the_worst_leaks_are_those_after_conditioning(run):
    (run / "shortcut_leaks.csv").write_text(
        "stage,by,value,auc\nbefore,source,a,0.9\nafter,source,b,0.6\nafter,source,c,0.7\n"
        "after,source,d,0.5\nafter,language,e,0.8\n"
    )
    assert filling.filled("leaking_sources") == "`c` (0.700) and `b` (0.600)"


def test_executed_notebooks_are_linked_where_there_are_some(tmp_path, monkeypatch):
    monkeypatch.setattr(reference, "FOLDER", tmp_path)
    assert values.executed("mini") == ""
    (tmp_path / "mini" / "html").mkdir(parents=True)
    for name in ("02_b", "01_a"):
        (tmp_path / "mini" / "html" / f"{name}.html").write_text("x")
    row = values.executed("mini")
    assert row.startswith("\n| [01_a](html/01_a.html), [02_b](html/02_b.html) | ")


@pytest.fixture
def executed(tmp_path, monkeypatch):
    """An executed notebook as `pipeline.publish` writes it: prose, code, and what that put out."""
    monkeypatch.setattr(reference, "FOLDER", tmp_path)
    (tmp_path / "mini" / "html").mkdir(parents=True)
    put_out = "<p>right on <b>3</b> of&nbsp;5</p><p>once 1</p><p>once 2</p><style>once 4</style>"
    cells = (
        "<p>right on 7 of 9</p>",
        f'<pre>right on 8</pre><div class="output_wrapper">{put_out}</div>',
        "<p>right on 6 of 9</p>",
    )
    page = "".join(f'<div class="cell x">{cell}</div>' for cell in cells)
    (tmp_path / "mini" / "html" / "01_a.html").write_text(page)


def test_what_a_notebook_printed_is_that_of_its_code(executed):
    assert filling.filled(r"printed; 01_a; right on (\d) of") == "3"


@pytest.mark.parametrize("pattern", [r"right on (\d) in", r"once (\d)"])
def test_a_pattern_that_fits_nothing_or_two_outputs_is_an_error(executed, pattern):
    with pytest.raises(KeyError, match="outputs fit"):
        filling.filled(f"printed; 01_a; {pattern}")


@pytest.fixture
def lesson(tables, monkeypatch):
    """A function that writes a notebook with these cells and the template of its cells."""
    monkeypatch.setattr(paths, "ROOT", tables)

    def write(template, *sources):
        made = nbformat.v4.new_notebook(cells=[nbformat.v4.new_markdown_cell(s) for s in sources])
        made.cells.append(nbformat.v4.new_code_cell("# Read"))
        nbformat.write(made, tables / "01.ipynb")
        (tables / "01.ipynb.md").write_text(template)

    return write


def test_the_cell_that_begins_alike_is_filled(lesson, tables):
    lesson(
        "# Read\n\n{{run/made; b; eer}}\n\n---\n**Seen.** 1", "# Read", "# Reader", "**Seen.** 0"
    )
    assert command.main([]) == 0
    cells = nbformat.read(tables / "01.ipynb", 4).cells
    assert [c.source for c in cells] == ["# Read\n\n0.250", "# Reader", "**Seen.** 1", "# Read"]
    assert command.main(["--check"]) == 0


@pytest.mark.parametrize(
    ("template", "why"),
    [
        ("# None", "0 Markdown cells begin with '# None'"),
        ("**Twice.** 1", "2 Markdown cells begin"),
        ("Plain", "neither as a heading nor in bold: 'Plain'"),
        ("# A\n---\n# A\n", "begins as another one: '# A'"),
    ],
)
def test_a_cell_that_is_not_found_once_is_an_error(lesson, template, why):
    lesson(template, "**Twice.** 1", "**Twice.** 2", "# A")
    with pytest.raises(ValueError, match=why):
        notebooks.text("01.ipynb")


def test_the_first_figure_is_drawn_from_the_examples(tmp_path):
    figure.draw(tmp_path / "examples.png")
    assert (tmp_path / "examples.png").stat().st_size > 20_000
