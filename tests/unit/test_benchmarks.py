"""The benchmarks, run end to end on seconds of song, and what their meters say. No time is asserted."""

import hashlib
import json
import math
import os
import re
import socket
import subprocess
import sys
import tempfile
import threading
from collections import deque
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import av
import pytest

from benchmarks import (
    exposed_table,
    metrics,
    page_table,
    past,
    report,
    rest_streams,
    rest_table,
    scale_day,
    tables,
    tenants,
)
from benchmarks.costly_flac import costly_flac
from benchmarks.load import at_rate, in_turn
from benchmarks.machine import conditions
from benchmarks.measure import run_command
from gate_process import need_nginx
from programs import program
from unmix import names
from unmix.job import JobStatus
from unmix.ledger.ledger import Ledger

ROOT = Path(__file__).parents[2]


def run(*arguments: str, scratch: Path, **environment: str) -> "subprocess.CompletedProcess[str]":
    """Run a module of the benchmarks, which keeps its songs in `scratch`."""
    command = [sys.executable, "-m", *arguments]
    environment = os.environ | {"TMPDIR": str(scratch)} | environment
    return subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True)


def with_tests() -> str:
    """Return where modules are found, with those of the tests before."""
    return os.pathsep.join(filter(None, ["tests", os.environ.get("PYTHONPATH")]))


@pytest.fixture(scope="module")
def published(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder that a quick run wrote."""
    output = tmp_path_factory.mktemp("published")
    scratch = tmp_path_factory.mktemp("scratch")
    done = run("benchmarks.separate", "quick", "--output", str(output), scratch=scratch)
    assert done.returncode == 0, done.stderr
    return output


@pytest.fixture
def answering() -> Iterator[int]:
    """The port of a server that has a page at `/` and no other."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200 if self.path == "/" else 404)
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, format: str, *args: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, args=[0.01])
        thread.start()
        yield server.server_port
        server.shutdown()
        thread.join()


def record_in(folder: Path, kind: str = "quick") -> Any:
    (path,) = folder.glob(f"*-{kind}.json")
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
    assert len(record["contestants"]) == 5
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


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_the_programs_beside_demucs_give_what_demucs_gives(tmp_path: Path) -> None:
    done = run("benchmarks.separate", "quick-peers", "--output", str(tmp_path), scratch=tmp_path)
    assert done.returncode == 0, done.stderr
    record = record_in(tmp_path)
    peers = {name for name, contestant in record["contestants"].items() if contestant["peer"]}
    compared = [each for each in record["compared"] if each["contestant"] in peers]
    assert {each["contestant"] for each in compared} == peers
    assert len(peers) == 3
    for each in compared:
        assert max(each["snr_db"], each["inner_snr_db"]) > 45, each


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_a_quick_run_of_parts_has_both_workers_make_some_and_fills_every_row(tmp_path: Path) -> None:
    output, scratch = tmp_path / "published", tmp_path / "scratch"
    scratch.mkdir()
    done = run("benchmarks.parts", "--quick", "--output", str(output), scratch=scratch, PYTHONPATH="tests")
    assert done.returncode == 0, done.stderr
    record = record_in(output, "parts")
    one, two = record["on_one_song"]
    assert len(one["made"]) == 1
    assert len(two["made"]) == 2
    assert sum(one["made"]) == sum(two["made"]) == record["stored"]["parts"]["objects"] / 5  # stems and a document
    assert all(0 < each["first_part_s"] < each["seconds"] for each in (one, two))
    assert max(record["made_again"]) <= 5
    assert tables.parts(record) in (output / "benchmarks.md").read_text()
    assert all(math.isfinite(figure) for figure in figures_in(record))


@pytest.mark.slow
def test_the_conditions_of_every_run_name_the_peaks_the_threads_and_the_load_of_the_machine() -> None:
    machine = conditions()["machine"]
    assert min(machine["peak_gflops"][dtype] for dtype in ("float32", "bfloat16", "int8")) > 0
    assert machine["torch_threads"] >= 1
    assert 0 <= machine["others"] <= 1
    assert tables.peaks({"machine": machine}) == machine["peak_gflops"]
    assert tables.peaks({"machine": {}}) is None


