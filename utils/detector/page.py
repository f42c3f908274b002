"""A page to try the detector on: `python -m utils.detector.page`, then open the address that it prints.

Whoever opens it can drop or record a clip and is told what the detector says of it, in words, how far to trust that, where it looks
fake and which training clips it is most like. Only this machine can open it unless `--host` says otherwise. What is
uploaded is deleted within the hour, and when the page is stopped by Ctrl-C.
"""

import argparse
import contextlib
import html
import io
import os
import sys
from pathlib import Path

import numpy as np
import soundfile as sf

from utils.audio import dsp, reading
from utils.detector import detector, scoring

LONGEST_S, LARGEST_MB, WAITING = (
    120,
    20,
    20,
)  # of a recording; of people in line (one is served at a time)
CLEAR = 0.8  # a probability at least so far to one side is 'probably', any other leans
WORDS = {
    "bona fide": (
        "Probably a recording of a person",
        "Leans to a recording of a person",
        "#0072B2",
    ),
    "spoof": ("Probably synthetic or manipulated", "Leans to synthetic or manipulated", "#B34700"),
    scoring.UNDECIDED: ("No verdict", "No verdict", "#555555"),
}


def verdict(row: dict, card: dict) -> str:
    """Markdown for people from a row of `predict.Judge`: the verdict, what its number means, how often it is wrong, warnings."""
    if not row["p_bona_fide"]:
        return f"## Not scored\n{html.escape(row['note'])}"
    p = float(row["p_bona_fide"])
    clear, leans, colour = WORDS[row["decision"]]
    language = (
        ""
        if row["language"] in ("", "unknown")
        else f" Whisper hears the language “{html.escape(row['language'])}”."
    )
    right = card["real called bona fide"], card["fake called spoof"]
    warned = "" if not row["note"] else f"\n\n**Take care:** {html.escape(row['note'])}."
    return (
        f"## <span style='color:{colour}'>{clear if max(p, 1 - p) >= CLEAR else leans}</span>\n"
        f"**p(bona fide) = {p:.2f}**: were half of all clips genuine, about {round(100 * p)} of 100 clips with this score "
        "would be.\n\n"
        f"{float(row['seconds']):.1f} s of sound.{language} Of recordings from places that it never heard, this detector knows "
        f"{right[0]:.0%} of the genuine and {right[1]:.0%} of the fake ones. It is no evidence against anybody.{warned}"
    )


def look(path: str | None, judge: scoring.Scorer):
    """What the page shows of an uploaded file: (verdict in Markdown, timeline as an image or None, most similar training clips)."""
    if not path:
        return "Choose or record a clip first.", None, ""
    try:
        if (size := Path(path).stat().st_size) > LARGEST_MB * 1e6:
            raise dsp.AudioError(
                f"{size / 1e6:.0f} MB are too large for this page ({LARGEST_MB} MB)"
            )
        seconds = 0.0
        with contextlib.suppress(
            sf.LibsndfileError
        ):  # hours are not read first; other containers are small enough
            seconds = sf.info(path).duration
        if seconds <= LONGEST_S:
            wave = reading.read(Path(path))
            seconds = len(wave) / dsp.RATE
        if seconds > LONGEST_S:
            raise dsp.AudioError(
                f"{seconds:.0f} s are too long for this page ({LONGEST_S} s): ./run_all.sh predict takes hours"
            )
    except dsp.AudioError as error:
        return f"## Not scored\n{html.escape(str(error))}", None, ""
    (row,), released = judge.rows([wave]), judge.released
    if not row["p_bona_fide"]:
        return verdict(row, released.card), None, ""
    said = (
        verdict(row, released.card)
        + f"\n\n### Where it looks fake: shaded, p(bona fide) at most {released.card['threshold']}"
    )
    return said, timeline(wave, released), nearest(wave, released)


