"""The workers, as REST tells of them: how many take songs, and if none does, why, in words."""

from datetime import UTC, datetime

from unmix.errors import QueueError
from unmix.queue.attendance import Attendance
from unmix.queue.records import LastWords, WorkerState
from unmix_rest.answer_shapes import Workers


def workers(attendance: Attendance, *, in_detail: bool) -> Workers | None:
    """Tell of the workers, None if Redis does not; `in_detail`, with their own words, is for who runs the service."""
    try:
        present = attendance.present()
        loading = sum(each.state is WorkerState.LOADING for each in present)
        ready = len(present) - loading
        return Workers(ready, loading, None if ready else _why_none(loading, attendance.last_to_leave(), in_detail))
    except QueueError:  # it may be of an older version, whose users may not ask for this
        return None


def _why_none(loading: int, last: LastWords | None, in_detail: bool) -> str:
    begin = "no worker is ready, songs wait until one is:"
    now = " one is loading its model;" if loading else ""
    if last is None:
        return begin + (now.rstrip(";") or " none was seen in the last day")
    which = f" {last.worker}" if in_detail else ""
    at = datetime.fromtimestamp(last.at_ms / 1000, UTC).isoformat(timespec="seconds")
    if last.is_silent:
        end = f"has not been heard of since {at}"
    elif last.code is None:
        end = f"was asked to end at {at}"
    elif in_detail:
        end = f"ended at {at}, as {last.error} ({last.code})"
    else:
        end = f"ended at {at} with {last.code}"
    return f"{begin}{now} the last one{which} {end}"
