"""The page of the benchmarks: what its tables say of figures that are given here."""

from pathlib import Path
from typing import Any

from benchmarks import gpu_table, music_table, page_table, rest_table, tables, targets

ROOT = Path(__file__).parents[2]


def test_memory_that_was_not_measured_is_extrapolated_and_marked() -> None:
    def run(contestant: str, minutes: int, memory_mb: float) -> dict[str, Any]:
        return {"model": "m", "contestant": contestant, "song_s": 60.0 * minutes, "peak_pss_mb": memory_mb}

    runs = [run("ours", minutes, 500) for minutes in (1, 20, 60)] + [run("demucs", 1, 575), run("demucs", 20, 2000)]
    table = tables.memory({"runs": runs, "contestants": {"ours": {}, "demucs": {}}}, "m")
    assert table.splitlines()[2:] == ["| ours | 500 | 500 | 500 |", "| demucs | 575 | 2000 | *≈ 5000* |"]


def test_every_processor_is_shown_with_its_peaks_and_the_times_of_each_mode() -> None:
    page = (ROOT / "docs" / "benchmarks.md").read_text()
    instructions = "avx512_vnni, avx512_bf16"
    warm = "– | – | 26.5 s, 3.58 × | 42.4 s, 2.24 ×"
    assert f"| AMD EPYC (Zen 5) | {instructions} | 208 | 817 | 3.9 | 96.4 s | {warm} |" in page
    both = "50.6 s, 2.62 × | 92.3 s, 1.43 × | 49.5 s, 2.63 × | 81.5 s, 1.60 ×"
    assert f"| AMD EPYC (Zen 4) | {instructions} | 193 | 422 | 2.2 | 132.3 s | {both} |" in page


def measured_on(flags: list[str], *, bfloat16: float) -> dict[str, Any]:
    """A run in which demucs took 100 s, our commands 40 and 50, and a warm worker 25."""
    commands_s = {"demucs --mp3": 100.0, "unmix separate": 40.0, "unmix separate, exact": 50.0}
    walls_s = commands_s | {"fast, mp3 as demucs": 25.0}
    runs = [{"contestant": name, "song_s": 180.0, "wall_s": wall_s} for name, wall_s in walls_s.items()]
    runs.append({"contestant": "fast, no codec", "song_s": 60.0, "wall_s": 10.0})
    machine = {
        "cpu": "a processor",
        "family_model_stepping": ["1", "1", "1"],
        "flags": flags,
        "peak_gflops": {"float32": 100.0, "bfloat16": bfloat16},
    }
    return {
        "machine": machine,
        "models": [{"name": "m", "segment_flop": 50e9, "stride_s": 6.0}],
        "contestants": {name: {"starts": name in commands_s} for name in walls_s},
        "runs": [run | {"model": "m", "round": 0} for run in runs],
        "starts": [{"model": "m", "round": 0, "process": "command line", "wall_s": 5.0}],
    }


def test_targets_are_measured_by_the_run_itself() -> None:
    songs_s = {1: 9.0, 2: 5.0}
    workers = [{"workers": each, "threads": 1, "bound": False, "songs_s": songs_s[each]} for each in songs_s]
    with_bfloat16 = targets.table({"bench": measured_on(["avx512_bf16"], bfloat16=200.0), "workers": {"rows": workers}})
    measured = [line.split(" | ")[-1].removesuffix(" |") for line in with_bfloat16.splitlines()[2:]]
    assert measured == ["2.50 ×", "4.00 ×", "2.00 ×", "1.80 ×", "25% of bfloat16"]
    without = targets.table({"bench": measured_on(["avx512_vnni"], bfloat16=20.0)})
    measured = [line.split(" | ")[-1].removesuffix(" |") for line in without.splitlines()[2:]]
    assert measured == ["2.50 ×", "4.00 ×", "2.00 ×", "not measured", "50% of float32"]


def test_what_starts_with_every_song_is_compared_with_all_of_demucs_and_a_worker_also_without_its_start() -> None:
    table = tables.processors([measured_on(["avx512_vnni"], bfloat16=20.0)])
    times = "100.0 s | 40.0 s, 2.50 × | 50.0 s, 2.00 × | 25.0 s, 3.80 × | –"
    assert table.splitlines()[2:] == [f"| a processor | avx512_vnni | 100 | 20 | 0.2 | {times} |"]


