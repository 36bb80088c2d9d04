"""An hour of four stems: what a tab keeps of it, however long it is played and wherever somebody seeks."""

from typing import Any

import numpy as np
import pytest

from made_jobs import MadeJob, flac, noise
from player_pages import OpenPlayer, Studio, open_player, studio
from unmix.audio import peaks
from unmix.audio.samples import SAMPLE_RATE

__all__ = ["open_player", "studio"]

PART = 515_970
PARTS = 308
#: Decoded seconds that a player may keep of a song: four windows, and one more while it is loaded.
MOST_SECONDS = 5 * PART / SAMPLE_RATE


class HourLong(MadeJob):
    """Every part of it is the same, so that it need not be made 300 times."""

    def flac(self, index: int, stem: str) -> bytes:
        return _FILES[stem]

    def drawn(self, stem: str, span: slice) -> list[int]:
        return [-9, 9] * (PART // peaks.PEAK_SAMPLES)

    def file(self, stem: str) -> bytes:
        return b""

    def peaks(self) -> dict[str, Any]:
        return peaks.of_song(dict.fromkeys(self.stems, [-9, 9] * peaks.MOST_PAIRS))


_FILES = {stem: flac(noise(PART / SAMPLE_RATE, seed)) for seed, stem in enumerate(("vocals", "drums", "bass", "other"))}

PLACE = "Number(document.querySelector('.player-wave').ariaValueNow)"
#: Counts what was decoded and not let go of.
COUNT = """
const decode = BaseAudioContext.prototype.decodeAudioData;
window.alive = new Set();
const registry = new FinalizationRegistry((id) => alive.delete(id));
BaseAudioContext.prototype.decodeAudioData = async function (data) {
  const buffer = await decode.call(this, data);
  const id = Symbol();
  alive.add(id);
  registry.register(buffer, id);
  return buffer;
};
"""


@pytest.mark.slow
def test_an_hour_takes_the_memory_of_a_minute(open_player: OpenPlayer, studio: Studio) -> None:
    silence = np.broadcast_to(np.zeros(1, np.int16), (PART * PARTS, 2))
    job = HourLong(dict.fromkeys(_FILES, silence), part_samples=PART).finish()
    player = open_player(job, before=COUNT)
    player.press("Play")
    wave = player.page.get_by_role("slider", name="Place in the song")
    box = wave.bounding_box()
    assert box is not None
    session = player.page.context.new_cdp_session(player.page)
    for share in np.random.default_rng(5).uniform(0.02, 0.98, 10):
        wave.click(position={"x": box["width"] * share, "y": 30})
        there = player.page.evaluate(PLACE)
        assert abs(there - share * PART * PARTS / SAMPLE_RATE) < 5  # a pixel is four seconds of such a song
        player.wait(f"{PLACE} > {there}", "what is there is heard")
        session.send("HeapProfiler.collectGarbage")
        player.page.wait_for_timeout(50)
        seconds = player.page.evaluate("alive.size") / len(_FILES) * PART / SAMPLE_RATE
        assert seconds <= MOST_SECONDS
