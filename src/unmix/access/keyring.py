"""The keys of a service, in its object store: a small document each, found by the hash of the key.

They are there because the store is what is never lost, and because a request with a key needs one read, not a walk.
Whoever changes one swaps it, so that a last use which is noted meanwhile never brings a revoked key back. Which keys
were seen a moment ago `unmix.access.known_keys` remembers.
"""

import time
from collections.abc import Callable, Iterable
from dataclasses import replace

from unmix import names
from unmix.access.keys import Key, hash_of, new_key, utc_text
from unmix.access.tenants import Tenants
from unmix.document import seconds_of
from unmix.errors import InputError, NotFoundError, ObjectChangedError, ObjectMissingError
from unmix.store.protocol import ObjectStore

#: What a document raises that is none.
_DAMAGE = (ValueError, KeyError, TypeError, AttributeError, RecursionError)


class Keyring:
    """The keys in one store. Every method raises `StoreError` when the store is away."""

    def __init__(self, store: ObjectStore, *, clock: Callable[[], float] = time.time) -> None:
        self._store = store
        self._clock = clock  # seconds since the epoch

    def create(
        self, name: str, *, scopes: Iterable[str], tenant: str, expires_at: float | None = None
    ) -> tuple[Key, str]:
        """Make a key, and return what is kept of it and the key itself, which nobody can ask for again.

        `expires_at` is in seconds since the epoch.

        Raises:
            InputError: a key of this name counts already (`key_name_taken`), or has no name (`bad_key_name`), or no
                tenant can be called like this (`bad_tenant`).
        """
        if not names.is_tenant(tenant):
            text = "a tenant is called by up to 63 of a-z, 0-9, - and _, the first a letter or digit"
            raise InputError(text, code="bad_tenant")
        if not name or not name.isprintable() or name != name.strip():
            raise InputError("the name of a key has to be printable, without blanks around it", code="bad_key_name")
        if any(key.name == name and key.is_live(self._clock()) for key in self.all()):
            text = f"there is a key {name!r} already: rotate or revoke it, or choose another name"
            raise InputError(text, code="key_name_taken")
        return self._put_new(name, tuple(scopes), tenant, None if expires_at is None else utc_text(expires_at))

    def find(self, key_hash: str) -> Key | None:
        """Return the key with this hash, whether it counts or not; None if there is none that can be read."""
        return self._get(key_hash)[0]

    def all(self) -> list[Key]:
        """Return all keys that can be read, by name and age."""
        listed = [info.name.key for info in self._store.list(names.QUEUE_BUCKET, names.KEYS_PREFIX)]
        found = (self.find(key.removeprefix(names.KEYS_PREFIX)) for key in listed)
        return sorted((key for key in found if key), key=lambda key: (key.name, key.created_at, key.key_hash))

    def revoke(self, name_or_id: str) -> list[Key]:
        """Let the key with this id count no more, or all of this name that do; return them.

        Raises:
            NotFoundError: there are none (`no_such_key`).
        """
        return [self._change(key, revoked_at=utc_text(self._clock())) for key in self._live(name_or_id)]

    def rotate(self, name_or_id: str, *, keep_seconds: float) -> tuple[Key, str]:
        """Make a key that may do what another one may, which counts for `keep_seconds` more.

        Of several of one name the newest is meant.

        Raises:
            NotFoundError: there is none (`no_such_key`).
        """
        old = max(self._live(name_or_id), key=lambda key: key.created_at)
        made = self._put_new(old.name, old.scopes, old.tenant, old.expires_at)
        ends_at = self._clock() + keep_seconds
        if old.expires_at is None or ends_at < seconds_of(old.expires_at):
            self._change(old, expires_at=utc_text(ends_at))
        return made

    def note_use(self, key: Key, day: str) -> None:
        """Note the day on which a key was used."""
        self._change(key, used_on=day)

    def _live(self, name_or_id: str) -> list[Key]:
        live = [key for key in self.all() if key.is_live(self._clock())]
        meant = [key for key in live if key.key_id == name_or_id] or [key for key in live if key.name == name_or_id]
        if not meant:
            raise NotFoundError(
                f"no valid key is called {name_or_id!r}; `unmix keys list` shows them", code="no_such_key"
            )
        return meant

    def _put_new(self, name: str, scopes: tuple[str, ...], tenant: str, expires_at: str | None) -> tuple[Key, str]:
        Tenants(self._store).ids(tenant)  # first: a key whose tenant had no secret would be of no use
        text = new_key()
        key = Key(hash_of(text), name, tenant, scopes, utc_text(self._clock()), expires_at)
        self._store.put_if(names.key_object(key.key_hash), key.to_json(), etag=None)
        return key, text

    def _change(self, key: Key, **changes: str) -> Key:
        while True:
            known, etag = self._get(key.key_hash)
            if known is None:
                raise NotFoundError("the key is not there any more", code="no_such_key")
            changed = replace(known, **changes)  # type: ignore[arg-type]  # all of these fields are text
            try:
                self._store.put_if(names.key_object(key.key_hash), changed.to_json(), etag=etag)
            except ObjectChangedError:
                continue
            return changed

    def _get(self, key_hash: str) -> tuple[Key | None, str | None]:
        try:
            data, etag = self._store.get(names.key_object(key_hash))
            key = Key.from_json(data)
        except (ObjectMissingError, *_DAMAGE):
            return None, None
        # A document under another name than its own would make a key of what is none.
        return (key, etag) if key.key_hash == key_hash else (None, None)
