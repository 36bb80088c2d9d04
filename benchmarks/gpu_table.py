"""The section of the page about one GPU, made of the JSON of one run of `gpu`."""

from typing import Any, Final

from benchmarks.tables import Record, markdown

#: Everything is compared with demucs' command line.
DEMUCS: Final = "demucs --mp3"

_TEXT: Final = """\
{name}{capability}{memory}, {peaks}{versions}. {weights}

Songs of {song_s:g} s, all of a row begun together; *no codec* is from samples to rounded samples. Each row is one run
after a short song; `demucs` starts and loads its model. *GPU MB* is what was in use of the GPU at most, from the start
of the row's process on, by whomever. *× demucs* compares with its whole time for one song."""

_STAGES: Final = """\
What each step takes, in ms per window ({segment_s:g} s) of a full batch, the device waited for after each; the least of
five."""


def section(record: Record) -> list[str]:
    """Return the paragraphs of the section."""
    device, model = record["device"], record["model"]
    peaks = ", ".join(f"{gflops / 1000:.0f} TFLOP/s in {name}" for name, gflops in device["peak_gflops"].items())
    known = {what: device[what] for what in ("driver", "cuda", "cudnn") if device.get(what)}
    text = _TEXT.format(
        name=device["name"],
        capability=f", compute capability {device['compute_capability']}" if "compute_capability" in device else "",
        memory=f", {device['memory_gb']:.0f} GB" if "memory_gb" in device else "",
        peaks=f"best products of matrices {peaks}",
        versions="".join(f", {what} {version}" for what, version in known.items()),
        weights=f"{model['name']}: {model['parameters']:,} parameters, {model['weights']}.",
        song_s=record["song_s"],
    )
    parts = [text, table(record)]
    if record["left_out"]:
        parts.append(f"Left out, because the time was over: {', '.join(record['left_out'])}.")
    if record["stages_ms"]:
        rows = [[name, f"{milliseconds:.2f}"] for name, milliseconds in record["stages_ms"].items()]
        parts += [_STAGES.format(segment_s=model["segment_s"]), markdown(["step", "ms"], rows)]
    return parts


def table(record: Record) -> str:
    """Return the table of who was measured."""
    song_s = record["song_s"]
    baseline = next((row["wall_s"] for row in record["rows"] if row["name"] == DEMUCS), None)
    rows = [_row(row, song_s, baseline) for row in record["rows"]]
    return markdown(["", "songs", "format", "wall s", "× real time", "× demucs", "CPU s", "GPU MB"], rows)


def _row(row: dict[str, Any], song_s: float, baseline_s: float | None) -> list[str]:
    speed = row["songs"] / row["wall_s"]  # songs per second
    return [
        row["name"],
        str(row["songs"]),
        row["format"] or "no codec",
        f"{row['wall_s']:.2f}",
        f"{speed * song_s:.1f}",
        "–" if baseline_s is None else f"{speed * baseline_s:.2f}",
        f"{row['cpu_s']:.1f}",
        "–" if row["gpu_mb"] is None else f"{row['gpu_mb']:.0f}",
    ]
