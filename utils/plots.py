"""One look for all figures: Okabe and Ito's colours (told apart by colour-blind readers), units on every axis."""

import matplotlib.pyplot as plt
import numpy as np

BONAFIDE, SPOOF, TEST, GREY = "#0072B2", "#D55E00", "#009E73", "#777777"
NAMES = {1: "bona fide", 0: "spoof"}
COLOURS = {1: BONAFIDE, 0: SPOOF}


def style() -> None:
    """Set sizes that stay legible in a README."""
    plt.rcParams.update(
        {
            "figure.figsize": (8, 3.6),
            "figure.dpi": 100,
            "font.size": 11,
            "axes.grid": True,
            "grid.alpha": 0.3,
            "axes.spines.top": False,
            "axes.spines.right": False,
            "figure.constrained_layout.use": True,
            "legend.frameon": False,
        }
    )


def save(run, name: str) -> None:
    """Keep the current figure as `figures/<name>.png` of the run."""
    (run / "figures").mkdir(exist_ok=True)
    plt.savefig(run / "figures" / f"{name}.png", dpi=110)


def spectrogram(axis, wave: np.ndarray, rate: int, title: str) -> None:
    """Spectrogram of a wave in dB below its loudest point, 80 dB deep."""
    overlap = (
        192 if len(wave) < 600 * rate else 0
    )  # of long ones nobody sees more, and it takes four times the memory
    axis.specgram(
        wave + 1e-9 * np.random.default_rng(0).standard_normal(len(wave)),
        NFFT=256,
        Fs=rate,
        noverlap=overlap,
        cmap="magma",
        vmin=-130,
        vmax=-40,
    )
    axis.set(title=title, xlabel="time (s)", ylabel="frequency (Hz)")
    axis.grid(False)


def intervals(axis, table, colour=BONAFIDE, floor: float | None = None) -> None:
    """Horizontal points with 95 % intervals; `table` has value, low, high and the labels as index, best on top."""
    y = np.arange(len(table))[::-1]
    errors = [
        np.maximum(table["value"] - table["low"], 0),
        np.maximum(table["high"] - table["value"], 0),
    ]
    axis.errorbar(table["value"], y, xerr=errors, fmt="o", color=colour, capsize=3)
    axis.set_yticks(y, table.index)
    if floor is not None:
        axis.axvline(floor, color=GREY, linestyle="--", label=f"floor: all real, {floor:.3f}")
        axis.legend(loc="lower right")


def timeline(
    path,
    wave: np.ndarray,
    rate: int,
    p: np.ndarray,
    step_s: float,
    threshold: float,
    flagged: list,
    title: str,
    size: tuple[float, float] = (9, 5.5),
) -> None:
    """Waveform, spectrogram and probability of bona fide over time as one PNG; `flagged` [(start s, end s)] is shaded.

    Args: `path` a file or a buffer; `p` of each `step_s` seconds, NaN where nothing is said of it; `size` in inches.
    """
    end = len(wave) / rate
    fig, axes = plt.subplots(3, 1, figsize=size, sharex=True, height_ratios=(1, 1.6, 1.4))
    every = max(1, len(wave) // 500_000)  # samples are shown of a long one
    axes[0].plot(np.arange(0, len(wave), every) / rate, wave[::every], color=GREY, lw=0.4)
    axes[0].set(ylabel="wave")
    axes[0].set_title(title, parse_math=False)  # the name of a file
    spectrogram(axes[1], wave, rate, "")
    axes[1].set(xlabel="")
    axes[2].stairs(
        p,
        np.minimum(np.arange(len(p) + 1) * step_s, end),
        color=BONAFIDE,
        lw=2,
        baseline=None,
        label="overlapping windows",
    )
    axes[2].axhline(threshold, color=GREY, ls="--", label="bona fide above")
    axes[2].set(xlabel="time (s)", ylabel="p(bona fide)", ylim=(-0.03, 1.03), xlim=(0, end))
    for number, (a, b) in enumerate(flagged):
        for axis in axes[[0, 2]]:
            axis.axvspan(
                a,
                min(b, end),
                color=SPOOF,
                alpha=0.25,
                lw=0,
                label="flagged" if axis is axes[2] and not number else None,
            )
    axes[2].legend(loc="upper right", fontsize=9, ncols=3)
    fig.savefig(path, dpi=110, format="png")
    plt.close(fig)
