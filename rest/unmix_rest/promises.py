"""Promises: when watched jobs were first expected to be over, and how long they took in the end.

What is told first is what people plan by. It is in no document: this process remembers it while it watches the job, and
what nobody watches to its end is not counted. No I/O, no clock: `now` is in seconds of one that only goes forward.
"""

from collections.abc import Mapping
from typing import Final

from prometheus_client import Histogram

from unmix.job import JobStatus
from unmix.queue.pulses import JobPulse

#: Upper ends of the buckets of how long jobs took, in parts of what was expected: up to 1, promises were kept.
_RATIO_BUCKETS: Final = (0.25, 0.5, 0.75, 0.9, 1, 1.1, 1.25, 1.5, 2, 5)
#: A shorter time cannot be told from none.
_LEAST_SECONDS: Final = 1.0


class Promises:
    """What was told of the jobs that are watched now."""

    def __init__(self) -> None:
        help_text = "How long jobs took from the first time that their end was told, in parts of what was told."
        self.kept = Histogram("unmix_eta_ratio", help_text, registry=None, buckets=_RATIO_BUCKETS)
        self._told: dict[str, tuple[float, float]] = {}  # job id -> when it was told, and how many seconds

    def note(self, pulses: Mapping[str, JobPulse], *, now: float) -> None:
        """Look at all jobs that are watched: remember what is told of them first, and count those that are done.

        A job that has failed or was cancelled kept no promise and broke none.
        """
        told = {job_id: promise for job_id, promise in self._told.items() if job_id in pulses}
        for job_id, pulse in pulses.items():
            if pulse.status.is_over:
                promise = told.pop(job_id, None)
                if promise and pulse.status is JobStatus.DONE:
                    began, seconds = promise
                    self.kept.observe((now - began) / seconds)
            elif pulse.eta_seconds is not None:
                told.setdefault(job_id, (now, max(_LEAST_SECONDS, pulse.eta_seconds)))
        self._told = told