def test_a_machine_without_a_gpu_is_told_so(tmp_path: Path) -> None:
    # No GPU can be seen, also where there is one.
    done = run("benchmarks.gpu", "--output", str(tmp_path), scratch=tmp_path, CUDA_VISIBLE_DEVICES="")
    assert done.returncode == 1
    assert re.fullmatch(r"nothing was measured: torch cannot compute on cuda here \(.+\)\n", done.stderr)
    assert list(tmp_path.iterdir()) == []


def test_figures_of_a_cpu_do_not_become_those_of_a_gpu(tmp_path: Path) -> None:
    done = run("benchmarks.gpu", "--device", "cpu", scratch=tmp_path)
    assert done.returncode == 2
    assert "--output" in done.stderr


@pytest.mark.slow
@pytest.mark.timeout(1200)
def test_all_that_is_measured_on_a_gpu_is_measured_on_a_cpu(tmp_path: Path) -> None:
    options = ("--device", "cpu", "--model", "demo", "--seconds", "4", "--songs", "2", "--minutes", "18")
    done = run("benchmarks.gpu", *options, "--output", str(tmp_path / "out"), scratch=tmp_path)
    assert done.returncode == 0, done.stderr
    record = record_in(tmp_path / "out", "gpu")
    assert record["left_out"] == []
    measured = {(row["name"], row["songs"], row["format"]) for row in record["rows"]}
    assert {("demucs --mp3", 1, "mp3"), ("torch as demucs wrote it", 1, None)} < measured
    assert {("ours", songs, format) for songs, format in ((1, None), (1, "mp3"), (2, None), (2, "mp3"))} < measured
    assert ("ours, 4 workers", 4, "mp3") in measured
    assert min(record["stages_ms"].values()) > 0
    assert all(math.isfinite(figure) for figure in figures_in(record))
    page = (tmp_path / "out" / "benchmarks.md").read_text()
    assert all(f"| {name} | {songs} | " in page for name, songs, _ in measured)


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


@pytest.mark.slow
def test_quality_without_fluidsynth_says_what_to_install(tmp_path: Path) -> None:
    done = run("benchmarks.quality", scratch=tmp_path, PATH="")
    assert done.returncode != 0
    assert "apt install fluidsynth fluid-soundfont-gm" in done.stderr


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_a_small_past_is_measured_on_both_stores(tmp_path: Path) -> None:
    done = run("benchmarks.history", "--jobs", "200", "--output", str(tmp_path), scratch=tmp_path)
    assert done.returncode == 0, done.stderr
    record = record_in(tmp_path, "history")
    asked = {(each["store"], each["request"]) for each in record["requests"]}
    assert {(store, request) for store in ("file", "S3") for request in ("status", "track", "accept", "remove")} < asked
    assert all(math.isfinite(figure) for figure in figures_in(record))
    page = (tmp_path / "benchmarks.md").read_text()
    assert "| store: request | times | 100 finished | 200 finished | as many times | target |" in page


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_services_with_one_and_two_workers_are_measured(tmp_path: Path) -> None:
    done = run("benchmarks.workers", "--quick", "--output", str(tmp_path), scratch=tmp_path)
    assert done.returncode == 0, done.stderr
    rows = record_in(tmp_path, "workers")["rows"]
    assert [(row["workers"], row["threads"], row["bound"]) for row in rows] == [(1, 1, False), (2, 1, True)]
    for row in rows:
        assert row["songs_s"] > 0
        assert len(row["child_pss_mb"]) == row["workers"]
        assert min(row["child_pss_mb"]) > 100  # torch alone is larger
    page = (tmp_path / "benchmarks.md").read_text()
    assert "| 2 × 1, bound | " in page
    assert "| 2 × 1, bound | " in done.stdout


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_a_quick_run_of_rest_measures_every_kind_of_request_and_upload(tmp_path: Path) -> None:
    output, scratch = tmp_path / "published", tmp_path / "scratch"
    scratch.mkdir()
    done = run("benchmarks.rest", "--quick", "--output", str(output), scratch=scratch)
    assert done.returncode == 0, done.stderr
    record = record_in(output, "rest")
    assert [row["store"] for row in record["views"]] == ["file"] * 7 + ["S3"] * 2
    assert list(record["streams"]["asked"]) == ["healthz", "status", "cancel"]
    assert record["streams"]["told"] > record["streams"]["missed"] == 0
    assert record["eta"]["songs"]
    assert all(song["true_s"] > 0 for song in record["eta"]["songs"])
    assert {"directly", "check", "form", "raw", "ticket", "job of it"} == record["uploads"]["file"][0].keys()
    assert {"directly", "ticket", "job of it"} == record["uploads"]["S3"][0].keys()
    assert all(math.isfinite(figure) for figure in figures_in(record))
    page = (output / "benchmarks.md").read_text()
    for table in (rest_table.views(record), rest_table.others(record)):
        assert table in page
        assert table in done.stdout


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_a_quick_run_of_exposed_besieges_fills_orders_and_compares(tmp_path: Path) -> None:
    need_nginx()
    output = tmp_path / "published"
    with tempfile.TemporaryDirectory() as scratch:
        Path(scratch).chmod(0o755)  # where root starts nginx, its workers are nobody's
        options = ("--quick", "--output", str(output))
        done = run("benchmarks.exposed", *options, scratch=Path(scratch), PYTHONPATH=with_tests())
    assert done.returncode == 0, done.stderr
    record = record_in(output, "exposed")
    for siege in record["siege"].values():
        assert min(siege["held"].values()) > 0
        assert None not in siege["health_s"]
        assert siege["accept_s"]
        assert siege["costly_answered"].keys() <= {"422", "429"}, "nothing costly is accepted"
    if room := record["room"]:
        assert (room["lost"], room["removed"]) == (0, room["asked_to_remove"])
        assert room["owed"] >= 10
    assert record["order"]["before"] >= 0
    assert all(math.isfinite(figure) for figure in figures_in(record))
    table = exposed_table.figures(record)
    assert table in (output / "benchmarks.md").read_text()
    assert table in done.stdout


