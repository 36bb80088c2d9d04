"""A worker, top to bottom: take, claim, fetch, separate, upload, commit, publish, finish; help, if there is nothing.

The worker owns no state that matters: a job is in Redis until it is finished, and its outcome is in the store before
that, so a worker may die between any two lines. It does not import torch: Demucs runs in a supervised child process
(`separation`). What ends an attempt early is an error from the tree in `unmix.errors`, handled in one place, `_serve`.
"""

import json
import math
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Final

import structlog

from unmix import names
from unmix.errors import (
    DeviceError,
    EngineError,
    LeaseLostError,
    OutOfMemoryError,
    QueueError,
    StoreError,
    SupersededError,
    UnmixError,
)
from unmix.job import DamagedRequest, JobRequest, JobStatus
from unmix.ledger.ledger import Ledger, utc_now
from unmix.ledger.room import SHARE_OF_RESULTS, refuse_if_full, result_bytes, room_at
from unmix.outcome import Outcome, Ran, StemFile
from unmix.queue.job_queue import JobQueue
from unmix.queue.records import Claim
from unmix.runtime import traces
from unmix.runtime.heartbeat import Heartbeat
from unmix.runtime.shutdown import Shutdown
from unmix.settings import Settings
from unmix.store.protocol import ObjectStore
from unmix.words import counted
from unmix_worker.child_process import CrashedError, MemoryExceededError
from unmix_worker.elements import PushedJob, parse_element
from unmix_worker.helper import Helper
from unmix_worker.lease import Lease, Released
from unmix_worker.messages import SeparationTask
from unmix_worker.metrics import OK, RELEASED, WorkerMetrics
from unmix_worker.parts import PartsLead
from unmix_worker.patience import Patience
from unmix_worker.scratch import Scratch
from unmix_worker.separation import Separated, SeparationProcess
from unmix_worker.song import song_of
from unmix_worker.waiting_store import WaitingStore

log = structlog.get_logger()

#: A song that is not in the store yet is looked for again three times, which takes about 35 s by default.
INPUT_MISSING_ATTEMPTS: Final = 4
#: Pause after Redis failed, in seconds.
QUEUE_PAUSE_SECONDS: Final = 2
#: Pause after a disk was too full for the stems of a song, in seconds; the song waits at the head of the queue.
FULL_PAUSE_SECONDS: Final = 5
#: After so many attempts in a row that failed for the device or for want of memory, and not for their songs, the worker
#: ends: it would use up the tries of one song after the other, and faster than workers whose devices work. A song over
#: which the separating process was killed for memory counts once: it may be one that no worker has enough for.
MOST_DEVICE_FAILURES: Final = 3