def test_the_page_says_how_fast_a_gpu_was_beside_demucs_and_what_was_left_out() -> None:
    row = {"songs": 1, "format": "mp3", "cpu_s": 9.0, "gpu_mb": None}
    record = {
        "device": {"name": "Some GPU", "peak_gflops": {"float32": 50_000.0}, "driver": "1.2", "memory_gb": 80.0},
        "model": {"name": "m", "parameters": 1000, "weights": "random", "segment_s": 7.8},
        "song_s": 180,
        "rows": [
            row | {"name": gpu_table.DEMUCS, "wall_s": 20.0},
            row | {"name": "ours", "wall_s": 4.0, "songs": 8, "format": None, "gpu_mb": 6000.4},
        ],
        "stages_ms": {"STFT": 0.123},
        "left_out": ["workers"],
    }
    text, table, left_out, _, stages = gpu_table.section(record)
    assert text.startswith("Some GPU, 80 GB, best products of matrices 50 TFLOP/s in float32, driver 1.2.")
    assert table.splitlines()[2:] == [
        "| demucs --mp3 | 1 | mp3 | 20.00 | 9.0 | 1.00 | 9.0 | – |",
        "| ours | 8 | no codec | 4.00 | 360.0 | 40.00 | 9.0 | 6000 |",
    ]
    assert "workers" in left_out
    assert stages.splitlines()[2:] == ["| STFT | 0.12 |"]


def test_the_page_says_what_more_workers_bring() -> None:
    def row(workers: int, threads: int, bound: bool, songs_s: float) -> dict[str, Any]:
        memory = [1300] * workers
        return {"workers": workers, "threads": threads, "bound": bound, "songs_s": songs_s, "child_pss_mb": memory}

    rows = [row(1, 1, False, 60.0), row(2, 1, False, 30.0), row(2, 1, True, 62.5)]
    assert tables.workers({"songs": 4, "rows": rows}).splitlines()[2:] == [
        "| 1 × 1 | 4.00 | 1.00 | 1300 | 1300 |",
        "| 2 × 1 | 8.00 | 2.00 | 1300 | 2600 |",
        "| 2 × 1, bound | 3.84 | 0.96 | 1300 | 2600 |",
    ]


def test_the_page_says_how_many_times_as_much_a_longer_history_costs() -> None:
    times_ms = {"100": [1.0, 2.0, 3.0], "100000": [2.0, 3.0, 9.0]}
    request = {"store": "file", "request": "status", "times_ms": times_ms}
    table = tables.history({"jobs": [100, 100_000], "requests": [request]})
    assert table.splitlines()[2:] == ["| file: status | 3 | 2.0 | 3.0 | 1.50 | ≤ 1.5 |"]


def test_the_page_says_what_the_janitor_needs() -> None:
    load = {"requests": 2000, "p99_ms": [5.0, 4.0, 60.0]}
    record = {
        "jobs": [100, 100_000],
        "per_second": 200,
        "load": [load | {"unsent": 0}, load | {"unsent": 1500}],
        "janitor": [{"passes_s": [0.1], "peak_rss_mb": 60.0}, {"passes_s": [1.0, 2.0], "peak_rss_mb": 80.0}],
        "flushed": {"owed": 10_000, "queued_again_s": 120.4, "peak_rss_mb": 90.2},
    }
    assert tables.housekeeping(record).splitlines()[2:] == [
        "| status at 200 requests/s, 99 % ms | 5.0 (4.0–60.0) | 5.0 (4.0–60.0) (1,500 of 2,000 never sent) | ≤ 20 |",
        "| a pass, s | 0.10 | 1.50 | ≤ 2 |",
        "| memory of the janitor, MB | 60 | 90 | ≤ 150 |",
        "| FLUSHALL: all 10,000 owed jobs wait again, s | – | 120 | ≤ 180 |",
    ]


def test_the_page_says_how_long_rest_takes_by_how_many_jobs_it_knows() -> None:
    few, many = ({"requests": 600, "unsent": 0, "p99_ms": p99_ms} for p99_ms in ([4.0], [6.0, 5.0, 9.0]))
    file = {"store": "file", "request": "list", "per_second": 200, "has_target": True}
    rare = {"store": "S3", "request": "rare", "per_second": 10, "has_target": False}
    record = {
        "jobs": [100, 10_000],
        "views": [file | {"by_jobs": {"100": few, "10000": many}}, rare | {"by_jobs": {"100": few | {"unsent": 2}}}],
    }
    assert rest_table.views(record).splitlines()[2:] == [
        "| file: list | 200 | 4.0 | 6.0 (5.0–9.0) | 1.50 | ≤ 20, ≤ 1.5 × |",
        "| S3: rare | 10 | 4.0, 2 of 600 never sent | – | – | stated |",
    ]


