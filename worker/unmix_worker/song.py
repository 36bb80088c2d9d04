"""Where a worker gets a song from: the store, or the URL that the client gave, from which the store gets it too."""

from collections.abc import Callable
from pathlib import Path

from unmix import names
from unmix.errors import EngineError, ObjectMissingError, SupersededError
from unmix.job import JobRequest
from unmix.ledger.ledger import Ledger
from unmix.outbound.address import Guard
from unmix.outbound.song import SongLimits, fetch_song_url
from unmix.runtime import traces
from unmix.settings import Settings


def stored_song(request: JobRequest, ledger: Ledger, scratch: Path) -> Path:
    """Write the song of a job from the store into `scratch`, and return where.

    Raises:
        EngineError: it is not in the store (`input_missing`), or is another one (`hash_mismatch`).
    """
    path = scratch / "song"
    try:
        ledger.fetch_song(request.song_hash, path)
    except ObjectMissingError as error:
        raise EngineError("the song is not in the store", code="input_missing", retryable=True) from error
    if request.wanted_sha256 is not None and names.hash_file(path) != request.wanted_sha256:
        raise EngineError("the stored bytes do not match the song hash", code="hash_mismatch")
    return path


@traces.traced("fetch the song")
def song_of(
    request: JobRequest, ledger: Ledger, scratch: Path, settings: Settings, *, go_on: Callable[[], None]
) -> Path:
    """Do the same, with a song that the store does not have yet but that has a URL; `go_on` may end the fetching.

    Raises:
        EngineError: as `stored_song` and `fetch_song_url`; or songs are not fetched any more (`song_urls_off`).
        SupersededError: the job was removed meanwhile.
    """
    if request.url is None or ledger.has_song(request.song_hash):
        return stored_song(request, ledger, scratch)
    if not settings.song_urls:
        raise EngineError("this service does not fetch songs any more", code="song_urls_off")
    path = scratch / "song"
    fetch_song_url(
        request.url,
        path,
        guard=Guard("song_url", settings.song_url_allow),
        limits=SongLimits(settings.max_upload_mb << 20, settings.song_url_seconds),
        go_on=go_on,
    )
    ledger.put_song(request.song_hash, path)
    if ledger.request(request.job_id) is None:  # its removal may have come too early to take the song along
        ledger.removal.retire_song(request.song_hash, keep_for_jobs=True)
        raise SupersededError("the job was removed while its song was fetched")
    return path
