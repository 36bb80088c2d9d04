"""What several groups of routes ask about one job: whether a name can be one, and how it stands in the queue."""

from unmix import names
from unmix.errors import NotFoundError
from unmix.job import JobStatus
from unmix.queue.records import JobRecord
from unmix_rest.services import Services


def checked(job_id: str) -> str:
    """Return `job_id` if it has the form of one; nothing else gets near a key or an object's name.

    Raises:
        NotFoundError: it has not, so there is no such job.
    """
    if not names.is_job_id(job_id):
        raise NotFoundError("there is no such job")
    return job_id


def status_of(job_id: str, services: Services) -> JobStatus:
    """Return how a job stands that has no outcome yet."""
    record = services.queue.views.record(job_id)
    return record.status if record and is_open(record) else JobStatus.QUEUED


def is_open(record: JobRecord | None) -> bool:
    """Tell whether Redis knows a job that is not over; the record of one that was removed may stay for a while."""
    return record is not None and not record.status.is_over
