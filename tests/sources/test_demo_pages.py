"""Demo pages: the same choice everywhere, fetched with git as data, one group per owner."""

import subprocess
import time
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pandas as pd
import pytest

from utils import contracts
from utils.audio import reading
from utils.sources import demo_pages


@pytest.fixture
def host(tmp_path, monkeypatch, speechlike):
    """A git host with one page: two real clips, two spoofs, one broken file, one link.

    The other page of the table is missing.
    """
    page = tmp_path / "source"
    (page / "wav" / "gt").mkdir(parents=True)
    (page / "wav" / "tts").mkdir()
    for i in range(2):
        reading.write(page / "wav" / "gt" / f"{i}.wav", speechlike[i * 100 :])
        reading.write(page / "wav" / "tts" / f"{i}.wav", np.tile(speechlike[::-1], 4)[i * 100 :])
    (page / "wav" / "tts" / "broken.wav").write_text("version https://git-lfs.github.com/spec/v1")
    (page / "wav" / "tts" / "link.wav").symlink_to("/etc/hostname")
    reading.write(page / "wav" / "tts" / "left_out.wav", speechlike * 0.5)
    git = ["git", "-c", "user.name=t", "-c", "user.email=t@t", "-C", str(page)]
    for command in (["init", "-q", "-b", "pages"], ["add", "."], ["commit", "-q", "-m", "x"]):
        subprocess.run([*git, *command], check=True)
    base = tmp_path / "host"
    subprocess.run(
        ["git", "clone", "-q", "--bare", str(page), str(base / "maker" / "demo.git")], check=True
    )
    subprocess.run(
        ["git", "-C", str(base / "maker" / "demo.git"), "config", "uploadpack.allowFilter", "true"],
        check=True,
    )
    rows = [
        ("maker/demo", "wav/gt/*.wav", "bonafide", "GroundTruth", ""),
        ("maker/demo", "wav/tts/*.wav", "spoof", "NewTTS", "*left_out*"),
        ("absent/page", "*.wav", "spoof", "OldTTS", ""),
    ]
    table = pd.DataFrame(rows, columns=["repo", "path_glob", "label", "system", "exclude"]).assign(
        language="en", ref="pages", licence="unknown", notes=""
    )
    table.to_csv(tmp_path / "table.tsv", sep="\t", index=False)
    monkeypatch.setattr(demo_pages, "TABLE", tmp_path / "table.tsv")
    monkeypatch.setattr(demo_pages, "TARGET", tmp_path / "inputs" / "external" / "demo_pages")
    monkeypatch.setattr(demo_pages.paths, "CACHE", tmp_path / "cache")
    return f"file://{base}"


def test_a_page_is_fetched_named_and_grouped(host, monkeypatch):
    folder = demo_pages.build(None, base=host)
    meta = pd.read_csv(folder / "meta.csv")
    assert meta["label"].tolist().count(1) == 2 and meta["label"].tolist().count(0) == 2
    assert set(meta["group"]) == {"page-maker"} and set(meta.loc[meta["label"] == 0, "system"]) == {
        "NewTTS"
    }
    assert not meta["page_path"].str.contains("left_out|link").any()
    for name in meta["file"]:
        assert (
            1 <= len(reading.read(folder / name, expect_rate=8000)) / 8000 <= demo_pages.LONGEST_S
        )
    rejected = pd.read_csv(folder / "rejected.csv")
    assert rejected["id"].tolist() == ["absent/page", "maker/demo/wav/tts/broken.wav"]
    monkeypatch.setattr(
        demo_pages, "_git", lambda *a, **k: pytest.fail("a finished page is fetched again")
    )
    monkeypatch.setattr(demo_pages, "TABLE", demo_pages.TABLE.with_name("short.tsv"))
    pd.read_csv(demo_pages.TABLE.with_name("table.tsv"), sep="\t", keep_default_na=False).query(
        "repo == 'maker/demo'"
    ).to_csv(demo_pages.TABLE, sep="\t", index=False)
    demo_pages.build(None, base=host, force=True)
    assert pd.read_csv(folder / "meta.csv").equals(meta)


def test_names_that_leave_the_folder_are_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(demo_pages, "TARGET", tmp_path / "out")
    row = {
        "name": "../../x",
        "label": "1",
        "system": "s",
        "language": "en",
        "group": "g",
        "repo": "r",
        "path": "p",
    }
    pd.DataFrame([row]).to_csv(tmp_path / "key.csv", index=False)
    with pytest.raises(demo_pages.PageError, match="not the name of a file"):
        demo_pages.build(str(tmp_path))
    pd.DataFrame([row]).drop(columns="repo").to_csv(tmp_path / "key.csv", index=False)
    with pytest.raises(demo_pages.PageError, match=r"lacks the columns \['repo'\]"):
        demo_pages.build(str(tmp_path))


def test_a_large_file_is_refused(host, monkeypatch):
    monkeypatch.setattr(demo_pages, "MAX_FILE", 50_000)
    folder = demo_pages.build(None, base=host)
    assert pd.read_csv(folder / "meta.csv")["label"].tolist() == [1, 1]
    assert pd.read_csv(folder / "rejected.csv")["reason"].str.contains("larger than").sum() == 2


