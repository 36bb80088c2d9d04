"""Places raw stems in a mix: tone, room, level. Pure numpy on whole songs.

Owns what a mixing engineer would do: bass below, voice in the middle, the rest carved around it.
All functions take and return float32 (2, time) at 44.1 kHz. `render` calls `mix_stems`.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Samples = NDArray[np.float32]

SAMPLE_RATE = 44_100
#: The order of every stem axis in this project, as in the published htdemucs models.
SOURCES = ("drums", "bass", "other", "vocals")


@dataclass(frozen=True)
class Channel:
    """One strip of the mixing desk; gains in dB."""

    level_db: float
    low_cut_hz: float
    #: slope of both cuts is 12 dB per octave
    high_cut_hz: float
    presence_db: float
    presence_hz: float
    drive: float
    reverb: float


def _tone(stem: Samples, channel: Channel) -> Samples:
    """Low cut, high cut and one bell, with zero phase (so that transients stay where they are)."""
    padded = 1 << (stem.shape[1] + 4096).bit_length()
    spectrum = np.fft.rfft(stem, n=padded, axis=1)
    hz = np.maximum(np.fft.rfftfreq(padded, 1 / SAMPLE_RATE), 1.0)
    gain = 1.0 / (1.0 + (channel.low_cut_hz / hz) ** 2)
    gain /= 1.0 + (hz / channel.high_cut_hz) ** 2
    bell = np.exp(-0.5 * (np.log2(hz / channel.presence_hz) / 0.7) ** 2)
    gain *= 10 ** (channel.presence_db * bell / 20)
    return np.fft.irfft(spectrum * gain, n=padded, axis=1)[:, : stem.shape[1]].astype(np.float32)


def _room(stem: Samples, amount: float, seconds: float, rng: np.random.Generator) -> Samples:
    """Add a decaying stereo noise tail, dark towards its end; `amount` is the wet amplitude."""
    length = int(seconds * SAMPLE_RATE)
    time = np.arange(length) / SAMPLE_RATE
    tail = rng.standard_normal((2, length)) * np.exp(-6.9 * time / seconds)
    tail[:, : int(0.015 * SAMPLE_RATE)] = 0.0
    size = 1 << (stem.shape[1] + length - 1).bit_length()
    response = np.fft.rfft(tail, n=size, axis=1)
    hz = np.fft.rfftfreq(size, 1 / SAMPLE_RATE)
    response /= 1.0 + (hz / 4000.0) ** 2
    response /= np.sqrt(np.sum(tail[0] ** 2))
    wet = np.fft.irfft(np.fft.rfft(stem, n=size, axis=1) * response, n=size, axis=1)
    return (stem + amount * wet[:, : stem.shape[1]]).astype(np.float32)


def draw_channels(rng: np.random.Generator) -> dict[str, Channel]:
    """Choose the desk's settings for one song."""

    def strip(
        level: float, low: float, high: float, presence: tuple[float, float], drive: float, wet: float
    ) -> Channel:
        return Channel(
            level_db=level + rng.normal(0.0, 1.2),
            low_cut_hz=low * 2 ** rng.uniform(-0.3, 0.3),
            high_cut_hz=high * 2 ** rng.uniform(-0.4, 0.4),
            presence_db=presence[0] + rng.normal(0.0, 1.5),
            presence_hz=presence[1] * 2 ** rng.uniform(-0.5, 0.5),
            drive=drive * rng.uniform(0.0, 1.0),
            reverb=wet * rng.uniform(0.2, 1.0),
        )

    return {
        "drums": strip(0.0, 35.0, 17_000.0, (1.0, 5000.0), 0.5, 0.08),
        "bass": strip(-0.5, 35.0, 1800.0, (0.0, 700.0), 0.5, 0.0),
        "other": strip(-0.5, 190.0, 12_000.0, (-2.0, 2200.0), 0.2, 0.14),
        "vocals": strip(0.5, 130.0, 15_000.0, (2.0, 2800.0), 0.3, 0.16),
    }


def _active_rms(stem: Samples) -> float:
    """Root mean square over the half-second blocks that are not nearly silent."""
    block = SAMPLE_RATE // 2
    count = max(1, stem.shape[1] // block)
    power = np.square(stem[:, : count * block]).reshape(2, count, -1).mean(axis=(0, 2))
    loud = power[power > power.max() * 1e-3]
    return float(np.sqrt(loud.mean())) + 1e-9


def mix_stems(raw: dict[str, Samples], rng: np.random.Generator) -> Samples:
    """Return the true stems (4, 2, time) in `SOURCES` order; their sum is the song, peak 0.9."""
    channels = draw_channels(rng)
    room_seconds = rng.uniform(0.5, 1.1)
    stems = []
    for source in SOURCES:
        channel = channels[source]
        stem = raw[source] / _active_rms(raw[source])
        if channel.drive:
            stem = np.tanh(stem * channel.drive * 0.5) / (channel.drive * 0.5)
        stem = _tone(stem.astype(np.float32), channel)
        if channel.reverb:
            stem = _room(stem, channel.reverb, room_seconds, rng)
        stem = stem / _active_rms(stem) * 10 ** (channel.level_db / 20)
        stems.append(stem)
    song = np.stack(stems)
    balanced: Samples = (song * (0.9 / np.abs(song.sum(axis=0)).max())).astype(np.float32)
    return balanced
