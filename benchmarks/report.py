"""Publishes measurements: JSON with the conditions they were made under, and `docs/benchmarks.md` made of it.

The page shows the newest run of each kind in a section of its own, so that a new run replaces only its own.
"""

import json
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from statistics import median
from typing import Final

from benchmarks import exposed_table, gpu_table, music_table, page_table, rest_table, tables, targets
from benchmarks.machine import conditions, has_bfloat16, processor
from benchmarks.tables import Record

#: Names of the plots beside the page.
TIME_PLOT: Final = "benchmarks-time.svg"
MEMORY_PLOT: Final = "benchmarks-memory.svg"

#: Measurements on machines that were at hand once.

_ROOT: Final = Path(__file__).parents[1]
_RESULTS: Final = _ROOT / "benchmarks" / "results"
_TITLES: Final = {
    "bench": "Time",
    "bench-long": "Long songs",
    "quality": "Quality",
    "music": "Key and tempo",
    "service": "Waiting for the service",
    "workers": "Workers beside each other",
    "parts": "Songs in parts",
    "rest": "What REST costs its clients",
    "exposed": "Reached by strangers",
    "page": "The page",
    "history": "Costs that do not grow with history",
    "gpu": "GPU",
    "quick": "A quick check, no figures to keep",
}

_HEAD: Final = """\
Made by `benchmarks/` from the JSON in `benchmarks/results/`; [its README](../benchmarks/README.md) says how to repeat
it. The figures of one section come from one run on one machine, those of two sections may not. How much faster than
demucs this project is depends on the processor ([below](#processors)). So each section names the instructions of its
machine and its peaks, which are the best product of two square matrices in each type (int8: billions of operations a
second), by torch with as many threads as demucs takes; and what else the machine did."""

_CONDITIONS: Final = """\
`{command}` on {date}, {took_minutes:g} minutes, commit {commit}: {processor}, {threads} processors
({flags}), {peaks}, {used}, {memory_gb:.0f} GB,
{os}, Python {python}, {packages}."""

_PROCESSORS: Final = """\
Three minutes of song, the architecture of `htdemucs`, from mp3 to one mp3 per stem, beside `demucs --mp3` on the same
machine; peaks in GFLOP/s. `unmix separate` and `demucs` both start and load their model, each at its defaults. *Warm*
is a worker that has its model loaded and writes mp3 as demucs does, and is compared with demucs without its start. The
newest run of `make bench` on each processor.

What `fast` gains follows the column *bf16 ÷ fp32*, as demucs spends most of its time in the products of matrices that
the float32 peak is measured by, and `fast` computes them in bfloat16. Not all of it: reading, the transforms and
whatever moves data stay as they are, and take a larger share the faster the products are. Where the column is below 1,
the processor has no instructions for bfloat16, and `fast` computes in float32 as `exact` does. What `exact` gains is
OpenVINO's: its products are not those of torch, and on some processors faster."""

_TARGETS: Final = """\
The targets are for two cores with bfloat16 (avx512_bf16). {here}"""

_TIMES: Final = """\
From mp3 to one mp3 per stem unless the row says otherwise. Medians of the rounds ({rounds}), with the least and the
most.

* **demucs** is its command line at its defaults: it starts and loads the model every time, and shifts the song once at
  random. **Ours** is a worker whose model is loaded and that has separated a second of song. Two columns divide
  demucs' time by that of the row: the whole of it, and what is left without its start.
* **mp3 as demucs** is 320 kbit/s at LAME's quality 2, as demucs writes it; **default mp3** is what this project
  delivers. **No codec** is from samples to samples. `apply_model` is demucs as a library, in float32, without shifts,
  in the environment of our worker and tuned as our separator is.
* **CPU** and **peak memory** are those of all processes of the row. Memory is their proportional share (PSS), sampled
  five times a second.
* **SNR** compares the estimates in {compared_s:g} s of song, before any codec and over all stems, with those of
  `apply_model`; for this, the command line does without its random shift.
{peers}* Noise: other processes used up to {others:.0%} of the processors during a run, {others_median:.0%} in the
  median one."""

_PEERS: Final = """\
* **Other programs** that run demucs' models start with every song too, and were measured in the first round only, after
  a second of song: {versions}. The [README](../benchmarks/README.md#other-programs) says how they are called and which
  could not be measured.
"""

_WORK: Final = """\
One segment of {name} ({segment_s:g} s) is {gflop:.0f} GFLOP, counted once by torch. GFLOP/s are those of the windows
that were computed."""

_LONG: Final = """\
Once each, from mp3 to one mp3 per stem. Other processes used up to {others:.0%} of the processors during a run. *≈ is
not measured but continues the straight line through what was.*"""

