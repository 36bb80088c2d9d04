"""Who is served without a key: whoever reaches this machine from within, or everybody where the operator says so.

A browser on this machine, or in this network, reaches us on behalf of any page that it shows. Such a page can name a
host of its own that leads here (DNS rebinding), but not choose what the browser then says as `Host`: its own name. So
only names count that nobody else can have.
"""

import ipaddress
import re
from collections.abc import Collection
from typing import Final

from unmix.errors import InputError

#: In the place of names: any.
ANY_NAME: Final = "*"

_HOST: Final = re.compile(r"(?:\[(?P<v6>[0-9a-f:.]+)\]|(?P<name>[^:\[\]]+))(?::[0-9]*)?")


def is_loopback(host: str) -> bool:
    """Tell whether only this machine reaches what listens on `host`, a name or an address."""
    address = _address(host)
    return host == "localhost" or (address is not None and address.is_loopback)


def check_exposure(host: str, *, behind_proxy: bool, needs_key: bool, is_open: bool) -> None:
    """Refuse to serve strangers who are asked for nothing, unless that is meant.

    Raises:
        InputError: REST would listen on `host`, which others reach, or is reached through a proxy (`exposed`).
    """
    if needs_key or is_open or (is_loopback(host) and not behind_proxy):
        return
    where = "behind a proxy (UNMIX_TRUSTED_PROXY)" if behind_proxy else f"on {host}"
    raise InputError(
        f"REST would listen {where}, where others reach it, and asks nobody who they are: set UNMIX_AUTH=keys "
        "(rest/README.md says how keys are made), or UNMIX_OPEN=yes to let everybody do everything",
        code="exposed",
    )


class KnownHosts:
    """The names by which a service may be asked that wants no keys."""

    def __init__(self, names: Collection[str], *, is_open: bool) -> None:
        """Know `names`, in lower case, besides those of loopback; an open service is known by any address too."""
        self._names = names
        self._is_open = is_open

    def has(self, said: str) -> bool:
        """Tell whether a request may say this as its `Host`."""
        match = _HOST.fullmatch(said.strip().lower())
        if ANY_NAME in self._names:
            return True
        if match is None:
            return False
        name = (match["v6"] or match["name"]).removesuffix(".")
        if name == "localhost" or name.endswith(".localhost") or name in self._names:
            return True
        # Nobody's page has an address for a name: what comes by one was sent to it.
        address = _address(name)
        return address is not None and (self._is_open or address.is_loopback)


def _address(text: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    try:
        return ipaddress.ip_address(text)
    except ValueError:
        return None
