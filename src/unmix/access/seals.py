"""What is signed for those who have a key, so that nothing need be kept of it: sessions of a browser, links to a job.

Each names its key, so that it ends with it, and the time at which it ends by itself. The secret that signs lies beside
the keys; removing it from the store, and starting REST again, ends them all.
"""

import hashlib
from dataclasses import dataclass
from typing import Any

from itsdangerous import BadData, URLSafeSerializer

from unmix import names
from unmix.access.secret import kept_secret
from unmix.store.protocol import ObjectStore


@dataclass(frozen=True, slots=True)
class Session:
    """The right to ask as the owner of a key does, until the time is over."""

    key_hash: str
    ends_at: int  # seconds since the epoch


@dataclass(frozen=True, slots=True)
class Link:
    """The right of whoever has it to see and hear one job, until the time is over."""

    job_id: str
    key_hash: str  # of whoever gave it
    ends_at: int  # seconds since the epoch


class Seals:
    """Signs, and reads what was signed. The secret is read from the store when it is needed for the first time."""

    def __init__(self, store: ObjectStore) -> None:
        self._store = store
        self._secret: bytes | None = None

    def of_session(self, session: Session) -> str:
        """Return a session as text that only we can have made.

        Raises:
            StoreError: the secret cannot be read.
        """
        return self._sealed("session", [session.key_hash, session.ends_at])

    def session(self, text: str, *, now: float) -> Session | None:
        """Return the session in `text`; None if it is none of ours, or over at `now`, in seconds since the epoch.

        Raises:
            StoreError: the secret cannot be read.
        """
        match self._opened("session", text):
            case [str() as key_hash, int() as ends_at] if now < ends_at:
                return Session(key_hash, ends_at)
        return None

    def of_link(self, link: Link) -> str:
        """Return a link as text that only we can have made, and that can stand in a URL as it is.

        Raises:
            StoreError: the secret cannot be read.
        """
        return self._sealed("link", [link.job_id, link.key_hash, link.ends_at])

    def link(self, text: str, *, now: float) -> Link | None:
        """Return the link in `text`; None if it is none of ours, or over at `now`, in seconds since the epoch.

        Raises:
            StoreError: the secret cannot be read.
        """
        match self._opened("link", text):
            case [str() as job_id, str() as key_hash, int() as ends_at] if now < ends_at:
                return Link(job_id, key_hash, ends_at)
        return None

    def _sealed(self, kind: str, value: list[Any]) -> str:
        sealed = self._signer(kind).dumps(value)
        return sealed if isinstance(sealed, str) else sealed.decode()

    def _opened(self, kind: str, text: str) -> object:
        try:
            return self._signer(kind).loads(text)
        except BadData:
            return None

    def _signer(self, kind: str) -> URLSafeSerializer:
        """Return what signs one kind of text; the salt keeps one kind from passing for another."""
        if self._secret is None:
            self._secret = kept_secret(self._store, names.access_secret())
        how = {"digest_method": hashlib.sha256, "key_derivation": "hmac"}
        return URLSafeSerializer(self._secret, salt=f"track-unmix {kind}", signer_kwargs=how)
