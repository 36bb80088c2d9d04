"""Slices of finished stems, from which long songs without parts are heard: they are what the whole file is."""

import numpy as np
import pytest

from audio_files import png
from made_jobs import MadeJob, Pcm, noise
from player_pages import Decoded, OpenPlayer, PlayerPage, Studio, as_decoded, open_player, samples_of, studio
from unmix.audio.samples import SAMPLE_RATE
from unmix.audio.tags import Tags

__all__ = ["open_player", "studio"]

SECONDS = 65
LOSSLESS = [("flac", 16), ("flac", 24), ("wav", 16), ("wav", 24), ("wav", 32)]
#: Numbers of windows in the order in which they are asked for, as by somebody who seeks; the last one is shorter.
WINDOWS = (5, 0, 3, 6)
WINDOW = 10 * SAMPLE_RATE
#: More than is read to know a file by.
TAGS = Tags({"title": "Info (vocals)", "artist": "LAME"}, png(100_000))

LOAD = """async ([path, index, stem]) => {
  const {StemsSource} = await import("/static/player/stems.js");
  const source = new StemsSource(api);
  await source.refresh(await api.json(path));
  const decoder = new OfflineAudioContext(2, 1, 44100);
  const decode = (data) => decoder.decodeAudioData(data);
  const buffer = await source.load(index, stem, decode, new AbortController().signal);
  const both = new Float32Array(2 * buffer.length);
  for (const side of [0, 1]) buffer.getChannelData(side).forEach((value, at) => (both[2 * at + side] = value));
  return base64(both);
}"""

WHOLE = """async (url) => {
  const decoder = new OfflineAudioContext(2, 1, 44100);
  const buffer = await decoder.decodeAudioData(await (await fetch(url)).arrayBuffer());
  const both = new Float32Array(2 * buffer.length);
  for (const side of [0, 1]) buffer.getChannelData(side).forEach((value, at) => (both[2 * at + side] = value));
  return base64(both);
}"""


def song() -> Pcm:
    """A minute that is louder and quieter, so that bytes and time go apart."""
    pcm = noise(SECONDS, 1, least=-6000, most=6000)
    loudness = np.repeat(np.resize([1, 300, 4, 1000], SECONDS), SAMPLE_RATE)[:, None]
    song: Pcm = (pcm // loudness).astype(np.int16)
    return song


def slice_of(player: PlayerPage, job: MadeJob, index: int) -> Decoded:
    return samples_of(player.page.evaluate(LOAD, [f"/apiv1/jobs/{job.hash}", index, "vocals"]))


@pytest.mark.parametrize(
    ("format", "bits"),
    [
        ("flac", 16),
        pytest.param("flac", 24, marks=pytest.mark.slow),
        pytest.param("wav", 16, marks=pytest.mark.slow),
        ("wav", 24),
        pytest.param("wav", 32, marks=pytest.mark.slow),
    ],
)
def test_slices_of_lossless_stems_are_exactly_their_samples(format: str, bits: int, open_player: OpenPlayer) -> None:
    pcm = song()
    job = MadeJob({"vocals": pcm}, format=format, bits=bits, has_parts=False, tags=TAGS).finish()
    heard = as_decoded(pcm) if (format, bits) == ("flac", 16) else (pcm / 32768).astype(np.float32)
    player = open_player(job, mounts=False)
    for index in WINDOWS:
        expected = heard[index * WINDOW : (index + 1) * WINDOW]
        assert np.array_equal(slice_of(player, job, index), expected), index


@pytest.mark.parametrize(
    ("format", "bits", "rate"),
    [
        ("flac", 24, 48_000),
        pytest.param("flac", 16, 96_000, marks=pytest.mark.slow),
        pytest.param("flac", 24, 192_000, marks=pytest.mark.slow),
        ("wav", 24, 96_000),
        pytest.param("wav", 32, 22_050, marks=pytest.mark.slow),
    ],
)
def test_slices_of_stems_in_the_rate_of_their_song_meet_without_a_click(
    format: str, bits: int, rate: int, open_player: OpenPlayer
) -> None:
    """They are those of one tone, wherever they begin."""
    pcm = np.rint(12_000 * np.sin(np.arange(SECONDS * SAMPLE_RATE) / 20)[:, None] * [1, -0.5]).astype(np.int16)
    job = MadeJob({"vocals": pcm}, format=format, bits=bits, rate=rate, has_parts=False, tags=TAGS).finish()
    player = open_player(job, mounts=False)
    for index in WINDOWS:
        expected = pcm[index * WINDOW : (index + 1) * WINDOW] / 32768
        found = slice_of(player, job, index)
        assert found.shape == expected.shape
        inner = slice(0 if index else 200, -200 if index == max(WINDOWS) else None)  # where a tone begins, it rings
        assert np.abs(found - expected)[inner].max() < 0.001, index


@pytest.mark.parametrize(
    "bitrate_kbps",
    [
        pytest.param(32, marks=pytest.mark.slow),
        pytest.param(128, marks=pytest.mark.slow),
        256,
        pytest.param(320, marks=pytest.mark.slow),
    ],
)
def test_slices_of_mp3_stems_are_what_the_whole_file_is(bitrate_kbps: int, open_player: OpenPlayer) -> None:
    job = MadeJob({"vocals": song()}, format="mp3", bitrate_kbps=bitrate_kbps, has_parts=False, tags=TAGS).finish()
    player = open_player(job, mounts=False)
    whole = samples_of(player.page.evaluate(WHOLE, f"/apiv1/track/{job.hash}/vocals.mp3"))
    assert len(whole) == job.length
    for index in WINDOWS:
        expected = whole[index * WINDOW : (index + 1) * WINDOW]
        found = slice_of(player, job, index)
        assert found.shape == expected.shape
        # A decoder's dither goes on from wherever it began: that is one step of 16 bits.
        assert np.abs(found - expected).max() < 1.1 / 32767, index


def test_a_slice_costs_little_more_than_its_bytes(open_player: OpenPlayer, studio: Studio) -> None:
    job = MadeJob({"vocals": song()}, has_parts=False).finish()
    player = open_player(job, mounts=False)
    studio.sent_bytes = 0
    slice_of(player, job, 5)
    assert studio.sent_bytes < 0.6 * len(job.file("vocals"))
