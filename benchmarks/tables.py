"""Tables of the page, made of the JSON of one run: medians of the rounds, with the least and the most in brackets."""

import math
from collections.abc import Sequence
from statistics import median
from typing import Any, Final

import numpy as np

from benchmarks.machine import has_bfloat16, processor

#: Everything is compared with demucs' command line as its users call it.
BASELINE: Final = "demucs --mp3"
#: The separation alone is compared with demucs as a library.
REFERENCE: Final = "apply_model, no codec"

#: What processors are compared by, in seconds of song.
_PROCESSORS_SONG_S: Final = 180.0
#: Whom the table of processors compares: commands that start with every song, and workers that have their model.
_MODES: Final = ("unmix separate", "unmix separate, exact", "fast, mp3 as demucs", "exact, mp3 as demucs")
#: Another SNR is named if it is better by this much.
_NOTABLY_DB: Final = 3.0

Record = dict[str, Any]
Row = Sequence[str]


def markdown(head: Row, rows: Sequence[Row]) -> str:
    """Return a Markdown table whose first column is text and whose others are numbers."""
    lines = [head, ["---", *["---:"] * (len(head) - 1)], *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def walls(record: Record, model: str, contestant: str, song_s: float) -> dict[int, float]:
    """Return the wall time of every round, in seconds; empty if this was not measured."""
    return {run["round"]: run["wall_s"] for run in _runs(record, model, contestant, song_s)}


def times(record: Record, model: str) -> str:
    """Return the table of all contestants with one model."""
    compared = {each["contestant"]: each for each in record["compared"] if each["model"] == model}
    rows = []
    for song_s in sorted({run["song_s"] for run in record["runs"] if run["model"] == model}):
        for name, contestant in record["contestants"].items():
            if not (runs := _runs(record, model, name, song_s)):
                continue
            figures = {key: [run[key] for run in runs] for key in ("wall_s", "cpu_s", "peak_pss_mb")}
            rows.append(
                [
                    name,
                    _length(song_s),
                    spread(figures["wall_s"]),
                    f"{song_s / median(figures['wall_s']):.1f}",
                    f"{median(figures['cpu_s']):.1f}",
                    f"{max(figures['peak_pss_mb']):.0f}",
                    *(_ratios(record, model, name, song_s) if contestant["codecs"] else ("–", "–")),
                    *([_snr(compared, name)] if compared else []),
                ]
            )
    head = ["contestant", "song", "wall s", "× real time", "CPU s", "peak MB", "demucs ÷ it", "(demucs − start) ÷ it"]
    return markdown([*head, *(["SNR dB"] if compared else [])], rows)


def service(record: Record) -> str:
    """Return the table of what clients wait for."""
    measured = {
        "song begun": record["start_latency_ms"],
        f"`GET /apiv1/queue`, {record['waiting']:,} waiting": record["queue_answer_ms"],
    }
    rows = [
        [name, str(len(times_ms)), *(f"{np.percentile(times_ms, share):.1f}" for share in (50, 95, 99, 100))]
        for name, times_ms in measured.items()
    ]
    return markdown(["", "times", "median ms", "95 % ms", "99 % ms", "most ms"], rows)


def workers(record: Record) -> str:
    """Return the table of songs a minute and memory by the number of workers and of their threads."""
    alone = next(row for row in record["rows"] if (row["workers"], row["threads"], row["bound"]) == (1, 1, False))
    rows = [
        [
            f"{row['workers']} × {row['threads']}{', bound' if row['bound'] else ''}",
            f"{60 * record['songs'] / row['songs_s']:.2f}",
            f"{alone['songs_s'] / row['songs_s']:.2f}",
            f"{sum(row['child_pss_mb']) / row['workers']:.0f}",
            f"{sum(row['child_pss_mb'])}",
        ]
        for row in record["rows"]
    ]
    head = ["workers × threads", "songs a minute", "times 1 × 1", "MB of one", "MB of all"]
    return markdown(head, rows)


def parts(record: Record) -> str:
    """Return the table of what parts bring and cost, with the targets."""
    latency = {int(workers): seconds for workers, seconds in record["latency_s"].items()}
    rows = [
        [
            f"stand-in, {workers} workers on one song, times one worker's time",
            f"≤ {1 / workers + 0.15:.2f}",
            f"{seconds / latency[1]:.2f} ({seconds:.1f} of {latency[1]:.1f} s)",
        ]
        for workers, seconds in latency.items()
        if workers > 1
    ]
    one, two = record["on_one_song"]
    alone, both = record["on_one_song_bound"]
    own, each = record["on_songs_of_their_own_s"]
    whole, in_parts = (median(record["alone"]["seconds"][kind]) for kind in ("whole", "parts"))
    peak = record["alone"]["peak_mb"]
    stored = record["stored"]
    queue_s = record["queue_s"]
    again = record["made_again"]
    per_song = stored["parts"]["bytes"] / stored["stems"]["bytes"]
    rows += [
        [
            "two workers of one thread on one song, times as fast as one",
            "≥ 1.7",
            f"{one['seconds'] / two['seconds']:.2f} ({two['seconds']:.0f} of {one['seconds']:.0f} s)",
        ],
        [
            "the same, each worker on one processor alone, as a pod with a limit of one is",
            "≥ 1.7",
            f"{alone['seconds'] / both['seconds']:.2f} ({both['seconds']:.0f} of {alone['seconds']:.0f} s)",
        ],
        [
            "the same two on a song each, songs a minute, times those of one: what two give on this machine",
            "stated",
            f"{2 * own / each:.2f}",
        ],
        [f"parts made again after a kill at a random moment, the worst of {len(again)}", "≤ 5", f"{max(again)}"],
        ["one worker, in parts, times its time as a whole", "≤ 1.03", f"{in_parts / whole:.3f}"],
        [
            "the same, peak memory",
            "≤ 1.00",
            f"{peak['parts'] / peak['whole']:.2f} ({peak['parts']} of {peak['whole']} MB)",
        ],
        [
            "first part can be fetched after the take",
            f"≤ {2.5 * one['windows_s'] + 2:.1f} s (2.5 windows and 2 s)",
            f"{one['first_part_s']:.1f} s",
        ],
        ["bytes of all parts, times those of the mp3 stems", "≤ 2.5", f"{per_song:.2f}"],
        ["objects of all parts (stems and a document each)", "stated", f"{stored['parts']['objects']}"],
        [
            f"stand-in, {record['queue']} songs and 4 workers, songs a minute in parts, times as a whole",
            "≥ 0.99",
            f"{queue_s['whole'] / queue_s['parts']:.3f}",
        ],
    ]
    return markdown(["", "target", "measured"], rows)


def history(record: Record) -> str:
    """Return the table of requests to a service with few and to one with many finished jobs."""
    few, many = map(str, record["jobs"])
    rows = []
    for measured in record["requests"]:
        left_ms, right_ms = (median(measured["times_ms"][jobs]) for jobs in (few, many))
        is_ours = not measured["request"].startswith("bare")
        rows.append(
            [
                f"{measured['store']}: {measured['request']}",
                str(len(measured["times_ms"][few])),
                f"{left_ms:.1f}",
                f"{right_ms:.1f}",
                f"{right_ms / left_ms:.2f}",
                "≤ 1.5" if is_ours else "–",
            ]
        )
    head = ["store: request", "times", *(f"{jobs:,} finished" for jobs in record["jobs"]), "as many times", "target"]
    return markdown(head, rows)


def housekeeping(record: Record) -> str:
    """Return the table of load, passes, memory and the loss of Redis by the number of finished jobs."""
    flushed = record["flushed"]
    kept = zip(record["janitor"], [[], [flushed["peak_rss_mb"]]], strict=True)
    rows = [
        [f"status at {record['per_second']} requests/s, 99 % ms", *map(_under_load, record["load"]), "≤ 20"],
        ["a pass, s", *(f"{median(each['passes_s']):.2f}" for each in record["janitor"]), "≤ 2"],
        ["memory of the janitor, MB", *(f"{max([each['peak_rss_mb'], *more]):.0f}" for each, more in kept), "≤ 150"],
        [
            f"FLUSHALL: all {flushed['owed']:,} owed jobs wait again, s",
            "–",
            f"{flushed['queued_again_s']:.0f}",
            "≤ 180",
        ],
    ]
    return markdown(["", *(f"{jobs:,} finished" for jobs in record["jobs"]), "target"], rows)


def work(record: Record, model: Record) -> str:
    """Return the table of the separation alone: against demucs as a library, and against what the CPU could do."""
    peak = peaks(record) or {}
    rows = []
    for name, contestant in record["contestants"].items():
        lengths = _lengths(record, model["name"], name)
        if contestant["codecs"] or not lengths:
            continue
        song_s = min(lengths)  # the one that every contestant has
        own = walls(record, model["name"], name, song_s)
        reference = walls(record, model["name"], REFERENCE, song_s)
        gflops = _gflops(record, model, name)
        rows.append(
            [
                name,
                contestant["runs"],
                _length(song_s),
                spread(list(own.values())),
                f"{median(reference[number] / own[number] for number in own):.2f}",
                f"{gflops:.0f}",
                f"{gflops / peak['float32']:.0%}",
                f"{gflops / peak['bfloat16']:.0%}" if has_bfloat16(record["machine"]) else "–",
            ]
        )
    head = ["separation alone", "runs", "song", "wall s", "times as fast", "GFLOP/s"]
    return markdown([*head, "of fp32 peak", "of bf16 peak"], rows)


def ratio(record: Record, model: str, contestant: str, song_s: float) -> float | None:
    """Return how many times as long demucs' command line takes, its start included; None if that was not measured."""
    own, baseline = walls(record, model, contestant, song_s), walls(record, model, BASELINE, song_s)
    rounds = own.keys() & baseline.keys()
    return median(baseline[number] / own[number] for number in rounds) if rounds else None


def share_of_peak(record: Record, model: Record, contestant: str, dtype: str) -> float | None:
    """Return what the separation alone reached of the machine's peak in `dtype`; None if that was not measured."""
    peak = peaks(record)
    if peak is None or not _lengths(record, model["name"], contestant):
        return None
    return _gflops(record, model, contestant) / peak[dtype]


def _gflops(record: Record, model: Record, contestant: str) -> float:
    """Return the GFLOP/s of a contestant without codecs on its shortest song, by the windows that it computed."""
    runs = _runs(record, model["name"], contestant, min(_lengths(record, model["name"], contestant)))
    # Earlier runs did not note their windows: then everybody computed all that begin in the song.
    windows = [run.get("windows", math.ceil(run["song_s"] / model["stride_s"])) for run in runs]
    rates = [count * model["segment_flop"] / run["wall_s"] / 1e9 for count, run in zip(windows, runs, strict=True)]
    return float(median(rates))


def peaks(record: Record) -> dict[str, float] | None:
    """Return how fast the CPU multiplied matrices at its best, in GFLOP/s by type; None if that was not measured."""
    measured = [*record.get("gemm_gflops", ())]  # between the rounds
    if "peak_gflops" in record["machine"]:  # of every run since these were added
        measured.append(record["machine"]["peak_gflops"])
    dtypes = dict.fromkeys(dtype for each in measured for dtype in each if dtype != "round")
    return {dtype: max(each.get(dtype, 0.0) for each in measured) for dtype in dtypes} or None


def processors(benches: Sequence[Record]) -> str:
    """Return the table of three minutes of song on the machine of each run."""
    rows = []
    for bench in benches:
        peak, machine = peaks(bench), bench["machine"]
        assert peak is not None
        model = bench["models"][0]["name"]
        rows.append(
            [
                processor(machine),
                ", ".join(flag for flag in machine["flags"] if flag.startswith(("avx512_", "amx_"))) or "–",
                *(f"{peak[dtype]:.0f}" for dtype in ("float32", "bfloat16")),
                f"{peak['bfloat16'] / peak['float32']:.1f}",
                f"{median(walls(bench, model, BASELINE, _PROCESSORS_SONG_S).values()):.1f} s",
                *(_beside_demucs(bench, model, name) for name in _MODES),
            ]
        )
    modes = [*_MODES[:2], "fast, warm", "exact, warm"]
    return markdown(["", "instructions", "float32", "bfloat16", "bf16 ÷ fp32", "demucs", *modes], rows)


def _beside_demucs(bench: Record, model: str, name: str) -> str:
    """Return how long a contestant took, and how much longer demucs did: to a worker it is compared without start."""
    measured = walls(bench, model, name, _PROCESSORS_SONG_S)
    if not measured:
        return "–"
    whole, warm = _ratios(bench, model, name, _PROCESSORS_SONG_S)
    return f"{median(measured.values()):.1f} s, {whole if warm == '–' else warm} ×"


def starts(record: Record) -> str:
    """Return the table of what comes before the first song."""
    rows = [
        [f"{process}, {model['name']}", spread(list(_starts(record, model["name"], process).values()))]
        for process in ("command line", "worker")
        for model in record["models"]
    ]
    return markdown(["start until the model is loaded", "wall s"], rows)


def memory(record: Record, model: str) -> str:
    """Return the peak memory by length of song; what was not measured continues the line through what was."""
    lengths = sorted(set().union(*(_lengths(record, model, name) for name in record["contestants"])))
    rows = []
    for name in record["contestants"]:
        measured = memory_by_length(record, model, name)
        if measured:
            cells = (f"{measured[each]:.0f}" if each in measured else extrapolated(measured, each) for each in lengths)
            rows.append([name, *cells])
    return markdown(["peak memory, MB", *map(_length, lengths)], rows)


def memory_by_length(record: Record, model: str, contestant: str) -> dict[float, float]:
    """Return the peak memory in MB by seconds of song."""
    runs = [run for run in record["runs"] if (run["model"], run["contestant"]) == (model, contestant)]
    return {run["song_s"]: run["peak_pss_mb"] for run in runs}


def extrapolated(measured: dict[float, float], song_s: float) -> str:
    """Continue the straight line through what was measured, marked as such."""
    if len(measured) < 2:
        return "–"
    slope, start = np.polyfit(list(measured), list(measured.values()), 1)
    return f"*≈ {slope * song_s + start:.0f}*"


def quality(record: Record) -> str:
    """Return the table of SDR by variant of the separation."""
    sdrs_db = {variant["name"]: np.array(variant["sdr_db"]) for variant in record["variants"]}  # (songs, stems)
    reference = next(iter(sdrs_db.values()))
    rows = []
    for name, sdr_db in sdrs_db.items():
        changes = (sdr_db - reference).mean(1)
        largest = changes[np.argmax(np.abs(changes))]
        means = [f"{mean:.2f}" for mean in (*sdr_db.mean(0), sdr_db.mean())]
        rows.append([name, *means, f"{changes.mean():+.3f}", f"{largest:+.3f}"])
    return markdown(["", *record["stems"], "mean", "change of the mean", "largest change of a song"], rows)


def spread(values: Sequence[float]) -> str:
    """Return the median, with the least and the most if there are several."""
    middle = f"{median(values):.1f}"
    return f"{middle} ({min(values):.1f}–{max(values):.1f})" if len(values) > 1 else middle


def _under_load(load: Record) -> str:
    late = f" ({load['unsent']:,} of {load['requests']:,} never sent)" if load["unsent"] else ""
    return f"{spread(load['p99_ms'])}{late}"


def _lengths(record: Record, model: str, contestant: str) -> set[float]:
    return {run["song_s"] for run in record["runs"] if (run["model"], run["contestant"]) == (model, contestant)}


def _runs(record: Record, model: str, contestant: str, song_s: float) -> list[Record]:
    wanted = (model, contestant, song_s)
    return [run for run in record["runs"] if (run["model"], run["contestant"], run["song_s"]) == wanted]


def _starts(record: Record, model: str, process: str) -> dict[int, float]:
    starts = [start for start in record["starts"] if (start["model"], start["process"]) == (model, process)]
    return {start["round"]: start["wall_s"] for start in starts}


def _ratios(record: Record, model: str, contestant: str, song_s: float) -> Row:
    """Return how many times as long the command line takes, whole and without its start; medians over rounds.

    Without its start it is not compared with others that start with every song.
    """
    whole = ratio(record, model, contestant, song_s)
    if whole is None:
        return "–", "–"
    if record["contestants"][contestant].get("starts", contestant == BASELINE):
        return f"{whole:.2f}", "–"
    own, baseline = walls(record, model, contestant, song_s), walls(record, model, BASELINE, song_s)
    start = _starts(record, model, "command line")
    warm = median((baseline[number] - start[number]) / own[number] for number in own)
    return f"{whole:.2f}", f"{warm:.2f}"


def _snr(compared: dict[str, Record], contestant: str) -> str:
    if contestant not in compared:
        return "–"
    snr_db, inner_db = (compared[contestant].get(key) for key in ("snr_db", "inner_snr_db"))
    if snr_db is None:
        return "equal"
    differs_at_end = inner_db is not None and inner_db > snr_db + _NOTABLY_DB
    return f"{snr_db:.1f} ({inner_db:.1f} before the last window)" if differs_at_end else f"{snr_db:.1f}"


def _length(seconds: float) -> str:
    return f"{seconds / 60:g} min" if seconds >= 60 else f"{seconds:g} s"
