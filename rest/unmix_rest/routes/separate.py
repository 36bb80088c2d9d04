"""`POST /apiv1/jobs`, and `POST /apiv1/separate` as older clients know it: accept a song.

Whatever can be found wrong with it is found before anything is stored. Then the order is the promise of the service:
the song, then the request document, then the queue; only after all three the song counts as accepted. A song that is
somewhere else is fetched and checked by the worker, as nobody can wait for that here. Workers take it from there;
`unmix_rest.routes.jobs` tells how it goes.
"""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass, replace
from difflib import get_close_matches
from http import HTTPStatus
from typing import Any, Final

import structlog
from flask import Request, Response, request

from unmix.audio.formats import SAMPLE_RATE
from unmix.audio.probe import ProbedSong
from unmix.audio.region import region_of
from unmix.callbacks.events import read_events
from unmix.errors import InputError
from unmix.job import MAX_LABELS, Callback, JobRequest, SongLevel
from unmix.ledger.ledger import utc_now
from unmix.outbound.address import Guard
from unmix.outcome import Outcome
from unmix_rest.access import caller
from unmix_rest.answer_shapes import Accepted
from unmix_rest.http.answers import json_answer, old_answer
from unmix_rest.http.clients import client, refuse_if_gone
from unmix_rest.http.fields import list_field, text_field
from unmix_rest.http.uploads import MAX_NAME_CHARACTERS, Upload, read_spelled, receive
from unmix_rest.quotas import UPLOADS, JobQuota
from unmix_rest.routes.events import wait_for_end, wait_seconds
from unmix_rest.routes.lookup import checked_upload, status_of
from unmix_rest.routes.options import FIXED_OPTIONS, OPTIONS, read_options
from unmix_rest.services import Services
from unmix_rest.shares import asker_of, share
from unmix_rest.views import view_of

log = structlog.get_logger()

#: What a client may say besides, in each of the two routes; `songhash` older clients send, and it is worked out anyway.
FIELDS: Final = ("callback", "name", "labels", "batch")
OLD_FIELDS: Final = ("callback", "songhash")

#: Most unknown fields that the answer names, and how much of each.
_NAMED_FIELDS: Final = 10
_NAMED_CHARACTERS: Final = 64
#: Longest label or batch.
_LABEL_CHARACTERS: Final = 100


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
    settings, uploads = services.settings, services.ledger.uploads
    with _received(
        services, song_field="file", takes_raw=True, uploads=uploads, checked_upload=checked_upload
    ) as upload:
        fields = _with_query(upload.fields)
        callback = _callback(fields)
        wish = _Wish(
            callback and _checked(callback, settings.callback_allow),
            text_field(fields, "name", most=MAX_NAME_CHARACTERS) or upload.file_name,
            _labels(fields),
            (batch,) if (batch := text_field(fields, "batch", most=_LABEL_CHARACTERS)) else (),
            _unknown_fields(fields, FIELDS),
        )
        accepted, outcome = _accept(upload, fields, wish, services)
        if upload.sent_before:  # last: until here it can be tried again
            uploads.close(upload.sent_before, accepted.job_id)
            services.quotas.leave_place(UPLOADS, upload.sent_before.ticket.upload_id)
    view = wait_for_end(view_of(accepted.job_id, accepted, outcome, services), wait, services)
    answer = json_answer(replace(view, warnings=(*view.warnings, *wish.warnings)), HTTPStatus.ACCEPTED)
    answer.headers["Location"] = f"/apiv1/jobs/{accepted.job_id}"
    return answer


def submit(services: Services) -> Response:
    """Take a song in, and answer as the contract has it."""
    with _received(services, song_field="mp3") as upload:
        wish = _old_wish(upload, services.settings.callback_allow)
        accepted, outcome = _accept(upload, upload.fields, wish, services)
    return old_answer(
        Accepted(
            accepted.job_id,
            accepted.song_hash,
            "Song enqueued for separation",
            outcome.status if outcome else status_of(accepted.job_id, services),
            (*accepted.warnings, *wish.warnings),
            accepted.notes,
        )
    )


@contextmanager
def _received(services: Services, **form: Any) -> Iterator[Upload]:
    """Read the song of the present request, if there is room for it; see `receive` for its `form` and the errors.

    Clients take turns to have their songs read. The turn ends with that: the check has turns of its own, and whoever
    waits for one keeps nobody from being read.
    """
    with ExitStack() as received:
        with services.intake.take(client(), refuse_if_gone):
            max_song_bytes = services.settings.max_upload_mb << 20
            song = receive(_admitted(services), services.temporary, max_song_bytes=max_song_bytes, **form)
            upload = received.enter_context(song)
        yield upload


def _admitted(services: Services) -> Request:
    """Return the present request, if there is room and time for the song that comes with it."""
    services.admission.refuse_early(request.content_length or 0)
    services.admission.refuse_if_late()
    return request


