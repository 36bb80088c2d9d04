"""A tab that nobody looks into, as it is at people's: developer tools would keep in it whatever its page fetches.

Chromium holds up to 200 MB of answers for them, in the very process whose memory is measured. So the tab is opened by
them, drives itself while they are away, and is asked afterwards what it did.
"""

import time
from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Final

from playwright.sync_api import Page, sync_playwright

from benchmarks.measure import TreeMemory
from benchmarks.page_browser import ARGUMENTS, browser_path, tab_process
from benchmarks.processes import started, wait_until

#: Notes the loudest sample of what is heard just now; whatever leads to the loudspeakers is looked at.
_METER: Final = """
const { connect } = AudioNode.prototype;
const seen = new Float32Array(32768);
AudioNode.prototype.connect = function (target, ...rest) {
  if (this.context instanceof AudioContext && target === this.context.destination) {
    const meter = new AnalyserNode(this.context, { fftSize: seen.length });
    connect.call(this, meter);
    window.loudest = () => { meter.getFloatTimeDomainData(seen); return Math.max(...seen.map(Math.abs)); };
  }
  return connect.call(this, target, ...rest);
};
"""
#: Plays, goes to one place after the other as a pointer does, and notes what is heard at each at the end of a while.
_DRIVE: Final = """
([shares, seconds]) => {
  Element.prototype.setPointerCapture = () => {};  // there is no such pointer
  window.noted = [];
  const wave = document.querySelector(".player-wave");
  document.querySelector(".player-play").click();
  (async () => {
    for (const share of shares) {
      const { left, top, width } = wave.getBoundingClientRect();
      const there = { clientX: left + share * width, clientY: top + 20, pointerId: 1, button: 0, bubbles: true };
      for (const name of ["pointerdown", "pointerup"]) wave.dispatchEvent(new PointerEvent(name, there));
      await new Promise((resolve) => setTimeout(resolve, 1000 * seconds));
      noted.push(loudest());
    }
  })();
}
"""
_LIMIT_SECONDS: Final = 60
_SOUND: Final = 0.001


def play_alone(url: str, song: dict[str, Any], shares: Sequence[float], *, heard_s: float) -> int:
    """Open a page that knows a finished `song`, and let it play that from each of `shares` of its length on.

    Returns the most memory that the tab had meanwhile, in bytes.

    Raises:
        RuntimeError: the tab did not come to all places, or nothing was heard at one.
    """
    with TemporaryDirectory(prefix="unmix-bench-") as name:
        folder = Path(name)
        arguments = [*ARGUMENTS, "--headless=new", "--mute-audio", "--remote-debugging-port=0"]
        command = [browser_path(), *arguments, f"--user-data-dir={folder}", "about:blank"]
        told = folder / "DevToolsActivePort"
        with started(command, folder / "log") as pid, sync_playwright() as playwright:
            wait_until(lambda: told.is_file() and told.read_text().count("\n") >= 1, "the browser is there")
            address = f"http://127.0.0.1:{told.read_text().split()[0]}"
            tools = playwright.chromium.connect_over_cdp(address)
            page = tools.contexts[0].pages[0]
            _open(page, url, song)
            tab = tab_process(pid)
            page.evaluate(_DRIVE, [list(shares), heard_s])
            tools.close()
            with TreeMemory(tab) as memory:
                time.sleep(len(shares) * (heard_s + 0.1))
            tools = playwright.chromium.connect_over_cdp(address)
            page = tools.contexts[0].pages[0]
            wait_until(lambda: page.evaluate("noted.length") == len(shares), "the tab was everywhere")
            heard = sum(loudest > _SOUND for loudest in page.evaluate("noted"))
            tools.close()
    if heard < len(shares):
        raise RuntimeError(f"there was sound at {heard} of {len(shares)} places")
    return memory.peak_pss


def _open(page: Page, url: str, song: dict[str, Any]) -> None:
    page.set_default_timeout(1000 * _LIMIT_SECONDS)
    page.add_init_script(_METER)
    page.goto(url)
    page.evaluate("(songs) => localStorage.setItem('unmix.songs', JSON.stringify(songs))", [song])
    page.reload()
    page.get_by_role("button", name="Listen").click()
    page.get_by_role("button", name="Play", exact=True).wait_for()
