"""What local mode says of songs, from what its processes log."""

from pathlib import Path

import pytest
from structlog.processors import KeyValueRenderer

from unmix.job import JobRequest, JobStatus, SeparationOptions
from unmix.ledger.ledger import Ledger, utc_now
from unmix.local.narrator import Narrator
from unmix.outcome import Outcome

JOB_ID = "a1" * 32
LOG = KeyValueRenderer(key_order=["timestamp", "level", "event"])


class Told:
    """A narrator over one log, and what it says."""

    def __init__(self, log: Path, ledger: Ledger) -> None:
        self.log = log
        self.said: list[str] = []
        self.narrator = Narrator([log], ledger, self.said.append)

    def log_line(self, event: str, end: str = "\n", **fields: object) -> None:
        line = LOG(None, "info", {"timestamp": "2026-01-01", "level": "info", "event": event, **fields})
        with self.log.open("a") as log:
            log.write(f"{line}{end}")

    def says(self) -> list[str]:
        self.said.clear()
        self.narrator.go_on()
        return self.said


@pytest.fixture
def told(tmp_path: Path, ledger: Ledger) -> Told:
    (tmp_path / "rest.log").write_text(f"event='accepted' job_id='{JOB_ID}'\n")  # of an earlier run
    options = SeparationOptions(model="demo")
    ledger.accept(JobRequest(JOB_ID, options, utc_now(), name="It's \x1b[2J mine.mp3", duration_seconds=1.0))
    return Told(tmp_path / "rest.log", ledger)


def test_songs_are_told_by_name_when_they_are_accepted_and_over(told: Told) -> None:
    assert told.says() == []
    told.log_line("accepted", job_id=JOB_ID, model="demo", joined=False)
    told.log_line("job started", job_id=JOB_ID, attempt=1)
    told.log_line("job over", job_id=JOB_ID, status="done", code=None)
    told.log_line("accepted", job_id=JOB_ID, joined=True)
    told.log_line("job cancelled", job_id=JOB_ID)
    name = "It's \N{REPLACEMENT CHARACTER}[2J mine.mp3"
    assert told.says() == [
        f"accepted   {name}",
        f"done       {name}",
        f"accepted   {name}, known already",
        f"cancelled  {name}",
    ]
    assert told.says() == []


def test_a_failure_is_told_with_its_reason(told: Told, ledger: Ledger) -> None:
    request = ledger.request(JOB_ID)
    assert request is not None
    ended = Outcome(JOB_ID, request.generation, JobStatus.FAILED, utc_now(), error_code="poison", error="it crashed")
    ledger.commit(ended)
    told.log_line("job over", job_id=JOB_ID, status="failed", code="poison")
    (line,) = told.says()
    assert line.endswith("mine.mp3: it crashed (poison)")


def test_a_line_that_is_being_written_is_told_when_it_is_whole_and_a_log_may_begin_anew(told: Told) -> None:
    told.log_line("job over", end="", job_id=JOB_ID, status="done")
    assert told.says() == []
    with told.log.open("a") as log:
        log.write("\n")
    assert len(told.says()) == 1
    told.log.write_text("")
    told.says()
    told.log_line("job over", job_id=JOB_ID, status="done")
    assert len(told.says()) == 1


def test_what_is_not_understood_is_passed_over(told: Told) -> None:
    odd = b"event='accepted' job_id='\xff\\\nTraceback\n"
    told.log.write_bytes(told.log.read_bytes() + odd)
    told.log_line("job over", job_id="../x", status="done")
    told.log_line("job over", job_id="b2" * 32, status="done")
    assert told.says() == [f"done       job {'b2' * 32}"]
