"""The worker's side of a song in parts: which runs its child makes, what others made of it, and what is kept.

`PartsLead` goes with the job that this worker has claimed, `PartsHelp` with somebody else's. Both are told each event
of the child and say what to order. Parts are a help and never a result: whatever fails here costs time, not the song.
"""

import secrets
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path
from typing import Final, Protocol

import structlog

from unmix.errors import EngineError, PartDamagedError, QueueError, StoreError
from unmix.job import JobRequest
from unmix.ledger.ledger import Ledger
from unmix.ledger.parts import Parts
from unmix.outcome import RanParts, SongPart
from unmix.queue.job_queue import JobQueue
from unmix.queue.records import Claim
from unmix.queue.runs import RUN_PARTS, PartsOfJob, Run
from unmix.runtime import traces
from unmix_worker.messages import (
    Event,
    MakeRun,
    NoMoreRuns,
    Order,
    PartMade,
    PartsBegun,
    PartsJoined,
    PartsTask,
    RunWanted,
    SeparationTask,
    UsePart,
)

log = structlog.get_logger()

#: How often a lead looks for what others made, in seconds.
_LOOK_SECONDS: Final = 0.5
#: Parts that are fetched before the child has joined those before them, for the scratch disk's sake.
_AHEAD: Final = 2 * RUN_PARTS


class PartsExchange(Protocol):
    """What a child that makes parts is answered."""

    def orders(self, event: Event | None) -> Iterator[Order]:
        """Yield what to tell the child after `event`, or after a while without one."""

    @property
    def progress(self) -> float | None:
        """How much of the song there is, 0..1; None while that is not known."""

    @property
    def is_waiting(self) -> bool:
        """Whether the child has nothing to do, as others make what is missing."""

    def failed(self, error: EngineError) -> None:
        """Take note of what the child has failed for."""


class _Maker:
    """What lead and helper share: parts that are kept, and a run that is held."""

    def __init__(
        self,
        queue: JobQueue,
        parts: Parts,
        asked: PartsOfJob,
        worker_id: str,
        renew_seconds: float,
        run: Run | None = None,
    ) -> None:
        self.asked = asked
        self.parts = parts
        self._queue = queue
        self._worker_id = worker_id
        self._renew_seconds = renew_seconds
        self._token = secrets.token_hex(8)  # in the names of files, which so are nobody else's
        self._run = run
        self._renewed_at = 0.0
        self._part_began_at = time.time()

    def take(self, wished: int) -> Run | int | None:
        """See `Runs.take`; the run is held from here on, and None also while Redis is away."""
        self._run = None
        try:
            answer = self._queue.runs.take(self.asked, wished=wished)
        except QueueError:
            return None
        if isinstance(answer, Run):
            self._run, self._renewed_at = answer, time.monotonic()
        self._part_began_at = time.time()
        return answer

    def keep(self, made: PartMade) -> SongPart:
        """Store a part that was made, and remove its files; returns the part that counts: somebody was faster."""
        files = {stem: Path(path) for stem, path in made.files.items()}
        part = SongPart(made.index, made.start, made.samples, {}, self._worker_id, made.clipped, made.peaks)
        try:
            part = self.parts.put(part, files, token=self._token)
            self._queue.runs.note_there(self.asked, made.index)
        except (StoreError, QueueError) as error:
            log.warning("part not kept", job_id=self.asked.job_id, part=made.index, error=error.message)
        finally:
            for path in files.values():
                path.unlink(missing_ok=True)
        traces.past("part", began_at=self._part_began_at, part=made.index)
        self._part_began_at = time.time()
        return part

    def renew(self) -> bool:
        """Hold the run for longer if that is due; False if it is of no use any more."""
        if self._run is None or time.monotonic() < self._renewed_at + self._renew_seconds:
            return True
        self._renewed_at = time.monotonic()
        try:
            return self._queue.runs.renew(self.asked, self._run)
        except QueueError:
            return True

    def give_back(self) -> None:
        """Leave what is left of the run to others."""
        if self._run is not None:
            with suppress(QueueError):
                self._queue.runs.give_back(self.asked, self._run)


