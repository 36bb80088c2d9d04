"""The plots of the page: time and memory against the length of the song, ours beside demucs'."""

from collections.abc import Mapping
from pathlib import Path
from statistics import median

import matplotlib
from matplotlib.figure import Figure

from benchmarks.tables import Record, memory_by_length, walls

#: By contestant, what is drawn by seconds of song.
Lines = Mapping[str, Mapping[float, float]]


def draw(records: Mapping[str, Record], time_plot: Path, memory_plot: Path) -> None:
    """Draw the time of the first model and the memory of the last one of the run over long songs."""
    long = records["bench-long"]
    timed = [records[kind] for kind in ("bench", "bench-long") if kind in records]
    full, demo = long["models"][0]["name"], long["models"][-1]["name"]
    lengths = sorted({run["song_s"] for record in timed for run in record["runs"]})
    times = {
        name: {
            length: median(rounds.values())
            for record in timed
            for length in lengths
            if (rounds := walls(record, full, name, length))
        }
        for name in long["contestants"]
    }
    memory = {name: memory_by_length(long, demo, name) for name in long["contestants"]}
    _draw(times, time_plot, f"{full}: time, minutes", 60)
    _draw(memory, memory_plot, f"{demo}: peak memory, GB", 1000)


def _draw(lines: Lines, path: Path, title: str, unit: float) -> None:
    figure = Figure(figsize=(7, 4), layout="constrained")
    axes = figure.subplots()
    for name, line in lines.items():
        if not line:
            continue
        axes.plot([length / 60 for length in line], [value / unit for value in line.values()], marker="o", label=name)
    axes.set(title=title, xlabel="length of the song, minutes", xlim=(0, None), ylim=(0, None))
    axes.grid(alpha=0.3)
    axes.legend()
    with matplotlib.rc_context({"svg.hashsalt": "unmix"}):  # the same figures make the same file
        figure.savefig(path, metadata={"Date": None})
