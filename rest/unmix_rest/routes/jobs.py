"""`/apiv1/jobs…`, `/apiv1/queue` and `/apiv1/failed`: which jobs there are, how one goes, what waits, what went wrong.

A job is cancelled or submitted again in the object store first, which knows what is owed and what is over.
"""

from contextlib import suppress
from dataclasses import replace
from typing import Final
from urllib.parse import urlencode

import structlog
from flask import Response, request

from unmix import names
from unmix.errors import InputError, NotFoundError, QueueError, SupersededError
from unmix.job import JobRequest, JobStatus
from unmix.ledger.ledger import utc_now
from unmix.outcome import Outcome
from unmix.queue.job_list import JobFilter
from unmix.queue.job_queue import FAILED_LISTED
from unmix.strict_json import parse_object
from unmix_rest.access import caller
from unmix_rest.answer_shapes import Changed, Failure, Failures, JobPage, Waiting
from unmix_rest.http.answers import json_answer, old_answer
from unmix_rest.routes.events import wait_for_end, wait_seconds
from unmix_rest.routes.lookup import checked, is_open, page, status_of
from unmix_rest.services import Services
from unmix_rest.shares import share
from unmix_rest.views import view_of_job
from unmix_rest.workforce import workers

log = structlog.get_logger()

#: Jobs in a list if the client does not say how many, and at most.
_LISTED: Final = 50
MOST_LISTED: Final = 200
#: Elements of the queue that are longer no worker takes.
_MAX_ELEMENT_CHARACTERS: Final = 16_384


def jobs(services: Services) -> Response:
    """Tell of the jobs that the query asks for, the newest first, and where those are that follow."""
    wanted = JobFilter(
        status=_status(),
        label=_asked("label"),
        batch=_asked("batch"),
        name=_asked("name"),
        tenant=caller().listed_tenant,
    )
    _, limit = page(usual_limit=_LISTED)
    listed, after = services.queue.job_list.page(wanted, limit=min(limit, MOST_LISTED), after=_asked("after"))
    query = urlencode({**request.args, "after": after})
    return json_answer(JobPage(tuple(listed), f"/apiv1/jobs?{query}" if after else None))


def job(services: Services, job_id: str) -> Response:
    """Tell how a job goes, or how it stands when it is over or the client has waited long enough."""
    seconds = wait_seconds()
    return json_answer(wait_for_end(view_of_job(checked(job_id), services), seconds, services))


def cancel(services: Services, job_id: str) -> Response:
    """Cancel a job that is not over."""
    return json_answer(_cancel(checked(job_id), services))


def retry(services: Services, job_id: str) -> Response:
    """Submit a failed or cancelled job again."""
    return json_answer(_retry(checked(job_id), services))


def queue(services: Services) -> Response:
    """Tell what waits, the next one first, what runs, and whether anybody separates."""
    offset, limit = page()
    sees = caller().sees
    elements, total = services.queue.views.waiting(offset=offset, limit=limit)
    running = services.queue.views.running()
    # Others may push anything, and there are those of other tenants: all of it is counted, not all is shown.
    shown = [
        (job_id, place)
        for place, element in enumerate(elements, offset + 1)
        if (job_id := _job_of(element, services)) and sees(job_id)
    ]
    return old_answer(
        Waiting(
            queue=tuple(job_id for job_id, _ in shown),
            total=total,
            running=tuple(filter(sees, running)),
            positions=tuple(place for _, place in shown),
            running_total=len(running),
            workers=workers(services.queue.attendance, in_detail=False),
        )
    )


def failed(services: Services) -> Response:
    """Tell what failed, the last one first."""
    offset, limit = page()
    asks = caller()
    if asks.sees_all:
        job_ids, total = services.queue.views.failed(offset=offset, limit=limit)
    else:
        known, _ = services.queue.views.failed(limit=FAILED_LISTED)
        theirs = list(filter(asks.sees, known))
        job_ids, total = theirs[offset : offset + limit], len(theirs)
    return json_answer(Failures(tuple(_failure(job_id, services) for job_id in job_ids), total))


