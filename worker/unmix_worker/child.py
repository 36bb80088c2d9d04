"""The separating child: holds torch and one loaded model, and separates the songs that its parent names.

It reads one task per line on standard input (`orders`) and answers with events on standard output; `messages` says
which. It ends when its parent does, or when the device on which it computes has failed. It knows files only: no Redis,
no store, no lease. It does not decode songs itself: a process does that which is shut in (`unmix.audio.decoder`).
"""

import gc
import os
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from unmix.audio.ear import Heard
from unmix.audio.formats import LOSSY
from unmix.audio.level import Level
from unmix.audio.music import music_of
from unmix.audio.peaks import of_song
from unmix.engine.memory import give_back
from unmix.engine.passes import Passes
from unmix.engine.separator import Separator
from unmix.errors import DeviceError, EngineError, UnmixError
from unmix.job import PRECISIONS
from unmix.outcome import Music, Ran
from unmix.queue.records import ModelCard
from unmix.separating import make_separator
from unmix.settings import Settings
from unmix_worker.messages import (
    KNOWN,
    Abandon,
    Abandoned,
    Done,
    Event,
    Failed,
    Loaded,
    Order,
    PartsTask,
    Progress,
    Ready,
    SeparationTask,
    encode,
)
from unmix_worker.orders import AbandonedError, Orders
from unmix_worker.part_work import part_work, parts_kind

Emit = Callable[[Event], None]


def main() -> None:
    """Load the default model, then separate until the parent closes the pipe."""
    emit = _take_over_stdout()
    orders = Orders.of_parent()
    settings = Settings()
    separator: Separator | None
    precision: str = settings.precision  # that the separator was made for; what really runs may be more exact
    try:
        separator = make_separator(settings.model, settings)
    except UnmixError as error:
        emit(_failed(error))
        _end_after(error)
        return
    kind = parts_kind(separator, Passes())
    emit(Ready(_card(separator), separator.backend, separator.precision, separator.needed_mb, kind, KNOWN))

    def emit_of_song(event: Event) -> None:
        orders.check()
        emit(event)

    while True:
        try:
            order = orders.next()
            if isinstance(order, Abandon):
                emit(Abandoned())  # it came too late
            if not isinstance(order, SeparationTask | PartsTask):
                continue  # of a song that is over
            task = order.separation if isinstance(order, PartsTask) else order
            asked = _precision(task, settings)
            if separator is None or separator.model.name != task.model or asked not in (precision, separator.precision):
                separator = None  # one model at a time, for memory's sake: this one goes before the next one comes
                give_back()
                separator = make_separator(task.model, settings.model_copy(update={"precision": asked}))
                precision = asked
            emit_of_song(Loaded())
            _refuse_other_weights(task, separator)
            if isinstance(order, PartsTask):
                done = _in_parts(order, separator, settings, emit_of_song, orders.next_of_song)
            else:
                done = _as_a_whole(task, separator, settings, emit_of_song)
            if done is not None:
                emit(done)
            continue
        except AbandonedError:
            is_abandoned = True
        except UnmixError as error:
            is_abandoned = False
            emit(_failed(error))
            _end_after(error)
        # Only here, where the error is forgotten and with it the song's frames: of what was made of a song that ended
        # early, nothing may hold a file or a decoder.
        gc.collect()
        if is_abandoned:
            orders.pass_over()
            emit(Abandoned())


def _end_after(error: UnmixError) -> None:
    """End at once if the device has failed: its context is lost, and tidying up would hang over it."""
    if isinstance(error, DeviceError):
        os._exit(1)


def _precision(task: SeparationTask, settings: Settings) -> str:
    """Return how precisely to compute.

    Raises:
        EngineError: only another version knows this precision (`bad_task`).
    """
    asked = task.precision or settings.precision
    if asked not in PRECISIONS:
        raise EngineError("the worker does not know the precision of this job", code="bad_task", retryable=True)
    return asked


