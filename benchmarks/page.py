"""Measures the page as a browser has it: `make bench-page`, or PYTHONPATH=tests python -m benchmarks.page.

How soon a dropped song is heard, beside an ordinary player of finished stems; what the page weighs and how soon it
answers; the memory of a tab that plays an hour; and how far the stems are apart. The browser is the machine's own.
"""

import argparse
import os
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
import requests
from numpy.typing import NDArray
from playwright.sync_api import Browser

from benchmarks import page_table, report
from benchmarks.machine import processor
from benchmarks.page_alone import play_alone
from benchmarks.page_browser import (
    Visitor,
    browser,
    interactive_s,
    loaded_bytes,
    tagged,
    wait_for,
)
from benchmarks.processes import started, wait_until
from benchmarks.songs import looped_song, second_of_noise
from made_jobs import MadeJob, Pcm, noise
from player_pages import Heard, PlayerPage, Studio
from unmix.audio.samples import SAMPLE_RATE
from unmix.local.local import free_port
from unmix_rest.routes.page import FILES

_ORDINARY: Final = Path(__file__).with_name("ordinary_player.html")
#: The language of the browser; files of others are not loaded.
_LANGUAGE: Final = "en"
_LIMIT_SECONDS: Final = 3600
_STEMS: Final = ("vocals", "drums", "bass", "other")
_MB: Final = 1_000_000


@dataclass(frozen=True, slots=True)
class Scale:
    """How much of everything is measured."""

    song_s: float
    rounds: int
    openings: int
    long_song_s: float
    seeks: int
    heard_s: float  # after each seek
    places: int  # at which it is looked whether the stems are in step


FULL: Final = Scale(song_s=240, rounds=3, openings=9, long_song_s=3600, seeks=30, heard_s=4, places=12)
QUICK: Final = Scale(song_s=30, rounds=1, openings=1, long_song_s=40, seeks=2, heard_s=0.5, places=2)


