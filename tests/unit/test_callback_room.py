"""How many callbacks a job has room for: of one who asks, and of all together."""

import pytest

from unmix.errors import InputError
from unmix.job import Callback
from unmix.ledger.callback_room import BYTES_OF_ASKER, CALLBACKS_OF_ASKER, CALLBACKS_OF_JOB, refuse_too_many


def crowd(askers: int, *, each: int = 1, size_bytes: int = 0) -> list[Callback]:
    """Return the callbacks of so many who ask, who take turns."""
    return [
        Callback(f"https://example.com/{asker}/{number}", {"data": "x" * size_bytes}, asker=str(asker))
        for number in range(each)
        for asker in range(askers)
    ]


def test_a_crowd_is_served_until_all_together_have_very_many() -> None:
    refuse_too_many(crowd(CALLBACKS_OF_JOB))
    refuse_too_many(crowd(CALLBACKS_OF_JOB // CALLBACKS_OF_ASKER, each=CALLBACKS_OF_ASKER))
    with pytest.raises(InputError, match="others have given"):
        refuse_too_many(crowd(CALLBACKS_OF_JOB + 1))


def test_one_callback_may_be_as_large_as_a_request_and_several_together() -> None:
    refuse_too_many(crowd(2, size_bytes=BYTES_OF_ASKER))
    with pytest.raises(InputError, match="64 KiB"):
        refuse_too_many(crowd(1, each=2, size_bytes=BYTES_OF_ASKER // 2))


def test_all_together_may_not_be_larger_than_so_many_requests() -> None:
    refuse_too_many(crowd(15, size_bytes=BYTES_OF_ASKER))
    with pytest.raises(InputError, match="others have given"):
        refuse_too_many(crowd(16, size_bytes=BYTES_OF_ASKER))
