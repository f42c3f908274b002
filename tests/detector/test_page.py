"""The web page: verdicts in words, refused files, and both in a real browser at two widths."""

import shutil
import socket
from pathlib import Path

import numpy as np
import pandas as pd
import psutil
import pytest

from tests.helpers import encode
from utils import paths
from utils.audio import reading
from utils.detector import detector, page, scoring

CHROMIUM = (
    shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
)
SHARED = paths.ROOT.parent / "shared" / "demo_pages"
CARD = {"recall_bonafide": 0.9, "recall_spoof": 0.8}
ROW = dict.fromkeys(scoring.COLUMNS, "") | {
    "p_bona_fide": "0.93",
    "decision": "bona fide",
    "seconds": "3.00",
    "language": "en",
}


def test_a_verdict_says_what_its_number_means():
    text = page.verdict(ROW, CARD)
    assert "Probably a recording" in text and "about 93 of 100" in text
    assert "90% of the genuine and 80% of the fake" in text and "Take care" not in text


def test_a_verdict_near_the_threshold_leans_and_a_note_is_escaped():
    row = ROW | {"p_bona_fide": "0.400", "decision": "spoof", "note": "only <b>0.5</b> s"}
    text = page.verdict(row, CARD)
    assert "Leans to synthetic" in text and "Take care:** only &lt;b&gt;" in text


def test_a_verdict_without_a_score_says_why():
    text = page.verdict(ROW | {"p_bona_fide": "", "note": "0.10 s is too short"}, CARD)
    assert "Not scored" in text and "0.10 s is too short" in text


@pytest.fixture
def scorer(toy):
    return scoring.Scorer(str(toy.folder), with_language=False)


def refused(path: Path, scorer) -> str:
    text, picture = page.look(str(path), scorer)
    assert text.startswith("## Not scored") and picture is None
    return text


def test_a_clip_gets_a_verdict_and_a_picture(toy, scorer, tmp_path):
    reading.write(tmp_path / "hum.wav", toy.waves[-1], scoring.RATE)
    text, picture = page.look(str(tmp_path / "hum.wav"), scorer)
    assert "Probably synthetic" in text and "p(bona fide) at most 0.50" in text
    assert picture.width > 300 and "1.5 s of sound" in text


def test_without_a_clip_the_page_asks_for_one(scorer):
    assert "first" in page.look(None, scorer)[0]


def test_a_name_is_escaped_where_a_file_is_no_audio(scorer, tmp_path):
    (tmp_path / "<b>.wav").write_text("words")
    assert "&lt;b&gt;.wav: not audio" in refused(tmp_path / "<b>.wav", scorer)


def test_a_file_that_is_too_large_is_refused(scorer, tmp_path):
    with (tmp_path / "large.wav").open("wb") as file:
        file.truncate(60_000_000)
    assert "60 MB are too large" in refused(tmp_path / "large.wav", scorer)


def test_a_recording_that_is_too_short_is_refused(toy, scorer, tmp_path):
    reading.write(tmp_path / "short.wav", toy.waves[0][:1800], scoring.RATE)
    assert "too short" in refused(tmp_path / "short.wav", scorer)


def test_a_wav_that_is_too_long_is_refused(toy, scorer, tmp_path):
    reading.write(tmp_path / "long.wav", np.tile(toy.waves[0], 90), scoring.RATE)
    assert "longer than 120 s" in refused(tmp_path / "long.wav", scorer)


def test_hours_in_a_small_file_are_not_decoded_to_the_end(toy, scorer, tmp_path, monkeypatch):
    """The page read up to six hours of AMR or WebM before it refused more than 120 s."""
    path = tmp_path / "long.m4a"
    encode(path, np.tile(toy.waves[0], 100), "mp4", "aac", 8000)  # 5 minutes
    read, original = [], reading._mono

    def counted(part, axis):
        mono = original(part, axis)
        read.append(len(mono))
        return mono

    monkeypatch.setattr(reading, "_mono", counted)
    assert "longer than 120 s" in refused(path, scorer)
    assert 120 <= sum(read) / 8000 < 130


