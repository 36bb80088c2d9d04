"""`unmix submit`, `unmix cancel` and `unmix failed`, against a real REST server in this process."""

import os
from pathlib import Path

import pytest

from command_line import unmix
from rest_support import SONG, Rest
from unmix.job import JobStatus
from unmix.names import hash_song

JOB_ID = hash_song(SONG)
UNKNOWN = "0" * 64


def fail(rest: Rest, error: str = "it crashed", **options: str) -> str:
    """Let a job fail, and return its id."""
    job_id = str(rest.post_form(SONG, **options).json["hash"])
    rest.finish(job_id, status=JobStatus.FAILED, error_code="poison", error=error, ran=None)
    return job_id


def status(rest: Rest, job_id: str = JOB_ID) -> str:
    return str(rest.client.get(f"/apiv1/jobs/{job_id}").json["status"])


def test_submit_says_how_a_song_is_to_be_computed_and_encoded(rest: Rest, url: str, tmp_path: Path) -> None:
    song = tmp_path / "song.wav"
    song.write_bytes(SONG)
    options = ("--bitrate-kbps", "192", "--precision", "exact", "--overlap", "0.5", "--shifts", "2")
    assert unmix("submit", song, "--url", url, *options) == 0
    assert unmix("submit", song, "--url", url, "--format", "flac", "--song-rate") == 0
    ((one, other), _) = rest.queue.views.waiting(limit=9)
    request, fitting = rest.ledger.request(one), rest.ledger.request(other)
    assert request is not None
    assert fitting is not None
    chosen = request.options
    assert (chosen.bitrate_kbps, chosen.precision, chosen.overlap, chosen.shifts) == (192, "exact", 0.5, 2)
    assert (chosen.song_rate, fitting.options.song_rate) == (False, True)


def test_submit_asks_for_what_its_options_say(rest: Rest, url: str, tmp_path: Path) -> None:
    song = tmp_path / "song.wav"
    song.write_bytes(SONG)
    options = ("--format", "flac", "--bits", "24", "--start", "0.25", "--end", "1.75", "--stems", "vocals")
    assert unmix("submit", song, "--url", url, *options) == 0
    ((job_id,), _) = rest.queue.views.waiting(limit=9)
    request = rest.ledger.request(job_id)
    assert request is not None
    chosen = request.options
    assert (chosen.format, chosen.bits, chosen.start, chosen.end, chosen.stems) == ("flac", 24, 0.25, 1.75, ("vocals",))
    assert unmix("submit", song, "--url", url) == 0
    assert rest.queue.views.waiting(limit=9)[0] == [job_id, JOB_ID]


@pytest.mark.parametrize(
    ("name", "told"),
    [
        (b"My song.wav", "My song.wav"),
        ("Lied für 💃.wav".encode(), "Lied für 💃.wav"),
        (b"gr\xfcn.wav", "gr\ufffdn.wav"),
    ],
)
def test_submit_sends_the_name_of_the_song_whatever_it_is(
    rest: Rest, url: str, tmp_path: Path, name: bytes, told: str
) -> None:
    song = Path(os.fsdecode(os.path.join(os.fsencode(tmp_path), name)))
    song.write_bytes(SONG)
    assert unmix("submit", song, "--url", url) == 0
    assert rest.client.get(f"/apiv1/jobs/{JOB_ID}").json["name"] == told


def test_cancel_says_nothing_if_all_went_well(rest: Rest, url: str, capsys: pytest.CaptureFixture[str]) -> None:
    rest.post_form(SONG)
    other = rest.post_form(SONG, format="wav").json["hash"]
    assert unmix("cancel", JOB_ID, other, "--url", url) == 0
    assert (status(rest), status(rest, other)) == ("cancelled", "cancelled")
    printed = capsys.readouterr()
    assert (printed.out, printed.err) == ("", "")


