"""Signatures by the Standard Webhooks specification: how a receiver knows that a callback comes from this service.

The operator sets the secrets, and gives them to whoever receives. While a secret is replaced there are two: a delivery
is signed with each, and a receiver who knows one of them is content. What is sent, and when, is `delivery`'s.
"""

import base64
import binascii
import secrets
from datetime import UTC, datetime
from typing import Final

from standardwebhooks import Webhook

PREFIX: Final = "whsec_"
#: Bytes of a secret, by the specification, and of one that is made here.
LEAST_BYTES: Final = 24
MOST_BYTES: Final = 64
MADE_BYTES: Final = 32


class Signer:
    """Signs with each of the secrets, which are separated by commas; with none it signs nothing."""

    def __init__(self, listed: str) -> None:
        """Read the secrets.

        Raises:
            ValueError: one of them is none; the message repeats nothing of it.
        """
        given = [each.strip() for each in listed.split(",")]
        self._webhooks = tuple(Webhook(_key(each)) for each in dict.fromkeys(filter(None, given)))

    def headers(self, delivery_id: str, body: bytes, *, at: datetime) -> dict[str, str]:
        """Return what tells a receiver which delivery this is, when this try of it was made, and by whom."""
        at = at.astimezone(UTC)
        headers = {"Webhook-Id": delivery_id, "Webhook-Timestamp": str(int(at.timestamp()))}
        if self._webhooks:
            text = body.decode()
            headers["Webhook-Signature"] = " ".join(each.sign(delivery_id, at, text) for each in self._webhooks)
        return headers


#: Of an operator who has set no secrets.
UNSIGNED: Final = Signer("")


def new_secret() -> str:
    """Draw a secret."""
    return PREFIX + base64.b64encode(secrets.token_bytes(MADE_BYTES)).decode()


def _key(secret: str) -> bytes:
    """Read a secret strictly: what others would read differently makes signatures that nobody can verify."""
    try:
        if not secret.startswith(PREFIX):
            raise ValueError
        encoded = secret.removeprefix(PREFIX)
        key = base64.b64decode(encoded + "=" * (-len(encoded) % 4), validate=True)
    except (binascii.Error, ValueError):
        key = b""
    if not LEAST_BYTES <= len(key) <= MOST_BYTES:
        raise ValueError(
            f"a secret is {PREFIX} and {LEAST_BYTES} to {MOST_BYTES} bytes in base64; `unmix webhook-secret` makes one"
        ) from None
    return key
