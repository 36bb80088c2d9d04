"""Views: what is told of a job, put together from the ledger and the queue.

The object store is asked first: it knows what is owed and what is over. Redis is asked only about jobs that are not
over, so that results can be had while it is away.
"""

from datetime import UTC, datetime, timedelta
from typing import Any

from unmix import names
from unmix.errors import NotFoundError
from unmix.job import DamagedRequest, JobRequest, JobStatus
from unmix.job_view import JobView, OptionsView, StemView
from unmix.outcome import Outcome
from unmix.queue.records import JobRecord
from unmix_rest.routes.callbacks import views_of_callbacks
from unmix_rest.routes.lookup import is_open
from unmix_rest.routes.parts import summary_of_parts, url_of_peaks
from unmix_rest.services import Services


def view_of_job(job_id: str, services: Services) -> JobView:
    """Return what is told of a job.

    Raises:
        NotFoundError: there is none.
    """
    return view_of(job_id, *services.ledger.end(job_id), services)


def view_of(job_id: str, known: JobRequest | None, outcome: Outcome | None, services: Services) -> JobView:
    """Return what is told of a job with these documents.

    Raises:
        NotFoundError: there are none, and the queue knows nothing of it either.
    """
    record = position = None
    if outcome is None:
        record, position = services.queue.views.record_and_position(job_id)
        if known is None and not is_open(record) and position is None:
            raise NotFoundError("there is no such job")
        if known and record and record.status.is_over:
            outcome = services.ledger.outcome(known)  # it ended between the two questions
    asked = _of_request(known)
    stands = _of_outcome(known, outcome, services) if outcome else _of_record(record, position)
    return JobView(
        hash=job_id,
        songhash=names.song_hash_of(job_id),
        parts=summary_of_parts(job_id, known, outcome, services),
        **{**asked, **stands},
    )


def _of_request(known: JobRequest | None) -> dict[str, Any]:
    """Tell what was asked, if that is known: not of a foreign push before its claim, nor of a damaged request."""
    if known is None or isinstance(known, DamagedRequest):
        return {}
    options = known.options
    return {
        "name": known.name,
        "labels": known.labels,
        "batches": known.batches,
        "options": OptionsView(
            model=options.model,
            stems=options.stems,
            format=options.format,
            mixture_consistency=options.mixture_consistency,
            bits=options.bits,
            start=options.start,
            end=options.end,
            bitrate_kbps=options.bitrate_kbps,
            precision=options.precision,
            overlap=options.overlap,
            shifts=options.shifts,
            song_rate=options.song_rate,
        ),
        "submitted_at": known.submitted_at,
        "duration_seconds": known.duration_seconds,
        "warnings": known.warnings,
        "notes": known.notes,
    }


def _of_record(record: JobRecord | None, position: int | None) -> dict[str, Any]:
    if record is None:
        return {"status": JobStatus.QUEUED, "position": position}
    over = record.status.is_over  # of an earlier submission
    return {
        "status": JobStatus.QUEUED if over else record.status,
        "position": position,
        "progress": 0.0 if over else record.progress,
        "attempt": record.attempt,
        "retry_at": datetime.fromtimestamp(record.retry_at_ms / 1000, UTC).isoformat() if record.retry_at_ms else None,
        "error_code": record.error_code,
    }


def _of_outcome(known: JobRequest | None, outcome: Outcome, services: Services) -> dict[str, Any]:
    is_done = outcome.status is JobStatus.DONE
    fields: dict[str, Any] = {
        "status": outcome.status,
        "finished_at": outcome.finished_at,
        "expires_at": _expires_at(outcome, services.settings.keep_stems_days),
        "progress": 1.0 if is_done else 0.0,
        "attempt": outcome.attempt,
        "error_code": outcome.error_code,
        "error": outcome.error,
        "stems": _stems(outcome, services),
        "peaks": url_of_peaks(outcome),
        "music": outcome.music,
        "ran": outcome.ran,
        "callbacks": views_of_callbacks(known, outcome, services),
    }
    if outcome.warnings:
        fields["warnings"] = outcome.warnings
    if outcome.notes:
        fields["notes"] = outcome.notes
    if outcome.ran and (known is None or known.duration_seconds is None):  # nobody had checked the song before
        fields["duration_seconds"] = outcome.ran.duration_seconds
    if outcome.ran and outcome.ran.model == names.DEMO_MODEL:
        fields["label"] = names.DEMO_LABEL
    return fields


def _expires_at(outcome: Outcome, keep_stems_days: float) -> str | None:
    """Return when retention may take a job; None if it is kept for ever, or nobody can say since when it is over."""
    if not keep_stems_days or not outcome.finished_at_seconds:
        return None
    finished_at = datetime.fromtimestamp(outcome.finished_at_seconds, UTC)
    return (finished_at + timedelta(days=keep_stems_days)).isoformat(timespec="milliseconds")


def _stems(outcome: Outcome, services: Services) -> dict[str, StemView]:
    """Return the stems that are still there; single ones can be removed."""
    return {
        name: StemView(f"/apiv1/track/{outcome.job_id}/{name}.{outcome.format}", stem.size_bytes, stem.sha256)
        for name, stem in outcome.stems.items()
        if services.ledger.has_stem(stem)
    }
