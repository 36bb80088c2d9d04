"""`/apiv1/jobs/<job_id>/events` and `/apiv1/events?batch=`: how jobs go, as Server-Sent Events; and who waits for one.

A stream begins with how things stand, and goes on with what changes, no faster than its client reads: the rest waits in
its watch, where the newer takes the place of the older. A client that comes back with `Last-Event-ID` is not told again
what it knew last. The stream of one job ends with it; whoever asks for it again then is told to stop.
"""

import json
import time
from collections.abc import Callable, Iterator
from http import HTTPStatus
from typing import Any, Final

from flask import Response, request

from unmix.errors import InputError, NotFoundError, UnmixError
from unmix.job import JobStatus
from unmix.job_view import JobView
from unmix.queue.pulses import JobPulse
from unmix_rest.access import caller
from unmix_rest.http.lanes import WAIT_TO_SEND
from unmix_rest.live import Watch
from unmix_rest.routes.lookup import checked, may_stay
from unmix_rest.services import Services
from unmix_rest.views import view_of_job

#: Longest silence of a stream, in seconds: what lies between client and service may take it for dead after a minute.
COMMENT_SECONDS: Final = 15
#: When a client whose stream has broken comes back.
_RETRY_MS: Final = 2000
#: What may wait to be sent to a slow client before it is told more.
_MOST_BACKLOG_BYTES: Final = 32 * 1024
#: Longest wait for the end of a job, in seconds.
MOST_WAITED: Final = 60


def job_events(services: Services, job_id: str) -> Response:
    """Tell how a job goes until it is over."""
    view = view_of_job(checked(job_id), services)
    if view.status.is_over and request.headers.get("Last-Event-ID") == _id_of_end(job_id, view.status):
        return Response(status=HTTPStatus.NO_CONTENT)
    known = {job_id: [_pulse_of(view)]} if view.status.is_over else {}
    return _stream(services.live.watch([job_id]), known, services, only=job_id)


def batch_events(services: Services) -> Response:
    """Tell how the jobs of a batch go, whatever comes to it, until the client has heard enough."""
    batch = request.args.get("batch")
    if not batch:
        raise InputError("the query has to name a batch", code="missing_field")
    return _stream(services.live.watch(batch=batch, tenant=caller().listed_tenant), {}, services, only=None)


def wait_seconds() -> float:
    """Return how long the client would wait for the end of a job, at most: `?wait=30`, or `Prefer: wait=30`.

    Raises:
        InputError: the query says something else.
    """
    text = request.args.get("wait")
    if text is None:
        preferred = [each.strip() for each in request.headers.get("Prefer", "").lower().split(",")]
        # What nobody understands is no preference (RFC 7240, section 2).
        text = next((each[5:] for each in preferred if each.startswith("wait=") and _is_seconds(each[5:])), "0")
    if not _is_seconds(text):
        raise InputError("wait has to be a number of seconds", code="invalid_field")
    return min(int(text), MOST_WAITED)


def _is_seconds(text: str) -> bool:
    return text.isascii() and text.isdigit() and len(text) < 9


def wait_for_end(view: JobView, seconds: float, services: Services) -> JobView:
    """Return how a job stands when it is over, or the time is; at once if this request may not wait, or would not.

    Raises:
        NotFoundError: it was removed meanwhile.
    """
    if view.status.is_over or not seconds or not may_stay():
        return view
    deadline = time.monotonic() + seconds
    with services.live.watch([view.hash]) as watch:
        while not view.status.is_over and (left := deadline - time.monotonic()) > 0:
            changes = watch.next(min(left, COMMENT_SECONDS))
            # What Redis knows may be the end of an earlier submission, and what it has lost it never tells.
            if not changes or any(pulse.status.is_over for pulse in changes[view.hash]):
                view = view_of_job(view.hash, services)
            if changes is None:
                break
    return view if view.status.is_over else view_of_job(view.hash, services)


def _stream(watch: Watch, known: dict[str, list[JobPulse]], services: Services, *, only: str | None) -> Response:
    if not may_stay():
        raise UnmixError("as many watch as can be told", code="too_many_watchers")
    last_id = request.headers.get("Last-Event-ID", "")
    wait_to_send = request.environ.get(WAIT_TO_SEND, lambda most_bytes: None)
    response = Response(_events(watch, known, services, last_id, wait_to_send, only), mimetype="text/event-stream")
    response.headers["Cache-Control"] = "no-store"
    response.headers["X-Accel-Buffering"] = "no"  # nginx would keep events until it has a bufferful
    return response


