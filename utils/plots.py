"""One style for all figures: colours that colour-blind readers tell apart, and units.

Okabe and Ito's colours, two of them darker: a test simulates three kinds of colour blindness.
"""

from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.transforms import Bbox

BONAFIDE, SPOOF, TEST, GREY = "#0072B2", "#D55E00", "#005030", "#777777"
OURS, PUBLISHED = "#000000", "#E69F00"  # what was measured here, and what others published
BETTER, WORSE, UNTOLD = "#56B4E9", "#A038A8", "#BBBBBB"  # differences beyond, or within, intervals
NAMES = {1: "bona fide", 0: "spoof"}
COLOURS = {1: BONAFIDE, 0: SPOOF}
MODELS = {  # names in files → names in figures, tables and on pages
    "campplus": "fine-tuned CAM++",
    "campplus-svm": "CAM++ with an SVM",
    "whisper-base": "fine-tuned Whisper base",
    "whisper-base-svm": "Whisper base with an SVM",
    "ge2e": "fine-tuned GE2E",
    "ge2e-svm": "GE2E with an SVM",
    "deep-svdd": "deep SVDD",
    "detector": "released detector",
    "mean": "mean of scores",
    "logistic": "logistic stack",
    "lightgbm": "LightGBM stack",
    "hard vote": "hard vote of three SVMs",
}


def style() -> None:
    """Set matplotlib's defaults: sizes that stay legible in a README, light grid, no frame."""
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


def model(name: str) -> str:
    """Name in figures, tables and on pages of a model, stack or vote; its own if it has no other.

    A model that only votes is told by its strictness: `ge2e-svm-strict` is "GE2E with an SVM,
    strict".
    """
    for strictness in ("strict", "lenient"):
        if name.endswith(f"-{strictness}"):
            return f"{model(name.removesuffix(f'-{strictness}'))}, {strictness}"
    return MODELS.get(name, name)


def save(run: Path, name: str) -> None:
    """Save the current figure as `figures/<name>.png` of the run."""
    (run / "figures").mkdir(exist_ok=True)
    plt.savefig(run / "figures" / f"{name}.png", dpi=110)


def spectrogram(axis, wave: np.ndarray, rate: int, title: str) -> None:
    """Spectrogram of a wave of full scale ±1: power density in dB re 1/Hz.

    Colours go from -130 to -40 dB whatever the wave is, so that panels can be compared. Frames are
    256 samples long and overlap by 192.
    """
    # beyond ten minutes nobody sees the difference, and overlap takes four times the memory
    overlap = 192 if len(wave) < 600 * rate else 0
    # noise far below what is shown: the logarithm of digital silence is not finite
    noise = 1e-9 * np.random.default_rng(0).standard_normal(len(wave))
    axis.specgram(
        wave + noise,
        NFFT=256,
        Fs=rate,
        noverlap=overlap,
        cmap="magma",
        vmin=-130,
        vmax=-40,
    )
    axis.set(title=title, xlabel="time (s)", ylabel="frequency (Hz)")
    axis.grid(False)


def intervals(axis, table, colour: str = OURS, floor: float | None = None) -> None:
    """Points with 95 % intervals, one row of `table` per line, the first one on top.

    Args:
        table: columns `value`, `low` and `high`; its index labels the lines.
        floor: F1 of calling every clip bona fide, drawn as a dashed line.
    """
    y = np.arange(len(table))[::-1]
    errors = [
        np.maximum(table["value"] - table["low"], 0),
        np.maximum(table["high"] - table["value"], 0),
    ]
    axis.errorbar(table["value"], y, xerr=errors, fmt="o", color=colour, capsize=3)
    axis.set_yticks(y, table.index)
    axis.set_ylim(-0.6, len(table) - 0.4)
    if floor is not None:
        axis.axvline(floor, color=GREY, linestyle="--", label=f"all called bona fide: {floor:.3f}")
        axis.legend(loc="lower right")


def name_points(axis, x, y, names, size: float = 9) -> None:
    """Write the name of each point beside it, where it covers no point and no other name.

    A name that has to go further has a thin line to its point. Set the limits of the axis before.
    """
    axis.figure.draw_without_rendering()  # settles the layout
    points = axis.transData.transform(np.column_stack([x, y]))
    taken = [Bbox.from_extents(*point - 5, *point + 5) for point in points]
    for i in np.argsort(x)[::-1]:  # from the right: the first choice is right of a point
        point, place, name = points[i], (x[i], y[i]), names[i]
        text = axis.annotate(name, place, fontsize=size)
        box = _free(point, text.get_window_extent().size, taken, axis.bbox)
        text.remove()
        taken.append(box)
        left, low, right, high = box.extents - np.tile(point, 2)
        far = np.hypot(max(left, -right, 0), max(low, -high, 0)) > 12
        line = {"arrowstyle": "-", "color": GREY, "lw": 0.7, "shrinkA": 0, "shrinkB": 3}
        axis.annotate(
            name,
            place,
            np.array([left + right, low + high]) / 2 * 72 / axis.figure.dpi,
            textcoords="offset points",
            ha="center",
            va="center",
            fontsize=size,
            arrowprops=line if far else None,
            bbox={"fc": "white", "ec": "none", "alpha": 0.8, "pad": 0.3},  # over lines of the axis
        )