def main() -> None:
    """Measure all, print the table, and add it to the page."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="little of everything: no figures to keep")
    parser.add_argument("--output", type=Path, help="folder for JSON and page in place of the project's")
    arguments = parser.parse_args()
    scale = QUICK if arguments.quick else FULL
    began = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="unmix-bench-") as folder, _service(Path(folder)) as url:
        with browser() as running:
            version = running.version
            seconds, actions = _sound(running, url, scale)
            interactive = [interactive_s(running, url) for _ in range(scale.openings)]
            weight = _weight(running, url)
            apart = _apart(running, scale.places)
        hour = _long_song(url, scale)
    record = {
        "browser": version,
        "song_s": scale.song_s,
        "sound_s": seconds,
        "actions": actions,
        "interactive_s": interactive,
        "weight": weight,
        "apart": apart,
        "long": hour,
        "took_minutes": round((time.monotonic() - began) / 60, 1),
    }
    published = report.publish("page", "make bench-page", record, arguments.output)
    print(f"{processor(published['machine'])}, {published['machine']['threads']} processors, Chromium {version}")
    print(page_table.figures(record))


@contextmanager
def _service(folder: Path) -> Iterator[str]:
    """Run `unmix local` with the demo model at its defaults, and yield its URL once it has separated something."""
    url = f"http://localhost:{(port := free_port())}"
    command = ["local", "--model", "demo", "--port", str(port), "--data-dir", str(folder / "data")]
    ours = ("UNMIX_", "REDIS_", "MINIO_")
    environment = {name: value for name, value in os.environ.items() if not name.startswith(ours)}
    environment["UNMIX_MAX_SONG_SECONDS"] = str(2 * FULL.long_song_s)
    with started([sys.executable, "-m", "unmix.cli", *command], folder / "local.log", environment):
        wait_until(lambda: _is_up(url), "the service answers", limit_seconds=300)
        _separate(url, second_of_noise(0))
        yield url


def _is_up(url: str) -> bool:
    try:
        return requests.get(f"{url}/readyz", timeout=5).ok
    except requests.ConnectionError:
        return False


def _separate(url: str, song: bytes) -> str:
    """Send a song, wait until it is done, and return its job."""
    answer = requests.post(f"{url}/apiv1/jobs", files={"file": song}, data={"name": "Song"}, timeout=600)
    answer.raise_for_status()
    job = f"{url}/apiv1/jobs/{answer.json()['hash']}"
    wait_until(
        lambda: requests.get(job, timeout=60).json()["status"] == "done", "a song is done", limit_seconds=_LIMIT_SECONDS
    )
    return str(answer.json()["hash"])


def _sound(running: Browser, url: str, scale: Scale) -> tuple[dict[str, list[float]], int]:
    """Return the seconds from a drop to sound on our page and in the ordinary player, in turn, and what ours takes."""
    song = looped_song(scale.song_s)
    seconds: dict[str, list[float]] = {"page": [], "ordinary": []}
    for number in range(scale.rounds):
        ours = Visitor(running)
        ours.page.goto(url)
        wait_for(ours.page, "document.querySelector('#options-summary').textContent", "the page is there")
        ours.drop(tagged(song, 2 * number))
        ours.press("Karaoke")
        seconds["page"].append(ours.seconds_to_sound())
        if ours.page.get_by_role("button", name="Mute Vocals").get_attribute("aria-pressed") != "true":
            raise RuntimeError("the voice is not muted")
        actions = ours.actions
        _when_idle(ours, url)
        ordinary = Visitor(running)
        ordinary.page.route(
            "**/ordinary", lambda route: route.fulfill(body=_ORDINARY.read_text(), content_type="text/html")
        )
        ordinary.page.goto(f"{url}/ordinary")
        ordinary.drop(tagged(song, 2 * number + 1))
        seconds["ordinary"].append(ordinary.seconds_to_sound())
        ordinary.close()
    return seconds, actions


def _when_idle(visitor: Visitor, url: str) -> None:
    """Leave once the service has nothing more to do."""
    visitor.page.goto("about:blank")

    def is_idle() -> bool:
        jobs = requests.get(f"{url}/apiv1/jobs", timeout=60).json()["jobs"]
        return all(job["status"] == "done" for job in jobs)

    wait_until(is_idle, "all songs are done", limit_seconds=_LIMIT_SECONDS)
    visitor.close()


def _weight(running: Browser, url: str) -> dict[str, int]:
    """Return the bytes that a browser loads before it sends a song, and those of all that it ever may load."""
    visitor = Visitor(running)
    visitor.page.goto(url, wait_until="networkidle")
    before = loaded_bytes(visitor.page)
    visitor.close()
    others = {path.rpartition("/")[2] for path in FILES if path.startswith("texts/")}
    others = {name for name in others if not name.endswith(f"{_LANGUAGE}.js")}
    everything = [path for path in FILES if path.rpartition("/")[2] not in others]
    sizes = [_served_bytes(f"{url}/static/{path}") for path in everything]
    return {"before": sum(before.values()), "before_files": len(before), "all": sum(sizes), "all_files": len(sizes)}


def _served_bytes(url: str) -> int:
    """Return how long an answer is on its way to a browser."""
    answer = requests.get(url, headers={"Accept-Encoding": "gzip, deflate, br"}, stream=True, timeout=60)
    answer.raise_for_status()
    return len(answer.raw.read(decode_content=False))


def _long_song(url: str, scale: Scale) -> dict[str, Any]:
    """Play a long song here and there, and return the most memory that the tab had meanwhile."""
    job_id = _separate(url, looped_song(scale.long_song_s).read_bytes())
    shares = np.random.default_rng(1).uniform(0.02, 0.9, scale.seeks).tolist()
    peak_pss = play_alone(url, {"id": job_id, "name": "Long", "at": 1}, shares, heard_s=scale.heard_s)
    return {"song_s": scale.long_song_s, "seeks": scale.seeks, "peak_pss_mb": round(peak_pss / _MB, 1)}


def _apart(running: Browser, places: int) -> dict[str, int]:
    """Return by how many samples stems were apart at most, after seeks: each is searched for in what was heard."""
    stems = {stem: noise(30, number) for number, stem in enumerate(_STEMS)}
    job = MadeJob(stems, part_samples=200_000).finish()
    studio = Studio()
    studio.jobs[job.hash] = job
    page = running.new_context(viewport={"width": 1000, "height": 900}).new_page()
    page.goto(f"{studio.url}/?job={job.hash}")
    player = PlayerPage(page)
    player.wait("window.isReady && document.querySelector('.player-play')", "the player is there")
    player.press("Play")
    wave = page.get_by_role("slider", name="Place in the song")
    box = wave.bounding_box()
    assert box
    most = 0
    for share in np.random.default_rng(2).uniform(0.05, 0.8, places):
        wave.click(position={"x": box["width"] * share, "y": 20})
        page.wait_for_timeout(1000)  # what was there before is over
        player.forget()
        heard = player.listen(1.0)[-SAMPLE_RATE // 2 :]
        found = [_place_in(heard, stems[stem]) for stem in _STEMS]
        most = max(most, max(found) - min(found))
    page.context.close()
    studio.close()
    return {"samples": most, "places": places}


def _place_in(heard: Heard, stem: Pcm) -> int:
    """Return the sample of a stem that is heard first: where both are the most alike."""
    wanted, whole = (_spectrum(samples[:, 0], len(stem) + len(heard)) for samples in (heard, stem))
    return int(np.argmax(np.fft.irfft(whole * wanted.conj())[: len(stem)]))


def _spectrum(samples: NDArray[Any], size: int) -> NDArray[np.complex128]:
    return np.fft.rfft(samples - samples.mean(), size)


if __name__ == "__main__":
    main()