_QUALITY: Final = """\
SDR in dB of the {model} model, and of no other (it has no transformer, so what a mode costs one is not known), on
{songs} synthetic songs of {song_s:g} s that it was not trained on,
mean over songs. The changes are against the first row: of the mean over songs and stems, and of the one song whose mean
over stems changed most. The shift is random, seeded with the number of the song."""


_SERVICE: Final = """\
The whole service on this one machine, the demo model, songs of a second. *Begun* is the time from the 200 of a song to
the line in the log of an idle worker that says so; a worker may begin before the client has read its 200."""

_WORKERS: Final = """\
{songs} songs of {song_s:g} s through a service of their own on this one machine, each row once: {name} ({weights}),
WAV in, one mp3 per stem out. Each worker had separated a second of song before. Memory is that of the separating
process when the last song was done, its proportional share (PSS). *Bound* is what OpenVINO does unless it is told not
to: it binds its threads to processors, in every process from the first one on. The target
for 2 × 1 is 1.75 times 1 × 1. Other processes used up to {others:.0%} of the processors during a row."""

_PARTS: Final = """\
*Stand-in* is an engine that sleeps {part_s:g} s for each part: {parts} of them, as ten minutes of song have with
`htdemucs`. All else is of real workers with {name} ({weights}) on this one machine, from mp3 to mp3: a song of
{song_s:g} s, and in the rows of one worker the median of several of {excerpt_s:g} s in turn. What a song leaves in the
store is that of the demo model, whose stems are music. Each worker also fetches the song once, and the one that leads
fetches the parts that others made."""

_HISTORY: Final = """\
The same requests in turn to two services on this one machine, which have finished {few:,} and {many:,} jobs; medians
in ms. *As many times* is the right one divided by the left one: what grows with history is above 1. The S3 servers are
SeaweedFS, started as in Kubernetes: *bare* is what a request takes them without us. Accepting includes the decode
check. All stores lie {where}."""

_HOUSEKEEPING: Final = """\
The same two services on file stores. *99 %* is of each round of ten seconds: the median of the rounds. A pass is what
the reconciler needs to compare Redis with the store, while {open:,} jobs wait; memory is the most that the janitor's
process ever had. FLUSHALL comes just after a pass, at default settings."""


_NO_GPU: Final = "Not measured: no GPU was at hand. `python -m benchmarks.gpu` makes this section, in six minutes."


def publish(kind: str, command: str, measured: Record, output: Path | None = None) -> Record:
    """Write what was measured as JSON and make the page again: in `output`, or where the project keeps them.

    Returns the JSON.
    """
    results, docs = (output, output) if output else (_RESULTS, _ROOT / "docs")
    results.mkdir(parents=True, exist_ok=True)
    now = datetime.now(UTC)
    record = {"kind": kind, "date": f"{now:%Y-%m-%d}", "command": command, **conditions(), **measured}
    (results / f"{record['date']}-{kind}.json").write_text(json.dumps(record, indent=1) + "\n")
    write_page(results, docs)
    return record


def write_page(results: Path, docs: Path) -> None:
    """Make `benchmarks.md` and its plots in `docs` from the newest JSON of each kind in `results`."""
    records = _newest(results)
    parts = ["# Benchmarks", _HEAD]
    if "bench" in records:
        parts += ["## Targets", _targets(records)]
        parts += ["## Processors", _PROCESSORS, _processors(results)]
    for kind, record in records.items():
        parts += [f"## {_TITLES[kind]}", _conditions(record)]
        if kind == "quality":
            parts += [_QUALITY.format(**record), tables.quality(record)]
        elif kind == "music":
            parts += music_table.section(record)
        elif kind == "service":
            parts += [_SERVICE, tables.service(record)]
        elif kind == "workers":
            parts += [_workers(record), tables.workers(record)]
        elif kind == "parts":
            parts += [_PARTS.format(**record, **record["model"]), tables.parts(record)]
        elif kind == "history":
            parts += _history(record)
        elif kind == "rest":
            parts += rest_table.section(record)
        elif kind == "exposed":
            parts += exposed_table.section(record)
        elif kind == "page":
            parts += page_table.section(record)
        elif kind == "gpu":
            parts += gpu_table.section(record)
        elif kind == "bench-long":
            parts += _long(record)
        else:
            parts += _times(record)
    if "gpu" not in records:
        parts += [f"## {_TITLES['gpu']}", _NO_GPU]
    if "bench-long" in records:
        from benchmarks import plots  # the extra `bench`, which a quick check does without

        plots.draw(records, docs / TIME_PLOT, docs / MEMORY_PLOT)
    (docs / "benchmarks.md").write_text("\n\n".join(parts) + "\n")


