"""Keys as values: what one looks like, what it lets its owner do, and what is kept of it. No I/O but the randomness.

A key is 256 random bits, so nobody finds one by trying, and a plain hash of it can be kept: there is nothing to guess.
`unmix.access.keyring` keeps them.
"""

import hashlib
import json
import re
import secrets
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import StrEnum
from typing import Final, Self

from unmix import names
from unmix.document import SCHEMA, Growable, load, seconds_of, with_tuples

#: So that people and programs that look for lost secrets know one when they see it.
_PREFIX: Final = "unmix_"
_KEY: Final = re.compile(rf"{_PREFIX}[A-Za-z0-9_-]{{43}}")
_KEY_BYTES: Final = 32
#: Digits of a hash that tell keys apart where people name them.
_ID_DIGITS: Final = 12


class Scope(StrEnum):
    """What a key may let somebody do. None includes another."""

    PUBLIC = "public"  # asked of nobody: what tells nothing of anybody's songs
    READ = "read"  # how jobs go, and their stems
    SUBMIT = "submit"  # send songs, cancel jobs and try them again
    DELETE = "delete"  # remove jobs and stems
    ADMIN = "admin"  # what those see who run the service; with the others it is for the songs of all tenants


#: What a key can be made for.
GRANTABLE: Final = (Scope.SUBMIT, Scope.READ, Scope.DELETE, Scope.ADMIN)
#: What it is made for if nobody says.
USUAL: Final = (Scope.SUBMIT, Scope.READ, Scope.DELETE)


@dataclass(frozen=True, slots=True)
class Key(Growable):
    """What is kept of a key: never the key itself."""

    key_hash: str
    name: str
    tenant: str
    scopes: tuple[str, ...]  # words, as a later version may know more of them
    created_at: str  # this and the others: ISO 8601, UTC
    expires_at: str | None = None
    revoked_at: str | None = None
    used_on: str | None = None  # the day of the last use: finer is nobody's business, and would cost a write each
    schema: int = SCHEMA

    @property
    def key_id(self) -> str:
        """What people call the key by; it says nothing of the key."""
        return self.key_hash[:_ID_DIGITS]

    def is_live(self, now: float) -> bool:
        """Tell whether the key counts at `now`, in seconds since the epoch."""
        return self.revoked_at is None and (self.expires_at is None or now < seconds_of(self.expires_at))

    def to_json(self) -> bytes:
        """Return the document's bytes."""
        return json.dumps(self.to_fields(), sort_keys=True).encode()

    @classmethod
    def from_json(cls, data: bytes) -> Self:
        """Read the document back.

        Raises:
            ValueError, KeyError, TypeError, AttributeError, RecursionError: the bytes are not such a document.
        """
        key = cls.from_fields(with_tuples(load(data), "scopes"))
        if not names.is_tenant(key.tenant):
            raise ValueError("no tenant is called like this")
        return key


def new_key() -> str:
    """Return a key that nobody has. It can stand in a URL as it is."""
    return _PREFIX + secrets.token_urlsafe(_KEY_BYTES)


def is_key(text: str) -> bool:
    """Tell whether `text` has the form of a key."""
    return _KEY.fullmatch(text) is not None


def hash_of(key: str) -> str:
    """Return the hash by which a key is known: its SHA-256 as 64 hex digits."""
    return hashlib.sha256(key.encode()).hexdigest()


def utc_text(seconds: float) -> str:
    """Return a time in seconds since the epoch as ISO 8601, in UTC."""
    return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="seconds")
