"""Key, tempo and beats: what is told of songs that have them, and that nothing is told of what has none."""

from collections.abc import Callable, Sequence
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from unmix.audio.codec_pool import CodecPool
from unmix.audio.ear import Ear, Heard
from unmix.audio.encode import StemWriter, Writer
from unmix.audio.key import KEYS
from unmix.audio.music import Music, music_of

RATE = 44_100
Sound = NDArray[np.float64]

C, D, E, F, G, A, B = 60, 62, 64, 65, 67, 69, 71
#: I-IV-V-I with its dominant seventh, and i-iv-V-i.
C_MAJOR = [(C, E, G), (F, A, C + 12), (G, B, D, F), (C, E, G)]
A_MINOR = [(A, C, E), (D, F, A), (E, G + 1, B), (A, C, E)]


def pcm(sound: Sound) -> NDArray[np.int16]:
    return (np.stack([sound, sound * 0.9]) * 32767).clip(-32768, 32767).astype(np.int16)


def heard(samples: NDArray[np.generic], pieces: Sequence[int] = ()) -> Heard:
    ear = Ear()
    for piece in np.split(samples, pieces, axis=1):
        ear.add(piece)
    return ear.heard()


def clicks(bpm: float, seconds: float = 20.0, first: float = 0.25) -> Sound:
    """Drumming without a stressed beat: short tones with a little noise between."""
    sound = np.random.default_rng(0).normal(0, 1e-4, int(seconds * RATE))
    time = np.arange(1500) / RATE
    for beat in np.arange(first, seconds - 0.1, 60 / bpm):
        start = round(beat * RATE)
        sound[start : start + len(time)] += 0.5 * np.exp(-100 * time) * np.sin(2 * np.pi * 1500 * time)
    return sound


def chords(progression: Sequence[Sequence[int]], *, a4: float = 440.0, seconds: float = 1.0, times: int = 3) -> Sound:
    """Play chords of MIDI pitches on an organ of three harmonics."""
    time = np.arange(int(seconds * RATE)) / RATE

    def tone(pitch: int) -> Sound:
        hz = a4 * 2 ** ((pitch - 69) / 12)
        return sum((0.05 / n * np.sin(2 * np.pi * n * hz * time) for n in (1, 2, 3)), np.zeros(len(time)))

    chord = [sum(map(tone, pitches), tone(pitches[0] - 12)) for pitches in progression]
    return np.concatenate(chord * times)


def noise(seconds: float, seed: int = 0) -> Sound:
    return np.random.default_rng(seed).normal(0, 0.1, int(seconds * RATE))


@pytest.mark.parametrize("bpm", [60, 90, 120, 138, 174])
def test_clicks_have_the_tempo_that_they_were_made_with(bpm: int) -> None:
    music = music_of({"drums": heard(pcm(clicks(bpm)))})
    assert music.tempo_bpm == pytest.approx(bpm, rel=0.01)
    assert music.tempo_confidence > 0.8


@pytest.mark.parametrize("bpm", [90, 120, 174])
def test_beats_are_where_the_clicks_are(bpm: int) -> None:
    music = music_of({"drums": heard(pcm(clicks(bpm, first=0.4)))})
    expected = np.arange(0.4, 19.9, 60 / bpm)
    assert len(music.beats) == len(expected)
    assert np.abs(np.array(music.beats) - expected).max() < 0.012  # one value of the onsets


def test_a_drummer_who_is_a_little_uneven_and_leaves_out_a_bar_is_followed() -> None:
    rng = np.random.default_rng(1)
    sound = np.zeros(30 * RATE)
    time = np.arange(3000) / RATE
    for beat, start in enumerate(np.arange(0.5, 29, 0.55)):
        if not 20 <= beat < 24:
            place = round((start + rng.normal(0, 0.008)) * RATE)
            sound[place : place + len(time)] += rng.normal(0, 0.3, len(time)) * np.exp(-60 * time)
    music = music_of({"drums": heard(pcm(sound))})
    assert music.tempo_bpm == pytest.approx(60 / 0.55, rel=0.01)
    assert all(0.4 < later - earlier < 0.7 for earlier, later in pairwise(music.beats))


@pytest.mark.parametrize(("progression", "key"), [(C_MAJOR, "C major"), (A_MINOR, "A minor")])
def test_chords_have_the_key_that_they_were_made_in(progression: list[tuple[int, ...]], key: str) -> None:
    music = music_of({"other": heard(pcm(chords(progression)))})
    assert music.key == key
    assert music.key_confidence > 0.5


@pytest.mark.parametrize("up", range(12))
@pytest.mark.parametrize(("progression", "key"), [(C_MAJOR, "C major"), (A_MINOR, "A minor")])
def test_so_they_have_in_all_keys(progression: list[tuple[int, ...]], key: str, up: int) -> None:
    moved = [tuple(pitch + up for pitch in pitches) for pitches in progression]
    first = 0 if "major" in key else 12
    expected = KEYS[first + (KEYS.index(key) - first + up) % 12]
    assert music_of({"other": heard(pcm(chords(moved, times=2)))}).key == expected