def test_a_job_that_cannot_be_cancelled_is_named_and_does_not_stop_the_others(
    rest: Rest, url: str, capsys: pytest.CaptureFixture[str]
) -> None:
    rest.post_form(SONG)
    rest.finish(JOB_ID, {"vocals": b"voice"})
    other = rest.post_form(SONG, format="wav").json["hash"]
    assert unmix("cancel", UNKNOWN, JOB_ID, other, "--url", url) == 1
    assert (status(rest), status(rest, other)) == ("done", "cancelled")
    assert capsys.readouterr().err.splitlines() == [
        f"error: {UNKNOWN}: there is no such job (not_found)",
        f"error: {JOB_ID}: the job is done already (job_over)",
    ]


def test_failed_list_prints_one_line_for_each_failure_the_last_one_first(
    rest: Rest, url: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert unmix("failed", "list", "--url", url) == 0
    assert capsys.readouterr().out == ""
    first = fail(rest)
    second = fail(rest, error="", format="wav")
    finished_at = {job_id: rest.client.get(f"/apiv1/jobs/{job_id}").json["finished_at"] for job_id in (first, second)}
    assert unmix("failed", "list", "--url", url) == 0
    assert [line.rstrip() for line in capsys.readouterr().out.splitlines()] == [
        f"{finished_at[second]}  {second}  poison",
        f"{finished_at[first]}  {first}  poison  it crashed",
    ]


def test_the_text_of_an_error_cannot_steer_the_terminal(
    rest: Rest, url: str, capsys: pytest.CaptureFixture[str]
) -> None:
    fail(rest, error="\x1b[2J gone\r\nand a line of its own\u202e")
    assert unmix("failed", "list", "--url", url) == 0
    printed = capsys.readouterr().out
    assert "\N{REPLACEMENT CHARACTER}[2J gone\N{REPLACEMENT CHARACTER}\N{REPLACEMENT CHARACTER}and a line" in printed
    assert len(printed.splitlines()) == 1
    assert not {"\x1b", "\r", "\u202e"} & set(printed)


def test_failed_retry_queues_the_jobs_again(rest: Rest, url: str, capsys: pytest.CaptureFixture[str]) -> None:
    jobs = [fail(rest), fail(rest, format="wav")]
    assert unmix("failed", "retry", *jobs, "--url", url) == 0
    assert rest.client.get("/apiv1/queue").json["queue"] == jobs
    assert unmix("failed", "list", "--url", url) == 0
    assert capsys.readouterr().out == ""


def test_failed_retry_says_which_job_cannot_be_tried_again(
    rest: Rest, url: str, capsys: pytest.CaptureFixture[str]
) -> None:
    rest.post_form(SONG)
    rest.finish(JOB_ID, {"vocals": b"voice"})
    failed = fail(rest, format="wav")
    assert unmix("failed", "retry", JOB_ID, failed, "--url", url) == 1
    assert rest.client.get("/apiv1/queue").json["queue"] == [failed]
    errors = capsys.readouterr().err.splitlines()
    assert len(errors) == 1
    assert errors[0].startswith(f"error: {JOB_ID}: ")
    assert "(not_retryable)" in errors[0]


def test_failed_drop_removes_a_job_with_all_that_it_has(
    rest: Rest, url: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert unmix("failed", "drop", fail(rest), "--url", url) == 0
    assert rest.stored() == []
    assert rest.client.get("/apiv1/failed").json == {"failed": [], "total": 0}
    assert unmix("failed", "drop", UNKNOWN, "--url", url) == 1
    assert capsys.readouterr().err == f"error: {UNKNOWN}: there is no such job (not_found)\n"


@pytest.mark.parametrize("command", [("cancel", JOB_ID), ("failed", "list"), ("failed", "retry", JOB_ID)])
def test_a_server_that_is_away_is_an_error_in_one_line(
    command: tuple[str, ...], unused_port: int, capsys: pytest.CaptureFixture[str]
) -> None:
    assert unmix(*command, "--url", f"http://127.0.0.1:{unused_port}") == 1
    errors = capsys.readouterr().err
    assert len(errors.splitlines()) == 1
    assert "(rest_unavailable)" in errors
    assert "Errno" not in errors


def test_failed_alone_shows_its_commands(capsys: pytest.CaptureFixture[str]) -> None:
    unmix("failed")
    printed = "".join(capsys.readouterr())
    for command in ("list", "retry", "drop"):
        assert command in printed