def print_targets(output: Path | None = None) -> None:
    """Print the table of targets by what `publish` has written, for who waits."""
    print(_targets(_newest(output or _RESULTS)))


def _newest(results: Path) -> dict[str, Record]:
    newest = {kind: max(results.glob(f"*-{kind}.json"), default=None) for kind in _TITLES}
    return {kind: json.loads(path.read_text()) for kind, path in newest.items() if path}


def _targets(records: Mapping[str, Record]) -> str:
    """Return the table of targets, with the machine of the run `bench` and what it can."""
    bench = records["bench"]
    machine = bench["machine"]
    here = f"This is {processor(machine)} ({', '.join(machine['flags'])}), {_peaks(tables.peaks(bench))}"
    here += "." if has_bfloat16(machine) else ": they are not for it, as `fast` computes in float32 here."
    same = {kind: record for kind, record in records.items() if processor(record["machine"]) == processor(machine)}
    return f"{_TARGETS.format(here=here)}\n\n{targets.table(same)}"


def _processors(results: Path) -> str:
    """Return the table of the newest run of `bench` on each processor."""
    newest = {}
    for path in sorted(results.glob("*-bench.json")):
        record = json.loads(path.read_text())
        newest[processor(record["machine"])] = record
    return tables.processors(list(newest.values()))


def _conditions(record: Record) -> str:
    machine = record["machine"]
    packages = ", ".join(f"{name} {version}" for name, version in record["packages"].items() if version)
    texts = {
        "packages": packages,
        "flags": ", ".join(machine["flags"]),
        "processor": processor(machine),
        "peaks": _peaks(tables.peaks(record)),
        "used": _used(machine),
    }
    return _CONDITIONS.format(**record | machine | texts)


def _peaks(gflops: dict[str, float] | None) -> str:
    if gflops is None:
        return "peaks not measured"
    others = "".join(f", {gflops[dtype]:.0f} in {dtype}" for dtype in ("bfloat16", "int8") if dtype in gflops)
    return f"peaks {gflops['float32']:.0f} GFLOP/s in float32{others}"


def _used(machine: Record) -> str:
    """Return how many threads demucs takes and what else the machine did: of every run since these were added."""
    if "torch_threads" not in machine:
        return "threads and load not noted"
    return f"{machine['torch_threads']} threads unless said, {machine['others']:.0%} busy with other things"


def _times(record: Record) -> list[str]:
    versions = "; ".join(
        f"*{name}* is {each['runs']}" for name, each in record["contestants"].items() if each.get("peer")
    )
    peers = _PEERS.format(versions=versions) if versions else ""
    parts = [_TIMES.format(**record, **_noise(record), peers=peers)]
    for model in record["models"]:
        gflop = model["segment_flop"] / 1e9
        parts += [
            f"### {model['name']}: {model['parameters']:,} parameters, {model['weights']}",
            tables.times(record, model["name"]),
            _WORK.format(**model, gflop=gflop),
            tables.work(record, model),
        ]
    return [*parts, "### Start", tables.starts(record)]


def _workers(record: Record) -> str:
    threads = record["machine"]["threads"]
    others = max(row["others_cpu_s"] / row["songs_s"] / threads for row in record["rows"])
    return _WORKERS.format(**record, **record["model"], others=others)


def _history(record: Record) -> list[str]:
    few, many = record["jobs"]
    where = "in memory, so the disk does not count" if record["in_memory"] else "among the temporary files"
    return [
        _HISTORY.format(few=few, many=many, where=where),
        tables.history(record),
        _HOUSEKEEPING.format(**record),
        tables.housekeeping(record),
        *([record["remark"]] if "remark" in record else []),  # added by hand, where something went on beside a run
    ]


def _long(record: Record) -> list[str]:
    full, demo = (model["name"] for model in record["models"])
    return [
        _LONG.format(**_noise(record)),
        tables.times(record, full),
        f"![Time against the length of the song]({TIME_PLOT})",
        f"Memory, with the {demo} model: what depends on the length does not depend on the model.",
        tables.memory(record, demo),
        f"![Peak memory against the length of the song]({MEMORY_PLOT})",
    ]


def _noise(record: Record) -> dict[str, float]:
    """Return the share of all processors that others used during a run: the most and the median."""
    threads = record["machine"]["threads"]
    shares = [run["others_cpu_s"] / run["wall_s"] / threads for run in record["runs"]]
    return {"others": max(shares), "others_median": median(shares)}
