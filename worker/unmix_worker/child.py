"""The separating child: holds torch and one loaded model, and separates the songs that its parent names.

It reads one task per line of JSON on standard input and answers with events, one per line, on standard output:
`ready` once the default model is loaded; per task `loaded`, `progress`…, then `done` or `error`. It ends when its
parent does. It knows files only: no Redis, no store, no lease.
"""

import json
import os
import queue
import sys
import threading
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

from unmix.engine.models import load_model
from unmix.engine.separator import Separator
from unmix.errors import EngineError, UnmixError
from unmix.job import ModelCard, Ran
from unmix.settings import Settings

Emit = Callable[[dict[str, Any]], None]


def main() -> None:
    """Load the default model, then separate until the parent closes the pipe."""
    emit = _take_over_stdout()
    tasks = _read_tasks()
    settings = Settings()
    try:
        separator = _load(settings.model, settings)
    except UnmixError as error:
        emit(_error(error))
        return
    runs = {"backend": separator.backend, "precision": separator.precision}
    emit({"event": "ready", "card": asdict(_card(separator)), **runs})
    while True:
        task = tasks.get()
        try:
            separator = _with_model(task["model"], separator, settings)
            emit({"event": "loaded"})
            emit(_separate(task, separator, settings.max_song_seconds, emit))
        except UnmixError as error:
            emit(_error(error))


def _with_model(name: str, separator: Separator, settings: Settings) -> Separator:
    """Keep the loaded model, or replace it: one at a time, for memory's sake."""
    if separator.model.name == name:
        return separator
    return _load(name, settings)


def _load(name: str, settings: Settings) -> Separator:
    model = load_model(name, model_dir=settings.model_dir, trusted_weights=settings.trusted_sums)
    return Separator(
        model,
        device=settings.device,
        backend=settings.backend,
        precision=settings.precision,
        threads=settings.threads,
        cache_dir=settings.cache_dir,
    )


def _separate(task: dict[str, Any], separator: Separator, max_seconds: float, emit: Emit) -> dict[str, Any]:
    model = separator.model
    if task["weights_sha256"] not in (None, model.weights_sha256):
        # Another worker may have the weights that were promised when the song was accepted.
        raise EngineError(
            f"the job was accepted for other weights of {model.name} than this worker has",
            code="weights_changed",
            retryable=True,
        )
    separation = separator.separate_file(
        Path(task["song"]),
        Path(task["out"]),
        stems=task["stems"],
        format=task["format"],
        bitrate_kbps=task["bitrate_kbps"],
        max_seconds=max_seconds,  # REST has checked it, a foreign producer has not
        mixture_consistency=task["mixture_consistency"],
        on_progress=lambda done, total: emit({"event": "progress", "done": done, "total": total}),
    )
    ran = Ran(
        model=model.name,
        weights_sha256=model.weights_sha256,
        device=separator.device,
        backend=separator.backend,
        precision=separator.precision,
        sample_rate=model.sample_rate,
        duration_seconds=separation.duration_seconds,
        processing_seconds=round(separation.seconds, 3),
    )
    return {
        "event": "done",
        "stems": {stem: str(path) for stem, path in separation.stems.items()},
        "ran": ran.to_fields(),
        "warnings": separation.warnings,
    }


def _card(separator: Separator) -> ModelCard:
    model = separator.model
    return ModelCard(model.name, model.weights_sha256, model.sources, model.sample_rate)


def _error(error: UnmixError) -> dict[str, Any]:
    return {"event": "error", "code": error.code, "message": error.message, "retryable": error.retryable}


def _take_over_stdout() -> Emit:
    """Keep the pipe to the parent for events alone: whatever a library prints goes to standard error."""
    events = os.fdopen(os.dup(sys.stdout.fileno()), "w", buffering=1)
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())

    def emit(event: dict[str, Any]) -> None:
        events.write(json.dumps(event) + "\n")

    return emit


def _read_tasks() -> "queue.SimpleQueue[dict[str, Any]]":
    """Read tasks in a thread, so that the end of the parent is noticed in the middle of a song."""
    tasks: queue.SimpleQueue[dict[str, Any]] = queue.SimpleQueue()

    def read() -> None:
        for line in sys.stdin:
            tasks.put(json.loads(line))
        os._exit(0)  # the parent is gone, and torch does not listen

    threading.Thread(target=read, daemon=True).start()
    return tasks


if __name__ == "__main__":
    main()