def _events(
    watch: Watch,
    known: dict[str, list[JobPulse]],
    services: Services,
    last_id: str,
    wait_to_send: Callable[[int], None],
    only: str | None,
) -> Iterator[bytes]:
    """Yield the events; with `only` until that job is over or gone. `known` is told at the beginning."""
    yield f"retry: {_RETRY_MS}\n\n".encode()
    told: dict[str, JobPulse] = {}
    with watch:
        changes: dict[str, list[JobPulse]] | None = known
        while changes is not None:
            for job_id, pulse in ((job_id, pulse) for job_id, pulses in changes.items() for pulse in pulses):
                event_id = _id(job_id, pulse)
                if job_id in told or event_id != last_id:  # it may come to stand again as the client knew it
                    yield _event(_kind(told.get(job_id), pulse), event_id, _fields(job_id, pulse))
                told[job_id] = pulse
            if only in told and told[only].status.is_over:
                return
            for job_id in told.keys() - watch.job_ids:  # of a batch that goes on and on
                del told[job_id]
            wait_to_send(_MOST_BACKLOG_BYTES)
            changes = watch.next(COMMENT_SECONDS)
            if only is not None and changes is not None:
                try:
                    changes = _with_end_in_store(only, changes.get(only, []), services)
                except NotFoundError:
                    yield _event("removed", f"{only}-removed", {"hash": only})
                    return
            if changes == {}:
                yield b": nothing new\n\n"


def _with_end_in_store(job_id: str, pulses: list[JobPulse], services: Services) -> dict[str, list[JobPulse]]:
    """Return how a job goes, its end by the store, none if it is not over there; `pulses` while the store is away.

    What Redis knows may be the end of an earlier submission, or may have been lost.

    Raises:
        NotFoundError: the job was removed.
    """
    goes_on = [pulse for pulse in pulses if not pulse.status.is_over]
    if pulses and len(goes_on) == len(pulses):
        return {job_id: pulses}
    try:
        view = view_of_job(job_id, services)
    except NotFoundError:
        raise
    except UnmixError:
        return {job_id: pulses} if pulses else {}
    if view.status.is_over:
        goes_on.append(_pulse_of(view))
    return {job_id: goes_on} if goes_on else {}


def _kind(before: JobPulse | None, pulse: JobPulse) -> str:
    """Name what has happened to a job between two pulses."""
    if pulse.status is not JobStatus.RUNNING:
        return pulse.status.value
    if before is None or (before.status, before.attempt) != (pulse.status, pulse.attempt):
        return "started"
    return "part" if pulse.parts_there != before.parts_there else "progress"


def _fields(job_id: str, pulse: JobPulse) -> dict[str, Any]:
    return {
        "hash": job_id,
        "status": pulse.status.value,
        "position": pulse.position,
        "progress": pulse.progress,
        "attempt": pulse.attempt,
        "eta_seconds": None if pulse.eta_seconds is None else round(pulse.eta_seconds, 1),
        "parts": {"count": pulse.parts, "there": pulse.parts_there} if pulse.parts else None,
        "error_code": pulse.error_code,
    }


def _id(job_id: str, pulse: JobPulse) -> str:
    """Name how a job stands, so that whoever knows need not be told again."""
    if pulse.status.is_over:
        return _id_of_end(job_id, pulse.status)
    state = (pulse.status.value, pulse.attempt, pulse.position or 0, f"{pulse.progress:.4f}", pulse.parts_there)
    return f"{job_id}-{'-'.join(map(str, state))}"


def _id_of_end(job_id: str, status: JobStatus) -> str:
    return f"{job_id}-{status.value}"


def _event(kind: str, event_id: str, fields: dict[str, Any]) -> bytes:
    return f"event: {kind}\nid: {event_id}\ndata: {json.dumps(fields)}\n\n".encode()


def _pulse_of(view: JobView) -> JobPulse:
    return JobPulse(view.status, view.attempt, view.progress, view.error_code)
