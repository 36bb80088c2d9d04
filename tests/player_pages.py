"""A page with nothing but the player, over HTTP, and jobs that were made up: every answer has the shape of REST's.

The page keeps what goes to the loudspeakers, so that tests compare samples. Files of parts and stems are real: FLACs
that are written independently of us, and whatever the worker's own writer makes.
"""

import base64
import hashlib
import json
import re
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from io import BytesIO
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Final
from urllib.parse import parse_qs, quote, unquote, urlsplit

import numpy as np
import pytest
import requests
import soundfile
from numpy.typing import NDArray
from playwright.sync_api import Browser, Page

from support import PATIENCE_SECONDS, eventually
from unmix.audio import peaks
from unmix.audio.encode import StemWriter
from unmix.audio.resampling import resampled
from unmix.audio.samples import SAMPLE_RATE
from unmix.audio.tags import NO_TAGS, Tags
from unmix.job import JobStatus
from unmix.job_view import JobView, OptionsView, PartsView, StemView
from unmix_rest.answer_shapes import Part, Parts, PartStem

Pcm = NDArray[np.int16]
Heard = NDArray[np.int32]
Decoded = NDArray[np.float32]

STATIC: Final = Path(__file__).parents[1] / "rest" / "unmix_rest" / "static"
_PAGE: Final = Path(__file__).parent / "browser" / "player_page"
_TYPES: Final = {".html": "text/html", ".js": "text/javascript", ".css": "text/css"}
#: Its period is no whole number of samples: so each sample is found again.
TONE_HZ: Final = 440.3
#: As the page has it; WebAssembly is for another speed or pitch.
POLICY: Final = (
    "default-src 'none'; script-src 'self' 'wasm-unsafe-eval'; style-src 'self'; img-src 'self' data: blob:; "
    "media-src 'self' blob:; connect-src 'self'; worker-src 'self'; base-uri 'none'; form-action 'none'; "
    "frame-ancestors 'none'"
)


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


class Studio:
    """Serves the page, the player and the jobs."""

    def __init__(self) -> None:
        self.jobs: dict[str, MadeJob] = {}
        self.asked: list[str] = []
        self.sent_bytes = 0
        #: Where REST is that answers for jobs which were not made up.
        self.rest_url: str | None = None
        self.policy = POLICY
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), self._handler())
        self._server.daemon_threads = True
        threading.Thread(target=self._server.serve_forever, args=[0.01], daemon=True).start()  # ends at once
        self.url = f"http://127.0.0.1:{self._server.server_port}"

    def close(self) -> None:
        """End."""
        self._server.shutdown()
        self._server.server_close()

    def answer(self, target: str) -> tuple[int, str, bytes]:
        """Return the status, the type and the body that a request is answered with."""
        url = urlsplit(target)
        path = unquote(url.path)
        self.asked.append(path)
        if not path.startswith("/apiv1/"):
            return _file(path)
        job = next((job for name, job in self.jobs.items() if name in path), None)
        if job is None:
            return _of_rest(self.rest_url + target) if self.rest_url else (404, "text/plain", b"")
        times, status = job.broken.get(path, (0, 0))
        if times:
            job.broken[path] = (times - 1, status)
            return status, "text/plain", b""
        return _answer(job, path.removeprefix(f"/apiv1/jobs/{job.hash}"), parse_qs(url.query))

    def _handler(self) -> type[BaseHTTPRequestHandler]:
        studio = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def handle(self) -> None:
                with suppress(ConnectionError):  # the page is closed, or does not want it any more
                    super().handle()

            def do_GET(self) -> None:
                status, media_type, body = studio.answer(self.path)
                asked = re.fullmatch(r"bytes=(\d+)-(\d+)", self.headers.get("Range", ""))
                if asked and status == 200:
                    status, body = 206, body[int(asked[1]) : int(asked[2]) + 1]
                self.send_response(status)
                self.send_header("Content-Type", media_type)
                self.send_header("Content-Length", str(len(body)))
                self.send_header("Content-Security-Policy", studio.policy)
                self.end_headers()
                self.wfile.write(body)
                studio.sent_bytes += len(body)

            def log_message(self, format: str, *args: object) -> None:
                pass

        return Handler


class PlayerPage:
    """The page as a person sees it, and what they hear."""

    def __init__(self, page: Page) -> None:
        self.page = page

    def wait(self, expression: str, what: str) -> None:
        """Wait until something holds in the page."""
        eventually(lambda: self.page.evaluate(expression), what, meanwhile=lambda: self.page.wait_for_timeout(20))

    def press(self, name: str) -> None:
        """Press a button by what it says."""
        self.page.get_by_role("button", name=name, exact=True).click()

    def open_more(self) -> None:
        """Show what few need."""
        self.page.get_by_text("Speed and pitch").click()

    def forget(self) -> None:
        """Begin to listen anew."""
        self.page.evaluate("forget()")

    def listen(self, seconds: float) -> Heard:
        """Return what was heard, (time, 2) in steps of 16 bits, once there are so many seconds of it.

        A browser starts a source a hundred-billionth of a sample beside the frame that it is to start at, which shows
        in the last bit of a float.
        """
        self.wait(f"heardSamples() >= {seconds * SAMPLE_RATE}", f"{seconds} s were heard")
        heard = samples_of(self.page.evaluate("heard()")).astype(np.float64)
        steps = np.where(heard < 0, heard * 32768, heard * 32767)
        return np.rint(steps).astype(np.int32)


