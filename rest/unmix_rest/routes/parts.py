"""`/apiv1/jobs/<job_id>/parts…` and `…/peaks`: stems that can be heard while they are made, and what to draw of them.

Parts are kept while a long song is separated, and for a while after that. Redis says which parts there are of a job
that is not over, its outcome of one that is; each part's own document says what lies where.
"""

from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from flask import Response

from unmix.audio.formats import MEDIA_TYPES
from unmix.audio.peaks import PEAK_SAMPLES
from unmix.audio.samples import SAMPLE_RATE
from unmix.errors import NotFoundError, ObjectMissingError, QueueError
from unmix.job import JobRequest
from unmix.job_view import PartsView
from unmix.ledger.parts import Parts
from unmix.outcome import Outcome, SongPart, StemFile
from unmix_rest.answer_shapes import Part, PartStem
from unmix_rest.answer_shapes import Parts as PartsTold
from unmix_rest.http.answers import json_answer
from unmix_rest.http.downloads import download, lasting_url
from unmix_rest.routes.lookup import checked, page
from unmix_rest.services import Services

#: Of the stems of a part, whatever the format of the job is.
_FORMAT: Final = "flac"
#: Parts in an answer if the client does not say how many: each costs a look into the store.
_LISTED: Final = 50


@dataclass(frozen=True, slots=True)
class _KeptParts:
    """The parts of a job, and which of them are there as far as can be told without asking for each."""

    parts: Parts
    count: int
    length: int  # of every part but the last, in samples
    there: Sequence[int]


def parts(services: Services, job_id: str) -> Response:
    """Tell which parts of a job there are, in the order of the song."""
    return json_answer(_list(checked(job_id), services))


def part(services: Services, job_id: str, index: int, stem: str) -> Response:
    """Hand one stem of a part out."""
    return _send_part(checked(job_id), index, stem, services)


def peaks(services: Services, job_id: str) -> Response:
    """Hand out what to draw of the stems of a done job."""
    return _send_peaks(checked(job_id), services)


def summary_of_parts(
    job_id: str, known: JobRequest | None, outcome: Outcome | None, services: Services
) -> PartsView | None:
    """Return what the view of a job says of its parts, None if it has none."""
    try:
        kept = _kept(known, outcome, services)
    except QueueError:  # what is told of the job does not depend on it
        return None
    if kept is None:
        return None
    return PartsView(kept.count, len(kept.there), f"/apiv1/jobs/{job_id}/parts")


def url_of_peaks(outcome: Outcome) -> str | None:
    """Return where the peaks of a done job are."""
    return lasting_url(f"/apiv1/jobs/{outcome.job_id}/peaks", outcome.peaks) if outcome.peaks else None


def _list(job_id: str, services: Services) -> PartsTold:
    offset, limit = page(usual_limit=_LISTED)
    known, outcome = _end(job_id, services)
    kept, removed = _kept(known, outcome, services), _removed(outcome, services)
    found: list[SongPart] = []
    if kept:
        begin = bisect_left(kept.there, offset)
        found = [part for part in map(kept.parts.part, kept.there[begin : begin + limit]) if part]
    return PartsTold(
        job_id,
        count=kept.count if kept else 0,
        length=kept.length if kept else 0,
        sample_rate=SAMPLE_RATE,
        samples_per_pixel=PEAK_SAMPLES,
        parts=tuple(_describe(job_id, part, removed) for part in found),
    )


def _describe(job_id: str, part: SongPart, removed: set[str]) -> Part:
    url = f"/apiv1/jobs/{job_id}/parts/{part.index}"
    stems = {
        stem: PartStem(
            lasting_url(f"{url}/{stem}.{_FORMAT}", file), file.size_bytes, file.sha256, tuple(part.peaks.get(stem, ()))
        )
        for stem, file in part.stems.items()
        if stem not in removed
    }
    return Part(part.index, part.start, part.samples, stems)


def _send_part(job_id: str, index: int, stem: str, services: Services) -> Response:
    known, outcome = _end(job_id, services)
    kept = _kept(known, outcome, services)
    part = kept.parts.part(index) if kept and index < kept.count else None
    stem = stem.removesuffix(f".{_FORMAT}")
    if part is None or stem not in part.stems.keys() - _removed(outcome, services):
        raise NotFoundError("there is no such part of this job, or not any more, or not yet")
    name = f"{stem}.{part.index:05}.{_FORMAT}"
    return _send(part.stems[stem], services, media_type=MEDIA_TYPES[_FORMAT], name=name)


def _send_peaks(job_id: str, services: Services) -> Response:
    _, outcome = _end(job_id, services)
    if outcome is None or outcome.peaks is None:
        raise NotFoundError("there are no peaks of this job, or not yet")
    return _send(outcome.peaks, services, media_type="application/json", name="peaks.json")


def _send(file: StemFile, services: Services, *, media_type: str, name: str) -> Response:
    try:
        stream = services.ledger.open_stem(file)
    except ObjectMissingError as error:
        raise NotFoundError("this was removed") from error
    return download(stream, file, media_type=media_type, name=name)


def _end(job_id: str, services: Services) -> tuple[JobRequest, Outcome | None]:
    known, outcome = services.ledger.end(job_id)
    if known is None:
        raise NotFoundError("there is no such job")
    return known, outcome


def _kept(known: JobRequest | None, outcome: Outcome | None, services: Services) -> _KeptParts | None:
    if known is None:
        return None
    if outcome is not None:
        ran = outcome.ran.parts if outcome.ran else None
        if ran is None:
            return None
        parts = services.ledger.parts(known, ran.kind)
        if not parts.has(0):  # they go all at once, some time after the job was over
            return None
        return _KeptParts(parts, ran.count, ran.length, range(ran.count))
    asked, there = services.queue.runs.known(known.job_id) or (None, [])
    if asked is None or asked.generation != known.generation:
        return None
    return _KeptParts(services.ledger.parts(known, asked.kind), asked.count, asked.length, there)


def _removed(outcome: Outcome | None, services: Services) -> set[str]:
    """Return the stems that were removed from a done job; nobody shall hear them in its parts either."""
    return {stem for stem, file in outcome.stems.items() if not services.ledger.has_stem(file)} if outcome else set()
