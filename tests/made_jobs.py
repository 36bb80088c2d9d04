"""Jobs that were made up, to play: every answer has the shape of REST's.

Files of parts and stems are real: FLACs that are written independently of us, and whatever the worker's own writer
makes.
"""

import hashlib
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from io import BytesIO
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Final, TypeAlias
from urllib.parse import quote

import numpy as np
import soundfile
from numpy.typing import NDArray

from unmix.audio import peaks
from unmix.audio.encode import StemWriter
from unmix.audio.resampling import resampled
from unmix.audio.samples import SAMPLE_RATE
from unmix.audio.tags import NO_TAGS, Tags
from unmix.job import JobStatus
from unmix.job_view import JobView, OptionsView, PartsView, StemView
from unmix_rest.answer_shapes import Part, Parts, PartStem

Pcm: TypeAlias = NDArray[np.int16]
#: Status, type and body.
Answer: TypeAlias = tuple[int, str, bytes]

#: Its period is no whole number of samples: so each sample is found again.
TONE_HZ: Final = 440.3


@dataclass
class MadeJob:
    """A job that was made up: `stems` (time, 2) are what it is heard as."""

    stems: Mapping[str, Pcm]
    part_samples: int = SAMPLE_RATE
    format: str = "flac"
    bits: int = 16
    bitrate_kbps: int = 256
    #: Of finished stems.
    rate: int = SAMPLE_RATE
    has_parts: bool = True
    #: Parts that are made; all others are still to come.
    made: set[int] = field(default_factory=set)
    status: JobStatus = JobStatus.RUNNING
    beats: tuple[float, ...] = ()
    name: str | None = "Song"
    tags: Tags = NO_TAGS
    #: Times that each file is not found, or not given for another reason, by its path.
    broken: dict[str, tuple[int, int]] = field(default_factory=dict)
    _files: dict[str, bytes] = field(default_factory=dict)

    @property
    def hash(self) -> str:
        """Return the same for the same stems."""
        return hashlib.sha256("".join(self.stems).encode()).hexdigest()

    @property
    def length(self) -> int:
        """Return its samples."""
        return len(next(iter(self.stems.values())))

    @property
    def count(self) -> int:
        """Return how many parts it has."""
        return -(-self.length // self.part_samples)

    def finish(self) -> "MadeJob":
        """Have all of it made."""
        self.made = set(range(self.count))
        self.status = JobStatus.DONE
        return self

    def view(self) -> JobView:
        """Return what REST tells of it."""
        path, is_done = f"/apiv1/jobs/{self.hash}", self.status is JobStatus.DONE
        stems = {
            stem: StemView(f"/apiv1/track/{self.hash}/{quote(stem)}.{self.format}", len(self.file(stem)), "0" * 64)
            for stem in (self.stems if is_done else ())
        }
        return JobView(
            hash=self.hash,
            songhash=self.hash,
            status=self.status,
            name=self.name,
            options=OptionsView(
                "demo", tuple(self.stems), self.format, True, self.bits, 0.0, None, song_rate=self.rate != SAMPLE_RATE
            ),
            duration_seconds=self.length / SAMPLE_RATE,
            progress=len(self.made) / self.count,
            stems=stems,
            peaks=f"{path}/peaks" if is_done else None,
            parts=PartsView(self.count, len(self.made), f"{path}/parts") if self.has_parts else None,
        )

    def parts(self, offset: int, limit: int) -> Parts:
        """Return a page of its parts."""
        listed = [self._part(index) for index in sorted(self.made) if index >= offset][:limit]
        return Parts(self.hash, self.count, self.part_samples, SAMPLE_RATE, peaks.PEAK_SAMPLES, tuple(listed))

    def peaks(self) -> dict[str, Any]:
        """Return what to draw of all of it."""
        return peaks.of_song({stem: _peaks(pcm, 0) for stem, pcm in self.stems.items()}, self.beats)

    def drawn(self, stem: str, span: slice) -> list[int]:
        """Return the peaks of a stretch of a stem."""
        return _peaks(self.stems[stem][span], span.start)

    def flac(self, index: int, stem: str) -> bytes:
        """Return the file of a stem of a part."""
        return flac(self.stems[stem][self._span(index)])

    def file(self, stem: str) -> bytes:
        """Return the file of a finished stem, as the worker writes it."""
        if stem not in self._files:
            self._files[stem] = self._written(self.stems[stem])
        return self._files[stem]

    def answer(self, path: str, query: Mapping[str, list[str]]) -> Answer:
        """Return what REST answers of it: at a path below the job's own, or at that of a finished stem."""
        if path == "":
            return _json(self.view().to_fields())
        if path == "/peaks":
            return _json(self.peaks())
        if path == "/parts":
            return _json(self.parts(int(query["offset"][0]), int(query["limit"][0])).to_fields())
        if part := re.fullmatch(r"/parts/(\d+)/(.+)\.flac", path):
            index = int(part[1])
            if index not in self.made or not self.has_parts:
                return 404, "text/plain", b""
            return 200, "audio/flac", self.flac(index, part[2])
        if track := re.search(r"/([^/]+)\.\w+$", path):
            return 200, "audio/any", self.file(track[1])
        return 404, "text/plain", b""

    def _part(self, index: int) -> Part:
        span = self._span(index)
        path = f"/apiv1/jobs/{self.hash}/parts/{index}"
        stems = {
            stem: PartStem(f"{path}/{quote(stem)}.flac?sha256=0", 1, "0" * 64, tuple(self.drawn(stem, span)))
            for stem in self.stems
        }
        return Part(index, span.start, span.stop - span.start, stems)

    def _span(self, index: int) -> slice:
        start = index * self.part_samples
        return slice(start, min(start + self.part_samples, self.length))

    def _written(self, pcm: Pcm) -> bytes:
        with TemporaryDirectory() as folder:
            path = Path(folder) / "stem"
            writer = StemWriter(
                path,
                format=self.format,
                bits=self.bits,
                bitrate_kbps=self.bitrate_kbps,
                rate=self.rate,
                tags=self.tags,
            )
            for chunk in resampled([np.ascontiguousarray((pcm / 32768).astype(np.float32).T)], self.rate):
                writer.write(chunk)
            writer.close()
            return path.read_bytes()


def flac(pcm: Pcm) -> bytes:
    """Return a FLAC of samples (time, 2)."""
    with BytesIO() as file:
        soundfile.write(file, pcm, SAMPLE_RATE, format="FLAC", subtype="PCM_16")
        return file.getvalue()


def noise(seconds: float, seed: int, *, least: int = -6000, most: int = -1) -> Pcm:
    """Return samples (time, 2) that are found again wherever they are.

    Negative ones are exact in a browser, and so are their sums, in whatever order they are added up.
    """
    values = np.random.default_rng(seed).integers(least, most, (round(seconds * SAMPLE_RATE), 2), endpoint=True)
    return values.astype(np.int16)


def tone(seconds: float) -> MadeJob:
    """Return a song of one stem, a sine, as parts."""
    time = np.arange(round(seconds * SAMPLE_RATE)) / SAMPLE_RATE
    wave = np.rint(12_000 * np.sin(2 * np.pi * TONE_HZ * time)).astype(np.int16)
    return MadeJob({"other": np.stack([wave, wave], axis=1)}, part_samples=60_000).finish()


def _peaks(pcm: Pcm, start: int) -> list[int]:
    drawn = peaks.Peaks(start)
    drawn.add(pcm.T)
    return drawn.values


def _json(fields: Any) -> tuple[int, str, bytes]:
    return 200, "application/json", json.dumps(fields).encode()
