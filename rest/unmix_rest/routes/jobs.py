"""`/apiv1/jobs/<job_id>`, `/apiv1/queue` and `/apiv1/failed`: how a job goes, what waits, and what went wrong.

The object store is asked first: it knows what is owed and what is over. Redis is asked only about jobs that are not
over, so that results can be had while it is away. Likewise a job is cancelled or submitted again in the store first.
"""

from datetime import UTC, datetime
from typing import Any

import structlog
from flask import Response

from unmix import names
from unmix.errors import InputError, NotFoundError, SupersededError
from unmix.job import DamagedRequest, JobRequest, JobStatus, Outcome
from unmix.ledger.ledger import utc_now
from unmix.queue.records import JobRecord
from unmix_rest.http.answers import json_answer
from unmix_rest.routes.lookup import checked, is_open, page, status_of
from unmix_rest.routes.parts import summary_of_parts, url_of_peaks
from unmix_rest.services import Services

log = structlog.get_logger()


def job(services: Services, job_id: str) -> Response:
    """Tell how a job goes."""
    return json_answer(describe(checked(job_id), services))


def cancel(services: Services, job_id: str) -> Response:
    """Cancel a job that is not over."""
    return json_answer(_cancel(checked(job_id), services))


def retry(services: Services, job_id: str) -> Response:
    """Submit a failed or cancelled job again."""
    return json_answer(_retry(checked(job_id), services))


def queue(services: Services) -> Response:
    """Tell what waits, the next one first, and what runs."""
    offset, limit = page()
    elements, total = services.queue.views.waiting(offset=offset, limit=limit)
    # Others may push anything: only what names a job is shown, all of it is counted.
    waiting = [element for element in elements if names.is_job_id(element)]
    return json_answer({"queue": waiting, "total": total, "running": services.queue.views.running()})


def failed(services: Services) -> Response:
    """Tell what failed, the last one first."""
    offset, limit = page()
    job_ids, total = services.queue.views.failed(offset=offset, limit=limit)
    return json_answer({"failed": [_failure(job_id, services) for job_id in job_ids], "total": total})


def _cancel(job_id: str, services: Services) -> dict[str, Any]:
    """Commit that a job is cancelled, and take it from the queue or from its worker."""
    services.queue.ping()  # a job that could not be taken from its worker goes on
    known = services.ledger.request(job_id)
    if known is None:
        if not is_open(services.queue.views.record(job_id)) and services.queue.views.position(job_id) is None:
            raise NotFoundError("there is no such job")
        known = services.ledger.adopt(JobRequest(job_id, services.settings.default_options, utc_now()))
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
    log.info("job cancelled", job_id=job_id)
    return {"hash": job_id, "status": outcome.status.value, "reason": "Job cancelled"}


def _retry(job_id: str, services: Services) -> dict[str, Any]:
    """Submit a failed or cancelled job anew, with the same options and callbacks; one that is owed stays as it is."""
    services.queue.ping()
    known, outcome = services.ledger.end(job_id)
    if known is None:
        raise NotFoundError("there is no such job")
    if outcome and outcome.status is JobStatus.DONE:
        raise InputError("only a failed or cancelled job can be tried again", code="not_retryable")
    if not services.ledger.has_song(known.song_hash):
        raise NotFoundError("the song of this job is not stored any more; send it again", code="song_gone")
    known = services.ledger.retry(job_id)
    if known is None:
        raise NotFoundError("there is no such job")
    services.queue.submit(job_id, known.generation, callbacks=len(known.callbacks))
    log.info("job tried again", job_id=job_id)
    return {"hash": job_id, "status": status_of(job_id, services).value, "reason": "Song enqueued for separation"}


def _failure(job_id: str, services: Services) -> dict[str, Any]:
    _, outcome = services.ledger.end(job_id)
    return {
        "hash": job_id,
        "error_code": outcome.error_code if outcome else None,
        "error": outcome.error if outcome else None,
        "finished_at": outcome.finished_at if outcome else None,
    }


