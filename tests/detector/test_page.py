"""The page in a real browser: a genuine and a fake clip get their verdicts, what is no audio is named, a phone can read it."""

import shutil
import socket
from pathlib import Path

import numpy as np
import pandas as pd
import psutil
import pytest

from utils import paths
from utils.audio import reading
from utils.detector import detector, page, scoring
from utils.models import classifiers, pooled_features

CHROMIUM = (
    shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
)
SHARED = paths.ROOT.parent / "shared" / "demo_pages"
DEPTHS = {"ge2e": (0, 1, 2)}
CARD = {
    "depths": list(DEPTHS.items()),
    "threshold": 0.5,
    "familiar": 0.1,
    "real called bona fide": 0.9,
    "fake called spoof": 0.8,
}


@pytest.fixture(scope="module")
def hisses(tmp_path_factory):
    """(folder of a detector that knows hisses, real, from hums, fake; a hiss, a hum): its verdicts are certain."""
    rng, time = np.random.default_rng(0), np.arange(12000) / 8000
    waves = [rng.normal(size=12000).astype(np.float32) * 0.1 for _ in range(8)]
    waves += [
        (0.1 * np.sin(2 * np.pi * hertz * time)).astype(np.float32)
        for hertz in range(200, 1000, 100)
    ]
    label, home = np.array([1] * 8 + [0] * 8), tmp_path_factory.mktemp("detector")
    clips = pd.DataFrame({"label": label, "system": "a hum", "page": "page-test", "language": "en"})
    detector.save(
        home,
        classifiers.fit_svm(pooled_features.features_in_this_process(waves, DEPTHS), label),
        3.0,
        0.0,
        CARD,
        clips,
    )
    files = []
    for name, wave in (("hiss.wav", waves[0]), ("hum.wav", waves[-1])):
        reading.write(home / name, wave)
        files.append(home / name)
    return home, *files


def test_a_verdict_says_what_its_number_means():
    row = dict.fromkeys(scoring.COLUMNS, "") | {
        "p_bona_fide": "0.93",
        "decision": "bona fide",
        "seconds": "3.00",
        "language": "en",
    }
    text = page.verdict(row, CARD)
    assert (
        "Probably a recording" in text
        and "about 93 of 100" in text
        and "90% of the genuine and 80% of the fake" in text
    )
    assert "Take care" not in text
    text = page.verdict(
        row | {"p_bona_fide": "0.400", "decision": "spoof", "note": "only <b>0.5</b> s"}, CARD
    )
    assert "Leans to synthetic" in text and "Take care:** only &lt;b&gt;" in text
    assert "Not scored" in page.verdict(
        row | {"p_bona_fide": "", "note": "0.10 s is too short"}, CARD
    )


def test_files_that_are_refused(hisses, tmp_path):
    judge = scoring.Scorer(str(hisses[0]), heard=False)
    (tmp_path / "<b>.wav").write_text("words")
    reading.write(tmp_path / "long.wav", np.tile(reading.read(hisses[1]), 90))
    with (tmp_path / "large.wav").open("wb") as file:
        file.truncate(60_000_000)
    for name, reason in (
        ("<b>.wav", "&lt;b&gt;.wav: not audio"),
        ("long.wav", "135 s are too long"),
        ("large.wav", "60 MB are too large"),
    ):
        text, picture, rows = page.look(str(tmp_path / name), judge)
        assert (
            text.startswith("## Not scored") and reason in text and picture is None and rows == ""
        )
    assert "first" in page.look(None, judge)[0]


@pytest.fixture(scope="module")
def browser():
    if not CHROMIUM:
        pytest.skip("no Chromium here: apt-get install chromium")
    from playwright.sync_api import sync_playwright

    with sync_playwright() as tool:
        opened = tool.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield opened
        opened.close()


def serve(folder: Path):
    """(what closes it, address) of the page with a detector, at a free port."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    blocks = page.build(folder)
    page.launch(blocks, "127.0.0.1", port, prevent_thread_lock=True, quiet=True)
    listening = {
        c.laddr.ip
        for c in psutil.Process().net_connections()
        if c.status == psutil.CONN_LISTEN and c.laddr.port == port
    }
    assert listening == {"127.0.0.1"}
    return blocks.close, f"http://127.0.0.1:{port}"


def ask(tab, clip: Path, expected: str) -> str:
    """Upload a clip, press the button, and give the verdict."""
    clear = tab.get_by_label("Clear")
    if clear.count():
        clear.first.click()
        clear.first.wait_for(state="detached")
    tab.locator("input[type=file]").first.set_input_files(clip)
    clear.first.wait_for()  # it is uploaded
    tab.get_by_role("button", name="Is it real?").click()
    tab.locator("#verdict", has_text=expected).wait_for(timeout=120_000)
    return tab.locator("#verdict").inner_text()


@pytest.mark.parametrize("width", [390, 1280])
def test_in_a_browser(browser, hisses, tmp_path, width):
    folder, hiss, hum = hisses
    close, address = serve(folder)
    try:
        tab, asked = browser.new_page(viewport={"width": width, "height": 900}), set()
        tab.on(
            "request",
            lambda request: (
                asked.add(request.url.split("/")[2]) if request.url.startswith("http") else None
            ),
        )
        tab.goto(address)
        tab.get_by_role("button", name="Is it real?").wait_for()
        assert "a recording of a person" in ask(tab, hiss, "recording of a person")
        assert tab.locator("#timeline img").first.evaluate(
            "x => x.naturalWidth > 300 && x.clientWidth > 300"
        )
        assert "genuine; page test" in tab.locator("#nearest").inner_text()
        assert "synthetic or manipulated" in ask(tab, hum, "synthetic or manipulated")
        (tmp_path / "words.wav").write_text("no audio, just words")
        assert "fake, by a hum" in tab.locator("#nearest").inner_text()
        assert "words.wav: not audio" in ask(tab, tmp_path / "words.wav", "Not scored")
        assert not tab.locator("#timeline img").count()  # nothing of the clip before is left
        assert tab.evaluate("document.documentElement.scrollWidth <= window.innerWidth")
        assert asked == {
            address.removeprefix("http://")
        }  # nothing comes from, or goes to, anywhere else
        tab.close()
    finally:
        close()


def test_the_released_detector_in_a_browser(browser, tmp_path):
    if not SHARED.exists():
        pytest.skip("the demonstration pages are not here")
    released, key = scoring.load_detector(), pd.read_csv(SHARED / "key.csv")
    close, address = serve(detector.FOLDER)
    try:
        tab = browser.new_page(viewport={"width": 1280, "height": 900})
        tab.goto(address)
        for kind, words in (("1", "recording of a person"), ("0", "synthetic or manipulated")):
            clips = key.loc[key["label"] == kind, "name"].sample(
                5, random_state=1
            )  # it trained on them: most are decided rightly
            sure = max(
                clips,
                key=lambda name: abs(
                    released.probability(SHARED / "clips" / name) - int(kind == "0")
                ),
            )
            assert words in ask(tab, SHARED / "clips" / sure, words)
        tab.close()
    finally:
        close()