class PartsLead:
    """Leads the work on a claimed job: asks for help, and hands the child whatever others made."""

    def __init__(
        self,
        queue: JobQueue,
        ledger: Ledger,
        request: JobRequest,
        claim: Claim,
        folder: Path,
        *,
        worker_id: str,
        renew_seconds: float,
        least_seconds: float,
        patience_seconds: float,
    ) -> None:
        """Lead; songs of less than `least_seconds` have no parts. Files of others go into `folder`.

        A child that has had nothing to do for `patience_seconds` makes what others have not delivered by then.
        """
        self._least_seconds = least_seconds
        self._patience_seconds = patience_seconds
        self._queue = queue
        self._ledger = ledger
        self._request = request
        self._claim = claim
        self._folder = folder
        self._worker_id = worker_id
        self._renew_seconds = renew_seconds
        self._begun: PartsBegun | None = None
        self._maker: _Maker | None = None
        self._found: dict[int, SongPart] = {}  # that others made, and the child does not have yet
        self._joined: set[int] = set()  # that the child has
        self._used: list[SongPart] = []  # of these, what others made
        self._encoded = 0  # parts, from the first one on, that the child has done with
        self._made: Counter[str] = Counter()  # parts of each worker among them
        self._found_first = 0  # parts that were there when this attempt began
        self._again = 0  # parts that were made though somebody had made them
        self._wished: int | None = None
        self._wished_at = 0.0
        self._looked_at = 0.0

    def task(self, separation: SeparationTask) -> PartsTask:
        """Return what to tell the child."""
        return PartsTask(separation, join=True, least_seconds=self._least_seconds)

    @property
    def progress(self) -> float | None:
        """How much of the song the child has."""
        return len(self._joined) / self._maker.asked.count if self._maker else None

    @property
    def is_waiting(self) -> bool:
        """See `PartsExchange`."""
        return self._wished is not None and self._maker is not None and len(self._joined) < self._maker.asked.count

    @property
    def ran(self) -> RanParts | None:
        """Who made the parts; None if the child separates the song as a whole."""
        if self._maker is None:
            return None
        asked = self._maker.asked
        return RanParts(asked.kind, asked.count, asked.length, dict(self._made), self._found_first, self._again)

    def orders(self, event: Event | None) -> Iterator[Order]:
        """See `PartsExchange`."""
        if isinstance(event, PartsBegun):
            self._begin(event)
        if self._maker is None:
            return
        if isinstance(event, PartMade):
            counts = self._maker.keep(event)
            is_first = event.index not in self._joined
            self._joined.add(event.index)
            self._made[counts.worker] += is_first
            self._again += counts.worker != self._worker_id or not is_first
        elif isinstance(event, PartsJoined):
            self._encoded = event.count
        elif isinstance(event, RunWanted):
            self._wished, self._wished_at = event.wished, time.monotonic()
        self._maker.renew()
        if event is None or self._wished is not None:
            self._look(self._maker)
        # Not all at once: meanwhile nobody looks at the lease.
        near = sorted(index for index in self._found if index < self._encoded + _AHEAD)
        for index in near[:RUN_PARTS]:
            if (order := self._fetched(self._maker, index)) is not None:
                yield order
        if self._wished is not None and (run := self._next_run(self._maker, self._wished)) is not None:
            self._wished = None
            yield run

    def give_back(self) -> None:
        """Leave what is not made yet to others."""
        if self._maker:
            self._maker.give_back()

    def failed(self, error: EngineError) -> None:
        """See `PartsExchange`: if a part was of no use, none that the child got is left to the next attempt."""
        if self._maker is not None and error.code == PartDamagedError.code:
            for part in self._used:
                self._discard(self._maker, part)

    def _begin(self, begun: PartsBegun) -> None:
        request, self._begun = self._request, begun
        level = asdict(begun.level)
        asked = PartsOfJob(request.job_id, request.generation, begun.parts_kind, begun.count, begun.length, level)
        parts = self._ledger.parts(request, begun.parts_kind)
        self._maker = _Maker(self._queue, parts, asked, self._worker_id, self._renew_seconds)
        try:
            for index, part in parts.found().items():
                self._note(self._maker, index, part)
            self._found_first = len(self._found)
            self._queue.runs.ask_help(self._claim, asked, self._found)
        except (StoreError, QueueError) as error:
            log.warning("no help asked for", job_id=request.job_id, error=error.message)
        if self._found:
            log.info("parts found", job_id=request.job_id, parts=len(self._found), of=begun.count)

    def _look(self, maker: _Maker) -> None:
        """Look for parts that others made since."""
        if time.monotonic() < self._looked_at + _LOOK_SECONDS:
            return
        self._looked_at = time.monotonic()
        with suppress(QueueError):
            for index in self._queue.runs.there(maker.asked) - self._joined - self._found.keys():
                with suppress(StoreError):
                    self._note(maker, index, maker.parts.part(index))

    def _note(self, maker: _Maker, index: int, part: SongPart | None) -> None:
        """Note what there is of a part that others are said to have made."""
        if part is None:  # somebody removed it
            self._queue.runs.note_missing(maker.asked, index)
        elif self._fits(part):
            self._found[index] = part
        else:
            self._discard(maker, part)

    def _fits(self, part: SongPart) -> bool:
        """Tell whether a part is what the child would have made in its place."""
        assert self._begun is not None
        begun, start = self._begun, part.index * self._begun.length
        samples = min(begun.length, begun.level.samples - start)
        return (part.start, part.samples) == (start, samples) and (
            set(part.stems) == set(part.clipped) == set(begun.stems)
        )

    def _discard(self, maker: _Maker, part: SongPart) -> None:
        """Have a part made again."""
        self._again += 1
        with suppress(StoreError, QueueError):
            maker.parts.discard(part)
            self._queue.runs.note_missing(maker.asked, part.index)

    def _fetched(self, maker: _Maker, index: int) -> UsePart | None:
        """Fetch a part that others made; None if it has to be made here, or the store is away."""
        part = self._found.pop(index)
        if index in self._joined:
            return None
        try:
            files = maker.parts.fetch(part, self._folder)
        except (PartDamagedError, StoreError, OSError) as error:
            log.warning("part of no use", job_id=maker.asked.job_id, part=index, error=str(error))
            for path in self._folder.glob(f"{index:05}.*"):
                path.unlink(missing_ok=True)
            if isinstance(error, PartDamagedError):
                self._discard(maker, part)
            else:
                with suppress(QueueError):
                    self._queue.runs.note_missing(maker.asked, index)
            return None
        self._joined.add(index)
        self._used.append(part)
        self._made[part.worker] += 1
        return UsePart(index, {stem: str(path) for stem, path in files.items()}, part.clipped)

    def _next_run(self, maker: _Maker, wished: int) -> MakeRun | None:
        """Return what the child makes next; None while others make all that is missing, or if nothing is."""
        answer = maker.take(wished)
        if isinstance(answer, Run):
            return MakeRun(answer.first, answer.stop)
        there = self._joined | self._found.keys()
        missing = [index for index in range(maker.asked.count) if index not in there]
        others_make_it = answer is not None and time.monotonic() < self._wished_at + self._patience_seconds
        if others_make_it or not missing:
            return None
        # Nobody can say who makes what, or whoever says so does not get on: so it is made here.
        first = wished if wished in missing else missing[0]
        stop = first + 1
        while stop in missing and stop < first + RUN_PARTS:
            stop += 1
        return MakeRun(first, stop)


