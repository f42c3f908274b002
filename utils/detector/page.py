"""A web page to try the detector on: `python -m utils.detector.page` prints its address.

Whoever opens it can drop or record a clip. It says in words what the detector finds, how far to
trust that, and where the clip looks fake. Only this machine can open it unless `--host` says
otherwise. Uploads are deleted within the hour, and when the page is stopped by Ctrl-C.
"""

import argparse
import html
import io
import os
import sys
from pathlib import Path

import numpy as np

from utils.audio import dsp, reading
from utils.detector import detector, scoring

LONGEST_S = 120  # of a recording
LARGEST_MB = 20  # of a file
MOST_WAITING = 20  # people in the queue: one recording is scored at a time
PROBABLY = 0.8  # a probability at least this far to one side is 'probably', any other 'leans to'
WORDS = {  # decision → (heading for a clear score, heading for another one, colour)
    scoring.BONAFIDE: (
        "Probably a recording of a person",
        "Leans to a recording of a person",
        "#0072B2",
    ),
    scoring.SPOOF: (
        "Probably synthetic or manipulated",
        "Leans to synthetic or manipulated",
        "#B34700",
    ),
    scoring.UNDECIDED: ("No verdict", "No verdict", "#555555"),
}


def verdict(row: dict, card: dict) -> str:
    """Markdown for people: the verdict, what its number means, how often it is wrong, warnings.

    Args: `row` from `scoring.Scorer.row`, `card` of the detector.
    """
    if not row["p_bona_fide"]:
        return f"## Not scored\n{html.escape(row['note'])}"
    p = float(row["p_bona_fide"])
    clear, leaning, colour = WORDS[row["decision"]]
    heading = clear if max(p, 1 - p) >= PROBABLY else leaning
    language, warning = "", ""
    if row["language"] not in ("", "unknown"):
        language = f" Whisper takes the language for “{html.escape(row['language'])}”."
    if row["note"]:
        warning = f"\n\n**Take care:** {html.escape(row['note'])}."
    bonafide_right, spoof_right = card["recall_bonafide"], card["recall_spoof"]
    return (
        f"## <span style='color:{colour}'>{heading}</span>\n"
        f"**p(bona fide) = {p:.2f}**: if half of all clips were genuine, about {round(100 * p)} "
        "of 100 clips with this score would be.\n\n"
        f"{float(row['seconds']):.1f} s of sound.{language} Of recordings from sources that it was "
        f"not trained on, this detector recognises {bonafide_right:.0%} of the genuine and "
        f"{spoof_right:.0%} of the fake ones. It is no evidence against anybody.{warning}"
    )


def look(path: str | None, scorer: scoring.Scorer):
    """What the page shows of an uploaded file.

    Returns (verdict in Markdown, timeline as an image or None). Nothing is raised for a file that
    cannot be scored: the verdict says why.
    """
    if not path:
        return "Choose or record a clip first.", None
    try:
        size = Path(path).stat().st_size
        if size > LARGEST_MB * 1e6:
            raise dsp.AudioError(
                f"{size / 1e6:.0f} MB are too large for this page ({LARGEST_MB} MB)"
            )
        wave = reading.read(Path(path), scoring.RATE, longest_s=LONGEST_S)
        detector.check(wave)
    except dsp.AudioError as error:
        return f"## Not scored\n{html.escape(str(error))}", None
    (language,) = scorer.languages([wave])
    card = scorer.released.card
    text = verdict(scorer.row(wave, language), card)
    text += f"\n\n### Where it looks fake: shaded, p(bona fide) at most {card['threshold']:.2f}"
    return text, timeline(wave, scorer.released)


def timeline(wave: np.ndarray, released: detector.Detector):
    """Picture (PIL) of where a 16 kHz wave looks fake."""
    from PIL import Image

    picture = io.BytesIO()
    scoring.draw(picture, wave, released, "", (6.4, 5))
    return Image.open(picture)


def build(folder: Path = detector.FOLDER):
    """The page, as Gradio's Blocks, for the detector in `folder`."""
    os.environ["GRADIO_ANALYTICS_ENABLED"] = "False"  # before the import: it asks nobody anything
    import gradio as gr

    scorer = scoring.Scorer(str(folder))
    card = folder / "README.md"
    with gr.Blocks(
        title="Real or synthetic speech?", delete_cache=(300, 3000), analytics_enabled=False
    ) as page:
        gr.Markdown(
            "# Real or synthetic speech?\nDrop a recording of somebody speaking, or record one. "
            "Two to ten seconds are "
            "best. For hours of audio there is `./run_all.sh predict`."
        )
        clip = gr.Audio(
            sources=["upload", "microphone"],
            type="filepath",
            label=f"Recording (up to {LONGEST_S} s, {LARGEST_MB} MB)",
        )
        button = gr.Button("Is it real?", variant="primary")
        text_box = gr.Markdown(elem_id="verdict")
        figure = gr.Image(
            show_label=False, format="png", interactive=False, visible=False, elem_id="timeline"
        )
        with gr.Accordion("The detector: what it was trained on, how wrong it is", open=False):
            gr.Markdown(
                card.read_text(encoding="utf-8") if card.exists() else str(scorer.released.card)
            )

        def shown(path):
            text, picture = look(path, scorer)
            return text, gr.Image(picture, visible=picture is not None)

        button.click(shown, clip, [text_box, figure], concurrency_limit=1, api_name="score")
    return page.queue(max_size=MOST_WAITING)


def launch(page, host: str, port: int, **options):
    """Serve `page` at `host`:`port` (`options` go to Gradio's `launch`).

    Returns when it is stopped, or at once with `prevent_thread_lock=True`.
    """
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
    """Command line; returns the exit status: 1 if the page could not be served."""
    parser = argparse.ArgumentParser(
        prog="python -m utils.detector.page",
        description=__doc__.split("\n")[0],
        epilog="example: python -m utils.detector.page --port 8000",
    )
    parser.add_argument(
        "--host",
        default="127.0.0.1",
        help="address to listen on (default: this machine only; 0.0.0.0: anybody who can reach "
        "it, without a password)",
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
