"""The machine's own browser, and what people do in it, counted. What is timed is noted in the page by its clock."""

import base64
import os
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Final

import psutil
from playwright.sync_api import Browser, Page, sync_playwright

_BROWSERS: Final = ("chromium", "chromium-browser", "google-chrome")
#: The sandbox needs rights that containers lack; the ordinary player begins without a click.
ARGUMENTS: Final = ("--no-sandbox", "--autoplay-policy=no-user-gesture-required")
_LIMIT_SECONDS: Final = 600
#: Notes when a song was dropped and when there was sound, in ms of the page's clock: whatever leads to the loudspeakers
#: is looked at every 5 ms.
_NOTES: Final = """
window.noted = {};
addEventListener("drop", () => { noted.dropped = performance.now(); noted.sound = null; }, true);
const { connect } = AudioNode.prototype;
const seen = new Float32Array(2048);
AudioNode.prototype.connect = function (target, ...rest) {
  if (this.context instanceof AudioContext && target === this.context.destination) {
    const meter = new AnalyserNode(this.context, { fftSize: seen.length });
    connect.call(this, meter);
    const look = setInterval(() => {
      meter.getFloatTimeDomainData(seen);
      if (!seen.some((sample) => Math.abs(sample) > 0.001)) return;
      noted.sound ??= performance.now();
      clearInterval(look);
    }, 5);
  }
  return connect.call(this, target, ...rest);
};
"""
#: Tries to choose songs from the moment the page begins until it answers, and a picture has been made since.
_TRIES: Final = """
window.answered = new Promise((resolve) => {
  HTMLInputElement.prototype.click = () => {
    clearInterval(trying);
    requestAnimationFrame(() => setTimeout(() => resolve(performance.now())));
  };
  const trying = setInterval(() => document.querySelector("#choose-files")?.click(), 2);
});
"""
_DROP: Final = """
(told) => {
  const bytes = Uint8Array.from(atob(told), (each) => each.charCodeAt(0));
  window.dropped = new DataTransfer();
  dropped.items.add(new File([bytes], "Song.mp3", { type: "audio/mpeg" }));
}
"""


def browser_path() -> str:
    """Return where this machine has its browser.

    Raises:
        RuntimeError: it has none.
    """
    path = next(filter(None, map(shutil.which, _BROWSERS)), None)
    if path is None:
        raise RuntimeError("there is no browser to measure the page with: apt-get install chromium")
    return path


@contextmanager
def browser() -> Iterator[Browser]:
    """Run a browser without a window.

    Raises:
        RuntimeError: this machine has none.
    """
    with sync_playwright() as playwright:
        running = playwright.chromium.launch(executable_path=browser_path(), args=list(ARGUMENTS), env={**os.environ})
        yield running
        running.close()


class Visitor:
    """Somebody who was never there, on a page of their own; `actions` counts what they do."""

    def __init__(self, running: Browser, *, before: str = "") -> None:
        self.actions = 0
        self.page = running.new_context(locale="en-US", viewport={"width": 1100, "height": 900}).new_page()
        self.page.set_default_timeout(1000 * _LIMIT_SECONDS)
        self.page.add_init_script(_NOTES + before)

    def drop(self, song: bytes) -> None:
        """Drop a song on the page. The browser has it before: people's songs are on their disks."""
        self.page.evaluate(_DROP, base64.b64encode(song).decode())
        self.actions += 1
        self.page.evaluate(
            """() => {
              for (const name of ["dragover", "drop"]) {
                const facts = { dataTransfer: dropped, bubbles: true, cancelable: true };
                document.body.dispatchEvent(new DragEvent(name, facts));
              }
            }"""
        )

    def press(self, name: str) -> None:
        """Press a button as soon as it is there."""
        self.actions += 1
        self.page.get_by_role("button", name=name, exact=True).click()

    def seconds_to_sound(self) -> float:
        """Return the time from the drop to the first sound, once there is some."""
        wait_for(self.page, "noted.sound", "there is sound")
        return float(self.page.evaluate("noted.sound - noted.dropped")) / 1000

    def close(self) -> None:
        """Leave, and forget everything."""
        self.page.context.close()


def interactive_s(running: Browser, url: str) -> float:
    """Return the time from going to a page to its first answer: that somebody may choose songs, and sees so."""
    visitor = Visitor(running, before=_TRIES)
    visitor.page.goto(url, wait_until="commit")
    answered_ms: float = visitor.page.evaluate("answered")
    visitor.close()
    return answered_ms / 1000


def loaded_bytes(page: Page) -> dict[str, int]:
    """Return the size of each file that the page has loaded, as it came over the line, without the API's answers."""
    sizes: dict[str, int] = page.evaluate(
        """() => Object.fromEntries([...performance.getEntriesByType("navigation"),
          ...performance.getEntriesByType("resource")]
          .map((each) => [new URL(each.name).pathname, each.encodedBodySize]))"""
    )
    return {path: size for path, size in sizes.items() if not path.startswith("/apiv1/")}


def tab_process(browser_pid: int) -> int:
    """Return the process id of the largest tab of a browser; one page should be open."""
    tabs = []
    for process in psutil.Process(browser_pid).children(recursive=True):
        with suppress(psutil.NoSuchProcess):  # or it has just ended: songs are decoded beside this
            if "--type=renderer" in " ".join(process.cmdline()):
                tabs.append(process)
    return max(tabs, key=lambda process: int(process.memory_full_info().pss)).pid


def tagged(song: Path, number: int) -> bytes:
    """Return an mp3 with an empty tag of its own length before it: the same sound, and another song for the service."""
    size = 10 + number
    return (
        b"ID3\x03\x00\x00"
        + bytes([size >> 21 & 127, size >> 14 & 127, size >> 7 & 127, size & 127])
        + bytes(size)
        + song.read_bytes()
    )


def wait_for(page: Page, condition: str, what: str) -> None:
    """Return once an expression holds in the page, whose policy forbids Playwright's own way to wait for one.

    Raises:
        TimeoutError: that took more than ten minutes.
    """
    deadline = time.monotonic() + _LIMIT_SECONDS
    while not page.evaluate(condition):
        if time.monotonic() > deadline:
            raise TimeoutError(f"waited in vain until {what}")
        page.wait_for_timeout(20)
