"""`POST /apiv1/separate`: accept a song.

Whatever can be found wrong with it is found before anything is stored. Then the order is the promise of the service:
the song, then the request document, then the queue; only after all three the song counts as accepted. Workers take it
from there; `unmix_rest.routes.jobs` tells how it goes.
"""

import re
from collections.abc import Mapping
from dataclasses import asdict
from typing import Any, Final

import structlog
from flask import Response, request

from unmix import names
from unmix.audio.formats import SAMPLE_RATE, check_format
from unmix.audio.region import region_of
from unmix.callbacks.address import check_callback_url
from unmix.errors import InputError
from unmix.job import Callback, JobRequest, JobStatus, SeparationOptions, SongLevel
from unmix.ledger.ledger import utc_now
from unmix_rest.http.answers import json_answer
from unmix_rest.http.uploads import Upload, receive
from unmix_rest.routes.lookup import status_of
from unmix_rest.services import Services

log = structlog.get_logger()

#: What other services let clients choose and this one decides itself, for the same song to give the same stems.
FIXED_OPTIONS: Final = ("shifts", "segment", "segment_seconds", "overlap", "sample_rate")

_NUMBER: Final = re.compile(r"[+-]?[0-9]{1,12}(\.[0-9]{1,12})?")


def submit(services: Services) -> Response:
    """Take a song in."""
    with receive(request, max_song_bytes=services.settings.max_upload_mb << 20) as upload:
        return json_answer(_accept(upload, services))


def _accept(upload: Upload, services: Services) -> dict[str, Any]:
    callback, warnings = _callback(upload, services.settings.callback_allow)
    options = _options(upload.fields, services)
    probed = services.probe.check(upload.path)
    region_of(options.start, options.end, samples=round(probed.duration_seconds * SAMPLE_RATE))
    services.queue.ping()  # nothing is stored that could not be queued, unless Redis goes at this very moment
    wanted = JobRequest(
        job_id=options.job_id(upload.song_hash, services.settings.default_options),
        options=options,
        submitted_at=utc_now(),
        callbacks=(callback,) if callback else (),
        duration_seconds=probed.duration_seconds,
        warnings=probed.warnings,
        notes=probed.notes,
        level=SongLevel(**asdict(probed.level)) if probed.level else None,
    )
    services.ledger.put_song(upload.song_hash, upload.path)
    accepted, is_new = services.ledger.accept(wanted)
    # Once more: a retirement that did not know of this job may have removed it meanwhile.
    services.ledger.put_song(upload.song_hash, upload.path)
    status = _queue_job(accepted, services, callback)
    services.metrics.accepted()
    log.info(
        "accepted",
        job_id=accepted.job_id,
        model=options.model,
        size_bytes=upload.size_bytes,
        duration_seconds=round(probed.duration_seconds, 1),
        joined=not is_new,
    )
    return {
        "hash": accepted.job_id,
        "songhash": upload.song_hash,
        "reason": "Song enqueued for separation",
        "status": status.value,
        "warnings": [*accepted.warnings, *warnings],
        "notes": list(accepted.notes),
    }


def _queue_job(accepted: JobRequest, services: Services, callback: Callback | None) -> JobStatus:
    """Queue what is owed; a repeated submission changes nothing but its callback."""
    outcome = services.ledger.outcome(accepted)
    if outcome is None:
        services.queue.submit(accepted.job_id, accepted.generation, callbacks=len(accepted.callbacks))
    if callback:
        # The queue knows the number of callbacks from the first submission; this one may have come later.
        services.queue.add_callback(accepted.job_id, accepted.callbacks.index(callback))
    return outcome.status if outcome else status_of(accepted.job_id, services)


def _options(fields: Mapping[str, Any], services: Services) -> SeparationOptions:
    """Return the effective options, as far as the queue knows the model."""
    defaults = services.settings.default_options
    if any(fields.get(name) is not None for name in FIXED_OPTIONS):
        raise InputError(f"{', '.join(FIXED_OPTIONS)} are fixed by this service", code="out_of_range")
    model = _text(fields, "model") or defaults.model
    if model not in services.settings.allowed_models:
        known = ", ".join(services.settings.allowed_models)
        raise InputError(f"the models of this service are: {known}", code="unknown_model")
    format = _text(fields, "format") or defaults.format
    bits = _number(fields, "bits")
    bits = defaults.bits if bits is None else bits
    if bits != int(bits):
        raise InputError("the field bits has to be a whole number", code="invalid_field")
    check_format(format, int(bits))
    stems = _stems(fields.get("stems"))
    card = services.queue.models.get(model)
    if card and not set(stems) <= set(offered := names.stems_of(card.sources)):
        raise InputError(f"the stems of this model are: {', '.join(offered)}", code="unknown_stem")
    return SeparationOptions(
        model,
        stems,
        format,
        weights_sha256=card.weights_sha256 if card else None,
        mixture_consistency=_flag(fields, "mixture_consistency"),
        bits=int(bits),
        start=_number(fields, "start") or 0.0,
        end=_number(fields, "end"),
    )


def _stems(value: Any) -> tuple[str, ...]:
    """Read a list of stems, or their names separated by commas; none are all sources."""
    if value is None or value == "":
        return ()
    listed = value.split(",") if isinstance(value, str) else value
    if not isinstance(listed, list) or not all(isinstance(name, str) for name in listed):
        raise InputError("the field stems has to be a list of names", code="invalid_field")
    stems = tuple(dict.fromkeys(names.STEM_ALIASES.get(name.strip(), name.strip()) for name in listed))
    if not all(map(names.is_stem, stems)):
        raise InputError("the field stems holds something that is no stem", code="unknown_stem")
    return stems


def _callback(upload: Upload, allow: str) -> tuple[Callback | None, list[str]]:
    """Return the callback, or none and a warning if an old client names a place where nobody may be called."""
    value = upload.fields.get("callback")
    if value is None:
        return None, []
    if not isinstance(value, dict):
        raise InputError("the field callback has to be an object", code="invalid_field")
    url, data = value.get("url"), value.get("data")
    if not isinstance(url, str) or not isinstance(data, dict | None):
        raise InputError("a callback has a url and may have data, an object", code="invalid_field")
    try:
        return Callback(check_callback_url(url, allow=allow), data or {}), []
    except InputError as error:
        if upload.is_form:
            raise
        # Their sample code names http://localhost:5000, and they expect to be served all the same.
        return None, [f"the callback will not be called: {error.message}"]


def _text(fields: Mapping[str, Any], name: str) -> str | None:
    value = fields.get(name)
    if value is None or isinstance(value, str):
        return value
    raise InputError(f"the field {name} has to be a string", code="invalid_field")


def _number(fields: Mapping[str, Any], name: str) -> float | None:
    """Read a finite number, which forms can only spell."""
    value = fields.get(name)
    if value is None:
        return None
    if isinstance(value, str) and _NUMBER.fullmatch(value):
        value = float(value)
    if isinstance(value, int | float) and not isinstance(value, bool) and abs(value) < 1e12:
        return float(value)
    raise InputError(f"the field {name} has to be a number", code="invalid_field")


def _flag(fields: Mapping[str, Any], name: str) -> bool:
    """Read a boolean, which forms can only spell; none is false."""
    value = fields.get(name)
    if value is None or isinstance(value, bool):
        return bool(value)
    if isinstance(value, str) and value.lower() in ("true", "false"):
        return value.lower() == "true"
    raise InputError(f"the field {name} has to be true or false", code="invalid_field")