def timeline(wave: np.ndarray, released: detector.Detector):
    """Picture of where an 8 kHz wave looks fake."""
    from PIL import Image

    picture = io.BytesIO()
    scoring.draw(picture, wave, released, "", (6.4, 5))
    return Image.open(picture)


def nearest(wave: np.ndarray, released: detector.Detector) -> str:
    """Markdown of the most similar training clips, an item each."""
    items, familiar = [], released.card["familiar"]
    for row in released.nearest(wave, 5):
        what = "genuine" if row["label"] == "1" else f"fake, by {row['system']}"
        items.append(
            f"- **{row['likeness']}** {html.escape(what)}; page {html.escape(row['page'].removeprefix('page-'))}, "
            f"{html.escape(row['language'])}"
        )
    return (
        "### Most like these training clips\n"
        + "\n".join(items)
        + "\n\n1.00 is as good as the same clip; all but one in a "
        f"hundred clips of pages that it never heard come nearer than {familiar:.2f}."
    )


def build(folder: Path = detector.FOLDER):
    """The page as Gradio's Blocks."""
    os.environ["GRADIO_ANALYTICS_ENABLED"] = "False"  # before the import: it asks nobody anything
    import gradio as gr

    judge = scoring.Scorer(str(folder))
    card = folder / "README.md"
    with gr.Blocks(
        title="Real or synthetic speech?", delete_cache=(300, 3000), analytics_enabled=False
    ) as page:
        gr.Markdown(
            "# Real or synthetic speech?\nDrop a recording of somebody speaking, or record one. Everything is brought to "
            "8 kHz, as a telephone would; two to ten seconds are best."
        )
        clip = gr.Audio(
            sources=["upload", "microphone"],
            type="filepath",
            label=f"Recording (up to {LONGEST_S} s, {LARGEST_MB} MB)",
        )
        button = gr.Button("Is it real?", variant="primary")
        said = gr.Markdown(elem_id="verdict")
        where = gr.Image(
            show_label=False, format="png", interactive=False, visible=False, elem_id="timeline"
        )
        like = gr.Markdown(elem_id="nearest")
        with gr.Accordion("The detector: what it was trained on, how wrong it is", open=False):
            gr.Markdown(
                card.read_text(encoding="utf-8") if card.exists() else str(judge.released.card)
            )

        def shown(path):
            text, picture, rows = look(path, judge)
            return text, gr.Image(picture, visible=picture is not None), rows

        button.click(shown, clip, [said, where, like], concurrency_limit=1, api_name="score")
    return page.queue(max_size=WAITING)


def launch(page, host: str, port: int, **options):
    """Serve `page`; returns when it is stopped, or at once with `prevent_thread_lock=True`."""
    import gradio as gr

    font = ["system-ui", "sans-serif"]  # nothing is asked from a font server
    theme = gr.themes.Default(font=font, font_mono=["monospace"])
    return page.launch(
        server_name=host,
        server_port=port,
        max_file_size=f"{LARGEST_MB}mb",
        share=False,
        footer_links=["gradio"],
        theme=theme,
        enable_monitoring=False,
        ssr_mode=False,
        **options,
    )


def main(argv: list[str] | None = None) -> int:
    """Command line."""
    parser = argparse.ArgumentParser(
        prog="python -m utils.detector.page",
        description=__doc__.split("\n")[0],
        epilog="example: python -m utils.detector.page --port 8000",
    )
    parser.add_argument(
        "--host",
        default="127.0.0.1",
        help="address to listen on (default: this machine alone; 0.0.0.0: "
        "whoever can reach it, without a password)",
    )
    parser.add_argument("--port", type=int, default=7860, help="default: 7860")
    parser.add_argument(
        "--detector", type=Path, default=detector.FOLDER, metavar="FOLDER", help="another detector"
    )
    options = parser.parse_args(argv)
    os.environ["MPLBACKEND"] = "Agg"  # figures are drawn off the main thread
    try:
        page = build(options.detector)
        launch(page, options.host, options.port)
    except (OSError, ValueError) as error:
        print(f"FAILED: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
