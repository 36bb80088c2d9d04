"""Speed and pitch, measured on a tone."""

import hashlib
import re

import numpy as np

from made_jobs import TONE_HZ, tone
from player_pages import STATIC, OpenPlayer, PlayerPage, Studio, open_player, pitch_of, sounding, studio
from support import eventually

__all__ = ["open_player", "studio"]


def set_slider(player: PlayerPage, name: str, value: int) -> None:
    if not player.page.get_by_role("slider", name=name, exact=True).is_visible():
        player.open_more()
    player.page.get_by_role("slider", name=name, exact=True).fill(str(value))


def test_an_octave_up_is_twice_the_frequency(open_player: OpenPlayer) -> None:
    player = open_player(tone(20))
    set_slider(player, "Pitch", 12)
    player.press("Play")
    player.listen(1.5)
    player.forget()
    assert abs(pitch_of(sounding(player.listen(2.5))) - 2 * TONE_HZ) < 2


def test_half_the_speed_keeps_the_pitch_and_takes_twice_the_time(open_player: OpenPlayer) -> None:
    job = tone(4)
    player = open_player(job)
    set_slider(player, "Speed", 50)
    player.press("Play")
    player.wait("document.querySelector('.player-play').ariaLabel === 'Play'", "the song is over")
    heard = sounding(player.listen(8))
    assert abs(pitch_of(heard) - TONE_HZ) < 2
    (loud,) = np.nonzero(np.abs(heard[:, 0]) > 3000)
    # Some of it was heard at full speed, while what changes it was loaded.
    assert 1.7 * job.length < loud[-1] < 2.1 * job.length


def test_the_speed_can_be_changed_while_it_plays_and_back_to_every_sample(
    open_player: OpenPlayer, studio: Studio
) -> None:
    job = tone(60)
    player = open_player(job)
    player.press("Play")
    player.listen(1)
    assert not any("signalsmith" in path for path in studio.asked)
    set_slider(player, "Speed", 75)
    player.wait("context.currentTime > 3", "a while has gone by")
    player.forget()
    assert abs(pitch_of(player.listen(2.5)) - TONE_HZ) < 2
    set_slider(player, "Speed", 100)
    wave = job.stems["other"]

    def is_the_song() -> bool:  # it is faded over to, and later where the machine is slow
        player.forget()
        heard = player.listen(1)
        places = np.flatnonzero((wave == heard[0]).all(axis=1))
        return any(np.array_equal(heard, wave[at : at + len(heard)]) for at in places)

    eventually(is_the_song, "every sample is that of the song again")


def test_what_cannot_be_loaded_is_said_and_the_song_plays_as_it_is(open_player: OpenPlayer, studio: Studio) -> None:
    studio.policy = studio.policy.replace("'wasm-unsafe-eval'", "")
    job = tone(20)
    player = open_player(job, expects_failures=True)
    set_slider(player, "Pitch", 12)
    player.press("Play")
    player.page.get_by_text("What changes speed and pitch could not be loaded.").wait_for()
    heard = sounding(player.listen(1))
    assert np.array_equal(heard, job.stems["other"][1 : len(heard) + 1])  # a sine begins with a zero


def test_what_is_not_ours_is_what_its_page_says_it_is() -> None:
    folder = STATIC / "player" / "stretch"
    said = re.search(r"`([0-9a-f]{64})`", (folder / "README.md").read_text())
    assert said is not None
    assert said[1] == hashlib.sha256((folder / "signalsmith-stretch.js").read_bytes()).hexdigest()