class PartsHelp:
    """Helps with somebody else's job, from a run that was taken until there is none."""

    progress: None = None

    def __init__(
        self, queue: JobQueue, parts: Parts, asked: PartsOfJob, run: Run, *, worker_id: str, renew_seconds: float
    ) -> None:
        self._queue = queue
        self.is_idle = False  # the child has been told that there is no more
        self.is_of_no_use = False  # nobody wants what the child is making
        self._is_over = False
        self.asked = asked
        self._maker = _Maker(queue, parts, asked, worker_id, renew_seconds, run)
        self._first: Run | None = run

    def orders(self, event: Event | None) -> Iterator[Order]:
        """See `PartsExchange`."""
        if isinstance(event, PartsBegun) and not self._is_asked_for(event):
            self._first, self._is_over = None, True  # the child is another one than when the run was taken
        if isinstance(event, PartMade):
            self._maker.keep(event)
        if not self._maker.renew():
            self.is_of_no_use = True
            return
        if isinstance(event, RunWanted):
            run = self._first or self._another(event.wished)
            self._first = None
            if isinstance(run, Run):
                yield MakeRun(run.first, run.stop)
            else:
                self.is_idle = True
                yield NoMoreRuns()

    def give_back(self) -> None:
        """Leave what is left of the run to others."""
        self._maker.give_back()

    def _is_asked_for(self, begun: PartsBegun) -> bool:
        asked = self.asked
        return (begun.parts_kind, begun.count, begun.length) == (asked.kind, asked.count, asked.length)

    def _another(self, wished: int) -> Run | int | None:
        """Take another run, unless a song waits that nobody works on at all."""
        try:
            if self._is_over or self._queue.has_waiting():
                return None
        except QueueError:
            return None
        return self._maker.take(wished)
