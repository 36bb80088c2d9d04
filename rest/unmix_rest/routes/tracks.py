"""`/apiv1/track…`, `…/stems.zip` and `/apiv1/remove…`: hand a stem out, or all; take one or a whole job away.

Only what the outcome document names is served: never the copies under the contract's names, which are written after
it. Removal begins with the request document, so that nothing becomes owed again on the way.
"""

from http import HTTPStatus
from typing import Final

import structlog
from flask import Response, request

from unmix import names
from unmix.audio.formats import MEDIA_TYPES
from unmix.errors import InputError, NotFoundError, ObjectMissingError, QueueError, UnmixError
from unmix.job import JobRequest, JobStatus
from unmix.outcome import Outcome
from unmix_rest.answer_shapes import Removed, StemRemoved
from unmix_rest.http.answers import old_answer
from unmix_rest.http.archives import archive
from unmix_rest.http.downloads import download
from unmix_rest.routes.lookup import checked, may_stay
from unmix_rest.services import Services

log = structlog.get_logger()

#: Of a format that only a later version knows.
UNKNOWN_TYPE: Final = "application/octet-stream"


def track(services: Services, job_id: str, track: str) -> Response:
    """Hand a stem out."""
    return _send(checked(job_id), track, services)


def track_by_query(services: Services) -> Response:
    """Hand out the stem that the query names."""
    job_id, track = _in_query()
    if not job_id or not track:
        raise InputError("the query has to name hash and track", code="missing_field")
    return _send(checked(job_id), track, services)


def all_stems(services: Services, job_id: str) -> Response:
    """Hand all stems of a done job out that are still there, as one file."""
    return _send_all(checked(job_id), services)


def remove_stem(services: Services, job_id: str, track: str) -> Response:
    """Remove one stem."""
    return _remove_stem(checked(job_id), track, services)


def remove_job(services: Services, job_id: str) -> Response:
    """Remove a job and all that belongs to it alone."""
    _remove(checked(job_id), services)
    return old_answer(Removed(job_id, "Song and stems removed"))


def remove_by_query(services: Services) -> Response:
    """Remove the stem that the query names, or the job if it names no stem."""
    job_id, track = _in_query()
    if not job_id:
        raise InputError("the query has to name hash, and may name track", code="missing_field")
    return remove_stem(services, job_id, track) if track else remove_job(services, job_id)


def delete_job(services: Services, job_id: str) -> Response:
    """Cancel a job that is not over, and remove it with all that belongs to it alone."""
    _remove(checked(job_id), services)
    return Response(status=HTTPStatus.NO_CONTENT)


def _in_query() -> tuple[str | None, str | None]:
    """Return the job and the stem that the query names, which one old server has in one, as their object is called."""
    job_id = request.args.get("hash") or request.args.get("file_id")
    track = request.args.get("track") or request.args.get("component")
    if not job_id and track and "-" in track:
        job_id, _, track = track.partition("-")
    return job_id, track


def _send(job_id: str, track: str, services: Services) -> Response:
    known, outcome, stem = _find(job_id, track, services)
    file = outcome.stems[stem]
    try:
        stream = services.ledger.open_stem(file)
    except ObjectMissingError as error:
        raise NotFoundError("this stem was removed") from error
    media_type = MEDIA_TYPES.get(outcome.format, UNKNOWN_TYPE)
    name = names.file_name(known.name, stem, outcome.format)
    return download(stream, file, media_type=media_type, name=name)


def _send_all(job_id: str, services: Services) -> Response:
    known, outcome = services.ledger.end(job_id)
    if known is None:
        raise NotFoundError("there is no such job")
    if outcome is None or outcome.status is not JobStatus.DONE:
        raise NotFoundError(f"there are no stems, the job is {outcome.status.value if outcome else 'not over yet'}")
    there = {
        names.file_name(known.name, stem, outcome.format): file
        for stem, file in outcome.stems.items()
        if services.ledger.has_stem(file)
    }
    if not there:
        raise NotFoundError("the stems of this job were removed")
    if not may_stay():
        raise UnmixError("as many stay as there is room for", code="too_many_downloads")
    return archive(there, services.ledger.open_stem, name=names.file_name(known.name, "stems", "zip"))


