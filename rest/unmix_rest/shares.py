"""Whose turn a request takes among all who have songs separated: its tenant's, or its address' where there are no keys.

`unmix.queue` lets the shares have their turns in rounds; within a share songs are served as they came.
"""

from unmix_rest.access import caller
from unmix_rest.http.clients import client


def share() -> str:
    """Return the share that the present request is of."""
    asks = caller()
    return client() if asks.key is None else asks.tenant