def test_a_song_that_takes_long_to_decode_is_one_that_players_know(tmp_path: Path) -> None:
    song = tmp_path / "song.flac"
    song.write_bytes(costly_flac(1.0))
    with av.open(str(song)) as opened:
        frames = [frame.to_ndarray() for frame in opened.decode(audio=0)]
        assert opened.streams.audio[0].codec_context.sample_rate == 192_000
        assert opened.streams.audio[0].codec_context.channels == 8
    assert sum(frame.size for frame in frames) == 3 * 65_535 * 8
    assert all((frame == 1).all() for frame in frames)


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_a_quick_run_of_the_page_hears_a_song_weighs_the_page_and_plays_on(
    tmp_path: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    program("chromium", package="chromium")
    output, scratch = (
        tmp_path / "published",
        tmp_path_factory.mktemp("s"),
    )  # a browser's sockets have to have short names
    done = run("benchmarks.page", "--quick", "--output", str(output), scratch=scratch, PYTHONPATH=with_tests())
    assert done.returncode == 0, done.stderr
    record = record_in(output, "page")
    assert record["actions"] == 2
    assert record["apart"]["samples"] == 0
    assert 0 < record["weight"]["before"] <= 100_000
    assert record["weight"]["before"] < record["weight"]["all"] <= 300_000
    assert {"page", "ordinary"} == record["sound_s"].keys()
    assert all(math.isfinite(figure) and figure >= 0 for figure in figures_in(record))
    table = page_table.figures(record)
    assert table in (output / "benchmarks.md").read_text()
    assert table in done.stdout


def test_a_progress_is_told_by_the_event_that_says_it_or_a_later_one() -> None:
    said = [("a", 0.1, 10.0), ("b", 0.1, 10.5), ("a", 0.2, 11.0), ("a", 0.3, 12.0)]
    events = [(9.0, 0.0, "a"), (9.0, 0.0, "b"), (10.75, 0.1, "b"), (11.5, 0.2, "a")]
    told = [(at, {"hash": job_id, "progress": progress}) for at, progress, job_id in events]
    assert rest_streams.delays(said, told, "a") == [1.5, 0.5, None]
    assert rest_streams.delays(said, told, None) == [1.5, 0.25, 0.5, None]


def test_a_job_of_the_past_is_what_the_service_would_have_left(tmp_path: Path) -> None:
    store = past.file_store(tmp_path)
    past.put_finished(store, 7)
    request, outcome = Ledger(store).end(past.job_id(7))
    assert request
    assert outcome
    assert outcome.status is JobStatus.DONE
    assert names.hash_song(store.get(names.song_object(request.song_hash))[0]) == request.job_id
    for stem, file in outcome.stems.items():
        data, _ = store.get(names.ObjectName(names.OUTPUT_BUCKET, file.key))
        assert (len(data), hashlib.sha256(data).hexdigest()) == (file.size_bytes, file.sha256)
        assert store.get(names.stem_object(request.job_id, stem, outcome.format))[0] == data


def test_a_past_of_many_parts_is_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(past, "_PART", 2)
    past.fill(tmp_path, 5)
    ledger = Ledger(past.file_store(tmp_path))
    assert all(ledger.end(past.job_id(number))[1] for number in range(5))
    assert ledger.request(past.job_id(5)) is None


def test_a_job_that_is_owed_has_its_song_and_no_end(tmp_path: Path) -> None:
    past.owe(tmp_path, range(1))
    request, outcome = Ledger(past.file_store(tmp_path)).end(past.job_id(0))
    assert request
    assert outcome is None
    assert past.file_store(tmp_path).stat(names.song_object(request.song_hash))


def test_requests_go_to_the_services_in_turn() -> None:
    asked: list[tuple[str, int]] = []
    actions = {name: lambda number, name=name: asked.append((name, number)) for name in ("few", "many")}
    times_ms = in_turn(actions, times=2, limit_seconds=0)
    assert asked == [("few", 0), ("many", 0), ("few", 1), ("many", 1)]
    assert [len(times) for times in times_ms.values()] == [2, 2]


def test_a_request_under_load_that_fails_is_an_error(answering: int) -> None:
    with pytest.raises(RuntimeError, match="/nothing: 404"):
        at_rate(answering, ["/nothing"], per_second=1)


def test_every_request_under_load_is_answered_or_counted(answering: int) -> None:
    times_ms, unsent = at_rate(answering, ["/"] * 20, per_second=100)
    assert times_ms
    assert len(times_ms) + unsent == 20


def test_times_that_are_apart_tell_more_than_noise_and_others_do_not() -> None:
    usual = [1.0 + number % 10 / 100 for number in range(200)]
    assert tenants.told_by(usual[:100], usual).difference_ms <= tenants.told_by(usual[:100], usual).noise_ms
    slow = tenants.told_by([each + 0.5 for each in usual[:100]], usual)
    assert slow.difference_ms > slow.noise_ms


@pytest.mark.slow
def test_a_few_scale_ins_take_nobody_who_is_known_to_be_busy_and_lose_no_song(tmp_path: Path) -> None:
    done = run("benchmarks.scale_in", "--times", "3", scratch=tmp_path, PYTHONPATH=with_tests())
    assert done.returncode == 0, done.stderr
    spared, blind = done.stdout.splitlines()
    assert spared.startswith("scale-in while busy, 3 times: 0 busy workers chosen while an idle one is there")
    assert " 0 of " in blind


def test_in_a_simulated_day_every_song_is_begun_and_only_those_who_do_not_know_take_the_busy() -> None:
    work = [(0, 400), (0, 40), (1, 400), (2, 400)] + [(900 + second, 20) for second in range(5)]

    def day(rank: scale_day.Rank | None, fixed: int = 0) -> scale_day.Day:
        return scale_day.live(deque(scale_day.Song(*each) for each in work), rank, fixed=fixed)

    for lived in (day(None, fixed=2), day(scale_day.by_age), day(scale_day.by_cost)):
        assert len(lived.waits) == len(work)
    assert day(scale_day.by_cost).ended_busy == 0
    assert day(None, fixed=9).waits == [0] * len(work)


def test_a_quick_run_asks_as_a_tenant_and_as_the_main_one(tmp_path: Path) -> None:
    assert tenants.measure(tmp_path, times=2).keys() == {"band", "main"}


def test_what_metrics_cost_is_printed(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(metrics, "SCRAPES", 2)
    monkeypatch.setattr(metrics, "SONGS", 2)
    metrics.main()
    told = [line.partition(":")[0] for line in capsys.readouterr().out.splitlines()]
    assert told[:3] == ["series of a worker", "a scrape", "what is counted of a song"]
