"""Demo pages: one choice everywhere, read with git as data, one group per owner, no repeats."""

import shutil
import subprocess
import time
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pandas as pd
import pytest

from utils import contracts
from utils.audio import dsp, reading
from utils.sources import demo_pages, page_repos


@pytest.fixture
def host(tmp_path, monkeypatch, speechlike):
    """A git host with one page: two real clips, two spoofs, one broken file, one link.

    The other page of the table is missing.
    """
    page = tmp_path / "source"
    (page / "wav" / "gt").mkdir(parents=True)
    (page / "wav" / "tts").mkdir()
    for i in range(2):
        reading.write(page / "wav" / "gt" / f"{i}.wav", speechlike[i * 4000 :])
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
        language="en", ref="pages", licence="unknown", kind="page", notes=""
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
            1 <= len(reading.read(folder / name, expect_rate=8000)) / 8000 <= page_repos.LONGEST_S
        )
    rejected = pd.read_csv(folder / "rejected.csv")
    assert rejected["id"].tolist() == ["absent/page", "maker/demo/wav/tts/broken.wav"]
    monkeypatch.setattr(
        page_repos, "run_git", lambda *a, **k: pytest.fail("a finished page is fetched again")
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
    monkeypatch.setattr(page_repos, "MAX_FILE", 50_000)
    folder = demo_pages.build(None, base=host)
    assert pd.read_csv(folder / "meta.csv")["label"].tolist() == [1, 1]
    assert pd.read_csv(folder / "rejected.csv")["reason"].str.contains("larger than").sum() == 2


def test_a_page_with_an_undelivered_file_is_fetched_again(host, monkeypatch):
    git = page_repos.run_git

    def broken_line(*arguments, **options):
        if arguments[0] == "cat-file":
            raise demo_pages.PageError("git cat-file: the remote end hung up")
        return git(*arguments, **options)

    monkeypatch.setattr(page_repos, "run_git", broken_line)
    with pytest.raises(demo_pages.PageError, match="no clip"):
        demo_pages.build(None, base=host)
    monkeypatch.setattr(page_repos, "run_git", git)
    assert len(pd.read_csv(demo_pages.build(None, base=host) / "meta.csv")) == 4


def test_the_choice_does_not_depend_on_order(host):
    (row,) = demo_pages.read_table().query("path_glob == 'wav/gt/*.wav'").itertuples()
    files = {f"wav/gt/{i}.wav": f"{i:040x}" for i in range(30)}
    first = page_repos.candidates(row, files)
    assert len(first) == 30 and first == page_repos.candidates(row, dict(reversed(files.items())))


def test_where_a_file_cannot_be_used_the_next_one_of_its_row_is(host):
    folder = demo_pages.build(None, base=host, per_row=2)
    meta = pd.read_csv(folder / "meta.csv").query("label == 0")
    assert len(meta) == 2  # of three files, one of which is broken


def test_a_mirror_stands_in_for_the_host(host, tmp_path):
    """Bare repositories by OWNER+NAME; a branch may be one of origin; the network is not asked."""
    source, mirror = tmp_path / "host" / "maker" / "demo.git", tmp_path / "mirror"
    cloned = mirror / "maker+demo" / "repo"
    shutil.copytree(source, cloned)
    git = ["git", "--git-dir", str(cloned)]
    commit = subprocess.run([*git, "rev-parse", "pages"], check=True, capture_output=True)
    for command in (["origin/pages", commit.stdout.decode().strip()], ["-d", "refs/heads/pages"]):
        name = [command[0], *command[1:]] if command[0] == "-d" else None
        arguments = name or [f"refs/remotes/{command[0]}", command[1]]
        subprocess.run([*git, "update-ref", *arguments], check=True)
    folder = demo_pages.build(None, base="file:///nowhere", mirror=str(mirror))
    assert len(pd.read_csv(folder / "meta.csv")) == 4
    rejected = pd.read_csv(folder / "rejected.csv").set_index("id")["reason"]
    assert "not in the folder of repositories" in rejected["absent/page"]
    assert demo_pages.main(["--mirror", str(tmp_path / "nothing"), "--given", "", "--force"]) == 1


def test_a_given_folder_serves_the_pages_that_the_mirror_lacks(host, tmp_path, speechlike):
    (tmp_path / "given" / "clips").mkdir(parents=True)
    rows = [("a.wav", "absent/page"), ("b.wav", "maker/demo")]
    for name, _ in rows:
        reading.write(tmp_path / "given" / "clips" / name, speechlike)
    key = pd.DataFrame(rows, columns=["name", "repo"])
    key = key.assign(label="0", system="VALL-X", language="en", group="p", path="x.wav")
    key.to_csv(tmp_path / "given" / "key.csv", index=False)
    shutil.copytree(
        tmp_path / "host" / "maker" / "demo.git", tmp_path / "m" / "maker+demo" / "repo"
    )
    folder = demo_pages.build(str(tmp_path / "given"), mirror=str(tmp_path / "m"))
    counts = pd.read_csv(folder / "meta.csv")["repo"].value_counts()
    assert counts.to_dict() == {"maker/demo": 4, "absent/page": 1}


def test_clips_keep_the_rate_of_the_original_up_to_16_khz(tmp_path):
    noise = np.random.default_rng(0).standard_normal(48000 * 9).astype(np.float32) * 0.1
    for rate, expected in ((8000, 8000), (11025, 16000), (48000, 16000)):
        clip, found = page_repos.conditioned(noise[: rate * 9], rate, "x")
        assert found == expected and abs(len(clip) / found - page_repos.LONGEST_S) < 0.01
        assert np.abs(clip).max() == pytest.approx(page_repos.PEAK)
    quiet = np.concatenate([noise[:40000] * 0.001, noise[:8000], noise[:40000] * 0.001])
    clip, _ = page_repos.conditioned(quiet, 8000, "x")
    assert 1.0 <= len(clip) / 8000 <= 1.2  # the ends are cut, 0.1 s is left
    with pytest.raises(dsp.AudioError, match=r"x: 0\.50 s is under 1 s"):
        page_repos.conditioned(noise[:4000], 8000, "x")


def repeated(tmp_path, monkeypatch, rows, waves):
    (tmp_path / "given" / "clips").mkdir(parents=True)
    for name, wave in waves.items():
        reading.write(tmp_path / "given" / "clips" / f"{name}.wav", wave)
    key = pd.DataFrame(rows, columns=["name", "label", "repo"]).assign(
        system="s", language="en", group="g", path="x"
    )
    key.to_csv(tmp_path / "given" / "key.csv", index=False)
    monkeypatch.setattr(demo_pages, "TARGET", tmp_path / "out")
    folder = demo_pages.build(str(tmp_path / "given"))
    return pd.read_csv(folder / "meta.csv"), (folder / "rejected.csv").read_text()


def test_what_several_pages_show_is_taken_once(tmp_path, monkeypatch, speechlike):
    """The same recording in another format is no second owner's; a vocoded copy stays."""
    again = dsp.add_noise(0.3 * speechlike, np.random.default_rng(1).standard_normal(16000), 40)
    rows = [("a.wav", "1", "p/p"), ("b.wav", "1", "q/q"), ("c.wav", "0", "q/q")]
    waves = {"a": speechlike, "b": again, "c": speechlike}
    meta, rejected = repeated(tmp_path, monkeypatch, rows, waves)
    assert meta["repo"].tolist() == ["p/p", "q/q"] and meta["label"].tolist() == [1, 0]
    assert "q/q/x,the recording of p/p/x" in rejected


def test_a_file_with_two_labels_is_not_taken(tmp_path, monkeypatch, speechlike):
    rows = [("a.wav", "1", "p/p"), ("a.wav", "0", "q/q"), ("b.wav", "0", "q/q")]
    waves = {"a": speechlike, "b": speechlike[:12000]}
    meta, rejected = repeated(tmp_path, monkeypatch, rows, waves)
    assert meta["repo"].tolist() == ["q/q"] and rejected.count("two labels") == 2


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
    clips = demo_pages.read_given(tmp_path)
    assert clips["label"].tolist() == ["bonafide", "spoof"]


def test_two_builds_at_once_do_the_work_once_and_keep_it_whole(host, monkeypatch):
    calls, collect = [], demo_pages.collect

    def counted(*arguments):
        calls.append(arguments)
        time.sleep(0.5)  # the second build starts within this time
        return collect(*arguments)

    monkeypatch.setattr(demo_pages, "collect", counted)
    with ThreadPoolExecutor(2) as pool:
        folders = list(pool.map(lambda _: demo_pages.build(None, base=host), range(2)))
    assert len(calls) == 1 and folders == [demo_pages.TARGET] * 2
    meta = pd.read_csv(demo_pages.TARGET / "meta.csv")
    assert len(meta) == 4 and all((demo_pages.TARGET / name).exists() for name in meta["file"])


def test_the_table_of_pages_has_known_labels_and_a_licence():
    table = demo_pages.read_table()
    assert set(table["label"]) == {"bonafide", "spoof", "codec"}
    assert set(table["kind"]) == {"page", "plain"}
    assert (table["licence"] != "").all() and not table["system"].eq("").any()
    assert table["language"].str.fullmatch("[a-z]{2,3}").all()


def test_help_says_where_the_clips_go(capsys):
    with pytest.raises(SystemExit) as stop:
        demo_pages.main(["--help"])
    text = capsys.readouterr().out
    assert stop.value.code == 0 and "--given FOLDER" in text and "demo_pages" in text


def test_no_owner_that_is_reserved_for_evaluation_stands_in_the_table():
    table = demo_pages.read_table()
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