def _free(point, size, taken: list[Bbox], inside: Bbox) -> Bbox:
    """The nearest free box of a size around a point; in pixels. A full axis has the last one."""
    half = np.asarray(size) / 2
    for gap in range(8, 160, 8):
        for angle in np.radians([0, 180, 90, 270, 45, 315, 135, 225, 20, 340, 160, 200, 70, 290]):
            centre = point + np.array([np.cos(angle), np.sin(angle)]) * (half + gap)
            box = Bbox.from_extents(*centre - half, *centre + half)
            within = np.all(box.min >= inside.min) and np.all(box.max <= inside.max)
            if within and not any(box.overlaps(other) for other in taken):
                return box
    return box


def waterfall(axis, steps) -> None:
    """Bars from one value to the next, the first step on top, where lower values are better.

    A thin line is the 95 % interval of the change, laid at the bar's start; a bar is coloured where
    that interval excludes 0, and its end is marked.

    Args:
        steps: columns `start`, `end`, and `low` and `high` of the change; its index labels bars.
    """
    y = np.arange(len(steps))[::-1]
    start, low, high = (steps[name].to_numpy() for name in ("start", "low", "high"))
    colour = np.where(high < 0, BETTER, np.where(low > 0, WORSE, UNTOLD))
    axis.barh(y, steps["end"] - start, left=start, height=0.7, color=colour)
    axis.hlines(y, start + low, start + high, color="black", lw=1)
    axis.plot(steps["end"], y, "k|", ms=11, mew=2.5)
    axis.axvline(start[0], color=GREY, ls=":")
    axis.set_yticks(y, steps.index)
    axis.use_sticky_edges = False  # else a bar that ends a panel has no margin
    axis.margins(x=0.06)
    axis.grid(axis="y", visible=False)


def error_map(run, table, protocols: list[str], title: str, name: str = "errors") -> None:
    """`figures/<name>.png`: two maps of error rates, spoofs by family and bona fide by source.

    Args: `table` of `evaluation.comparison.errors`; `protocols`, its columns in this order.
    """
    import seaborn as sns  # takes a second, and scoring draws no such map

    titles = {"spoof": "spoofs accepted, by family", "bona fide": "bona fide rejected, by source"}
    fig, axes = plt.subplots(1, 2, figsize=(9, 5))
    for axis, kind in zip(axes, titles, strict=True):
        part = table[table["class"] == kind]
        rates = part.pivot(index="name", columns="protocol", values="error_rate")
        rates = rates[[protocol for protocol in protocols if protocol in rates]]
        rates = rates.loc[rates.mean(axis=1).sort_values(ascending=False).index]
        options = {"annot": True, "fmt": ".2f", "cmap": "cividis_r", "vmin": 0, "vmax": 1}
        bar = {"label": "error rate"}
        sns.heatmap(rates, ax=axis, cbar=kind == "bona fide", cbar_kws=bar, **options)
        axis.set(xlabel="", ylabel="", title=titles[kind])
        axis.set_xticks(axis.get_xticks(), axis.get_xticklabels(), rotation=20, ha="right")
        axis.grid(False)
    fig.suptitle(title, fontsize=10)
    save(run, name)


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
    """Save waveform, spectrogram and probability of bona fide over time as one PNG.

    Args:
        path: a file or a binary buffer.
        wave, rate: the recording, full scale ±1, and its sampling rate in Hz.
        p: probability of bona fide for each `step_s` seconds, NaN where it is unknown.
        threshold: drawn as a dashed line; above it is bona fide.
        flagged: [(start, end)] in s, shaded.
        size: width and height in inches.
    """
    end = len(wave) / rate
    fig, axes = plt.subplots(3, 1, figsize=size, sharex=True, height_ratios=(1, 1.6, 1.4))
    step = max(1, len(wave) // 500_000)  # of a long recording every second, third … sample
    axes[0].plot(np.arange(0, len(wave), step) / rate, wave[::step], color=GREY, lw=0.4)
    axes[0].set(ylabel="wave")
    axes[0].set_title(title, parse_math=False)  # a file's name may hold dollar signs
    spectrogram(axes[1], wave, rate, "")
    axes[1].set(xlabel="")
    edges = np.minimum(np.arange(len(p) + 1) * step_s, end)
    axes[2].stairs(
        p, edges, color=BONAFIDE, lw=2, baseline=None, label="mean of overlapping windows"
    )
    axes[2].axhline(threshold, color=GREY, ls="--", label="bona fide above")
    axes[2].set(xlabel="time (s)", ylabel="p(bona fide)", ylim=(-0.03, 1.03), xlim=(0, end))
    shade = {"color": SPOOF, "alpha": 0.25, "lw": 0}
    for number, (start, stop) in enumerate(flagged):
        axes[0].axvspan(start, min(stop, end), **shade)
        label = "flagged" if number == 0 else None  # once in the legend
        axes[2].axvspan(start, min(stop, end), label=label, **shade)
    axes[2].legend(loc="upper right", fontsize=9, ncols=3)
    fig.savefig(path, dpi=110, format="png")
    plt.close(fig)
