"""What the answer to a callback means: delivered, to be tried again and when, or never again."""

import re
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from http import HTTPStatus
from typing import Final

from unmix.errors import CallbackError

#: Longest pause that a receiver may ask for: about the longest that a delivery makes by itself.
MOST_RETRY_AFTER_SECONDS: Final = 86_400.0

#: Answers whose `Retry-After` is heeded.
_ASK_FOR_TIME: Final = (HTTPStatus.TOO_MANY_REQUESTS, HTTPStatus.SERVICE_UNAVAILABLE)
_SECONDS: Final = re.compile(r"[0-9]{1,12}")


def check_answer(status: int, retry_after: str | None) -> None:
    """Return if the callback has arrived.

    Raises:
        CallbackError: it has not; `callback_gone` if it is to end for good.
    """
    if 200 <= status < 300:
        return
    if status == HTTPStatus.GONE:
        raise CallbackError(
            "the callback's server answered 410: not to be called any more",
            code="callback_gone",
            retryable=False,
            http_status=status,
        )
    seconds = retry_after_seconds(retry_after, now=datetime.now(UTC)) if status in _ASK_FOR_TIME else 0.0
    raise CallbackError(f"the callback's server answered {status}", http_status=status, retry_after_seconds=seconds)


def retry_after_seconds(value: str | None, *, now: datetime) -> float:
    """Read `Retry-After`, seconds or a date, within bounds; 0 if there is none or it is neither."""
    text = (value or "").strip()
    if _SECONDS.fullmatch(text):
        return min(float(text), MOST_RETRY_AFTER_SECONDS)
    try:
        date = parsedate_to_datetime(text)
        seconds = (date.replace(tzinfo=date.tzinfo or UTC) - now).total_seconds()
    except (ValueError, TypeError, IndexError, OverflowError):
        return 0.0
    return min(max(seconds, 0.0), MOST_RETRY_AFTER_SECONDS)