def _job_of(element: str, services: Services) -> str | None:
    """Return the id of the job that an element of the queue asks for: mostly it is that, older clients push JSON."""
    if names.is_job_id(element):
        return element
    if len(element) > _MAX_ELEMENT_CHARACTERS:
        return None
    try:
        fields = parse_object(element.encode())
        song_hash = names.song_hash_of(str(fields.get("hash", fields.get("songhash"))))
    except (InputError, ValueError):
        return None
    options, model = services.settings.default_options, fields.get("model")
    asked = replace(options, model=model) if isinstance(model, str) and model else options
    return asked.job_id(song_hash, options)


def _asked(name: str) -> str | None:
    """Return what the query says of `name`, None if that is nothing."""
    return request.args.get(name) or None


def _status() -> JobStatus | None:
    text = _asked("status")
    if text is not None and text not in list(JobStatus):
        raise InputError(f"status is one of: {', '.join(JobStatus)}", code="invalid_field")
    return JobStatus(text) if text else None


def _cancel(job_id: str, services: Services) -> Changed:
    """Commit that a job is cancelled, and take it from the queue or from its worker."""
    services.queue.ping()  # a job that could not be taken from its worker goes on
    known = services.ledger.request(job_id)
    if known is None:
        record, position = services.queue.views.record_and_position(job_id)
        if not is_open(record) and position is None:
            raise NotFoundError("there is no such job")
        pushed = JobRequest(job_id, services.settings.default_options, utc_now(), tenant=names.presumed_tenant(job_id))
        known = services.ledger.adopt(pushed)
    cancelled = Outcome(
        job_id, known.generation, JobStatus.CANCELLED, utc_now(), format=known.options.format, error_code="cancelled"
    )
    try:
        outcome = services.ledger.commit(cancelled)
    except SupersededError as error:
        raise NotFoundError("the job was removed or submitted anew meanwhile") from error
    if outcome.status is not JobStatus.CANCELLED:
        raise InputError(f"the job is {outcome.status.value} already", code="job_over")
    services.queue.settle(
        job_id, known.generation, outcome.status, error_code=outcome.error_code, callbacks=len(known.callbacks)
    )
    with suppress(QueueError):  # it is cancelled; the janitor lists it
        services.queue.job_list.note(known, outcome)  # it may have been a push that nobody had listed
    services.metrics.cancelled()
    log.info("job cancelled", job_id=job_id)
    return Changed(job_id, outcome.status, "Job cancelled")


def _retry(job_id: str, services: Services) -> Changed:
    """Submit a failed or cancelled job anew, with the same options and callbacks; one that is owed stays as it is."""
    services.queue.ping()
    known, outcome = services.ledger.end(job_id)
    if known is None:
        raise NotFoundError("there is no such job")
    if outcome and outcome.status is JobStatus.DONE:
        raise InputError("only a failed or cancelled job can be tried again", code="not_retryable")
    if known.url is None and not services.ledger.has_song(known.song_hash):
        raise NotFoundError("the song of this job is not stored any more; send it again", code="song_gone")
    if outcome:
        services.admission.refuse_if_late()
    with services.quotas.of_job(job_id) as quota:
        if outcome:
            quota.take_minutes(known)
        known = services.ledger.retry(job_id)
        if known is None:
            raise NotFoundError("there is no such job")
        services.queue.job_list.note(known)
        if services.queue.submit(job_id, known.generation, callbacks=len(known.callbacks), share=share()):
            quota.keep()
    log.info("job tried again", job_id=job_id)
    return Changed(job_id, status_of(job_id, services), "Song enqueued for separation")


def _failure(job_id: str, services: Services) -> Failure:
    _, outcome = services.ledger.end(job_id)
    if outcome is None:
        return Failure(job_id, None, None, None)
    return Failure(job_id, outcome.error_code, outcome.error, outcome.finished_at)