@pytest.fixture(scope="module")
def browser():
    if not CHROMIUM:
        pytest.skip("no Chromium here: apt-get install chromium")
    from playwright.sync_api import sync_playwright

    with sync_playwright() as tool:
        opened = tool.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield opened
        opened.close()


@pytest.fixture
def served():
    """Serve the page for a detector's folder at a free port of this machine; its address."""
    closers = []

    def serve(folder: Path) -> str:
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        blocks = page.build(folder)
        closers.append(blocks.close)
        page.launch(blocks, "127.0.0.1", port, prevent_thread_lock=True, quiet=True)
        connections = psutil.Process().net_connections()
        listening = [c.laddr for c in connections if c.status == psutil.CONN_LISTEN]
        assert {address.ip for address in listening if address.port == port} == {"127.0.0.1"}
        return f"http://127.0.0.1:{port}"

    yield serve
    for close in closers:
        close()


def ask(tab, clip: Path, expected: str) -> str:
    """Upload a clip, press the button, wait for `expected`, and return the verdict."""
    clear = tab.get_by_label("Clear")
    if clear.count():
        clear.first.click()
        clear.first.wait_for(state="detached")
    tab.locator("input[type=file]").first.set_input_files(clip)
    clear.first.wait_for()  # it is uploaded
    tab.get_by_role("button", name="Is it real?").click()
    tab.locator("#verdict", has_text=expected).wait_for(timeout=120_000)
    return tab.locator("#verdict").inner_text()


@pytest.mark.slow
@pytest.mark.parametrize("width", [390, 1280])
def test_a_browser_shows_verdict_and_timeline(browser, served, toy, tmp_path, width):
    hiss, hum, words = (tmp_path / name for name in ("hiss.wav", "hum.wav", "words.wav"))
    reading.write(hiss, toy.waves[0], scoring.RATE)
    reading.write(hum, toy.waves[-1], scoring.RATE)
    words.write_text("no audio, just words")
    address = served(toy.folder)
    tab, hosts = browser.new_page(viewport={"width": width, "height": 900}), set()

    def note_host(request):
        if request.url.startswith("http"):
            hosts.add(request.url.split("/")[2])

    tab.on("request", note_host)
    tab.goto(address)
    tab.get_by_role("button", name="Is it real?").wait_for()
    ask(tab, hiss, "recording of a person")
    image = tab.locator("#timeline img").first
    assert image.evaluate("x => x.naturalWidth > 300 && x.clientWidth > 300")
    ask(tab, hum, "synthetic or manipulated")
    assert tab.locator("#timeline img").count()
    assert "words.wav: not audio" in ask(tab, words, "Not scored")
    assert not tab.locator("#timeline img").count()  # nothing of the clip before is left
    assert tab.evaluate("document.documentElement.scrollWidth <= window.innerWidth")
    assert hosts == {address.removeprefix("http://")}  # no other server is asked
    tab.close()


@pytest.mark.slow
def test_the_released_detector_gives_its_verdicts_in_a_browser(browser, served):
    if not SHARED.exists():
        pytest.skip("the demo pages are not here")
    released, key = scoring.load_detector(), pd.read_csv(SHARED / "key.csv")
    tab = browser.new_page(viewport={"width": 1280, "height": 900})
    tab.goto(served(detector.FOLDER))
    for label, words in (("1", "recording of a person"), ("0", "synthetic or manipulated")):
        # it was trained on them: the surest of five is decided rightly
        names = key.loc[key["label"] == label, "name"].sample(5, random_state=1)
        p = {name: released.probability(SHARED / "clips" / name) for name in names}
        surest = max(p, key=p.get) if label == "1" else min(p, key=p.get)
        ask(tab, SHARED / "clips" / surest, words)
    tab.close()
