"""Sings syllables: a source-filter model of a voice, in numpy.

Owns the sound of the vocal stem. A band-limited sawtooth (the glottal pulse with its radiation
at the lips falls about 6 dB per octave, as a sawtooth does) and noise are shaped, frame by frame,
by vowel formants; consonants are noise bands and murmurs before the vowel. No recordings and no
speech synthesiser are involved, so no voice's licence either. `render` calls `sing`.

Formant frequencies: rounded means for men from Peterson & Barney, "Control methods used in a study
of the vowels", JASA 24, 1952; other voices scale them (`Voice.tract_scale`).
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from training.palette import Voice
from training.score import Syllable

Samples = NDArray[np.float32]

SAMPLE_RATE = 44_100
_FRAME, _HOP = 1024, 256
_HIGHER_FORMANTS = (3400.0, 4300.0, 5600.0, 7200.0)
#: First three formants, Hz, of a male voice.
VOWEL_FORMANTS: dict[str, tuple[float, float, float]] = {
    "ah": (730.0, 1090.0, 2440.0),
    "ae": (660.0, 1720.0, 2410.0),
    "eh": (530.0, 1840.0, 2480.0),
    "ee": (270.0, 2290.0, 3010.0),
    "oo": (300.0, 870.0, 2240.0),
    "oh": (500.0, 900.0, 2400.0),
    "aw": (570.0, 840.0, 2410.0),
    "uh": (640.0, 1190.0, 2390.0),
}
#: Bandwidths, Hz, and levels of the seven formants.
_BANDWIDTHS = np.array([80.0, 100.0, 140.0, 200.0, 260.0, 400.0, 600.0])
_LEVELS = np.array([1.0, 0.75, 0.45, 0.32, 0.2, 0.1, 0.05])
#: Noise of a consonant: centre Hz, width Hz, level, seconds.
_NOISE: dict[str, tuple[float, float, float, float]] = {
    "s": (7000.0, 3000.0, 0.35, 0.10),
    "sh": (3800.0, 2200.0, 0.35, 0.10),
    "f": (6000.0, 6000.0, 0.12, 0.08),
    "h": (1800.0, 2500.0, 0.12, 0.07),
    "t": (5000.0, 3500.0, 0.45, 0.035),
    "k": (2300.0, 1500.0, 0.45, 0.040),
    "p": (1200.0, 1500.0, 0.35, 0.025),
    "d": (4200.0, 3000.0, 0.20, 0.025),
    "g": (2000.0, 1500.0, 0.20, 0.030),
    "b": (900.0, 1200.0, 0.20, 0.020),
}
#: Voiced consonants start from a darker vowel: relative level, seconds.
_MURMUR: dict[str, tuple[float, float]] = {
    "m": (0.35, 0.09),
    "n": (0.35, 0.08),
    "l": (0.55, 0.06),
    "r": (0.50, 0.07),
    "w": (0.55, 0.08),
}


def _smooth(values: NDArray[np.float64], time_constant_frames: float) -> NDArray[np.float64]:
    """Low-pass along axis 0 with a symmetric exponential kernel (no lag)."""
    reach = max(1, round(4 * time_constant_frames))
    kernel = np.exp(-np.abs(np.arange(-reach, reach + 1)) / time_constant_frames)
    kernel /= kernel.sum()
    columns = values.reshape(len(values), -1)
    padded = np.pad(columns, ((reach, reach), (0, 0)), mode="edge")
    smooth = np.stack([np.convolve(column, kernel, "valid") for column in padded.T], axis=1)
    return smooth.reshape(values.shape)


def _sawtooth(frequency_hz: NDArray[np.float64], rng: np.random.Generator) -> NDArray[np.float64]:
    """Band-limited sawtooth (polyBLEP, Välimäki 2007): (time,) of -1..1 from (time,) of Hz."""
    step = frequency_hz / SAMPLE_RATE
    phase = (np.cumsum(step) + rng.random()) % 1.0
    wave = 2.0 * phase - 1.0
    after, before = phase < step, phase > 1.0 - step
    t = phase[after] / step[after]
    wave[after] -= 2.0 * t - t * t - 1.0
    t = (phase[before] - 1.0) / step[before]
    wave[before] -= t * t + 2.0 * t + 1.0
    return wave


def _filter_frames(signal: NDArray[np.float64], gains: NDArray[np.float64]) -> NDArray[np.float64]:
    """Multiply a short-time spectrum: signal (time,), gains (frames, bins) → (time,), no delay."""
    window = np.hanning(_FRAME + 1)[:-1]
    padded = np.pad(signal, (_FRAME // 2, _FRAME))
    starts = np.arange(len(gains)) * _HOP
    frames = np.lib.stride_tricks.sliding_window_view(padded, _FRAME)[starts]
    shaped = np.fft.irfft(np.fft.rfft(frames * window, axis=1) * gains, n=_FRAME, axis=1) * window
    result = np.zeros(starts[-1] + _FRAME)
    for offset in range(0, _FRAME, _HOP):
        # the hops that share an offset tile the time axis: one reshape adds them all
        lane = shaped[:, offset : offset + _HOP].reshape(-1)
        result[offset : offset + len(lane)] += lane
    # four overlapping squared Hann windows sum to 1.5
    return result[_FRAME // 2 : _FRAME // 2 + len(signal)] / 1.5


def sing(syllables: Sequence[Syllable], voice: Voice, *, sample_count: int, rng: np.random.Generator) -> Samples:
    """Return the sung line as mono float32 (time,) at 44.1 kHz, peak about 1.

    Curves (pitch, loudness, formants) are drawn once per hop of 256 samples and interpolated.
    """
    frame_count = sample_count // _HOP + 1
    rate = SAMPLE_RATE / _HOP
    semitones = np.zeros(frame_count)
    loudness = np.zeros(frame_count)
    depth = np.zeros(frame_count)
    formants = np.zeros((frame_count, 3))
    darkness = np.zeros(frame_count)
    frequencies = np.fft.rfftfreq(_FRAME, 1 / SAMPLE_RATE)
    noise_gains = np.zeros((frame_count, len(frequencies)))
    written = 0
    for syllable in sorted(syllables, key=lambda item: item.start_seconds):
        first = round(syllable.start_seconds * rate)
        last = min(frame_count, round((syllable.start_seconds + syllable.duration_seconds) * rate))
        if first >= last:
            continue
        # the gap before this note already leans towards it, as singers do
        turn = (written + first) // 2
        semitones[turn:last], formants[turn:last] = syllable.pitch, VOWEL_FORMANTS[syllable.vowel]
        lead_in = 0
        if syllable.consonant in _NOISE:
            centre, width, level, seconds = _NOISE[syllable.consonant]
            lead_in = min(last - first - 1, max(2, round(seconds * rate)))
            band = level * np.exp(-0.5 * ((frequencies - centre) / (width / 2)) ** 2)
            noise_gains[first : first + lead_in] += band * syllable.loudness
        loudness[first + lead_in : last] = syllable.loudness
        if syllable.consonant in _MURMUR:
            level, seconds = _MURMUR[syllable.consonant]
            murmur = min(last, first + round(seconds * rate))
            loudness[first:murmur] *= level
            darkness[first:murmur] = 1.0
        # vibrato grows in after 0.2 s
        grown = np.clip((np.arange(last - first) / rate - 0.2) / 0.3, 0, 1)
        depth[first:last] = grown
        written = last
    semitones[written:] = semitones[max(0, written - 1)]
    formants[written:] = formants[max(0, written - 1)]

    semitones = _smooth(semitones, voice.glide_seconds * rate)
    formants = np.maximum(200.0, _smooth(formants, 0.025 * rate)) * voice.tract_scale
    loudness = _smooth(loudness, 0.012 * rate)
    darkness = _smooth(darkness, 0.010 * rate)
    drift = _smooth(rng.standard_normal(frame_count), 0.15 * rate) * 0.25
    wobble = voice.vibrato_hz * (1 + 0.03 * _smooth(rng.standard_normal(frame_count), 20.0))
    vibrato = voice.vibrato_semitones * depth * np.sin(2 * np.pi * np.cumsum(wobble) / rate)
    hops = np.arange(frame_count) * _HOP
    pitch = np.interp(np.arange(sample_count), hops, semitones + vibrato + drift)
    source = _sawtooth(440.0 * 2.0 ** ((pitch - 69.0) / 12.0), rng)

    higher = np.broadcast_to(np.array(_HIGHER_FORMANTS) * voice.tract_scale, (frame_count, 4))
    tilt = 10 ** (voice.tilt_db / 20 * np.log2(np.maximum(frequencies, 500.0) / 500.0))
    gains = np.zeros((frame_count, len(frequencies)))
    for index, centres in enumerate(np.concatenate([formants, higher], axis=1).T):
        half_width = _BANDWIDTHS[index] * voice.bandwidth_scale / 2
        distance = (frequencies - centres[:, None]) / half_width
        gains += _LEVELS[index] / np.sqrt(1.0 + distance**2)
    murmur_cut = 1.0 / (1.0 + (frequencies / 500.0) ** 2)
    gains *= (1.0 - darkness[:, None] * (1.0 - murmur_cut)) * tilt
    gains *= loudness[:, None]

    noise = rng.standard_normal(sample_count)
    voiced = _filter_frames(source, gains)
    breath = _filter_frames(noise, gains * voice.breath * 0.5)
    consonants = _filter_frames(noise, _smooth_frames(noise_gains)) * 0.35
    return (voiced + breath + consonants).astype(np.float32)


def _smooth_frames(gains: NDArray[np.float64]) -> NDArray[np.float64]:
    """Soften the edges of noise bursts by one frame on each side: (frames, bins) → same."""
    padded = np.pad(gains, ((1, 1), (0, 0)))
    return (padded[:-2] + 2 * padded[1:-1] + padded[2:]) / 4
