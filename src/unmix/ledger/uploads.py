"""Uploads: songs that come in pieces, or straight into the store, before there is a job of them.

All of the state lies in the store, so that each piece may come to another REST process, which may die. An upload is
there as long as its ticket is; how far it is, one listing tells. Pieces are put under names that no other piece has and
are never changed. Two that begin at the same byte, sent by a client that tried again too early, do no harm: what counts
is the run of pieces that leads furthest. Whose time is over the janitor's audit removes, by the names alone.
"""

import json
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final, Self

from unmix import names
from unmix.document import SCHEMA, Growable, load
from unmix.errors import InputError, NotFoundError, ObjectMissingError
from unmix.ledger.documents import DAMAGE
from unmix.store.protocol import ObjectInfo, ObjectStore

#: Most pieces of an upload; so none but the last may be smaller than this fraction of the song.
MAX_PIECES: Final = 1000
#: How long an upload is left alone whose time is over: somebody may just be making a job of it, by another clock.
LEFT_ALONE_SECONDS: Final = 3600
#: Bytes read at once.
CHUNK_BYTES: Final = 1 << 20


@dataclass(frozen=True, slots=True)
class Ticket(Growable):
    """The permission to send one song, for a while."""

    upload_id: str
    size_bytes: int | None = None  # of the song, if the client said so beforehand
    job_id: str | None = None  # what became of it: it is used up then
    schema: int = SCHEMA

    @property
    def ends_at(self) -> int:
        """When the time of the upload is over, in seconds since the epoch."""
        return names.upload_ends_at(self.upload_id)

    def to_json(self) -> bytes:
        """Return the document's bytes."""
        return json.dumps(self.to_fields(), sort_keys=True).encode()

    @classmethod
    def from_json(cls, data: bytes) -> Self:
        """Read the document back.

        Raises:
            ValueError, TypeError, AttributeError, RecursionError: the bytes are not such a document.
        """
        return cls.from_fields(load(data))


@dataclass(frozen=True, slots=True)
class Progress:
    """How far an upload is."""

    ticket: Ticket
    size_bytes: int | None = None  # of the whole song; None while nobody has said
    pieces: tuple[ObjectInfo, ...] = ()  # those that count, in order and without gaps

    @property
    def offset(self) -> int:
        """How many bytes are there, from the first one on."""
        return sum(piece.size_bytes for piece in self.pieces)

    @property
    def is_complete(self) -> bool:
        """Whether all bytes are there."""
        return bool(self.pieces) and self.offset == self.size_bytes


