"""The keys that were seen a moment ago, so that no request pays a read of the store.

A key that was revoked elsewhere counts here for `KNOWN_SECONDS` more, at most.
"""

import threading
import time
from collections import OrderedDict
from collections.abc import Callable
from contextlib import suppress
from typing import Final

from unmix.access.keyring import Keyring
from unmix.access.keys import Key, utc_text
from unmix.errors import NotFoundError, StoreError

#: How long is believed what the store said of a key.
KNOWN_SECONDS: Final = 10
#: Most keys that are remembered, those that are none included: strangers may try as many as they like.
MOST_KNOWN: Final = 10_000


class KnownKeys:
    """The keys of one process, for any number of threads."""

    def __init__(self, keyring: Keyring, *, clock: Callable[[], float] = time.time) -> None:
        self._keyring = keyring
        self._clock = clock  # seconds since the epoch
        self._known: OrderedDict[str, tuple[float, Key | None]] = OrderedDict()  # the longest known ones first
        self._lock = threading.Lock()

    def live(self, key_hash: str) -> Key | None:
        """Return the key with this hash if it counts now; None if it does not, or there is none.

        Raises:
            StoreError: nobody can say, as the store is away.
        """
        now = self._clock()
        with self._lock:
            asked_at, key = self._known.get(key_hash, (0.0, None))
        if not 0 <= now - asked_at < KNOWN_SECONDS:
            key = self._ask(key_hash, now)
        return key if key and key.is_live(now) else None

    def _ask(self, key_hash: str, now: float) -> Key | None:
        key = self._keyring.find(key_hash)
        with self._lock:
            self._known[key_hash] = (now, key)
            self._known.move_to_end(key_hash)
            if len(self._known) > MOST_KNOWN:
                self._known.popitem(last=False)
        today = utc_text(now)[:10]
        if key and key.is_live(now) and key.used_on != today:
            with suppress(StoreError, NotFoundError):  # whoever may ask is not to wait for a full store
                self._keyring.note_use(key, today)
        return key
