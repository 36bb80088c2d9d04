"""Several files of a job as one download: a zip of what they are, made while it goes out.

Nothing is compressed, for audio would not get smaller: so its length is known before, by what the outcome says of the
files. Their checksums follow them, so that each is read once. It is made as fast as the client takes it: what waitress
would keep for slow ones could be gigabytes.
"""

import hashlib
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import BinaryIO, Final

import structlog
from flask import Response, request
from zipstream import ZipStream

from unmix.errors import StoreError
from unmix.outcome import StemFile
from unmix_rest.http.downloads import attachment, paced
from unmix_rest.http.lanes import WAIT_TO_SEND

log = structlog.get_logger()

_CHUNK_BYTES: Final = 64 * 1024


def archive(files: Mapping[str, StemFile], open_file: Callable[[StemFile], BinaryIO], *, name: str) -> Response:
    """Answer with a zip of `files`, by their names in it; a browser would save it as `name`.

    Each is opened when its turn comes. If one is gone by then, or not as long as it should be, the answer breaks off.
    """
    zipped = ZipStream(sized=True)
    for entry, file in files.items():
        zipped.add(_chunks(file, open_file), entry, size=file.size_bytes)
    wait_to_send = request.environ.get(WAIT_TO_SEND, lambda most_bytes: None)
    response = Response(_until_broken(zipped, wait_to_send), mimetype="application/zip", direct_passthrough=True)
    response.content_length = len(zipped)
    # Weak: the time of its making is in it, so that no two have the same bytes.
    response.set_etag(_digest(files), weak=True)
    response.headers["Content-Disposition"] = attachment(name)
    response.headers["Accept-Ranges"] = "none"
    response.make_conditional(request)
    return response


def _until_broken(zipped: Iterable[bytes], wait_to_send: Callable[[int], None]) -> Iterator[bytes]:
    """Yield what a client can take; the answer ends where a file is not there any more."""
    try:
        yield from paced(zipped, wait_to_send)
    except StoreError as error:  # the client sees it too: the connection ends before the length is reached
        log.warning("download broke off", code=error.code, error=error.message)


def _chunks(file: StemFile, open_file: Callable[[StemFile], BinaryIO]) -> Iterator[bytes]:
    with open_file(file) as stream:
        while chunk := stream.read(_CHUNK_BYTES):
            yield chunk


def _digest(files: Mapping[str, StemFile]) -> str:
    """Name what is in an archive: the files and what they are called."""
    listed = "".join(f"{file.sha256} {name}\n" for name, file in sorted(files.items()))
    return hashlib.sha256(listed.encode()).hexdigest()