class Worker:
    """Separates one song at a time until it is told to stop."""

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
        self.metrics = WorkerMetrics(process, device=settings.device)
        self._heartbeat = Heartbeat(settings.worker_heartbeat)
        self._helper = Helper(settings, queue, store, process, scratch, worker_id=worker_id)
        # Whoever has nothing to do looks every second whether help is wanted.
        self._block_seconds = min(settings.take_seconds, 1) if settings.parts else settings.take_seconds
        self._device_failures = 0  # in a row
        self._killed_for_memory: set[str] = set()  # jobs among them over which the separating process was
        self._is_full = False

    def run(self, shutdown: Shutdown) -> None:
        """Serve the queue until `shutdown` is requested. Redis being away is waited out.

        Raises:
            EngineError: the model cannot be had, or not with this much memory.
            DeviceError: the device has failed, at the start or over several songs in a row, or memory ran out over
                several of them.
        """
        while not shutdown.requested:
            try:
                card = self._process.ensure_ready(shutdown)
                self._heartbeat.beat()  # first here, so that the file's existence means that the model is loaded
                self._queue.models.announce(card)  # again and again: Redis may have lost it
                element = self._queue.take(block_seconds=self._block_seconds, fetch=self._settings.fetch)
                if element is not None:
                    self._serve(element, shutdown)
                elif self._settings.parts:
                    self._helper.help(shutdown)
                if self._is_full:
                    self._is_full = False
                    shutdown.wait(FULL_PAUSE_SECONDS)
            except QueueError as error:
                log.warning("queue away", error=error.message)
                self.metrics.failed(error.code)
                shutdown.wait(QUEUE_PAUSE_SECONDS)
            except Released:
                return  # asked to stop while the model was loading

    def _serve(self, element: str, shutdown: Shutdown) -> None:
        """Claim a taken element and see its job to an end: over, given back, or to be tried again."""
        try:
            push = parse_element(element, self._settings)
        except UnmixError as error:
            self._queue.discard(element)
            log.warning("element refused", code=error.code, reason=error.message, size_bytes=len(element))
            return
        claim = self._queue.claim(element, push.job_id, self._worker_id, fetch=self._settings.fetch)
        if claim is None:
            return
        lease = Lease(self._queue, claim, self._settings.renew_seconds)
        with lease, self.metrics.attempt(claim), structlog.contextvars.bound_contextvars(job_id=claim.job_id):
            log.info("job started", job_id=claim.job_id, attempt=claim.attempt)
            patience = Patience(self._settings.store_patience_seconds, lease, shutdown, self._heartbeat)
            ledger = Ledger(WaitingStore(self._store, patience), guard=self._queue.guard)
            request: JobRequest | None = None
            try:
                request = self._request(push, claim, ledger)
                self.metrics.begun(request, claim)
                if push.is_of_unknown_model and ledger.outcome(request) is None:
                    known = ", ".join(self._settings.allowed_models)
                    raise EngineError(f"the models of this service are: {known}", code="unknown_model")
                with _attempt(request, claim):
                    self._run_job(request, claim, ledger, lease, shutdown)
            except Released:
                self.metrics.attempt_over(RELEASED)
                self._queue.release(claim)
                log.info("job released", job_id=claim.job_id)
            except (LeaseLostError, SupersededError) as error:
                self.metrics.attempt_over(error.code)
                log.warning("job lost", job_id=claim.job_id, reason=error.message)
            except (EngineError, StoreError, QueueError) as error:
                self.metrics.attempt_over(error.code)
                if error.code == "store_full":
                    self._give_back(claim, error)
                else:
                    self._fail(request, claim, error)
                    self._count_device_failure(claim.job_id, error)
            else:
                self.metrics.attempt_over(OK)

    def _give_back(self, claim: Claim, error: UnmixError) -> None:
        """Let a job wait until somebody has made room: nothing is wrong with it, and no try is used up."""
        log.warning("no room for the stems", job_id=claim.job_id, error=error.message)
        self._is_full = True
        with suppress(StoreError):
            Ledger(self._store).removal.remove_attempt(claim.job_id, claim.token)
        self._queue.release(claim)

    def _refuse_if_full(self, request: JobRequest, scratch: Path) -> None:
        """Begin nothing whose stems there is no room for, on the store's disk or here."""
        settings = self._settings
        wanted = result_bytes(request, usual_bitrate_kbps=settings.mp3_bitrate_kbps, parts=settings.parts)
        for room in (self._store.room(), room_at(scratch)):
            refuse_if_full(room, settings.min_free_gb, more_bytes=wanted, share=SHARE_OF_RESULTS)

    def _count_device_failure(self, job_id: str, error: UnmixError) -> None:
        """Raise if this was one too many: whoever starts the worker again may give it another device, or more time."""
        if job_id in self._killed_for_memory or not isinstance(error, DeviceError | OutOfMemoryError):
            return
        if isinstance(error, MemoryExceededError):
            self._killed_for_memory.add(job_id)
        self._device_failures += 1
        if self._device_failures >= MOST_DEVICE_FAILURES:
            message = f"{self._device_failures} attempts in a row failed on this worker; the last: {error.message}"
            raise DeviceError(message, code=error.code)

    def _request(self, push: PushedJob, claim: Claim, ledger: Ledger) -> JobRequest:
        """Return what the store says of the job; a foreign push is written there, as it has no request yet.

        Raises:
            SupersededError: the job was removed.
        """
        if claim.generation is None:
            pushed = JobRequest(
                claim.job_id,
                push.options,
                utc_now(),
                push.callbacks,
                warnings=push.warnings,
                tenant=names.presumed_tenant(claim.job_id),
            )
            adopted = ledger.adopt(pushed)
            self._queue.job_list.note(adopted)
            return adopted
        request = ledger.request(claim.job_id)
        if request is None:
            self._queue.drop(claim)
            raise SupersededError("the job was removed")
        return request

    def _run_job(self, request: JobRequest, claim: Claim, ledger: Ledger, lease: Lease, shutdown: Shutdown) -> None:
        """Make the stems of one job, commit and publish them. Whoever claims the job next may repeat any of this."""
        began = time.monotonic()
        outcome = ledger.outcome(request)  # an earlier attempt may have come that far
        if outcome is None:
            self._refuse_if_spent(claim)
            if isinstance(request, DamagedRequest):
                raise EngineError("the document that says what to do is damaged", code="bad_document")
            with self._scratch.song() as scratch:
                self._refuse_if_full(request, scratch)
                go_on = partial(self._go_on, lease, shutdown)
                with self.metrics.fetching.time():
                    song_path = song_of(request, ledger, scratch, self._settings, go_on=go_on)
                task = SeparationTask.of(
                    request.options,
                    song_path,
                    scratch / "stems",
                    self._settings.mp3_bitrate_kbps,
                    level=request.level,
                )
                lead = self._lead(request, claim, scratch)
                try:
                    separated = self._process.separate(lead.task(task) if lead else task, lease, shutdown, lead)
                finally:
                    if lead:
                        lead.give_back()
                self._device_failures = 0
                self._killed_for_memory.clear()
                with self.metrics.uploading.time():
                    stems, peaks = _upload(request, claim, ledger, separated)
            lease.check()
            # REST has checked the song before, and said the same of it.
            warnings = tuple(dict.fromkeys((*request.warnings, *separated.warnings)))
            notes = tuple(dict.fromkeys((*request.notes, *separated.notes)))
            ended = replace(self._ended(request, claim, JobStatus.DONE), notes=notes)
            ran = replace(separated.ran, parts=lead.ran) if lead else separated.ran
            made = replace(ended, stems=stems, peaks=peaks, music=separated.music, ran=ran, warnings=warnings)
            with traces.span("commit"):
                outcome = ledger.commit(made)
            if outcome.token != claim.token:  # another attempt was first, and its stems count
                ledger.discard(made)
            self._note_speed(request, ran, time.monotonic() - began)
        with traces.span("publish"):
            ledger.publish(outcome)
        self._finish(request, claim, outcome)

    def _go_on(self, lease: Lease, shutdown: Shutdown) -> None:
        """Raise if the song that is being fetched is ours no more, or the worker has to stop.

        It is called from the thread that watches the call too, which ends when the time of the call does.
        """
        self._heartbeat.beat()
        lease.check()
        if shutdown.requested:
            raise Released

    def _lead(self, request: JobRequest, claim: Claim, scratch: Path) -> PartsLead | None:
        """Return who leads the work on a song in parts; None if it is separated as a whole."""
        options = request.options
        whole = (options.start, options.end) == (0.0, None) and options.bits < 32  # what is kept are whole numbers
        length = math.inf if request.duration_seconds is None else request.duration_seconds  # the child measures it
        if not self._settings.parts or not whole or length < self._settings.parts_least_seconds:
            return None
        if not self._process.parts_kind:  # a child of an earlier version knows nothing of parts
            return None
        return PartsLead(
            self._queue,
            Ledger(self._store),  # nobody waits for the store here
            request,
            claim,
            scratch,
            worker_id=self._worker_id,
            renew_seconds=self._settings.renew_seconds,
            least_seconds=self._settings.parts_least_seconds,
            patience_seconds=self._settings.stall_seconds,
        )

    def _note_speed(self, request: JobRequest, ran: Ran, seconds: float) -> None:
        """Count it, and let those who wait know how long a song takes, if this one took one worker all of its time."""
        self.metrics.separated(ran, self._worker_id)
        song_seconds = replace(request, duration_seconds=ran.duration_seconds).computed_seconds
        if song_seconds and (ran.parts is None or (not ran.parts.found and len(ran.parts.made) == 1)):
            with suppress(QueueError):
                self._queue.speeds.note(ran.model, song_seconds=song_seconds, work_seconds=seconds)

    def _refuse_if_spent(self, claim: Claim) -> None:
        """Raise how the job ends if its tries are used up: whoever used the last one died before it said so."""
        if claim.crashes >= self._settings.max_crashes:
            raise EngineError("the song ended the separating process each time", code="poison")
        if claim.failures >= self._settings.max_attempts:
            raise EngineError("given up after the last try", code="gave_up")
        if claim.lapses >= self._settings.max_lapses:
            raise EngineError(f"{counted(claim.lapses, 'worker')} died over this song", code="gave_up")

    def _finish(self, request: JobRequest, claim: Claim, outcome: Outcome) -> None:
        self._queue.finish(claim, outcome.status, error_code=outcome.error_code, callbacks=len(request.callbacks))
        self.metrics.job_over(outcome)
        log.info("job over", job_id=claim.job_id, status=outcome.status.value, code=outcome.error_code)

    def _ended(self, request: JobRequest, claim: Claim, status: JobStatus) -> Outcome:
        return Outcome(
            job_id=request.job_id,
            generation=request.generation,
            status=status,
            finished_at=utc_now(),
            token=claim.token,
            attempt=claim.attempt,
            worker=self._worker_id,
            format=request.options.format,
        )

    def _fail(self, request: JobRequest | None, claim: Claim, error: UnmixError) -> None:
        """Try the job again later, or commit its failure if that is no use. Nobody waits for the store here."""
        code, message = error.code, error.message
        log.warning("attempt failed", job_id=claim.job_id, attempt=claim.attempt, code=code, error=message)
        try:
            if error.retryable:
                most = INPUT_MISSING_ATTEMPTS if code == "input_missing" else None
                crashed = isinstance(error, CrashedError)
                if self._queue.fail(claim, error_code=code, crashed=crashed, max_attempts=most):
                    return
                if crashed:
                    code, message = "poison", f"the song ended the separating process each time; last: {message}"
                elif isinstance(error, MemoryExceededError):
                    message = f"given up after the last try, as no worker had memory enough for it; last: {message}"
                elif code != "input_missing":
                    code, message = "gave_up", f"given up after the last try; its error: {code}: {message}"
            if request is None:  # the store did not say what was asked: there is nothing that a commit could end
                log.error("failure not recorded", job_id=claim.job_id, error=message)
                return
            ended = self._ended(request, claim, JobStatus.FAILED)
            ledger = Ledger(self._store, guard=self._queue.guard)
            outcome = ledger.commit(replace(ended, error_code=code, error=message))
            ledger.publish(outcome)
            self._finish(request, claim, outcome)
        except SupersededError as superseded:
            log.warning("job lost", job_id=claim.job_id, reason=superseded.message)
        except (StoreError, QueueError) as failure:
            # Nothing is lost: the lease lapses, and the job is taken again.
            log.error("failure not recorded", job_id=claim.job_id, error=failure.message)


@contextmanager
def _attempt(request: JobRequest, claim: Claim) -> Iterator[None]:
    """Time an attempt as part of the job's trace, and before the first one how long the job has waited for it."""
    if claim.attempt == 1 and request.submitted_at_seconds:
        traces.past("wait in the queue", began_at=request.submitted_at_seconds, within=request.traceparent)
    whose, job_id = request.traceparent, claim.job_id
    with traces.span("attempt", within=whose, kind="consumer", job_id=job_id, attempt=claim.attempt):
        yield


@traces.traced("upload")
def _upload(
    request: JobRequest, claim: Claim, ledger: Ledger, separated: Separated
) -> tuple[dict[str, StemFile], StemFile | None]:
    """Store the stems and, if the child told them, their peaks."""
    stems = {
        stem: ledger.put_stem(request.job_id, claim.token, stem, request.options.format, path)
        for stem, path in separated.stems.items()
    }
    peaks = json.dumps(separated.peaks, separators=(",", ":")).encode()
    return stems, ledger.put_peaks(request.job_id, claim.token, peaks) if separated.peaks else None
