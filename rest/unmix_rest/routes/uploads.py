"""`/apiv1/uploads`: a song before there is a job of it, in pieces, or straight into the object store.

A ticket says where to send it. How far it is lies in the store (`unmix.ledger.uploads`), so that each request may come
to another process. `POST /apiv1/jobs` with the id makes the job.
"""

import math
import time
from datetime import UTC, datetime
from http import HTTPStatus

from flask import Response, request

from unmix.errors import InputError, StoreError
from unmix.ledger.uploads import Progress
from unmix_rest.access import caller
from unmix_rest.answer_shapes import Ticket, UploadView
from unmix_rest.http.answers import json_answer
from unmix_rest.http.pieces import ADVISED_BYTES, receive_piece
from unmix_rest.http.uploads import small_object, too_large
from unmix_rest.quotas import UPLOADS
from unmix_rest.routes.lookup import checked_upload
from unmix_rest.services import Services


def open_upload(services: Services) -> Response:
    """Hand out a ticket."""
    size_bytes = _said_size(services.settings.max_upload_mb << 20)
    services.admission.refuse_early(size_bytes or 0)
    services.admission.refuse_if_late()
    seconds = 3600 * services.settings.upload_hours
    upload_id = caller().ids.new_upload(math.ceil(time.time() + seconds))
    services.quotas.take(UPLOADS, who=upload_id, keep_seconds=seconds)
    try:
        begun = services.ledger.uploads.begin(upload_id, size_bytes=size_bytes)
    except StoreError:
        services.quotas.leave_place(UPLOADS, upload_id)
        raise
    ours = f"/apiv1/uploads/{begun.ticket.upload_id}"
    direct = services.ledger.uploads.direct_url(begun.ticket)
    ticket = Ticket(
        *_how_far(begun),
        url=direct or ours,
        method="PUT",
        headers={},
        resumable=direct is None,
        piece_bytes=None if direct else ADVISED_BYTES,
    )
    answer = _tell(ticket, HTTPStatus.CREATED)
    answer.headers["Location"] = ours
    return answer


def upload(services: Services, upload_id: str) -> Response:
    """Tell how far an upload is."""
    return _tell(UploadView(*_how_far(services.ledger.uploads.look(checked_upload(upload_id)))))


def put_piece(services: Services, upload_id: str) -> Response:
    """Take the next piece, or the whole song."""
    uploads = services.ledger.uploads
    known = uploads.look(checked_upload(upload_id))
    services.admission.refuse_early(request.content_length or 0)
    with receive_piece(request, services.temporary, max_song_bytes=services.settings.max_upload_mb << 20) as piece:
        progress = uploads.add(known, piece.path, start=piece.start, total=piece.total)
    return _tell(UploadView(*_how_far(progress)))


def _how_far(progress: Progress) -> tuple[str, int, int | None, bool, str]:
    """Return the fields that an upload and its ticket have in common."""
    ticket = progress.ticket
    ends_at = datetime.fromtimestamp(ticket.ends_at, UTC).isoformat()
    return ticket.upload_id, progress.offset, progress.size_bytes, progress.is_complete, ends_at


def _tell(view: UploadView, status: int = HTTPStatus.OK) -> Response:
    answer = json_answer(view, status)
    answer.headers["Upload-Offset"] = str(view.offset)
    answer.headers["Cache-Control"] = "no-store"
    return answer


def _said_size(max_song_bytes: int) -> int | None:
    """Read how large the song will be, if the body says so."""
    size_bytes = small_object(request).get("size_bytes")
    if size_bytes is None:
        return None
    # 20.0 is a whole number too, as some languages write it.
    if not isinstance(size_bytes, int | float) or isinstance(size_bytes, bool) or size_bytes < 1 or size_bytes % 1:
        raise InputError("the field size_bytes has to be a whole number, of at least 1", code="invalid_field")
    if size_bytes > max_song_bytes:
        raise too_large(max_song_bytes)
    return int(size_bytes)