class Uploads:
    """The uploads in one store. Every method raises `StoreError` when the store is away."""

    def __init__(self, store: ObjectStore) -> None:
        self._store = store

    def begin(self, upload_id: str, *, size_bytes: int | None = None) -> Progress:
        """Write the ticket of an upload that has this new id, which says when its time is over."""
        ticket = Ticket(upload_id, size_bytes)
        self._store.put(names.upload_ticket(ticket.upload_id), ticket.to_json())
        return Progress(ticket, size_bytes)

    def direct_url(self, ticket: Ticket) -> str | None:
        """Return where the client may put the song into the store itself, None if it cannot reach the store."""
        seconds = max(1, ticket.ends_at - int(time.time()))
        return self._store.presigned_put(names.upload_whole(ticket.upload_id), seconds=seconds)

    def look(self, upload_id: str) -> Progress:
        """Return how far an upload is.

        Raises:
            NotFoundError: there is none, or its time is over (`unknown_upload`).
            InputError: there is a job of it already (`upload_used`, with its `hash`).
        """
        ticket = self._ticket(upload_id)
        if ticket.job_id is not None:
            text = "there is a job of this upload already; for another one ask for a new upload"
            raise InputError(text, code="upload_used", facts={"hash": ticket.job_id})
        pieces = []
        for info in self._store.list(names.QUEUE_BUCKET, names.upload_prefix(upload_id)):
            if info.name == names.upload_whole(upload_id):
                return Progress(ticket, ticket.size_bytes or info.size_bytes, (info,))
            if place := names.start_and_total_of(info.name):
                pieces.append((*place, info))
        size_bytes = ticket.size_bytes or (pieces[0][1] if pieces else None)
        run = _furthest((start, info) for start, total, info in pieces if total == size_bytes)
        return Progress(ticket, size_bytes, run)

    def add(self, progress: Progress, path: Path, *, start: int, total: int) -> Progress:
        """Put a piece that goes on where the upload ends, and return how far it is then.

        Raises:
            InputError: the piece belongs elsewhere (`wrong_offset`, with the right `offset`), to a song of another
                size (`bad_content_range`), or is so small that there would be too many (`piece_too_small`).
        """
        if start != progress.offset:
            raise _at(progress, f"the upload goes on at byte {progress.offset}", code="wrong_offset")
        if progress.size_bytes not in (None, total):
            raise _at(progress, f"the song was said to have {progress.size_bytes} bytes", code="bad_content_range")
        size_bytes = path.stat().st_size
        if start + size_bytes < total and size_bytes * MAX_PIECES < total:
            raise InputError(f"a piece has at least {-(-total // MAX_PIECES)} bytes", code="piece_too_small")
        name = names.upload_piece(progress.ticket.upload_id, start, total)
        self._store.put_file(name, path)
        piece = ObjectInfo(name, size_bytes, "", time.time())
        return replace(progress, size_bytes=total, pieces=(*progress.pieces, piece))

    def complete(self, upload_id: str) -> Progress:
        """Return an upload all of whose bytes are there.

        Raises:
            NotFoundError, InputError: as `look`; or bytes are missing (`upload_incomplete`, with the `offset`).
        """
        progress = self.look(upload_id)
        if not progress.is_complete:
            of_all = "" if progress.size_bytes is None else f" of {progress.size_bytes}"
            text = f"only {progress.offset}{of_all} bytes of this upload are there"
            raise _at(progress, text, code="upload_incomplete")
        return progress

    def read(self, progress: Progress) -> Iterator[bytes]:
        """Yield the bytes of an upload, in constant memory.

        Raises:
            NotFoundError, InputError: as `look`: somebody else was faster.
        """
        for piece in progress.pieces:
            try:
                with self._store.open(piece.name) as file:
                    while chunk := file.read(CHUNK_BYTES):
                        yield chunk
            except ObjectMissingError as error:
                self.look(progress.ticket.upload_id)
                raise _unknown() from error

    def close(self, progress: Progress, job_id: str) -> None:
        """Note that there is a job of the upload now, and remove its bytes.

        The note stays until the time of the upload is over: a client whose answer was lost finds its job by it.
        """
        used = replace(progress.ticket, job_id=job_id)
        self._store.put(names.upload_ticket(used.upload_id), used.to_json())
        listed = self._store.list(names.QUEUE_BUCKET, names.upload_prefix(used.upload_id))
        for info in [*listed]:
            if info.name != names.upload_ticket(used.upload_id):
                self._store.remove(info.name)

    def remove_over(self, on_step: Callable[[], None] = lambda: None) -> int:
        """Remove what is left of uploads whose time is over, and return how many objects that were.

        Keys are sorted by that time: what still has some is not even listed.
        """
        count = 0
        for info in self._store.list(names.QUEUE_BUCKET, names.UPLOADS_PREFIX):
            upload_id = names.upload_of(info.name)
            if upload_id is None:
                continue
            if names.upload_ends_at(upload_id) > time.time() - LEFT_ALONE_SECONDS:
                break
            on_step()
            self._store.remove(info.name)
            count += 1
        return count

    def _ticket(self, upload_id: str) -> Ticket:
        if not names.is_upload_id(upload_id) or names.upload_ends_at(upload_id) <= time.time():
            raise _unknown()
        try:
            ticket = Ticket.from_json(self._store.get(names.upload_ticket(upload_id))[0])
        except (ObjectMissingError, *DAMAGE) as error:
            raise _unknown() from error
        return replace(ticket, upload_id=upload_id)


def _furthest(pieces: Iterator[tuple[int, ObjectInfo]]) -> tuple[ObjectInfo, ...]:
    """Return the run of pieces from byte 0 that leads furthest; `pieces` are sorted by where they begin."""
    last: dict[int, tuple[int, ObjectInfo]] = {}  # by where a run ends: where its last piece begins, and that piece
    for start, info in pieces:
        if info.size_bytes and (start == 0 or start in last):
            last.setdefault(start + info.size_bytes, (start, info))
    run: list[ObjectInfo] = []
    at = max(last, default=0)
    while at:
        at, info = last[at]
        run.append(info)
    return tuple(reversed(run))


def _at(progress: Progress, text: str, *, code: str) -> InputError:
    return InputError(text, code=code, facts={"offset": progress.offset})


def _unknown() -> NotFoundError:
    return NotFoundError("there is no such upload, or its time is over; ask for a new one", code="unknown_upload")
