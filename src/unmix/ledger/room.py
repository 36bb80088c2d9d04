"""Room: how much of a disk is kept free, and how much the stems of a job will take.

Songs stop at the reserve, so that what is owed can still be made: stems, documents, logs and Redis' file lie on the
same disk in local mode. A separation begins only if its stems fit. What is small, and what removes, is never asked.
"""

import shutil
from pathlib import Path
from typing import Final

from unmix.errors import StoreError
from unmix.job import JobRequest
from unmix.store.protocol import Room

#: What results leave of the reserve, for documents, logs and Redis.
SHARE_OF_RESULTS: Final = 0.5
#: The part of a small disk that is reserved where the setting says more.
_SHARE_OF_A_DISK: Final = 10
_SAMPLE_RATE: Final = 44_100
#: Of a song of which nobody has told it: the highest that songs usually have.
_HIGHEST_RATE: Final = 192_000
#: Bytes of a sample of what is resampled in the end, and of its parts, at the most.
_FINE_BYTES: Final = 4
#: How much of the samples' size FLAC is left with. Loud music comes to two thirds.
_FLAC: Final = 0.7
_USUAL_STEMS: Final = 4
#: Songs shorter than this leave no parts beside their stems.
_SECONDS_WITHOUT_PARTS: Final = 30
#: Documents, peaks, and what a file system needs for each file, of a job.
_BESIDE_BYTES: Final = 200_000


def room_at(folder: Path) -> Room:
    """Return the room on the disk of a folder.

    Raises:
        OSError: there is no such folder.
    """
    usage = shutil.disk_usage(folder)
    return Room(usage.free, usage.total)


def reserve_bytes(room: Room, min_free_gb: float) -> int:
    """Return how much is kept free of songs; of a small disk no more than a tenth."""
    return int(min(min_free_gb * 1e9, room.size_bytes / _SHARE_OF_A_DISK))


def refuse_if_full(room: Room | None, min_free_gb: float, *, more_bytes: float, share: float = 1) -> None:
    """Refuse what would leave less than this share of the reserve.

    Of a store that does not tell its room nothing is known, and nothing refused.

    Raises:
        StoreError: it would (`store_full`).
    """
    if room is not None and room.free_bytes - more_bytes < share * reserve_bytes(room, min_free_gb):
        raise StoreError("there is no room for this beside what is owed, and a reserve", code="store_full")


def result_bytes(request: JobRequest, *, usual_bitrate_kbps: int, parts: bool) -> float:
    """Return about how many bytes the stems and parts of a job will take; of a song that nobody has seen yet, 0."""
    if request.duration_seconds is None:
        return 0.0
    options = request.options
    rate = _own_rate(request) if options.song_rate else _SAMPLE_RATE
    samples = options.bits / 8 * 2 * rate
    of_rate = (options.bitrate_kbps or usual_bitrate_kbps) * 125
    # The mix of four stems is one more.
    lossless = {"wav": samples, "flac": _FLAC * samples, "stem.mp4": 1.25 * _FLAC * samples}
    a_second = lossless.get(options.format, of_rate)
    part_bytes = options.bits / 8
    if rate != _SAMPLE_RATE:
        part_bytes = _FINE_BYTES
        a_second += part_bytes * 2 * _SAMPLE_RATE  # what is resampled lies beside what is made of it
    if parts and request.duration_seconds >= _SECONDS_WITHOUT_PARTS:
        a_second += _FLAC * part_bytes * 2 * _SAMPLE_RATE
    seconds = min(options.end or request.duration_seconds, request.duration_seconds) - options.start
    return _BESIDE_BYTES + max(0.0, seconds) * a_second * (len(options.stems) or _USUAL_STEMS)


def _own_rate(request: JobRequest) -> int:
    """Return the rate of a song in Hz, if nobody has told it the highest."""
    return (request.level.own_rate if request.level else 0) or _HIGHEST_RATE
