"""The mix as a file: what is heard, as numbers."""

from io import BytesIO
from pathlib import Path

import av
import numpy as np
import pytest
import soundfile
from playwright.sync_api import expect

from made_jobs import TONE_HZ, MadeJob, Pcm, noise, tone
from player_pages import OpenPlayer, PlayerPage, Studio, open_player, pitch_of, studio
from unmix.audio.samples import SAMPLE_RATE

__all__ = ["open_player", "studio"]

STEMS = {
    name: noise(5.7, seed, least=-8000, most=8000) for seed, name in enumerate(("vocals", "drums", "bass", "other"))
}


def saved(player: PlayerPage, format: str = "wav") -> tuple[str, bytes]:
    """Save the mix, and return the file's name and what is in it."""
    with player.page.expect_download() as download:
        player.press(f"Save the mix as {format}")
    return download.value.suggested_filename, Path(download.value.path()).read_bytes()


def samples(data: bytes) -> Pcm:
    """Return the samples of a file, (time, 2), by a decoder that is not the browser's."""
    pcm, rate = soundfile.read(BytesIO(data), dtype="int16")
    assert rate == SAMPLE_RATE
    return np.asarray(pcm, np.int16)


def by_ffmpeg(data: bytes) -> Pcm:
    """Return the samples of a flac, (time, 2), as FFmpeg decodes it, which checks every frame."""
    with av.open(BytesIO(data), "r", options={"err_detect": "crccheck+bitstream+explode"}) as file:
        frames = [frame.to_ndarray().reshape(-1, 2) for frame in file.decode(audio=0)]
    return np.concatenate(frames)


def test_the_saved_mix_is_the_sum_of_the_stems(open_player: OpenPlayer) -> None:
    job = MadeJob(STEMS, part_samples=50_000).finish()
    name, data = saved(open_player(job))
    pcm = samples(data)
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
    pcm = samples(saved(player)[1])
    total = 0.5 * STEMS["drums"] + STEMS["bass"] * np.array([1, 0.75]) + STEMS["other"]
    assert np.abs(pcm - total).max() <= 1


def test_a_mix_that_is_too_loud_for_a_file_is_clipped_and_said(open_player: OpenPlayer) -> None:
    stems = {name: noise(1, seed, least=-32_768, most=32_767) for seed, name in enumerate(("vocals", "other"))}
    player = open_player(MadeJob(stems).finish())
    pcm = samples(saved(player)[1])
    total = stems["vocals"].astype(np.int64) + stems["other"]
    assert np.array_equal(pcm, total.clip(-32768, 32767))
    said = player.page.get_by_text("samples were louder than a file can be")
    assert f"{((total > 32767) | (total < -32768)).sum()} samples" in said.inner_text()


def test_only_what_was_all_made_can_be_saved(open_player: OpenPlayer) -> None:
    job = MadeJob(STEMS, part_samples=50_000, made={0})
    player = open_player(job)
    save = player.page.get_by_role("button", name="Save the mix as wav")
    assert save.is_disabled()
    job.finish()
    player.page.evaluate("tell()")
    player.wait("!document.querySelector('.player-export').disabled", "it can be saved")


@pytest.mark.parametrize(
    ("least", "most", "seconds"), [(-8000, 8000, 5.7), (-32_768, 32_767, 2), (0, 0, 1), (-3, 3, 1 / SAMPLE_RATE)]
)
def test_the_mix_as_flac_has_the_same_samples(open_player: OpenPlayer, least: int, most: int, seconds: float) -> None:
    stems = {name: noise(seconds, seed, least=least, most=most) for seed, name in enumerate(("vocals", "other"))}
    name, data = saved(open_player(MadeJob(stems, part_samples=50_000).finish()), "flac")
    assert name == "Song - mix.flac"
    total = (stems["vocals"].astype(np.int64) + stems["other"]).clip(-32768, 32767)
    assert np.array_equal(by_ffmpeg(data), total)
    assert np.array_equal(samples(data), total)


