"""Helps: what a worker does that finds no song of its own, if another one wants help with the parts of a long one.

A helper has no claim on the job, so nothing that happens to it matters to the job: it puts parts into the store, and
whoever leads makes what is missing. It looks for a song of its own again after every run.
"""

import time
from typing import Final

import structlog

from unmix.errors import EngineError, StoreError, SupersededError
from unmix.job import SongLevel
from unmix.ledger.ledger import Ledger
from unmix.queue.job_queue import JobQueue
from unmix.queue.runs import PartsOfJob, Run
from unmix.runtime import traces
from unmix.runtime.shutdown import Shutdown
from unmix.settings import Settings
from unmix.store.protocol import ObjectStore
from unmix_worker.messages import PartsTask, SeparationTask
from unmix_worker.parts import PartsHelp
from unmix_worker.scratch import Scratch
from unmix_worker.separation import SeparationProcess
from unmix_worker.song import stored_song

log = structlog.get_logger()

#: How long a job is left alone that could not be helped with.
PAUSE_SECONDS: Final = 60


class Helper:
    """Makes parts of songs that other workers have claimed."""

    def __init__(
        self,
        settings: Settings,
        queue: JobQueue,
        store: ObjectStore,
        process: SeparationProcess,
        scratch: Scratch,
        *,
        worker_id: str,
    ) -> None:
        self._settings = settings
        self._queue = queue
        self._store = store
        self._process = process
        self._scratch = scratch
        self._worker_id = worker_id
        self._given_up: dict[str, float] = {}  # jobs that could not be helped with, until when not to try

    def help(self, shutdown: Shutdown) -> None:
        """Help with the oldest job that wants help and has a free run, until there is nothing to do for it.

        Raises:
            QueueError: Redis is away.
            Released: the worker has to stop.
        """
        now = time.monotonic()
        self._given_up = {job_id: until for job_id, until in self._given_up.items() if until > now}
        for asked in self._queue.runs.wanted(self._process.parts_kind):
            if asked.job_id in self._given_up or not isinstance(run := self._queue.runs.take(asked), Run):
                continue
            try:
                with structlog.contextvars.bound_contextvars(job_id=asked.job_id):
                    self._make(asked, run, shutdown)
            except (EngineError, StoreError, SupersededError) as error:
                # Whoever leads makes what is missing, and fails if the song is to blame.
                log.warning("could not help", job_id=asked.job_id, code=error.code, error=error.message)
                self._given_up[asked.job_id] = now + PAUSE_SECONDS
                self._queue.runs.give_back(asked, run)
            return

    def _make(self, asked: PartsOfJob, run: Run, shutdown: Shutdown) -> None:
        ledger = Ledger(self._store)
        request = ledger.request(asked.job_id)
        if request is None or request.generation != asked.generation:
            raise SupersededError("the job was removed or submitted anew")
        helper = PartsHelp(
            self._queue,
            ledger.parts(request, asked.kind),
            asked,
            run,
            worker_id=self._worker_id,
            renew_seconds=self._settings.renew_seconds,
        )
        with self._scratch.song() as scratch:
            task = SeparationTask.of(
                request.options,
                stored_song(request, ledger, scratch),
                scratch / "stems",
                self._settings.mp3_bitrate_kbps,
                level=SongLevel.from_fields(asked.level),
            )
            log.info("helping", job_id=asked.job_id, part=run.first, parts=asked.count)
            try:
                with traces.span("help", within=request.traceparent, kind="consumer", job_id=asked.job_id):
                    self._process.help(PartsTask(task, join=False), helper, shutdown)
            finally:
                helper.give_back()