def test_a_page_with_an_undelivered_file_is_fetched_again(host, monkeypatch):
    git = demo_pages._git

    def broken_line(*arguments, **options):
        if arguments[0] == "cat-file":
            raise demo_pages.PageError("git cat-file: the remote end hung up")
        return git(*arguments, **options)

    monkeypatch.setattr(demo_pages, "_git", broken_line)
    with pytest.raises(demo_pages.PageError, match="no clip"):
        demo_pages.build(None, base=host)
    monkeypatch.setattr(demo_pages, "_git", git)
    assert len(pd.read_csv(demo_pages.build(None, base=host) / "meta.csv")) == 4


def test_the_choice_does_not_depend_on_order(host):
    rows = pd.read_csv(demo_pages.TABLE, sep="\t", keep_default_na=False).query(
        "repo == 'maker/demo'"
    )
    files = {f"wav/gt/{i}.wav": f"{i:040x}" for i in range(30)}
    first = demo_pages.choose(rows, files, 8)
    assert len(first) == 8 and first == demo_pages.choose(rows, dict(reversed(files.items())), 8)


def test_a_given_folder_is_used_in_place_of_the_network(tmp_path, monkeypatch, speechlike):
    (tmp_path / "given" / "clips").mkdir(parents=True)
    for name in ("a", "b", "c"):
        reading.write(tmp_path / "given" / "clips" / f"{name}.wav", speechlike)
    pd.DataFrame(
        [("a.wav", "1", "GroundTruth"), ("b.wav", "0", "VALL-X"), ("c.wav", "codec", "EnCodec")],
        columns=["name", "label", "system"],
    ).assign(language="en", group="p", repo="p/p", path="x.wav").to_csv(
        tmp_path / "given" / "key.csv", index=False
    )
    monkeypatch.setattr(demo_pages, "TARGET", tmp_path / "out")
    meta = pd.read_csv(
        demo_pages.build(str(tmp_path / "given")) / "meta.csv", dtype=str, keep_default_na=False
    )
    assert meta.set_index("system")["label"].to_dict() == {
        "bonafide": "1",
        "VALL-X": "0",
        "EnCodec": "",
    }


def test_nothing_reachable_is_an_error_with_a_remedy(host, tmp_path, capsys):
    assert demo_pages.main(["--given", "", "--base", f"file://{tmp_path}/nowhere"]) == 1
    error = capsys.readouterr().err
    assert "DFS_DEMO_PAGES" in error and "absent/page" in error


@pytest.mark.parametrize("label", [("1", "0"), ("bonafide", "spoof")])
def test_a_given_key_has_numbers_or_words_as_labels(tmp_path, label):
    row = {"system": "s", "language": "en", "group": "g", "repo": "r", "path": "p"}
    key = pd.DataFrame([{"name": "a.wav", **row}, {"name": "b.wav", **row}]).assign(label=label)
    key.to_csv(tmp_path / "key.csv", index=False)
    clips, _ = demo_pages.read_given(tmp_path)
    assert clips["label"].tolist() == ["bonafide", "spoof"]


def test_two_builds_at_once_do_the_work_once_and_keep_it_whole(host, monkeypatch):
    calls, fetch_all = [], demo_pages.fetch_all

    def counted(per_row, base):
        calls.append(per_row)
        time.sleep(0.5)  # the second build starts within this time
        return fetch_all(per_row, base)

    monkeypatch.setattr(demo_pages, "fetch_all", counted)
    with ThreadPoolExecutor(2) as pool:
        folders = list(pool.map(lambda _: demo_pages.build(None, base=host), range(2)))
    assert len(calls) == 1 and folders == [demo_pages.TARGET] * 2
    meta = pd.read_csv(demo_pages.TARGET / "meta.csv")
    assert len(meta) == 4 and all((demo_pages.TARGET / name).exists() for name in meta["file"])


def test_the_table_of_pages_has_known_labels_and_a_licence():
    table = pd.read_csv(demo_pages.TABLE, sep="\t", keep_default_na=False)
    assert set(table["label"]) == {"bonafide", "spoof", "codec"}
    assert (table["licence"] != "").all() and not table["system"].eq("").any()


def test_help_says_where_the_clips_go(capsys):
    with pytest.raises(SystemExit) as stop:
        demo_pages.main(["--help"])
    text = capsys.readouterr().out
    assert stop.value.code == 0 and "--given FOLDER" in text and "demo_pages" in text


def test_no_owner_that_is_reserved_for_evaluation_stands_in_the_table():
    table = pd.read_csv(demo_pages.TABLE, sep="\t", keep_default_na=False)
    assert not any(contracts.is_reserved(repo) for repo in set(table["repo"]))
    assert contracts.is_reserved("Rhasspy/larynx") and not contracts.is_reserved("p/p")


def test_clips_of_a_reserved_owner_are_rejected_by_name(tmp_path, monkeypatch, speechlike):
    (tmp_path / "given" / "clips").mkdir(parents=True)
    for name in ("a", "b"):
        reading.write(tmp_path / "given" / "clips" / f"{name}.wav", speechlike)
    rows = [("a.wav", "p/p"), ("b.wav", "rhasspy/larynx")]
    key = pd.DataFrame(rows, columns=["name", "repo"])
    key = key.assign(label="0", system="VALL-X", language="en", group="p", path="x.wav")
    key.to_csv(tmp_path / "given" / "key.csv", index=False)
    monkeypatch.setattr(demo_pages, "TARGET", tmp_path / "out")
    target = demo_pages.build(str(tmp_path / "given"))
    assert len(pd.read_csv(target / "meta.csv")) == 1
    assert "reserved for evaluation" in (target / "rejected.csv").read_text()
