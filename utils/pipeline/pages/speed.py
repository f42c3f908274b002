"""What the page of the speed run quotes: medians of three rounds, ratios of the same round."""

import re

import pandas as pd

from utils import paths, reference
from utils.pipeline import notebooks
from utils.reference import read, rows


def rounds(seconds: int, rival: str, column: str, task: str = "score") -> pd.Series:
    """A column of a rival's rows, one value for each round."""
    table = read("speed/rivals")
    some = (table["seconds"] == seconds) & (table["rival"] == rival) & (table["task"] == task)
    return table[some].set_index("round")[column]


def told(values: pd.Series, digits: int) -> str:
    """Median with the range: "23.3 [22.6, 23.3]"."""
    return f"{values.median():.{digits}f} [{values.min():.{digits}f}, {values.max():.{digits}f}]"


def ratio(seconds: int, rival: str, task: str = "score") -> str:
    """Clips per second of a rival, divided by those of stock in the same round."""
    values = rounds(seconds, rival, "clips_per_s", task)
    values = values / rounds(seconds, "stock", "clips_per_s", task)
    return told(values, 1 if values.median() > 3 else 2)


def speed_rows() -> str:
    """The table: a row for each length of clip."""
    fractions = read("speed/operations", index_col="seconds")
    cells = []
    for seconds, fraction in fractions["fraction_of_matrix_speed"].items():
        speeds = [
            f"{rounds(seconds, rival, 'clips_per_s').median():.{digits}f}"
            for rival, digits in (
                ("ours", 1),
                ("ours, int8", 1),
                ("ours, int8, 3 layers", 1),
                ("stock", 2),
            )
        ]
        ratios = [ratio(seconds, "ours"), ratio(seconds, "ours, int8")]
        ratios.append(ratio(seconds, "ours", "step"))
        cells.append((str(seconds), *speeds, *ratios, f"{fraction:.2f}"))
    return rows(cells)


def operations(seconds: int = 4) -> str:
    """How many times fewer operations a clip takes than one padded to 30 s."""
    table = read("speed/operations", index_col="seconds").loc[seconds]
    return f"{table['stock_all_gop'] / table['all_gop']:.1f}"


def matrix_speed() -> str:
    """Speed at which the machine multiplied matrices, in 10^9 operations a second."""
    table = read("speed/operations")
    return f"{(1000 * table['all_gop'] / table['least_ms']).median():.0f}"


def eight_bits() -> str:
    """Engines for eight bits: time as a fraction of float32's, difference of the last layer."""
    table = read("speed/eight_bits", index_col="engine")
    whole = table["s_per_clip"]["float32, PyTorch"]
    cells = []
    for engine, row in table.drop("float32, PyTorch").sort_values("s_per_clip").iterrows():
        by = row["relative_difference"]
        differs = f"{100 * by:.0f} %" if pd.notna(by) else "not measured"
        cells.append((engine, f"{row['s_per_clip'] / whole:.2f}", differs))
    return rows(cells)


def growth() -> str:
    """A sentence on time and memory over 100,000 clips."""
    table = read("speed/growth")
    half, last = table[table["clips"] == table["clips"].max() // 2].iloc[0], table.iloc[-1]
    per_clip = 1000 * half["seconds"] / half["clips"]
    after = 1000 * (last["seconds"] - half["seconds"]) / (last["clips"] - half["clips"])
    memory = table["memory_mb"]
    return (
        f"**{last['clips']:,.0f} files** took {last['seconds'] / 60:.1f} minutes with the lowest "
        f"layer: {per_clip:.1f} ms each in the first half, {after:.1f} in the second,\n"
        f"{memory.iloc[0]:,.0f} MB of all processes after the first thousand and at most "
        f"{memory.max():,.0f}."
    )


def fraction() -> str:
    """Fraction of the speed of matrix products that ours reaches, over the lengths of clips."""
    reached = read("speed/operations")["fraction_of_matrix_speed"]
    return f"{reached.min():.2f} to {reached.max():.2f}"


def eight_gain() -> str:
    """How many times as fast as float32 the fastest engine for eight bits is."""
    seconds = read("speed/eight_bits", index_col="engine")["s_per_clip"]
    return f"{seconds['float32, PyTorch'] / seconds.min():.1f}"


def int8_gain() -> str:
    """How many times as fast as fp32 Whisper of notebook 04 is in int8."""
    table = read("speed/precision").query("model == 'whisper-base'").set_index("precision")
    return f"{table['times_real_time']['int8'] / table['times_real_time']['fp32']:.1f}"


def small_to_large(table: str, name: str, column: str, small: str, large: str) -> str:
    """How many times as fast as Whisper large Whisper small is."""
    models = read(table)
    if "precision" in models:
        models = models[models["precision"] == "fp32"]
    speeds = models.set_index(name)[column]
    return f"{speeds[small] / speeds[large]:.1f}"


def median(seconds: int, rival: str, column: str, task: str, digits: int, unit: float = 1) -> str:
    return f"{rounds(seconds, rival, column, task).median() / unit:.{digits}f}"


def setting(name: str) -> str:
    """A parameter of notebook 10, as it lies in the repository."""
    source = notebooks.source_of("10_speed").read_text(encoding="utf-8")
    return re.search(rf'"{name} = (\d+)\b', source)[1]


VALUES = {
    "speed_cores": lambda: str(paths.read_json(reference.FOLDER / "speed" / "env.json")["cores"]),
    "speed_rounds": lambda: str(read("speed/rivals")["round"].nunique()),
    "speed_batch": lambda: setting("BATCH"),
    "speed_clips": lambda: setting("PRECISION_CLIPS"),
    "speed_matrix": matrix_speed,
    "speed_rows": speed_rows,
    "speed_operations": operations,
    "speed_eight_bits": eight_bits,
    "speed_growth": growth,
    "speed_operations_15": lambda: operations(15),
    "speed_fraction": fraction,
    "speed_eight_gain": eight_gain,
    "speed_int8_gain": int8_gain,
    "speed_ratio_4": lambda: ratio(4, "ours"),
    "speed_ratio_int8_4": lambda: ratio(4, "ours, int8"),
    "speed_ratio_step_4": lambda: ratio(4, "ours", "step"),
    "speed_ratio_15": lambda: ratio(15, "ours"),
    "speed_ratio_30": lambda: ratio(30, "ours"),
    "speed_small_large": lambda: small_to_large(
        "speed/hardware",
        "model",
        "times_real_time",
        "whisper-small (random weights)",
        "whisper-large-v3 (random weights)",
    ),
    "slides_small_large": lambda: small_to_large(
        "slides", "system", "relative_speed", "Whisper small", "Whisper large"
    ),
    "speed_ours_4": lambda: median(4, "ours", "times_real_time", "score", 0),
    "speed_int8_4": lambda: told(rounds(4, "ours, int8", "times_real_time"), 0),
    "speed_layers_4": lambda: median(4, "ours, int8, 3 layers", "times_real_time", "score", 0),
    "speed_step_4": lambda: median(4, "ours", "peak_mb", "step", 1, 1000),
    "speed_step_30": lambda: median(30, "ours", "peak_mb", "step", 1, 1000),
    "speed_stock_4": lambda: median(4, "stock", "peak_mb", "step", 1, 1000),
}