def describe(job_id: str, services: Services) -> dict[str, Any]:
    """Return what is told of a job.

    Raises:
        NotFoundError: there is none.
    """
    known, outcome = services.ledger.end(job_id)
    record = position = None
    if outcome is None:
        record, position = services.queue.views.record(job_id), services.queue.views.position(job_id)
        if known is None and not is_open(record) and position is None:
            raise NotFoundError("there is no such job")
        if known and record and record.status.is_over:
            outcome = services.ledger.outcome(known)  # it ended between the two questions
    return {
        "hash": job_id,
        "songhash": names.song_hash_of(job_id),
        **_of_request(known),
        **(_of_outcome(outcome, services) if outcome else _of_record(record, position)),
        "parts": summary_of_parts(job_id, known, outcome, services),
    }


def _of_request(known: JobRequest | None) -> dict[str, Any]:
    """Tell what was asked, if that is known: not of a foreign push before its claim, nor of a damaged request."""
    if known is None or isinstance(known, DamagedRequest):
        return {
            "name": None,
            "labels": [],
            "batches": [],
            "options": None,
            "submitted_at": None,
            "duration_seconds": None,
            "warnings": [],
            "notes": [],
        }
    options = known.options
    return {
        "name": known.name,
        "labels": list(known.labels),
        "batches": list(known.batches),
        "options": {
            "model": options.model,
            "stems": list(options.stems),
            "format": options.format,
            "mixture_consistency": options.mixture_consistency,
            "bits": options.bits,
            "start": options.start,
            "end": options.end,
        },
        "submitted_at": known.submitted_at,
        "duration_seconds": known.duration_seconds,
        "warnings": list(known.warnings),
        "notes": list(known.notes),
    }


def _of_record(record: JobRecord | None, position: int | None) -> dict[str, Any]:
    over = record is not None and record.status.is_over
    retry_at = record.retry_at_ms if record else None
    return {
        "status": (JobStatus.QUEUED if record is None or over else record.status).value,
        "position": position,
        "progress": record.progress if record and not over else 0.0,
        "attempt": record.attempt if record else 0,
        "retry_at": datetime.fromtimestamp(retry_at / 1000, UTC).isoformat() if retry_at else None,
        "error_code": record.error_code if record else None,
        "error": None,
        "stems": {},
        "peaks": None,
        "ran": None,
    }


def _of_outcome(outcome: Outcome, services: Services) -> dict[str, Any]:
    fields: dict[str, Any] = {
        "status": outcome.status.value,
        "position": None,
        "progress": 1.0 if outcome.status is JobStatus.DONE else 0.0,
        "attempt": outcome.attempt,
        "retry_at": None,
        "error_code": outcome.error_code,
        "error": outcome.error,
        "stems": _stems(outcome, services),
        "peaks": url_of_peaks(outcome),
        "ran": outcome.ran.to_fields() if outcome.ran else None,
        "finished_at": outcome.finished_at,
        "callbacks": {index: delivery.to_fields() for index, delivery in sorted(outcome.deliveries.items())},
    }
    if outcome.warnings:
        fields["warnings"] = list(outcome.warnings)
    if outcome.notes:
        fields["notes"] = list(outcome.notes)
    if outcome.ran and outcome.ran.model == names.DEMO_MODEL:
        fields["label"] = names.DEMO_LABEL
    return fields


def _stems(outcome: Outcome, services: Services) -> dict[str, Any]:
    """Return the stems that are still there; single ones can be removed."""
    return {
        name: {
            "url": f"/apiv1/track/{outcome.job_id}/{name}.{outcome.format}",
            "size_bytes": stem.size_bytes,
            "sha256": stem.sha256,
        }
        for name, stem in outcome.stems.items()
        if services.ledger.has_stem(stem)
    }
