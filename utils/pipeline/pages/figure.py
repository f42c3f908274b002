"""README's first figure: what a person and a computer sound like, seen, and what they score."""

from pathlib import Path

import matplotlib.pyplot as plt
import soundfile

from utils import paths, plots, reference

EXAMPLES = paths.ROOT / "utils" / "detector" / "web" / "examples"
SHOWN = {"person.flac": "a person reads", "computer.flac": "a computer speaks"}
SECONDS = 2.8  # of both, so that one scale of time serves


def draw(file: Path = reference.FOLDER / "examples.png") -> None:
    """Spectrograms of the two examples of the page, side by side."""
    from utils.detector.studies import card_facts  # opens the detector

    plots.style()
    scores = card_facts.example_scores()
    fig, axes = plt.subplots(1, 2, figsize=(8.4, 2.8), sharey=True)
    for axis, (name, title) in zip(axes, SHOWN.items(), strict=True):
        wave, rate = soundfile.read(EXAMPLES / name, dtype="float32")
        title = f"{title}: p(bona fide) {scores[name]:.2f}"
        plots.spectrogram(axis, wave[: int(SECONDS * rate)], rate, title)
    axes[1].set_ylabel("")
    with paths.whole(file) as temporary:
        fig.savefig(temporary, dpi=100)
    plt.close(fig)
