"""Demonstration pages: chosen alike everywhere, fetched with git as data, kept apart by page."""

import subprocess

import numpy as np
import pandas as pd
import pytest

from utils.audio import reading
from utils.sources import demo_pages


@pytest.fixture
def host(tmp_path, monkeypatch, speechlike):
    """A git host with one page (two real clips, two fakes, one broken file, one link) and none of the table's others."""
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
        ("maker/demo", "wav/gt/*.wav", "real", "GroundTruth", ""),
        ("maker/demo", "wav/tts/*.wav", "fake", "NewTTS", "*left_out*"),
        ("gone/page", "*.wav", "fake", "OldTTS", ""),
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
        assert 1 <= len(reading.read(folder / name, expect_rate=8000)) / 8000 <= demo_pages.SECONDS
    rejected = pd.read_csv(folder / "rejected.csv")
    assert rejected["id"].tolist() == ["gone/page", "maker/demo/wav/tts/broken.wav"]
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


def test_a_page_that_was_not_had_whole_is_asked_again(host, monkeypatch):
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


def test_a_given_folder_is_taken(tmp_path, monkeypatch, speechlike):
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
    assert "DFS_DEMO_PAGES" in error and "gone/page" in error