@pytest.mark.parametrize("a4", [415.3 * 2 ** (40 / 1200), 432.0, 449.0])
def test_a_song_that_is_not_tuned_to_440_hz_has_its_key_too(a4: float) -> None:
    music = music_of({"other": heard(pcm(chords(C_MAJOR, a4=a4)))})
    assert music.key in (("B major",) if a4 < 428 else ("C major",))


def test_drums_say_nothing_of_the_key_and_all_else_nothing_of_the_tempo_while_there_are_drums() -> None:
    tuned = heard(pcm(chords(C_MAJOR, seconds=0.7, times=7)))
    drums = heard(pcm(clicks(100) + 0.3 * np.sin(2 * np.pi * 466.16 * np.arange(20 * RATE) / RATE)))
    music = music_of({"drums": drums, "other": tuned})
    assert music.key == "C major"
    assert music.tempo_bpm == pytest.approx(100, rel=0.01)


@pytest.mark.parametrize("stems", [("vocals", "instrumental"), ("guitar", "piano"), ("drums", "other"), ("song",)])
def test_whatever_stems_there_are_tell_what_they_can(stems: tuple[str, ...]) -> None:
    """Silent drums are as none, and so are silent singers."""
    played = heard(pcm(clicks(120, 24.0) + chords(A_MINOR, times=6)))
    silent = heard(pcm(np.zeros(24 * RATE)))
    music = music_of(dict.fromkeys(stems, silent) | {stems[-1]: played})
    assert music.key == "A minor"
    assert music.tempo_bpm == pytest.approx(120, rel=0.01)


@pytest.mark.parametrize("seconds", [0.0, 0.1, 1.0, 3.0, 20.0])
def test_silence_has_neither_key_nor_tempo(seconds: float) -> None:
    silent = heard(pcm(np.zeros(int(seconds * RATE))))
    assert music_of(dict.fromkeys(("drums", "vocals"), silent)) == Music(None, 0.0, None, 0.0, ())
    assert music_of({}) == Music(None, 0.0, None, 0.0, ())


@pytest.mark.parametrize("seconds", [0.1, 1.0, 4.0, 20.0])
def test_noise_has_neither_key_nor_tempo(seconds: float) -> None:
    stems = {stem: heard(pcm(noise(seconds, seed))) for seed, stem in enumerate(("drums", "bass", "vocals"))}
    assert music_of(stems) == Music(None, 0.0, None, 0.0, ())


def test_a_tone_that_goes_on_has_no_tempo() -> None:
    tone = 0.3 * np.sin(2 * np.pi * 440 * np.arange(20 * RATE) / RATE)
    assert music_of({"other": heard(pcm(tone))}).tempo_bpm is None


@pytest.mark.parametrize("pieces", [(1,), (65_536,), (7, 4410, 100_000, 100_001), tuple(range(0, 300_000, 3001))])
def test_pieces_change_nothing(pieces: tuple[int, ...]) -> None:
    samples = pcm(clicks(128, 7.3) + noise(7.3) / 10)
    whole, parts = heard(samples), heard(samples, pieces)
    assert np.array_equal(whole.onsets, parts.onsets)
    assert np.array_equal(whole.tones, parts.tones)


def test_all_kinds_of_samples_sound_the_same() -> None:
    samples = pcm(chords(C_MAJOR))
    for same in (samples.astype(np.int32) << 16, samples.astype(np.float32) / np.float32(32768)):
        assert np.array_equal(heard(samples).onsets, heard(same).onsets)
        assert np.array_equal(heard(samples).tones, heard(same).tones)


def test_samples_that_are_no_numbers_or_beyond_all_bounds_make_no_music_of_their_own() -> None:
    wild = np.full((2, 10 * RATE), np.float32(3e38))
    wild[:, ::2], wild[:, ::7] = -np.inf, np.nan
    music = music_of({"drums": heard(wild), "other": heard(wild)})
    assert 0 <= music.key_confidence <= 1
    assert 0 <= music.tempo_confidence <= 1
    assert np.isfinite(music.beats).all()


@pytest.mark.parametrize("format", ["mp3", "wav", "flac"])
def test_a_writer_has_heard_what_it_wrote_here_and_in_another_process(format: str, tmp_path: Path) -> None:
    samples = pcm(clicks(128, 2.3))
    writers: list[Callable[..., Writer]] = [StemWriter, CodecPool(1).writer]
    for number, open_writer in enumerate(writers):
        writer = open_writer(tmp_path / f"{number}.{format}", format=format)
        writer.write(samples.astype(np.float32) / np.float32(32768))
        writer.close()
        assert np.array_equal(writer.heard().onsets, heard(samples).onsets)
        assert np.array_equal(writer.heard().tones, heard(samples).tones)


def test_beats_lie_within_the_song_in_their_order() -> None:
    for seconds in (4.6, 5.0, 9.99):
        beats = music_of({"drums": heard(pcm(clicks(137, seconds, first=0.0)))}).beats
        assert beats[0] >= 0
        assert beats[-1] <= seconds
        assert list(beats) == sorted(set(beats))