def _remove_stem(job_id: str, track: str, services: Services) -> Response:
    known, outcome, stem = _find(job_id, track, services)
    if not services.ledger.has_stem(outcome.stems[stem]):
        raise NotFoundError("this stem was removed already")
    services.ledger.removal.remove_stem(known, outcome, stem)
    log.info("stem removed", job_id=job_id, stem=stem)
    return old_answer(StemRemoved(job_id, stem, "Stem removed"))


def _remove(job_id: str, services: Services) -> None:
    _, outcome = services.ledger.end(job_id)
    try:
        services.queue.ping()  # a job that could not be taken out of the queue stays whole
        if not _exists(job_id, services):
            raise NotFoundError("there is no such job")
        services.queue.forget(job_id)  # first: what is submitted from here on must not be taken from the queue
    except QueueError:
        # On a full disk it may have ended itself, and only what is removed brings it back. Of a job that is over it
        # has nothing that matters.
        if outcome is None or not services.admission.is_disk_full:
            raise
    services.ledger.removal.remove_job(job_id)
    log.info("job removed", job_id=job_id)


def _exists(job_id: str, services: Services) -> bool:
    return (
        services.ledger.request(job_id) is not None
        or services.ledger.has_outcome(job_id)
        or services.queue.views.record(job_id) is not None
        or services.queue.views.position(job_id) is not None
        or _is_song_left_alone(names.song_hash_of(job_id), services)
    )


def _is_song_left_alone(song_hash: str, services: Services) -> bool:
    """Tell whether the song is there without any job: it was not pushed yet, or a removal of its job broke off."""
    return services.ledger.has_song(song_hash) and not services.ledger.removal.is_needed(song_hash, keep_for_jobs=True)


def _find(job_id: str, track: str, services: Services) -> tuple[JobRequest, Outcome, str]:
    """Return the request and outcome of a done job, and the name of its stem that `track` means.

    Raises:
        InputError: the job cannot have such a stem.
        NotFoundError: it has it not, or not yet.
    """
    name, extension = _name_and_extension(track)
    known = services.ledger.request(job_id)
    outcome = services.ledger.outcome(known) if known else None
    stem = names.stem_named(name, outcome.stems if outcome else ())
    if known and outcome and stem in outcome.stems:
        if extension not in ("", outcome.format):
            raise NotFoundError(f"the stems of this job are {outcome.format}")
        return known, outcome, stem
    if not _may_have(stem, known, outcome, services):
        raise InputError("this job has no such stem", code="unknown_stem")
    if known is None:
        raise NotFoundError("there is no such job")
    raise NotFoundError(f"there is no such stem, the job is {outcome.status.value if outcome else 'not over yet'}")


def _name_and_extension(track: str) -> tuple[str, str]:
    """Read the name of a stem, and the extension of a format if there is one."""
    extension = next((each for each in MEDIA_TYPES if track.endswith(f".{each}")), "")
    name = track.removesuffix(f".{extension}") if extension else track
    if not names.is_stem(name):
        raise InputError("no stem is called like this", code="unknown_stem")
    return name, extension


def _may_have(stem: str, known: JobRequest | None, outcome: Outcome | None, services: Services) -> bool:
    """Tell whether asking for `stem` makes sense, now or when the job is done."""
    if stem in names.stems_of(names.CONTRACT_STEMS):
        return True
    if known is None or outcome is not None:
        return False
    if known.options.stems:
        return stem in known.options.stems
    card = services.queue.models.get(known.options.model)
    return card is not None and stem in card.sources
