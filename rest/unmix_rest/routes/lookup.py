"""What several groups of routes ask: whether a name can be a job's, how it stands, what of a list; who may stay."""

from typing import Final

from flask import request

from unmix import names
from unmix.errors import InputError, NotFoundError
from unmix.job import JobStatus
from unmix.queue.records import JobRecord
from unmix_rest.http.lanes import MAY_STAY
from unmix_rest.services import Services

#: Most entries of one answer.
MAX_LISTED: Final = 1000


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


def may_stay() -> bool:
    """Tell whether this request may keep its thread for as long as it likes."""
    return bool(request.environ.get(MAY_STAY, True))


def page(*, usual_limit: int = MAX_LISTED) -> tuple[int, int]:
    """Read offset and limit from the query.

    Raises:
        InputError: one of them is no number that it could be.
    """
    values = []
    for name, usual, least in (("offset", 0, 0), ("limit", usual_limit, 1)):
        text = request.args.get(name)
        if text is not None and not (text.isascii() and text.isdigit() and len(text) <= 9 and int(text) >= least):
            raise InputError(f"{name} has to be a number from {least} on", code="invalid_field")
        values.append(usual if text is None else int(text))
    return values[0], min(values[1], MAX_LISTED)
