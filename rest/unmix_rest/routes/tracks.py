"""`/apiv1/track/…` and `/apiv1/remove/…`: hand a stem out, take it or a whole job away.

Only what the outcome document names is served: never the copies under the contract's names, which are written after
it. Removal begins with the request document, so that nothing becomes owed again on the way.
"""

from typing import Final

import structlog
from flask import Blueprint, Response, request
from werkzeug.exceptions import RequestedRangeNotSatisfiable
from werkzeug.wsgi import FileWrapper

from unmix import names
from unmix.audio.formats import MEDIA_TYPES
from unmix.errors import InputError, NotFoundError, ObjectMissingError
from unmix.job import JobRequest, Outcome
from unmix_rest.http.answers import json_answer
from unmix_rest.routes.jobs import checked
from unmix_rest.services import Services

log = structlog.get_logger()

CHUNK_BYTES: Final = 64 * 1024


def blueprint(services: Services) -> Blueprint:
    """Return the routes of stems."""
    routes = Blueprint("tracks", __name__)

    @routes.get("/apiv1/track/<job_id>/<track>")
    def track(job_id: str, track: str) -> Response:
        return _send(checked(job_id), track, services)

    @routes.get("/apiv1/track")
    def track_by_query() -> Response:
        job_id = request.args.get("hash") or request.args.get("file_id")
        track = request.args.get("track") or request.args.get("component")
        if not job_id or not track:
            raise InputError("the query has to name hash and track", code="missing_field")
        return _send(checked(job_id), track, services)

    @routes.route("/apiv1/remove/<job_id>/<track>", methods=["GET", "DELETE"])
    def remove_stem(job_id: str, track: str) -> Response:
        return _remove_stem(checked(job_id), track, services)

    @routes.route("/apiv1/remove/<job_id>", methods=["GET", "DELETE"])
    def remove_job(job_id: str) -> Response:
        return _remove_job(checked(job_id), services)

    return routes


def _send(job_id: str, track: str, services: Services) -> Response:
    _, outcome, stem = _find(job_id, track, services)
    file = outcome.stems[stem]
    try:
        stream = services.store.open(names.ObjectName(names.OUTPUT_BUCKET, file.key))
    except ObjectMissingError as error:
        raise NotFoundError("this stem was removed") from error
    response = Response(FileWrapper(stream, CHUNK_BYTES), mimetype=MEDIA_TYPES[outcome.format], direct_passthrough=True)
    response.content_length = file.size_bytes
    response.set_etag(file.sha256)
    response.headers["Content-Disposition"] = f'attachment; filename="{stem}.{outcome.format}"'
    try:
        response.make_conditional(request, accept_ranges=True, complete_length=file.size_bytes)
    except RequestedRangeNotSatisfiable:
        response.close()
        raise
    return response


def _remove_stem(job_id: str, track: str, services: Services) -> Response:
    known, outcome, stem = _find(job_id, track, services)
    if services.store.stat(names.ObjectName(names.OUTPUT_BUCKET, outcome.stems[stem].key)) is None:
        raise NotFoundError("this stem was removed already")
    services.ledger.remove_stem(known, outcome, stem)
    log.info("stem removed", job_id=job_id, stem=stem)
    return json_answer({"hash": job_id, "track": stem, "reason": "Stem removed"})


def _remove_job(job_id: str, services: Services) -> Response:
    services.queue.ping()  # a job that could not be taken out of the queue stays whole
    if not _exists(job_id, services):
        raise NotFoundError("there is no such job")
    services.queue.forget(job_id)  # first: what is submitted from here on must not be taken from the queue
    services.ledger.remove_job(job_id)
    log.info("job removed", job_id=job_id)
    return json_answer({"hash": job_id, "reason": "Song and stems removed"})


def _exists(job_id: str, services: Services) -> bool:
    return (
        any(services.store.stat(name) for name in (names.request_object(job_id), names.outcome_object(job_id)))
        or services.queue.record(job_id) is not None
        or services.queue.position(job_id) is not None
        or _is_song_left_alone(names.song_hash_of(job_id), services)
    )


def _is_song_left_alone(song_hash: str, services: Services) -> bool:
    """Tell whether the song is there without any job: it was not pushed yet, or a removal of its job broke off."""
    is_stored = services.store.stat(names.song_object(song_hash)) is not None
    return is_stored and not services.ledger.is_needed(song_hash, keep_for_jobs=True)


def _find(job_id: str, track: str, services: Services) -> tuple[JobRequest, Outcome, str]:
    """Return the request and outcome of a done job, and the name of its stem that `track` means.

    Raises:
        InputError: the job cannot have such a stem.
        NotFoundError: it has it not, or not yet.
    """
    stem = _stem_of(track)
    known = services.ledger.request(job_id)
    outcome = services.ledger.outcome(known) if known else None
    if known and outcome and stem in outcome.stems:
        return known, outcome, stem
    if not _may_have(stem, known, outcome, services):
        raise InputError("this job has no such stem", code="unknown_stem")
    if known is None:
        raise NotFoundError("there is no such job")
    raise NotFoundError(f"there is no such stem, the job is {outcome.status.value if outcome else 'not over yet'}")


def _stem_of(track: str) -> str:
    """Read the name of a stem, with or without the extension of a format."""
    name, _, extension = track.rpartition(".")
    stem = name if extension in MEDIA_TYPES else track
    stem = names.STEM_ALIASES.get(stem, stem)
    if not names.is_stem(stem):
        raise InputError("no stem is called like this", code="unknown_stem")
    return stem


def _may_have(stem: str, known: JobRequest | None, outcome: Outcome | None, services: Services) -> bool:
    """Tell whether asking for `stem` makes sense, now or when the job is done."""
    if stem in (*names.CONTRACT_STEMS, names.INSTRUMENTAL):
        return True
    if known is None or outcome is not None:
        return False
    if known.options.stems:
        return stem in known.options.stems
    card = services.queue.model_card(known.options.model)
    return card is not None and stem in card.sources