def test_a_mix_of_music_as_flac_is_smaller_than_as_wav_and_the_same_beyond_the_first_128_frames(
    open_player: OpenPlayer,
) -> None:
    time = np.arange(round(14 * SAMPLE_RATE)) / SAMPLE_RATE
    wave = 9000 * np.sin(2 * np.pi * (220 + 5 * time) * time) + noise(14, 3, least=-40, most=40)[:, 0]
    stem = np.rint(np.stack([wave, 0.6 * wave], axis=1)).astype(np.int16)
    _, data = saved(open_player(MadeJob({"other": stem}, part_samples=200_000).finish()), "flac")
    assert np.array_equal(by_ffmpeg(data), stem)
    assert len(data) < 0.6 * stem.nbytes


@pytest.mark.parametrize(("speed", "semitones", "named"), [(75, 0, "75 %"), (150, -12, "150 %, -12"), (100, 7, "+7")])
def test_the_mix_is_saved_at_the_speed_and_pitch_that_are_heard(
    open_player: OpenPlayer, speed: int, semitones: int, named: str
) -> None:
    job = tone(6)
    player = open_player(job)
    player.open_more()
    for slider, value in (("Speed", speed), ("Pitch", semitones)):
        player.page.get_by_role("slider", name=slider, exact=True).fill(str(value))
    name, data = saved(player)
    assert name == f"Song - mix ({named}).wav"
    pcm = samples(data)
    assert len(pcm) == round(job.length / (speed / 100))
    assert abs(pitch_of(pcm) - TONE_HZ * 2 ** (semitones / 12)) < 2


def test_what_changes_the_speed_makes_the_mix_no_later(open_player: OpenPlayer) -> None:
    """A second of tone after one and a half of silence, and two of silence: at half the speed it is from 3 s to 5 s."""
    pcm = np.zeros((round(4.5 * SAMPLE_RATE), 2), np.int16)
    pcm[round(1.5 * SAMPLE_RATE) : round(2.5 * SAMPLE_RATE)] = tone(1).stems["other"]
    player = open_player(MadeJob({"other": pcm}, part_samples=60_000).finish())
    player.open_more()
    player.page.get_by_role("slider", name="Speed", exact=True).fill("50")
    mix = samples(saved(player)[1])
    assert len(mix) == 9 * SAMPLE_RATE
    (loud,) = np.nonzero(np.abs(mix[:, 0]) > 3000)
    # What changes the speed looks at a tenth of a second at once, which is what an edge may be off by.
    assert abs(loud[0] / SAMPLE_RATE - 3) < 0.1
    assert abs(loud[-1] / SAMPLE_RATE - 5) < 0.1


def test_the_keyboard_goes_on_where_it_was_when_a_mix_is_saved_or_stopped(open_player: OpenPlayer) -> None:
    player = open_player(MadeJob(STEMS, part_samples=50_000).finish())
    button = player.page.get_by_role("button", name="Save the mix as flac")
    button.focus()
    with player.page.expect_download():
        player.page.keyboard.press("Enter")
    expect(button).to_be_focused()
    expect(player.page.get_by_text("Saved, as it is heard")).to_be_visible()
    player.page.route("**/parts/*/*.flac?*", lambda route: None)  # it never comes
    button.press("Enter")
    stop = player.page.get_by_role("button", name="Stop", exact=True)
    expect(stop).to_be_focused()
    stop.press("Enter")
    expect(button).to_be_focused()
    expect(player.page.get_by_text("Mixing")).to_have_count(0)


def test_a_mix_that_cannot_be_made_is_said(open_player: OpenPlayer, studio: Studio) -> None:
    studio.policy = studio.policy.replace("'wasm-unsafe-eval'", "")
    player = open_player(MadeJob(STEMS, part_samples=50_000).finish(), expects_failures=True)
    player.open_more()
    player.page.get_by_role("slider", name="Pitch", exact=True).fill("3")
    player.press("Save the mix as wav")
    expect(player.page.get_by_text("The mix could not be saved")).to_be_visible()
    expect(player.page.get_by_role("button", name="Save the mix as wav")).to_be_enabled()
