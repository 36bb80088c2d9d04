"""Secrets that lie in the store, beside the keys: made when they are asked for the first time, by whoever asks."""

import secrets
from typing import Final

from unmix.errors import ObjectChangedError, ObjectMissingError
from unmix.names import ObjectName
from unmix.store.protocol import ObjectStore

_SECRET_BYTES: Final = 32


def kept_secret(store: ObjectStore, name: ObjectName) -> bytes:
    """Return the secret of this name, the same one to all who ask.

    Raises:
        StoreError: it cannot be read, or not be made.
    """
    try:
        return store.get(name)[0]
    except ObjectMissingError:
        secret = secrets.token_hex(_SECRET_BYTES).encode()
        try:
            store.put_if(name, secret, etag=None)
        except ObjectChangedError:  # another process was faster
            return store.get(name)[0]
        return secret
