"""Tenants: whose a song or an upload is, told by its id alone: nothing need be read to refuse what is another's.

The main tenant's songs are called by the SHA-256 of their bytes, as all songs were before there were tenants. Another
tenant has a secret, and in the place of that hash stand as many digits: 32 of HMAC(secret, SHA-256), 16 of
HMAC(secret, those 32), by which it knows its own, and 16 that mark the songs of tenants for everybody
(`names.marked`), so that the main tenant needs no secret to know what is not its own.
"""

import hmac
import secrets
from dataclasses import dataclass, field
from typing import Final, Protocol

from unmix import names
from unmix.access.secret import kept_secret
from unmix.store.protocol import ObjectStore

#: Bytes of an id that come from the song, and of what proves whose it is.
_SONG_BYTES: Final = 16
_PROOF_BYTES: Final = 8


class TenantIds(Protocol):
    """How one tenant's songs and uploads are called. No I/O."""

    def of_song(self, sha256: str) -> str:
        """Return what stands for the hash of a song with this SHA-256 in the ids of its jobs."""

    def drawn(self) -> str:
        """Return the same for a song whose bytes nobody knows yet."""

    def have(self, job_id: str) -> bool:
        """Tell whether a job of this id would be this tenant's, whether there is one or not.

        Raises:
            ValueError: `job_id` has not the form of one.
        """

    def new_upload(self, ends_at: int) -> str:
        """Return a fresh id, which nobody can guess, of an upload until `ends_at`, in seconds since the epoch."""

    def have_upload(self, upload_id: str) -> bool:
        """Tell whether an upload of this id, which has the form of one, would be this tenant's."""


class MainIds:
    """The ids of the main tenant."""

    def of_song(self, sha256: str) -> str:
        """Return the hash itself."""
        return sha256

    def drawn(self) -> str:
        """Return what looks like a hash."""
        return names.new_song_hash()

    def have(self, job_id: str) -> bool:
        """Tell whether this is no id of another tenant."""
        return not names.is_marked(job_id)

    def new_upload(self, ends_at: int) -> str:
        """Return an id without a proof."""
        return names.new_upload_id(ends_at)

    def have_upload(self, upload_id: str) -> bool:
        """Tell whether this is no id of another tenant."""
        return not names.proof_of_upload(upload_id)


@dataclass(frozen=True, slots=True)
class SecretIds:
    """The ids of a tenant that has a secret."""

    secret: bytes = field(repr=False)

    def of_song(self, sha256: str) -> str:
        """Return what nobody can work out who has not the secret."""
        return self._whole(self._hmac(bytes.fromhex(sha256))[:_SONG_BYTES])

    def drawn(self) -> str:
        """Return what looks like it."""
        return self._whole(secrets.token_bytes(_SONG_BYTES))

    def have(self, job_id: str) -> bool:
        """Tell whether this was made with the secret."""
        song_hash = names.song_hash_of(job_id)
        return hmac.compare_digest(self._whole(bytes.fromhex(song_hash)[:_SONG_BYTES]), song_hash)

    def new_upload(self, ends_at: int) -> str:
        """Return an id that ends with a proof."""
        return self._proved(names.new_upload_id(ends_at))

    def have_upload(self, upload_id: str) -> bool:
        """Tell whether this was made with the secret."""
        unproved = upload_id.removesuffix(f"-{names.proof_of_upload(upload_id)}")
        return hmac.compare_digest(self._proved(unproved), upload_id)

    def _whole(self, song: bytes) -> str:
        return names.marked((song + self._hmac(song)[:_PROOF_BYTES]).hex())

    def _proved(self, upload_id: str) -> str:
        return f"{upload_id}-{self._hmac(upload_id.encode())[:_PROOF_BYTES].hex()}"

    def _hmac(self, of: bytes) -> bytes:
        """Return the HMAC of a SHA-256, a song's part of an id or an upload's id: each has a length of its own."""
        return hmac.digest(self.secret, of, "sha256")


class Tenants:
    """The tenants of a service. The secret of each is read from the store when it is needed for the first time."""

    def __init__(self, store: ObjectStore) -> None:
        self._store = store
        self._known: dict[str, TenantIds] = {names.MAIN_TENANT: MainIds()}

    def ids(self, tenant: str) -> TenantIds:
        """Return how a tenant's songs are called; its secret is made if there is none yet.

        Raises:
            StoreError: the secret cannot be read.
        """
        if tenant not in self._known:
            self._known[tenant] = SecretIds(kept_secret(self._store, names.tenant_secret(tenant)))
        return self._known[tenant]
