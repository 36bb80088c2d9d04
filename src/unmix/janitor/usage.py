"""What takes how much room: all that is stored by kind, the room that is left, and Redis' memory.

It lists the whole store, in constant memory, and reads no document: for a person who asks now and then, and not for
what runs all the time.
"""

from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass, field

from unmix import names
from unmix.errors import QueueError
from unmix.ledger.room import reserve_bytes
from unmix.queue.records import QueueCounts
from unmix.queue.room import Memory
from unmix.runtime.connect import connect_queue, connect_store
from unmix.settings import Settings


@dataclass(slots=True)
class Amount:
    """Some objects, and how large they are together."""

    objects: int = 0
    size_bytes: int = 0


@dataclass(frozen=True, slots=True)
class Usage:
    """What `unmix status` tells."""

    counts: QueueCounts | None  # None where Redis is away, or lets this user not ask
    memory: Memory | None
    free_bytes: int | None  # None where the store does not tell
    reserve_bytes: int | None
    kinds: dict[str, Amount] = field(default_factory=dict)

    @property
    def total(self) -> Amount:
        """All that is stored; in a folder, which tells its room, copies are links and take none of their own."""
        linked = self.kinds["copies"].size_bytes if self.free_bytes is not None else 0
        amounts = self.kinds.values()
        return Amount(sum(each.objects for each in amounts), sum(each.size_bytes for each in amounts) - linked)


def usage(settings: Settings) -> Usage:
    """Go over the store, and ask Redis.

    Raises:
        StoreError: the store is away, or refuses.
    """
    store = connect_store(settings)
    counts, memory = None, None
    with suppress(QueueError), connect_queue(settings) as queue:
        counts, memory = queue.views.counts(), queue.room.memory()
    kinds: dict[str, Amount] = {kind: Amount() for kind in KINDS}
    for bucket in (names.QUEUE_BUCKET, names.OUTPUT_BUCKET):
        for info in store.list(bucket):
            amount = kinds[_kind_of(info.name)]
            amount.objects += 1
            amount.size_bytes += info.size_bytes
    room = store.room()
    if room is None:
        return Usage(counts, memory, None, None, kinds)
    return Usage(counts, memory, room.free_bytes, reserve_bytes(room, settings.min_free_gb), kinds)


def lines(told: Usage, retention: str) -> Iterable[str]:
    """Yield what a person reads of it."""
    yield f"{'':<12}{'objects':>10}{'size':>12}"
    for kind, amount in (*told.kinds.items(), ("all", told.total)):
        yield f"{kind:<12}{amount.objects:>10}{sized(amount.size_bytes):>12}  {KINDS.get(kind, '')}".rstrip()
    if told.free_bytes is not None and told.reserve_bytes is not None:
        state = "songs are refused" if told.free_bytes < told.reserve_bytes else "songs are accepted"
        yield f"free: {sized(told.free_bytes)}, of which {sized(told.reserve_bytes)} are kept free of songs: {state}"
    else:
        yield "free: the store does not tell"
    if told.memory is not None and told.counts is not None:
        most = f"of {sized(told.memory.most)}" if told.memory.most else "and no limit"
        yield f"Redis: {sized(told.memory.used)} {most}"
        yield f"jobs: {told.counts.waiting} waiting, {told.counts.running} running, {told.counts.open} open in all"
    else:
        yield "Redis: away, or this user may not ask (UNMIX_REDIS_URL, UNMIX_REDIS_PASSWORD)"
    yield f"kept: {retention}"


KINDS = {
    "songs": "as they were sent",
    "stems": "of finished jobs, and their peaks",
    "copies": "of stems; in a folder the same bytes as these",
    "parts": "to be heard while the rest is made",
    "documents": "what was asked for, and how it ended",
    "uploads": "that no job was made of yet",
    "others": "",
}


def _kind_of(name: names.ObjectName) -> str:
    job_id = names.owner_of(name)
    if job_id is None:
        return "uploads" if names.upload_of(name) else "others"
    if name in (names.request_object(job_id), names.outcome_object(job_id)):
        return "documents"
    if name.bucket == names.QUEUE_BUCKET:
        return "songs"
    if name.key.startswith(names.parts_prefix(job_id)):
        return "parts"
    return "stems" if name.key.startswith(names.attempt_prefix(job_id)) else "copies"


def sized(count: float) -> str:
    """Return a number of bytes as people read it."""
    for unit in ("B", "kB", "MB"):
        if count < 1000:
            return f"{count:.0f} {unit}" if unit == "B" else f"{count:.1f} {unit}"
        count /= 1000
    return f"{count:.1f} GB"
