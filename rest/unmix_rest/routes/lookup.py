"""What several groups of routes ask: whether an id can be the caller's, how a job stands, what of a list; who may stay.

What is another tenant's is refused here, by its id alone, before anything is read: it takes as long as what nobody has.
"""

from typing import Final

from flask import request

from unmix import names
from unmix.errors import InputError, NotFoundError
from unmix.job import JobStatus
from unmix.ledger.uploads import unknown_upload
from unmix.queue.records import JobRecord
from unmix_rest.access import caller
from unmix_rest.http.lanes import MAY_STAY
from unmix_rest.services import Services

#: Most entries of one answer.
MAX_LISTED: Final = 1000


def checked(job_id: str) -> str:
    """Return `job_id` if a job of the caller can be called so; nothing else gets near a key or an object's name.

    For the main tenant any hash may be a song's, and only a look tells. So in the place of what is another tenant's it
    gets an id that nobody has, and looks for that.

    Raises:
        NotFoundError: there is no such job for the caller.
    """
    if not names.is_job_id(job_id):
        raise NotFoundError("there is no such job")
    asks = caller()
    if asks.sees(job_id):
        return job_id
    if asks.tenant != names.MAIN_TENANT:
        raise NotFoundError("there is no such job")
    return names.new_song_hash() + job_id[names.SONG_HASH_LENGTH :]


def checked_upload(upload_id: str) -> str:
    """Do the same with the id of an upload.

    Raises:
        NotFoundError: there is no such upload for the caller (`unknown_upload`).
    """
    if not names.is_upload_id(upload_id):
        raise unknown_upload()
    asks = caller()
    if asks.sees_upload(upload_id):
        return upload_id
    if asks.tenant != names.MAIN_TENANT:
        raise unknown_upload()
    return names.new_upload_id(names.upload_ends_at(upload_id))


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