@pytest.fixture
def studio() -> Iterator[Studio]:
    """The server of a test."""
    studio = Studio()
    yield studio
    studio.close()


OpenPlayer = Callable[..., PlayerPage]


@pytest.fixture
def open_player(browser: Browser, studio: Studio) -> Iterator[OpenPlayer]:
    """Open the player of a job; whatever goes wrong in the page unseen fails the test."""
    contexts = []
    quiet: list[Page] = []
    wrong: list[str] = []

    def open_it(
        job: MadeJob | str,
        *,
        mounts: bool = True,
        query: str = "",
        before: str = "",
        expects_failures: bool = False,
        **options: Any,
    ) -> PlayerPage:
        context = browser.new_context(**{"viewport": {"width": 1000, "height": 900}, **options})
        contexts.append(context)
        page = context.new_page()
        page.set_default_timeout(PATIENCE_SECONDS * 1000)
        if not expects_failures:
            quiet.append(page)
            page.on("console", lambda said: wrong.append(said.text) if said.type == "error" else None)
        page.on("pageerror", lambda error: wrong.append(str(error)))
        page.add_init_script(before)
        if isinstance(job, MadeJob):
            studio.jobs[job.hash] = job
        name = job.hash if isinstance(job, MadeJob) else job
        page.goto(f"{studio.url}/?{f'job={name}' if mounts else ''}{query}")
        player = PlayerPage(page)
        player.wait("window.isReady", "the page is ready")
        return player

    yield open_it
    for page in quiet:
        wrong += page.evaluate("window.violations")
    for context in contexts:
        context.close()
    assert wrong == []


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


def pitch_of(heard: Heard | Pcm) -> float:
    """Return the strongest frequency of the second second, in Hz."""
    piece = heard[SAMPLE_RATE : 2 * SAMPLE_RATE, 0]
    strength = np.abs(np.fft.rfft(piece * np.hanning(len(piece)), 4 * len(piece)))
    return float(np.argmax(strength)) / 4


def as_decoded(pcm: NDArray[Any]) -> Decoded:
    """Return 16-bit samples as Chromium decodes them: full scale is 1 in both directions."""
    scale = np.where(pcm < 0, np.float32(1 / 32768), np.float32(1 / 32767))
    decoded: Decoded = pcm.astype(np.float32) * scale
    return decoded


def samples_of(text: str) -> Decoded:
    """Return what the page gives as base64: (time, 2)."""
    return np.frombuffer(base64.b64decode(text), np.float32).reshape(-1, 2)


def sounding(heard: Heard) -> Heard:
    """Return what was heard from the first sample that is none of silence on."""
    (at,) = np.nonzero(heard.any(axis=1))
    return heard[at[0] :] if len(at) else heard[:0]


def place_of(heard: Heard, song: NDArray[Any], *, least: int = 64) -> int:
    """Return where in the song the first samples that are heard lie.

    Raises:
        AssertionError: nowhere.
    """
    for at in np.flatnonzero((song == heard[0]).all(axis=1)):
        if np.array_equal(song[at : at + least], heard[:least]):
            return int(at)
    raise AssertionError("this is nowhere in the song")


def _peaks(pcm: Pcm, start: int) -> list[int]:
    drawn = peaks.Peaks(start)
    drawn.add(pcm.T)
    return drawn.values


def _answer(job: MadeJob, path: str, query: dict[str, list[str]]) -> tuple[int, str, bytes]:
    if path == "":
        return _json(job.view().to_fields())
    if path == "/peaks":
        return _json(job.peaks())
    if path == "/parts":
        return _json(job.parts(int(query["offset"][0]), int(query["limit"][0])).to_fields())
    if part := re.fullmatch(r"/parts/(\d+)/(.+)\.flac", path):
        index = int(part[1])
        if index not in job.made or not job.has_parts:
            return 404, "text/plain", b""
        return 200, "audio/flac", job.flac(index, part[2])
    if track := re.search(r"/([^/]+)\.\w+$", path):
        return 200, "audio/any", job.file(track[1])
    return 404, "text/plain", b""


def _of_rest(url: str) -> tuple[int, str, bytes]:
    answer = requests.get(url, timeout=PATIENCE_SECONDS)
    return answer.status_code, answer.headers["Content-Type"], answer.content


def _json(fields: Any) -> tuple[int, str, bytes]:
    return 200, "application/json", json.dumps(fields).encode()


def _file(path: str) -> tuple[int, str, bytes]:
    name = path.removeprefix("/static/")
    file = STATIC / name if name != path else _PAGE / (path.strip("/") or "index.html")
    if not file.is_file():
        return 404, "text/plain", b""
    return 200, _TYPES[file.suffix], file.read_bytes()
