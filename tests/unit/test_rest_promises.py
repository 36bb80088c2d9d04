"""How well expected ends were kept, of jobs that somebody watches."""

import pytest

from unmix.job import JobStatus
from unmix.queue.pulses import JobPulse
from unmix_rest.promises import Promises

QUEUED, DONE = JobPulse(JobStatus.QUEUED, eta_seconds=10.0), JobPulse(JobStatus.DONE)


@pytest.fixture
def promises() -> Promises:
    return Promises()


def ratios(promises: Promises) -> tuple[float, float]:
    """Return how many promises were counted, and the sum of how they were kept."""
    (family,) = promises.kept.collect()
    sums = {sample.name: sample.value for sample in family.samples}
    return sums["unmix_eta_ratio_count"], sums["unmix_eta_ratio_sum"]


def test_what_was_told_first_counts(promises: Promises) -> None:
    promises.note({"a": QUEUED}, now=100)
    promises.note({"a": JobPulse(JobStatus.RUNNING, eta_seconds=3.0)}, now=105)
    promises.note({"a": DONE}, now=108)
    promises.note({"a": DONE}, now=109)
    assert ratios(promises) == pytest.approx((1, 0.8))


def test_a_job_of_which_nothing_was_told_has_no_promise(promises: Promises) -> None:
    promises.note({"a": JobPulse(JobStatus.QUEUED)}, now=100)
    promises.note({"a": DONE, "b": DONE}, now=108)
    assert ratios(promises) == (0, 0)


@pytest.mark.parametrize("status", [JobStatus.FAILED, JobStatus.CANCELLED])
def test_a_job_that_is_not_done_breaks_none(promises: Promises, status: JobStatus) -> None:
    promises.note({"a": QUEUED}, now=100)
    promises.note({"a": JobPulse(status)}, now=101)
    promises.note({"a": DONE}, now=102)
    assert ratios(promises) == (0, 0)


def test_what_nobody_watches_any_more_is_forgotten(promises: Promises) -> None:
    promises.note({"a": QUEUED, "b": QUEUED}, now=100)
    promises.note({"b": QUEUED}, now=101)
    promises.note({"a": DONE, "b": DONE}, now=120)
    assert ratios(promises) == pytest.approx((1, 2.0))


def test_an_end_that_is_told_to_be_now_is_a_second_away(promises: Promises) -> None:
    promises.note({"a": JobPulse(JobStatus.RUNNING, eta_seconds=0.0)}, now=100)
    promises.note({"a": DONE}, now=100.5)
    assert ratios(promises) == pytest.approx((1, 0.5))
