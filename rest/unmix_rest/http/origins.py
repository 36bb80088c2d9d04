"""Which requests a browser sends because a page of another origin wants it to.

Browsers say so themselves: by `Sec-Fetch-Site` in each request to a secure origin or to this machine, by `Origin`
where a page sends something. Programs say neither, nor did the clients of older services.
"""

import re
from collections.abc import Collection
from typing import Final

from flask import Request

from unmix_rest.http.cors import ANY

#: What a browser says of requests that no other page has caused.
_FROM_HERE: Final = ("same-origin", "none")
_USUAL_PORT: Final = re.compile(r":(80|443)?$")


def is_from_elsewhere(request: Request, allowed: Collection[str]) -> bool:
    """Tell whether a page of an origin sent this that is neither ours nor `allowed`."""
    origin, site = request.headers.get("Origin"), request.headers.get("Sec-Fetch-Site")
    if origin is not None and (ANY in allowed or origin in allowed):
        return False
    if site is not None:
        return site.lower() not in _FROM_HERE
    return origin is not None and not _is_ours(origin, request.headers.get("Host", ""))


def _is_ours(origin: str, host: str) -> bool:
    """Compare without the scheme: behind a proxy that ends TLS nobody here knows it for sure."""
    _, separator, named = origin.lower().partition("://")
    return bool(separator) and _USUAL_PORT.sub("", named) == _USUAL_PORT.sub("", host.strip().lower())