def test_the_page_says_how_fast_songs_come_in_beside_the_store_alone_and_without_the_check() -> None:
    asked = {"healthz": {"requests": 400, "unsent": 0, "p99_ms": [12.0]}}
    told = {"told": 990, "missed": 10, "told_s": {"50": 0.2, "95": 0.4, "99": 0.5, "100": 0.6}}
    memory = {"peak_pss_mb": 99.6, "peak_rss_mb": 120.2}
    alone = {"directly": 4.0, "check": 3.0, "job of it": 6.0}
    record = {
        "streams": {"streams": 200, "sending": 8, "asked": asked} | told | memory,
        "eta": {"songs": [{"told_s": 11.0, "true_s": 10.0}, {"told_s": 5.0, "true_s": 10.0}], "never_told": 1},
        "song_bytes": 50_000_000,
        "at_once": 8,
        "uploads": {"file": [alone | {"form": 8.0, "raw": 2.0, "ticket": 5.0}]},
    }
    assert rest_table.others(record).splitlines()[2:] == [
        "| healthz beside 200 streams and 8 slow uploads, 99 % | ≤ 50 ms | 12.0 ms |",
        "| REST's memory meanwhile | ≤ 256 MB | 100 MB (RSS 120) |",
        "| told of progress, 95 % | ≤ 1 s | 0.40 s (half 0.20, most 0.60; 10 of 1,000 never) |",
        "| done when it was said, 2 songs, median error | ≤ 20% | 30% (most 50%; 1 never told) |",
        "| file: form, share of the rate of the store alone | ≥ 0.80 | 0.50 (0.80 without the check) |",
        "| file: raw, share of the rate of the store alone | ≥ 0.80 | 2.00 (– without the check) |",
        "| file: ticket, share of the rate of the store alone | ≥ 0.80 | 0.80 |",
        "| file: put into the store alone | stated | 4.0 s, 100 MB/s |",
        "| file: the decode check alone | stated | 3.0 s, 133 MB/s |",
        "| file: jobs of the songs that came by ticket | stated | 6.0 s |",
    ]


def test_the_page_says_how_soon_a_song_is_heard_what_that_weighs_and_what_a_tab_takes() -> None:
    record = {
        "browser": "150.0",
        "song_s": 240.0,
        "sound_s": {"page": [4.0, 3.0, 5.0], "ordinary": [20.0, 21.0, 20.0]},
        "actions": 2,
        "interactive_s": [0.126, 0.1, 0.3],
        "weight": {"before": 29_400, "before_files": 20, "all": 122_400, "all_files": 55},
        "apart": {"samples": 0, "places": 12},
        "long": {"song_s": 3600.0, "seeks": 30, "peak_pss_mb": 188.4},
    }
    text, table = page_table.section(record)
    assert "Chromium 150.0" in text
    assert "; 3 rounds" in text
    assert table.splitlines()[2:] == [
        "| drop → sound, 4 minutes of song | ≤ 6 s | 4.0 (3.0–5.0) s |",
        "| the same in an ordinary player of finished stems | stated | 20.0 (20.0–21.0) s, 5.0 × |",
        "| weight before a song is sent | ≤ 100 kB | 29 kB, 20 files |",
        "| weight of all | ≤ 300 kB | 122 kB, 55 files |",
        "| interactive on loopback | ≤ 0.5 s | 0.13 (0.10–0.30) s |",
        "| memory of a tab, 60 minutes of song, 4 stems, playing and seeking | ≤ 300 MB | 188 MB |",
        "| stems apart from each other | 0 samples | 0 samples |",
        "| actions from the open page to a karaoke version playing | 2 | 2 |",
    ]


def test_a_key_that_is_near_the_true_one_is_worth_something_and_one_that_is_far_or_none_nothing() -> None:
    told = ["A minor", "E minor", "D minor", "C major", "A major", "F# minor", "C minor", None]
    assert [music_table.mirex("A minor", key) for key in told] == [1.0, 0.5, 0.5, 0.3, 0.2, 0.0, 0.0, 0.0]
    assert [music_table.mirex("Db major", key) for key in ("Bb minor", "C# minor", "Ab major")] == [0.3, 0.2, 0.5]
