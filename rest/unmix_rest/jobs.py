"""`GET /apiv1/jobs/<job_id>` and `GET /apiv1/queue`: how a job goes, and what waits.

The object store is asked first: it knows what is owed and what is over. Redis is asked only about jobs that are not
over, so that results can be had while it is away.
"""

from dataclasses import asdict
from datetime import UTC, datetime
from typing import Any, Final

from flask import Blueprint, Response

from unmix import song
from unmix.errors import NotFoundError
from unmix.job import JobRequest, JobStatus, Outcome
from unmix.job_queue import JobRecord
from unmix_rest.answers import json_answer
from unmix_rest.services import Services

MAX_LISTED: Final = 1000
DEMO_LABEL: Final = "made by the small demo model, which shows how the service works, not how well it can separate"


def blueprint(services: Services) -> Blueprint:
    """Return the routes that tell of jobs."""
    routes = Blueprint("jobs", __name__)

    @routes.get("/apiv1/jobs/<job_id>")
    def job(job_id: str) -> Response:
        return json_answer(_describe(checked(job_id), services))

    @routes.get("/apiv1/queue")
    def queue() -> Response:
        elements, total = services.queue.waiting(limit=MAX_LISTED)
        # Others may push anything: only what names a job is shown, all of it is counted.
        return json_answer({"queue": [element for element in elements if song.is_job_id(element)], "total": total})

    return routes


def checked(job_id: str) -> str:
    """Return `job_id` if it has the form of one; nothing else gets near a key or an object's name.

    Raises:
        NotFoundError: it has not, so there is no such job.
    """
    if not song.is_job_id(job_id):
        raise NotFoundError("there is no such job")
    return job_id


def status_of(job_id: str, services: Services) -> JobStatus:
    """Return how a job stands that has no outcome yet."""
    record = services.queue.record(job_id)
    return record.status if record and not record.status.is_over else JobStatus.QUEUED


def _describe(job_id: str, services: Services) -> dict[str, Any]:
    request = services.ledger.request(job_id)
    outcome = services.ledger.outcome(request) if request else None
    record = position = None
    if outcome is None:
        record, position = services.queue.record(job_id), services.queue.position(job_id)
        if request is None and record is None and position is None:
            raise NotFoundError("there is no such job")
        if request and record and record.status.is_over:
            outcome = services.ledger.outcome(request)  # it ended between the two questions
    return {
        "hash": job_id,
        "songhash": song.song_hash_of(job_id),
        **_of_request(request),
        **(_of_outcome(outcome, services) if outcome else _of_record(record, position)),
    }


def _of_request(request: JobRequest | None) -> dict[str, Any]:
    """Tell what was asked; of an element that another producer pushed nothing is known before it is claimed."""
    if request is None:
        return {"options": None, "submitted_at": None, "duration_seconds": None, "warnings": []}
    options = request.options
    return {
        "options": {
            "model": options.model,
            "stems": list(options.stems),
            "format": options.format,
            "mixture_consistency": options.mixture_consistency,
        },
        "submitted_at": request.submitted_at,
        "duration_seconds": request.duration_seconds,
        "warnings": list(request.warnings),
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
        "ran": asdict(outcome.ran) if outcome.ran else None,
        "finished_at": outcome.finished_at,
    }
    if outcome.warnings:
        fields["warnings"] = list(outcome.warnings)
    if outcome.ran and outcome.ran.model == "demo":
        fields["label"] = DEMO_LABEL
    return fields


def _stems(outcome: Outcome, services: Services) -> dict[str, Any]:
    """Return the stems that are still there; single ones can be removed."""
    listed = services.store.list(song.OUTPUT_BUCKET, song.attempt_prefix(outcome.job_id)) if outcome.stems else ()
    keys = {info.name.key for info in listed}
    return {
        name: {
            "url": f"/apiv1/track/{outcome.job_id}/{name}.{outcome.format}",
            "size_bytes": stem.size_bytes,
            "sha256": stem.sha256,
        }
        for name, stem in outcome.stems.items()
        if stem.key in keys
    }
