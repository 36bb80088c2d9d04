"""The benchmarks, run end to end on seconds of song, and what their tables and meters say. No time is asserted."""

import json
import math
import os
import re
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from benchmarks import report, tables
from benchmarks.machine import conditions
from benchmarks.measure import run_command

ROOT = Path(__file__).parents[2]


def run(*arguments: str, scratch: Path, **environment: str) -> "subprocess.CompletedProcess[str]":
    """Run a module of the benchmarks, which keeps its songs in `scratch`."""
    command = [sys.executable, "-m", *arguments]
    environment = os.environ | {"TMPDIR": str(scratch)} | environment
    return subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True)


@pytest.fixture(scope="module")
def published(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder that a quick run wrote."""
    output = tmp_path_factory.mktemp("published")
    scratch = tmp_path_factory.mktemp("scratch")
    done = run("benchmarks.separate", "quick", "--output", str(output), scratch=scratch)
    assert done.returncode == 0, done.stderr
    return output


def record_in(folder: Path) -> Any:
    (path,) = folder.glob("*-quick.json")
    return json.loads(path.read_text())


def figures_in(node: Any) -> Iterator[float]:
    if isinstance(node, dict | list):
        for item in node.values() if isinstance(node, dict) else node:
            yield from figures_in(item)
    elif isinstance(node, float):
        yield node


@pytest.mark.slow
def test_a_quick_run_measures_every_contestant_and_both_starts(published: Path) -> None:
    record = record_in(published)
    assert len(record["contestants"]) == 4
    assert [run["contestant"] for run in record["runs"]] == list(record["contestants"])
    assert {start["process"] for start in record["starts"]} == {"command line", "worker"}
    assert all(math.isfinite(figure) for figure in figures_in(record))
    for measured in record["runs"]:
        assert min(measured["wall_s"], measured["cpu_s"]) > 0
        assert min(measured["peak_pss_mb"], measured["peak_rss_mb"]) > 100  # torch alone is larger


@pytest.mark.slow
def test_the_engine_gives_what_demucs_gives(published: Path) -> None:
    for compared in record_in(published)["compared"]:
        assert compared["snr_db"] is None or compared["snr_db"] > 30, compared


@pytest.mark.slow
def test_the_page_has_a_row_of_finite_figures_for_every_contestant(published: Path) -> None:
    page = (published / "benchmarks.md").read_text()
    for contestant in record_in(published)["contestants"]:
        assert f"| {contestant} | 4 s | " in page
    assert not re.search(r"\b(nan|inf)\b", page)


@pytest.mark.slow
def test_what_is_published_names_no_host_and_no_path(published: Path) -> None:
    for file in published.iterdir():
        for private in (socket.gethostname(), str(ROOT), str(Path.home()), str(published)):
            assert not re.search(rf"(?<!\w){re.escape(private)}(?!\w)", file.read_text()), (file.name, private)


@pytest.mark.slow
def test_a_run_of_one_kind_leaves_the_sections_of_the_others(published: Path) -> None:
    quality = {
        "model": "demo",
        "songs": 2,
        "song_s": 30.0,
        "stems": ["vocals", "bass"],
        "variants": [
            {"name": "float32", "sdr_db": [[8.0, 6.0], [10.0, 4.0]]},
            {"name": "less", "sdr_db": [[8.0, 6.0], [9.5, 4.0]]},
        ],
        "took_minutes": 1.0,
    }
    report.publish("quality", "python -m benchmarks.quality", quality, published)
    page = (published / "benchmarks.md").read_text()
    assert "| float32 | 9.00 | 5.00 | 7.00 | +0.000 | +0.000 |" in page
    assert "| less | 8.75 | 5.00 | 6.88 | -0.125 | -0.250 |" in page
    assert "| demucs --mp3 | 4 s | " in page


def test_memory_that_was_not_measured_is_extrapolated_and_marked() -> None:
    def run(contestant: str, minutes: int, memory_mb: float) -> dict[str, Any]:
        return {"model": "m", "contestant": contestant, "song_s": 60.0 * minutes, "peak_pss_mb": memory_mb}

    runs = [run("ours", minutes, 500) for minutes in (1, 20, 60)] + [run("demucs", 1, 575), run("demucs", 20, 2000)]
    table = tables.memory({"runs": runs, "contestants": {"ours": {}, "demucs": {}}}, "m")
    assert table.splitlines()[2:] == ["| ours | 500 | 500 | 500 |", "| demucs | 575 | 2000 | *≈ 5000* |"]


def test_both_processors_are_shown_with_their_peaks_and_the_times_of_each_mode() -> None:
    results = ROOT / "benchmarks" / "results"
    bench = json.loads(max(results.glob("*-bench.json")).read_text())
    table = tables.processors(bench, json.loads((results / report.ELSEWHERE).read_text()))
    assert table in (ROOT / "docs" / "benchmarks.md").read_text()
    assert "| AMD EPYC (Zen 5) | 208 | 817 | 96.4 s | 26.5 s, 3.65 × | 42.4 s, 2.29 × |" in table
    assert "| AMD EPYC (Zen 4) | 189 | 420 | 112.0 s | 45.0 s, 2.47 × | 76.0 s, 1.46 × |" in table


def test_the_conditions_of_every_run_name_the_peaks_of_the_machine() -> None:
    machine = conditions()["machine"]
    assert min(machine["peak_gflops"][dtype] for dtype in ("float32", "bfloat16")) > 0
    assert tables.peaks({"machine": machine}) == machine["peak_gflops"]
    assert tables.peaks({"machine": {}}) is None


def test_memory_and_processor_time_of_children_count(tmp_path: Path) -> None:
    child = "import time; block = bytearray(300_000_000); end = time.process_time() + 0.5\n"
    child += "while time.process_time() < end: pass"
    parent = f"import subprocess, sys; subprocess.run([sys.executable, '-c', {child!r}], check=True)"
    usage = run_command([sys.executable, "-c", parent], log=tmp_path / "log")
    assert usage.peak_pss_mb > 300
    assert usage.peak_rss_mb > 300
    assert usage.cpu_s > 0.5


def test_a_command_that_fails_is_an_error_that_shows_its_last_words(tmp_path: Path) -> None:
    with pytest.raises(RuntimeError, match="no such thing"):
        run_command([sys.executable, "-c", "raise SystemExit('no such thing')"], log=tmp_path / "log")


def test_quality_without_fluidsynth_says_what_to_install(tmp_path: Path) -> None:
    done = run("benchmarks.quality", scratch=tmp_path, PATH="")
    assert done.returncode != 0
    assert "apt install fluidsynth fluid-soundfont-gm" in done.stderr
