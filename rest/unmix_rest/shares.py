"""Who a request counts for: whose turn it takes, whose quotas it uses, whose the callbacks are that it brings.

`unmix.queue` lets the shares have their turns in rounds; within a share songs are served as they came.
"""

import hashlib
from typing import Final

from unmix_rest.access import caller
from unmix_rest.http.clients import client

_ASKER_DIGITS: Final = 16


def share() -> str:
    """Return the share that the present request is of: its tenant, or its address where there are no keys."""
    asks = caller()
    return client() if asks.key is None else asks.tenant


def holder() -> str:
    """Return whose quotas the present request uses: its key's or its address'; a guest's are not its giver's."""
    asks = caller()
    return client() if asks.key is None or asks.is_guest else f"key:{asks.key.key_id}"


def asker_of(job_id: str) -> str:
    """Return what stands for the present request's holder in the documents of a job, which tell no addresses."""
    return hashlib.sha256(f"{job_id} {holder()}".encode()).hexdigest()[:_ASKER_DIGITS]
