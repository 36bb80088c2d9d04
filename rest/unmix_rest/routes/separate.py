"""`POST /apiv1/jobs`, and `POST /apiv1/separate` as older clients know it: accept a song.

Whatever can be found wrong with it is found before anything is stored. Then the order is the promise of the service:
the song, then the request document, then the queue; only after all three the song counts as accepted. Workers take it
from there; `unmix_rest.routes.jobs` tells how it goes.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from http import HTTPStatus
from typing import Any, Final

import structlog
from flask import Response, request

from unmix import names
from unmix.audio.formats import SAMPLE_RATE, check_bitrate, check_format
from unmix.audio.passes import check_passes
from unmix.audio.region import region_of
from unmix.callbacks.address import check_callback_url
from unmix.callbacks.events import read_events
from unmix.errors import InputError
from unmix.job import MAX_LABELS, PRECISIONS, Callback, JobRequest, SeparationOptions, SongLevel
from unmix.ledger.ledger import utc_now
from unmix.outcome import Outcome
from unmix.queue.records import ModelCard
from unmix_rest.http.answers import json_answer
from unmix_rest.http.uploads import MAX_NAME_CHARACTERS, Upload, read_spelled, receive
from unmix_rest.routes.events import wait_for_end, wait_seconds
from unmix_rest.routes.lookup import status_of
from unmix_rest.routes.models import is_offered
from unmix_rest.services import Services
from unmix_rest.told import Accepted
from unmix_rest.views import view_of, view_of_job

log = structlog.get_logger()

#: What a job can be told.
OPTIONS: Final = (
    *("model", "stems", "format", "bits", "bitrate_kbps", "mixture_consistency", "start", "end"),
    *("precision", "overlap", "shifts"),
)
#: What a client may say besides, in each of the two routes; `songhash` older clients send, and it is worked out anyway.
FIELDS: Final = ("callback", "name", "labels", "batch")
OLD_FIELDS: Final = ("callback", "songhash")

#: What other services let clients choose and this one decides itself.
FIXED_OPTIONS: Final = ("segment", "segment_seconds", "sample_rate")

#: Most unknown fields that the answer names, and how much of each.
_NAMED_FIELDS: Final = 10
_NAMED_CHARACTERS: Final = 64
#: Longest label or batch.
_LABEL_CHARACTERS: Final = 100

_NUMBER: Final = re.compile(r"[+-]?[0-9]{1,12}(\.[0-9]{1,12})?")


@dataclass(frozen=True, slots=True)
class _Wish:
    """What a client wants besides the song and the options."""

    callback: Callback | None
    name: str | None
    labels: tuple[str, ...]
    batches: tuple[str, ...]
    warnings: tuple[str, ...]  # of this very submission


def submit_job(services: Services) -> Response:
    """Take a song in, and answer with its job."""
    wait = wait_seconds()
    max_song_bytes, uploads = services.settings.max_upload_mb << 20, services.ledger.uploads
    with (
        services.intake,
        receive(request, max_song_bytes=max_song_bytes, song_field="file", takes_raw=True, uploads=uploads) as upload,
    ):
        fields = _with_query(upload.fields)
        callback = _callback(fields)
        wish = _Wish(
            callback and _checked(callback, services.settings.callback_allow),
            _text(fields, "name", most=MAX_NAME_CHARACTERS) or upload.file_name,
            _labels(fields),
            (batch,) if (batch := _text(fields, "batch", most=_LABEL_CHARACTERS)) else (),
            _unknown_fields(fields, FIELDS),
        )
        accepted, outcome = _accept(upload, fields, wish, services)
        if upload.sent_before:  # last: until here it can be tried again
            uploads.close(upload.sent_before, accepted.job_id)
    job_id = accepted.job_id
    waited = outcome is None and wait_for_end(job_id, wait, services)
    view = view_of_job(job_id, services) if waited else view_of(job_id, accepted, outcome, services)
    answer = json_answer(replace(view, warnings=(*view.warnings, *wish.warnings)), HTTPStatus.ACCEPTED)
    answer.headers["Location"] = f"/apiv1/jobs/{job_id}"
    return answer


def submit(services: Services) -> Response:
    """Take a song in, and answer as the contract has it."""
    max_song_bytes = services.settings.max_upload_mb << 20
    with services.intake, receive(request, max_song_bytes=max_song_bytes, song_field="mp3") as upload:
        wish = _old_wish(upload, services.settings.callback_allow)
        accepted, outcome = _accept(upload, upload.fields, wish, services)
    return json_answer(
        Accepted(
            accepted.job_id,
            accepted.song_hash,
            "Song enqueued for separation",
            outcome.status if outcome else status_of(accepted.job_id, services),
            (*accepted.warnings, *wish.warnings),
            accepted.notes,
        )
    )


def _accept(
    upload: Upload, fields: Mapping[str, Any], wish: _Wish, services: Services
) -> tuple[JobRequest, Outcome | None]:
    """Check a song, store it, write down what is owed, and queue it; returns the job, and its end if it is over."""
    options = _options(fields, services)
    probed = services.probe.check(upload.path)
    region_of(options.start, options.end, samples=round(probed.duration_seconds * SAMPLE_RATE))
    services.queue.ping()  # nothing is stored that could not be queued, unless Redis goes at this very moment
    wanted = JobRequest(
        job_id=options.job_id(upload.song_hash, services.settings.usual_options),
        options=options,
        submitted_at=utc_now(),
        callbacks=(wish.callback,) if wish.callback else (),
        duration_seconds=probed.duration_seconds,
        warnings=probed.warnings,
        notes=probed.notes,
        level=SongLevel(**asdict(probed.level)) if probed.level else None,
        name=wish.name,
        labels=wish.labels,
        batches=wish.batches,
    )
    services.ledger.put_song(upload.song_hash, upload.path)
    accepted, is_new = services.ledger.accept(wanted)
    # Once more: a retirement that did not know of this job may have removed it meanwhile.
    services.ledger.put_song(upload.song_hash, upload.path)
    outcome = _queue_job(accepted, services, wish.callback)
    services.metrics.accepted()
    log.info(
        "accepted",
        job_id=accepted.job_id,
        model=options.model,
        size_bytes=upload.size_bytes,
        duration_seconds=round(probed.duration_seconds, 1),
        joined=not is_new,
    )
    return accepted, outcome


def _queue_job(accepted: JobRequest, services: Services, callback: Callback | None) -> Outcome | None:
    """List the job, and queue it if it is owed: of a repeated submission only what it adds counts."""
    outcome = services.ledger.outcome(accepted)
    services.queue.job_list.note(accepted, outcome)
    if outcome is None:
        services.queue.submit(accepted.job_id, accepted.generation, callbacks=len(accepted.callbacks))
    if callback:
        # The queue knows the number of callbacks from the first submission; this one may have come later.
        services.queue.add_callback(accepted.job_id, accepted.callbacks.index(callback))
    return outcome


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
    bits = _whole(fields, "bits")
    bits = defaults.bits if bits is None else bits
    check_format(format, bits)
    bitrate_kbps = _whole(fields, "bitrate_kbps")
    check_bitrate(format, bitrate_kbps)
    precision = _text(fields, "precision")
    if precision not in (None, *PRECISIONS):
        raise InputError(f"the precisions of this service are: {', '.join(PRECISIONS)}", code="unknown_precision")
    overlap = _number(fields, "overlap")
    overlap = defaults.overlap if overlap is None else overlap
    shifts = _whole(fields, "shifts") or 0
    check_passes(overlap, shifts)
    card = services.queue.models.get(model)
    if not is_offered(model, card, services.settings):
        text = "only models are served whose weights anybody may use, and of this one that is not known"
        raise InputError(text, code="weights_not_open")
    return SeparationOptions(
        model,
        _stems(fields, card),
        format,
        weights_sha256=card.weights_sha256 if card else None,
        mixture_consistency=_flag(fields, "mixture_consistency"),
        bits=bits,
        start=_number(fields, "start") or 0.0,
        end=_number(fields, "end"),
        bitrate_kbps=bitrate_kbps,
        precision=precision,
        overlap=overlap,
        shifts=shifts,
    )


def _stems(fields: Mapping[str, Any], card: ModelCard | None) -> tuple[str, ...]:
    """Read the stems that are wanted; none are all sources, and so is each of them by name."""
    given = [name.lower() for name in _listed(fields, "stems")]
    stems = tuple(dict.fromkeys(names.STEM_ALIASES.get(name, name) for name in given))
    offered = names.stems_of(card.sources) if card else None
    if not all(map(names.is_stem, stems)) or not (offered is None or set(stems) <= set(offered)):
        known = f"the stems of this model are: {', '.join(offered)}" if offered else "no stem is called like this"
        raise InputError(known, code="unknown_stem")
    return () if card and set(stems) == set(card.sources) else stems


def _with_query(fields: Mapping[str, Any]) -> dict[str, Any]:
    """Return the fields of the body and those of the URL, which a song that comes as it is has instead."""
    query = request.args.to_dict(flat=False)
    query.pop("wait", None)  # it is not of the job
    if any(len(values) > 1 or name in fields for name, values in query.items()):
        raise InputError("a field stands twice in the request", code="duplicate_key")
    return {**fields, **read_spelled({name: value for name, (value,) in query.items() if value})}


def _unknown_fields(fields: Mapping[str, Any], known: Sequence[str]) -> tuple[str, ...]:
    """Return a warning for each field that is ignored: it may be misspelt."""
    unknown = sorted(fields.keys() - {*OPTIONS, *FIXED_OPTIONS, *known})
    return tuple(f"unknown field, ignored: {name[:_NAMED_CHARACTERS]}" for name in unknown[:_NAMED_FIELDS])


def _old_wish(upload: Upload, allow: str) -> _Wish:
    """Read what older clients say; where JSON names a place that may not be called there is a warning instead."""
    warnings = _unknown_fields(upload.fields, OLD_FIELDS)
    callback = _callback(upload.fields)
    try:
        callback = callback and _checked(callback, allow)
    except InputError as error:
        if upload.is_form:
            raise
        callback = None
        # Their sample code names http://localhost:5000, and they expect to be served all the same.
        warnings = (*warnings, f"the callback will not be called: {error.message}")
    return _Wish(callback, None, (), (), warnings)


def _callback(fields: Mapping[str, Any]) -> Callback | None:
    """Read a callback as it is given."""
    value = fields.get("callback")
    if value is None:
        return None
    if not isinstance(value, dict):
        raise InputError("the field callback has to be an object", code="invalid_field")
    url, data = value.get("url"), value.get("data")
    if not isinstance(url, str) or not isinstance(data, dict | None):
        raise InputError("a callback has a url and may have data, an object", code="invalid_field")
    return Callback(url, data or {}, read_events(value.get("events")))


def _checked(callback: Callback, allow: str) -> Callback:
    """Return a callback that may be called as far as can be seen by now; see `check_callback_url` for the errors."""
    return replace(callback, url=check_callback_url(callback.url, allow=allow))


def _text(fields: Mapping[str, Any], name: str, *, most: int | None = None) -> str | None:
    value = fields.get(name)
    if value is not None and not isinstance(value, str):
        raise InputError(f"the field {name} has to be a string", code="invalid_field")
    if value and most and len(value) > most:
        raise InputError(f"the field {name} has more than {most:,} characters", code="invalid_field")
    return value


def _listed(fields: Mapping[str, Any], name: str) -> list[str]:
    """Read a list of strings, or what is separated by commas."""
    value = fields.get(name)
    if value is None or value == "":
        return []
    listed = value.split(",") if isinstance(value, str) else value
    if not isinstance(listed, list) or not all(isinstance(each, str) for each in listed):
        raise InputError(f"the field {name} has to be a list of strings", code="invalid_field")
    return [each.strip() for each in listed]


def _labels(fields: Mapping[str, Any]) -> tuple[str, ...]:
    labels = tuple(dict.fromkeys(label for label in _listed(fields, "labels") if label))
    if len(labels) > MAX_LABELS or any(len(label) > _LABEL_CHARACTERS for label in labels):
        text = f"a job has at most {MAX_LABELS} labels, of at most {_LABEL_CHARACTERS} characters"
        raise InputError(text, code="invalid_field")
    return labels


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


def _whole(fields: Mapping[str, Any], name: str) -> int | None:
    """Read a whole number."""
    value = _number(fields, name)
    if value is not None and value != int(value):
        raise InputError(f"the field {name} has to be a whole number", code="invalid_field")
    return None if value is None else int(value)


def _flag(fields: Mapping[str, Any], name: str) -> bool:
    """Read a boolean, which forms can only spell; none is false."""
    value = fields.get(name)
    if value is None or isinstance(value, bool):
        return bool(value)
    if isinstance(value, str) and value.lower() in ("true", "false"):
        return value.lower() == "true"
    raise InputError(f"the field {name} has to be true or false", code="invalid_field")
