"""The delivery of a callback: one POST to one checked address, with bounds on time and answer.

The janitor calls it when a job is over. Retries and their times belong to the queue's outbox, the rules of who may be
called and the call to `unmix.outbound`, signatures to `signing`, what an answer means to `answer`.
"""

import contextlib
import http.client
import json
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any, Final

import urllib3

from unmix.callbacks.answer import check_answer
from unmix.callbacks.signing import UNSIGNED, Signer
from unmix.errors import CallbackError, InputError, UnreachableError
from unmix.job import Callback
from unmix.outbound.address import Guard, Resolver, resolve_host
from unmix.outbound.call import call

ANSWER_SECONDS: Final = 10.0
#: Of an answer, which nobody looks at; reading a little lets most servers end in peace.
MAX_ANSWER_BYTES: Final = 64 * 1024


def deliver(
    callback: Callback,
    outcome_fields: Mapping[str, Any],
    *,
    allow: str,
    delivery_id: str,
    signer: Signer = UNSIGNED,
    traceparent: str | None = None,
    resolve: Resolver | None = None,
) -> int:
    """POST the end of a job to its callback, once. The fields of the outcome win over equally named ones of the data.

    `delivery_id` is the same for every try of one delivery, so that the receiver can tell a repetition. It has no full
    stop, which ends it in what is signed. A receiver that traces what it does goes on with `traceparent`. Returns the
    status of the answer.

    Raises:
        CallbackError: it did not arrive; `retryable` says whether it may another time.
    """
    guard = Guard("callback", allow)
    try:
        target = guard.target(callback.url)
    except InputError as error:
        raise CallbackError(error.message, code=error.code, retryable=False) from error
    body = json.dumps({**callback.data, **outcome_fields}).encode()
    headers = {"Content-Type": "application/json", **signer.headers(delivery_id, body, at=datetime.now(UTC))}
    if traceparent:
        headers["traceparent"] = traceparent
    try:
        addresses = guard.addresses(target, resolve or resolve_host)
        with (
            call("POST", target, addresses, headers=headers, body=body, seconds=ANSWER_SECONDS) as answer,
            contextlib.suppress(
                urllib3.exceptions.HTTPError, http.client.HTTPException
            ),  # the status is all that counts
        ):
            answer.response.read(MAX_ANSWER_BYTES, decode_content=False)
    except UnreachableError as error:
        code = error.code if error.code == "callback_forbidden" else None
        raise CallbackError(f"of the callback: {error.message}", code=code) from error
    check_answer(answer.response.status, answer.response.headers.get("Retry-After"))
    return answer.response.status
