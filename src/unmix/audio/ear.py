"""What is heard in a stem while it is written: when something begins, and which tones sound.

Owns the way from samples to these two, in blocks that lie on a grid of their own: so whatever pieces a stem comes in,
the same is heard. What a song makes of its stems, its key, its tempo and its beats, is `music`'s.

The beginnings are the spectral flux, as in Bello et al., A Tutorial on Onset Detection in Music Signals (2005). The
tones are the peaks of long spectra, as in Gómez, Tonal Description of Music Audio Signals (2006).
"""

from dataclasses import dataclass
from typing import Any, Final, Self

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray

from unmix.audio.samples import SAMPLE_RATE

#: Samples that are heard as one, by their mean: what sounds above 5 kHz says little of either, and folds down softly.
_FOLD: Final = 4
_RATE: Final = SAMPLE_RATE / _FOLD
#: Samples that are heard at once: every stem has so many of its own in memory.
_BLOCK: Final = 1 << 16

#: Folded samples from one value of the onsets to the next, and how many each of them hears.
_HOP: Final = 128
_WINDOW: Final = 256
#: Values of the onsets in a second: 86.1.
ONSET_RATE: Final = _RATE / _HOP
#: When what the first value tells of begins, in seconds: found with clicks.
ONSET_DELAY: Final = 0.002
#: First bins of the bands in which a sound may begin: narrow where bass and kick are, wide where cymbals are.
_BANDS: Final = (0, 1, 2, 3, 4, 6, 8, 11, 15, 20, 27, 36, 48, 64, 90)
#: Levels are as loud as they are heard, by their logarithm; those far below one part of so many count for nothing.
_LOUDNESS: Final = 1000.0

#: Folded samples of a spectrum that tones are taken from: 0.74 s, as two low tones lie 3 Hz apart.
_LONG: Final = 1 << 13
#: Hz of the lowest and the highest tone.
_LOWEST, _HIGHEST = 60.0, 2000.0
#: Steps of an octave by which tones are told apart: songs are not always tuned to 440 Hz.
TONE_STEPS: Final = 120

_HANN: Final = np.hanning(_WINDOW + 1)[:-1].astype(np.float32) * np.float32(4 / _WINDOW)
_LONG_HANN: Final = np.hanning(_LONG + 1)[:-1].astype(np.float32) * np.float32(4 / _LONG)


@dataclass(frozen=True, slots=True)
class Heard:
    """What was heard in a stem."""

    onsets: NDArray[np.float32]  # how much begins, `ONSET_RATE` times a second
    tones: NDArray[np.float64]  # (TONE_STEPS,): how much of each, from A on, in all octaves

    @classmethod
    def nothing(cls) -> Self:
        """Return what is heard where nobody listens."""
        return cls(np.zeros(0, np.float32), np.zeros(TONE_STEPS))

    def __add__(self, other: "Heard") -> "Heard":
        """Hear two stems of a song together."""
        return Heard(self.onsets + other.onsets, self.tones + other.tones)


class Ear:
    """Hears one stem."""

    def __init__(self) -> None:
        self._block = np.zeros(_BLOCK, np.float32)
        self._filled = 0
        self._samples = 0
        self._tail = np.zeros(_WINDOW - _HOP, np.float32)
        self._level = np.zeros(len(_BANDS), np.float32)
        self._onsets: list[NDArray[np.float32]] = []
        self._tones = np.zeros(TONE_STEPS)

    def add(self, pcm: NDArray[Any]) -> None:
        """Go on with `pcm` (2, time): int16, 24 bits as the highest of int32, or float32 with full scale ±1."""
        self._samples += pcm.shape[1]
        while pcm.shape[1]:
            piece, pcm = pcm[:, : _BLOCK - self._filled], pcm[:, _BLOCK - self._filled :]
            end = self._filled + piece.shape[1]
            self._block[self._filled : end] = _mono(piece)
            self._filled = end % _BLOCK
            if not self._filled:
                self._hear()

    def heard(self) -> Heard:
        """Return what was heard; nothing can be added afterwards."""
        if self._filled:
            self._block[self._filled :] = 0
            self._hear()
            self._filled = 0
        onsets = np.concatenate([np.zeros(0, np.float32), *self._onsets])
        return Heard(onsets[: -(-self._samples // (_FOLD * _HOP))], self._tones)

    def _hear(self) -> None:
        block = self._block
        folded = (block[0::4] + block[1::4] + block[2::4] + block[3::4]) * np.float32(1 / _FOLD)
        self._hear_onsets(np.concatenate([self._tail, folded]))
        self._tail = folded[_HOP - _WINDOW :].copy()
        self._hear_tones(folded.reshape(-1, _LONG))

    def _hear_onsets(self, folded: NDArray[np.float32]) -> None:
        power = _power(sliding_window_view(folded, _WINDOW)[::_HOP] * _HANN)
        levels = np.log1p(np.float32(_LOUDNESS) * np.sqrt(np.add.reduceat(power, _BANDS, axis=1)))
        before = np.concatenate([self._level[None], levels[:-1]])
        self._level = levels[-1]
        self._onsets.append(np.maximum(levels - before, 0).mean(axis=1))

    def _hear_tones(self, frames: NDArray[np.float32]) -> None:
        hz = _RATE / _LONG
        first, stop = int(_LOWEST / hz), int(_HIGHEST / hz)
        level = np.sqrt(_power(frames * _LONG_HANN)[:, first - 1 : stop + 1])
        inner = level[:, 1:-1]
        frame, peak = np.nonzero((inner > level[:, :-2]) & (inner >= level[:, 2:]) & (inner > 1e-4))
        below, at, above = level[frame, peak], level[frame, peak + 1], level[frame, peak + 2]
        # The top of the parabola through the three, as the tone lies between bins.
        place = peak + first + (above - below) / 2 / (2 * at - below - above)
        step = np.rint(np.log2(place * hz / 440) * TONE_STEPS).astype(np.int64) % TONE_STEPS
        self._tones += np.bincount(step, weights=at, minlength=TONE_STEPS)


def _mono(pcm: NDArray[Any]) -> NDArray[np.float32]:
    left, right = pcm.astype(np.float32)
    mono: NDArray[np.float32]
    if pcm.dtype.kind == "i":
        mono = (left + right) * np.float32(0.5 / (1 << 8 * pcm.dtype.itemsize - 1))
    else:  # what is delivered in floating point may be anything
        mono = np.nan_to_num((left.clip(-1, 1) + right.clip(-1, 1)) * np.float32(0.5))
    return mono


def _power(frames: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return the power of each bin of each frame."""
    spectra: NDArray[np.complex64] = np.fft.rfft(frames).astype(np.complex64, copy=False)
    return spectra.real**2 + spectra.imag**2
