"""The mix as a file: what is heard, as numbers."""

from io import BytesIO
from pathlib import Path

import numpy as np
import soundfile

from player_pages import MadeJob, OpenPlayer, Pcm, PlayerPage, noise, open_player, studio

__all__ = ["open_player", "studio"]

STEMS = {
    name: noise(5.7, seed, least=-8000, most=8000) for seed, name in enumerate(("vocals", "drums", "bass", "other"))
}


def saved(player: PlayerPage) -> tuple[str, Pcm]:
    """Save the mix, and return the file's name and its samples."""
    player.open_more()
    with player.page.expect_download() as download:
        player.press("Save the mix as wav")
    data = Path(download.value.path()).read_bytes()
    pcm, rate = soundfile.read(BytesIO(data), dtype="int16")
    assert rate == 44_100
    return download.value.suggested_filename, pcm


def test_the_saved_mix_is_the_sum_of_the_stems(open_player: OpenPlayer) -> None:
    job = MadeJob(STEMS, part_samples=50_000).finish()
    name, pcm = saved(open_player(job))
    assert name == "Song - mix.wav"
    assert pcm.shape == (job.length, 2)
    total = sum(stem.astype(np.int64) for stem in STEMS.values())
    assert np.array_equal(pcm, total)


def test_the_saved_mix_has_volume_pan_and_mute_as_they_are_set(open_player: OpenPlayer) -> None:
    job = MadeJob(STEMS, part_samples=50_000).finish()
    player = open_player(job)
    player.press("Mute Vocals")
    player.page.get_by_role("slider", name="Volume of Drums").fill("0.5")
    player.page.get_by_role("slider", name="Pan of Bass").fill("-0.25")
    _, pcm = saved(player)
    total = 0.5 * STEMS["drums"] + STEMS["bass"] * np.array([1, 0.75]) + STEMS["other"]
    assert np.abs(pcm - total).max() <= 1


def test_a_mix_that_is_too_loud_for_a_file_is_clipped_and_said(open_player: OpenPlayer) -> None:
    stems = {name: noise(1, seed, least=-32_768, most=32_767) for seed, name in enumerate(("vocals", "other"))}
    player = open_player(MadeJob(stems).finish())
    _, pcm = saved(player)
    total = stems["vocals"].astype(np.int64) + stems["other"]
    assert np.array_equal(pcm, total.clip(-32768, 32767))
    said = player.page.get_by_text("samples were louder than a file can be")
    assert f"{((total > 32767) | (total < -32768)).sum()} samples" in said.inner_text()


def test_only_what_was_all_made_can_be_saved(open_player: OpenPlayer) -> None:
    job = MadeJob(STEMS, part_samples=50_000, made={0})
    player = open_player(job)
    player.open_more()
    save = player.page.get_by_role("button", name="Save the mix as wav")
    assert save.is_disabled()
    job.finish()
    player.page.evaluate("tell()")
    player.wait("!document.querySelector('.player-export').disabled", "it can be saved")