def _refuse_other_weights(task: SeparationTask, separator: Separator) -> None:
    model = separator.model
    if task.weights_sha256 not in (None, model.weights_sha256):
        # Another worker may have the weights that were promised when the song was accepted.
        raise EngineError(
            f"the job was accepted for other weights of {model.name} than this worker has",
            code="weights_changed",
            retryable=True,
        )


def _as_a_whole(task: SeparationTask, separator: Separator, settings: Settings, emit: Emit) -> Done:
    separation = separator.separate_file(
        Path(task.song),
        Path(task.out),
        stems=task.stems,
        format=task.format,
        bits=task.bits,
        song_rate=task.song_rate,
        bitrate_kbps=task.bitrate_kbps,
        # REST has checked what was sent to it, and neither a song that a URL led to nor one of a foreign producer.
        min_seconds=settings.min_song_seconds,
        max_seconds=settings.max_song_seconds,
        mixture_consistency=task.mixture_consistency,
        overlap=task.overlap,
        shifts=task.shifts,
        level=_level(task),
        start=task.start,
        end=task.end,
        on_progress=lambda done, total: emit(Progress(done, total)),
    )
    stems = {stem: str(path) for stem, path in separation.stems.items()}
    ran = _ran(separator, task, separation.duration_seconds, separation.seconds)
    peaks, music = _told(separation.peaks, separation.heard)
    return Done(stems, ran, separation.warnings, separation.notes, peaks, music)


def _in_parts(
    order: PartsTask, separator: Separator, settings: Settings, emit: Emit, receive: Callable[[], Order]
) -> Done | None:
    """Make parts of a song, and its stems if they are to be joined."""
    started, task = time.monotonic(), order.separation
    work = part_work(
        separator, task, _level(task), max_seconds=settings.max_song_seconds, least_seconds=order.least_seconds
    )
    if work is None:
        return _as_a_whole(task, separator, settings, emit)
    if not order.join:
        work.help(emit, receive)
        return None
    made, peaks, heard = work.join(emit, receive)
    ran = _ran(separator, task, work.duration_seconds, time.monotonic() - started)
    drawn, music = _told(peaks, heard)
    stems = {stem: str(path) for stem, path in made.stems.items()}
    return Done(stems, ran, made.warnings, made.notes, drawn, music)


def _told(peaks: dict[str, list[int]], heard: dict[str, Heard]) -> tuple[dict[str, Any], Music]:
    """Return what is told of stems beside themselves: the document of their peaks and beats, and their music."""
    found = music_of(heard)
    music = Music(found.key, found.key_confidence, found.tempo_bpm, found.tempo_confidence)
    return of_song(peaks, found.beats), music


def _ran(separator: Separator, task: SeparationTask, duration_seconds: float, seconds: float) -> Ran:
    model = separator.model
    return Ran(
        model=model.name,
        weights_sha256=model.weights_sha256,
        device=separator.device,
        backend=separator.backend,
        precision=separator.precision,
        sample_rate=model.sample_rate,
        duration_seconds=duration_seconds,
        processing_seconds=round(seconds, 3),
        weights_source=model.weights_source,
        weights_licence=model.weights_licence,
        bitrate_kbps=task.bitrate_kbps if task.format in LOSSY else None,
    )


def _level(task: SeparationTask) -> Level | None:
    known = task.level
    if known is None:
        return None
    return Level(known.samples, known.mean, known.std, known.measured_by, known.own_rate, known.own_samples)


def _card(separator: Separator) -> ModelCard:
    model = separator.model
    return ModelCard(
        model.name,
        model.weights_sha256,
        model.sources,
        model.sample_rate,
        weights_source=model.weights_source,
        weights_licence=model.weights_licence,
    )


def _failed(error: UnmixError) -> Failed:
    return Failed(error.code, error.message, error.retryable)


def _take_over_stdout() -> Emit:
    """Keep the pipe to the parent for events alone: whatever a library prints goes to standard error."""
    events = os.fdopen(os.dup(sys.stdout.fileno()), "w", buffering=1)
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())

    one_at_a_time = threading.Lock()

    def emit(event: Event) -> None:
        with one_at_a_time:
            events.write(encode(event))

    return emit


if __name__ == "__main__":
    main()