def _accept(
    upload: Upload, fields: Mapping[str, Any], wish: _Wish, services: Services
) -> tuple[JobRequest, Outcome | None]:
    """Check a song, store it, write down what is owed, and queue it; returns the job, and its end if it is over."""
    options, asks = read_options(fields, services), caller()
    song_hash = asks.ids.of_song(upload.sha256) if upload.url is None else asks.ids.drawn()
    job_id = options.job_id(song_hash, services.settings.usual_options)
    asked = JobRequest(
        job_id=job_id,
        options=options,
        submitted_at=utc_now(),
        callbacks=(replace(wish.callback, asker=asker_of(job_id)),) if wish.callback else (),
        name=wish.name,
        labels=wish.labels,
        batches=wish.batches,
        url=None if upload.url is None else _fetchable(upload.url, services),
        tenant=asks.tenant,
        song_sha256=upload.sha256 if upload.url is None else None,
    )
    refuse_if_gone()  # it may have waited long for its thread
    with services.quotas.of_job(asked.job_id) as quota:
        wanted = asked if asked.url else _with_song(asked, _probed(upload, services))
        refuse_if_gone()
        quota.take_minutes(wanted)
        # Nothing is stored that could not be queued, unless Redis goes at this very moment.
        services.admission.refuse(wanted, upload.size_bytes)
        if not wanted.url:
            services.ledger.put_song(song_hash, upload.path)
        accepted, is_new = services.ledger.accept(wanted)
        if not wanted.url:
            # Once more: a retirement that did not know of this job may have removed it meanwhile.
            services.ledger.put_song(song_hash, upload.path)
        outcome = _queue_job(accepted, services, wish.callback, quota)
    services.admission.note(accepted)
    services.metrics.accepted()
    log.info(
        "accepted",
        job_id=accepted.job_id,
        model=options.model,
        size_bytes=upload.size_bytes,
        duration_seconds=wanted.duration_seconds and round(wanted.duration_seconds, 1),
        joined=not is_new,
    )
    return accepted, outcome


def _fetchable(url: str, services: Services) -> str:
    """Return the URL of a song that may be fetched, as far as can be seen by now."""
    if not services.settings.song_urls:
        text = "this service fetches no songs; its operator can let it by UNMIX_SONG_URLS, or send the song itself"
        raise InputError(text, code="song_urls_off")
    return Guard("song_url", services.settings.song_url_allow).check(url)


def _probed(upload: Upload, services: Services) -> ProbedSong:
    """Return what the check of the song finds out."""
    return services.probe.check(upload.path, client=client(), go_on=refuse_if_gone)


def _with_song(asked: JobRequest, probed: ProbedSong) -> JobRequest:
    """Return the request with what the check has found out about its song."""
    region_of(asked.options.start, asked.options.end, samples=round(probed.duration_seconds * SAMPLE_RATE))
    return replace(
        asked,
        duration_seconds=probed.duration_seconds,
        warnings=probed.warnings,
        notes=probed.notes,
        level=SongLevel(**asdict(probed.level)) if probed.level else None,
    )


def _queue_job(accepted: JobRequest, services: Services, callback: Callback | None, quota: JobQuota) -> Outcome | None:
    """List the job, and queue it if it is owed: of a repeated submission only what it adds counts."""
    outcome = services.ledger.outcome(accepted)
    services.queue.job_list.note(accepted, outcome)
    if outcome is None:
        callbacks = len(accepted.callbacks)
        if services.queue.submit(accepted.job_id, accepted.generation, callbacks=callbacks, share=share()):
            quota.keep()
    if callback:
        # The queue knows the number of callbacks from the first submission; this one may have come later.
        services.queue.add_callback(accepted.job_id, accepted.callbacks.index(callback))
    return outcome


def _with_query(fields: Mapping[str, Any]) -> dict[str, Any]:
    """Return the fields of the body and those of the URL, which a song that comes as it is has instead."""
    query = request.args.to_dict(flat=False)
    query.pop("wait", None)  # it is not of the job
    if any(len(values) > 1 or name in fields for name, values in query.items()):
        raise InputError("a field stands twice in the request", code="duplicate_key")
    return {**fields, **read_spelled({name: value for name, (value,) in query.items() if value})}


def _unknown_fields(fields: Mapping[str, Any], known: Sequence[str]) -> tuple[str, ...]:
    """Return a warning for each field that is ignored, with the one that may be meant."""
    unknown = sorted(fields.keys() - {*OPTIONS, *FIXED_OPTIONS, *known})[:_NAMED_FIELDS]
    warnings = []
    for name in (each[:_NAMED_CHARACTERS] for each in unknown):
        meant = get_close_matches(name, (*OPTIONS, *known), n=1)
        warnings.append(f"unknown field, ignored: {name}" + (f"; there is {meant[0]}" if meant else ""))
    return tuple(warnings)


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
    """Return a callback that may be called as far as can be seen by now; see `Guard.check` for the errors."""
    return replace(callback, url=Guard("callback", allow).check(callback.url))


def _labels(fields: Mapping[str, Any]) -> tuple[str, ...]:
    labels = tuple(dict.fromkeys(label for label in list_field(fields, "labels") if label))
    if len(labels) > MAX_LABELS or any(len(label) > _LABEL_CHARACTERS for label in labels):
        text = f"a job has at most {MAX_LABELS} labels, of at most {_LABEL_CHARACTERS} characters"
        raise InputError(text, code="invalid_field")
    return labels
