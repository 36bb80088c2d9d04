"""`/apiv1/jobs/<job_id>/callbacks/…`: how the deliveries of a job's callbacks stand, and one of them once more.

Those that are over stand in the outcome; of those that are not, Redis knows what was tried so far. What a callback is
sent with is told to nobody: its URL may have a password in it.
"""

from collections.abc import Mapping
from datetime import UTC, datetime
from http import HTTPStatus

import structlog
from flask import Response

from unmix.errors import InputError, NotFoundError, QueueError
from unmix.job import JobRequest
from unmix.job_view import CallbackView
from unmix.outcome import DamagedOutcome, Delivery, DeliveryState, Outcome
from unmix.queue.outbox import Standing
from unmix_rest.answer_shapes import Redelivery
from unmix_rest.http.answers import json_answer
from unmix_rest.routes.lookup import checked
from unmix_rest.services import Services

log = structlog.get_logger()


def redeliver(services: Services, job_id: str, index: str) -> Response:
    """Owe the delivery of a callback again, however it ended."""
    return json_answer(_redeliver(checked(job_id), index, services), HTTPStatus.ACCEPTED)


def views_of_callbacks(known: JobRequest | None, outcome: Outcome, services: Services) -> dict[str, CallbackView]:
    """Return what is told of the callbacks of a job that is over, each by its number from 0."""
    told = {index: _view(delivery) for index, delivery in outcome.deliveries.items()}
    # In a damaged outcome no delivery is noted, and none is made.
    count = len(known.callbacks) if known and not isinstance(outcome, DamagedOutcome) else 0
    pending = [index for index in range(count) if str(index) not in told]
    if pending:
        standings = _standings(outcome.job_id, pending, services)
        told |= {str(index): _view_of_pending(standings.get(index)) for index in pending}
    return {index: told[index] for index in sorted(told)}


def _redeliver(job_id: str, index: str, services: Services) -> Redelivery:
    services.queue.ping()  # or it would only be owed in the store, and made due by the janitor some time
    known, outcome = services.ledger.end(job_id)
    if known is None:
        raise NotFoundError("there is no such job")
    if index not in map(str, range(len(known.callbacks))):
        raise NotFoundError("the job has no callback of this number", code="unknown_callback")
    number = int(index)
    if outcome is None:
        raise InputError("the job is not over: its callbacks are sent when it is", code="job_not_over")
    if isinstance(outcome, DamagedOutcome):
        raise InputError("how this job ended cannot be read; send the song again", code="not_retryable")
    if not known.callbacks[number].wants(outcome.status):
        raise InputError(f"this callback does not ask for the end {outcome.status.value}", code="callback_unwanted")
    services.ledger.owe_delivery(job_id, known.generation, number)
    services.queue.outbox.owe_anew(job_id, number)
    log.info("callback asked for again", job_id=job_id, callback=number)
    return Redelivery(job_id, number, DeliveryState.PENDING, "Callback will be sent again")


def _standings(job_id: str, indexes: list[int], services: Services) -> Mapping[int, Standing]:
    try:
        return services.queue.outbox.standings(job_id, indexes)
    except QueueError:  # results can be had without Redis
        return {}


def _view(delivery: Delivery) -> CallbackView:
    return CallbackView(
        state=delivery.ended_as,
        delivered=delivery.delivered,
        at=delivery.at,
        tries=delivery.tries,
        error=delivery.error,
        http_status=delivery.http_status,
    )


def _view_of_pending(standing: Standing | None) -> CallbackView:
    """Tell how it stands with a delivery that is not over; without Redis nobody knows what was tried."""
    if standing is None:
        return CallbackView(DeliveryState.PENDING.value, delivered=False)
    last, due_ms = standing.last, standing.due_ms
    return CallbackView(
        state=DeliveryState.PENDING.value,
        delivered=False,
        at=last.at if last else None,
        tries=standing.tries,
        error=last.error if last else None,
        http_status=last.http_status if last else None,
        next_try_at=datetime.fromtimestamp(due_ms / 1000, UTC).isoformat() if due_ms is not None else None,
    )
