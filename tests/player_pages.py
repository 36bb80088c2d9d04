"""A page with nothing but the player, over HTTP, for jobs that were made up (`made_jobs`).

The page keeps what goes to the loudspeakers, so that tests compare samples.
"""

import base64
import re
import threading
from collections.abc import Callable, Iterator
from contextlib import suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, Final
from urllib.parse import parse_qs, unquote, urlsplit

import numpy as np
import pytest
import requests
from numpy.typing import NDArray
from playwright.sync_api import Browser, Page

from made_jobs import Answer, MadeJob, Pcm
from support import PATIENCE_SECONDS, eventually
from unmix.audio.samples import SAMPLE_RATE

Heard = NDArray[np.int32]
Decoded = NDArray[np.float32]

STATIC: Final = Path(__file__).parents[1] / "rest" / "unmix_rest" / "static"
_PAGE: Final = Path(__file__).parent / "browser" / "player_page"
_TYPES: Final = {".html": "text/html", ".js": "text/javascript", ".css": "text/css"}
#: As the page has it; WebAssembly is for another speed or pitch.
POLICY: Final = (
    "default-src 'none'; script-src 'self' 'wasm-unsafe-eval'; style-src 'self'; img-src 'self' data: blob:; "
    "media-src 'self' blob:; connect-src 'self'; worker-src 'self'; base-uri 'none'; form-action 'none'; "
    "frame-ancestors 'none'"
)


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

    def answer(self, target: str) -> Answer:
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
        return job.answer(path.removeprefix(f"/apiv1/jobs/{job.hash}"), parse_qs(url.query))

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


def _of_rest(url: str) -> Answer:
    answer = requests.get(url, timeout=PATIENCE_SECONDS)
    return answer.status_code, answer.headers["Content-Type"], answer.content


def _file(path: str) -> Answer:
    name = path.removeprefix("/static/")
    file = STATIC / name if name != path else _PAGE / (path.strip("/") or "index.html")
    if not file.is_file():
        return 404, "text/plain", b""
    return 200, _TYPES[file.suffix], file.read_bytes()
