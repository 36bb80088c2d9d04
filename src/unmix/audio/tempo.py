"""Tempo and beats of a song, from how much begins in it at each moment.

The tempo is the one at which the onsets are most like themselves a beat, two, three and four beats later, where
usual ones are preferred. The beats are the way through the song that meets most onsets and changes its pace least, by
dynamic programming, as in Ellis, Beat Tracking by Dynamic Programming (2007).
"""

import math
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from unmix.audio.ear import ONSET_DELAY, ONSET_RATE

Curve = NDArray[np.float64]

#: Tempos that a song may have, in beats a minute.
SLOWEST, FASTEST = 45.0, 220.0
#: The most usual tempo, and by how many octaves tempos differ from it, as a standard deviation.
_USUAL: Final = 120.0
_SPREAD: Final = 0.9
#: By how much onsets in the middle between two beats speak against a tempo: one twice as fast has them on its beats.
_BETWEEN: Final = 0.08
#: Onsets are compared with the mean of so many seconds around them, and with each other within so many.
_AROUND_SECONDS: Final = 1.5
_SPAN: Final = 2048
#: What onsets are blurred by, as the time between beats is no whole number of values.
_BLUR: Final = (0.1, 0.25, 0.3, 0.25, 0.1)
#: How much a beat costs that comes earlier or later than the one before it had it.
_TIGHTNESS: Final = 100.0
#: Below this likeness of a song and itself a beat later there is no beat.
_LEAST: Final = 0.1
#: Nor is there below this one, divided by the root of how many values there are: so much noise is like itself.
_CHANCE: Final = 6.0
#: Steps between beats that differ by more than this from the usual one are none of the tempo's.
_UNEVEN: Final = 0.2
#: A tempo is told of so many beats or more.
_LEAST_BEATS: Final = 8


@dataclass(frozen=True, slots=True)
class Tempo:
    """The tempo of a song."""

    bpm: float
    confidence: float  # 0..1
    beats: tuple[float, ...]  # in seconds


def tempo_of(onsets: NDArray[np.float32]) -> Tempo | None:
    """Return the tempo of a song by its onsets; None if they have no beat."""
    curve = _sharpened(onsets)
    likeness = _likeness(curve)
    if likeness is None:
        return None
    lag, alike = _period(likeness)
    # The fewer onsets there are the more are alike by chance.
    chance = max(_LEAST, _CHANCE / math.sqrt(len(curve)))
    if alike <= chance:
        return None
    frames = _trimmed(_beats(curve, lag), curve)
    if len(frames) < _LEAST_BEATS:
        return None
    beats = _between_frames(frames, curve)
    steps = np.diff(beats)
    even = steps[np.abs(steps / np.median(steps) - 1) < _UNEVEN]
    bpm = 60 * ONSET_RATE / float(even.mean())
    seconds = (beats / ONSET_RATE + ONSET_DELAY).clip(0)
    confidence = min(1.0, (alike - chance) / (1 - chance))
    return Tempo(round(bpm, 2), round(confidence, 3), tuple(seconds.tolist()))


def _sharpened(onsets: NDArray[np.float32]) -> Curve:
    """Return by how much onsets stand out of what is around them, in standard deviations, a little blurred."""
    around = int(_AROUND_SECONDS * ONSET_RATE) | 1
    if len(onsets) < around:
        return np.zeros(0)
    sums = np.cumsum(np.pad(onsets.astype(np.float64), (around // 2 + 1, around // 2), mode="edge"))
    curve = np.maximum(onsets - (sums[around:] - sums[:-around]) / around, 0)
    deviation = curve.std()
    if deviation < 1e-3:
        return np.zeros(0)
    return np.convolve(curve / deviation, _BLUR, mode="same")


def _likeness(curve: Curve) -> Curve | None:
    """Return how much a song is like itself so many values later, 1 at none; None if it is too short.

    By stretches, so that memory does not grow with the song, and a tempo may change a little on the way.
    """
    lags = math.ceil(4.1 * 60 * ONSET_RATE / SLOWEST)
    if len(curve) < 2:
        return None
    total = np.zeros(_SPAN)
    power = 0.0
    for first in range(0, max(1, len(curve) - _SPAN // 2), _SPAN // 2):
        stretch = curve[first : first + _SPAN]
        stretch = stretch - stretch.mean()
        spectrum = np.fft.rfft(stretch, 2 * _SPAN)
        products = np.fft.irfft(np.abs(spectrum) ** 2)[:_SPAN]
        # Fewer pairs are further apart: what counts is their mean.
        pairs = np.maximum(len(stretch) - np.arange(_SPAN), _SPAN // 16)
        total += products / pairs * len(stretch)
        power += products[0]
    return total[:lags] / power if power > 0 else None


def _period(likeness: Curve) -> tuple[float, float]:
    """Return how many values a beat lasts, and how much the song is like itself a beat later."""
    tempos = np.geomspace(SLOWEST, FASTEST, 500)
    lags = 60 * ONSET_RATE / tempos
    places = np.arange(len(likeness))

    def at(which: Curve) -> Curve:
        return np.interp(which, places, likeness)

    comb = (at(lags) + at(2 * lags) + at(3 * lags) + at(4 * lags)) / 4
    usual = np.exp(-0.5 * (np.log2(tempos / _USUAL) / _SPREAD) ** 2)
    scores = (comb - _BETWEEN * np.maximum(at(lags / 2), 0)) * usual
    best = int(np.argmax(scores))
    return float(lags[best]), float(max(at(lags[best] + np.arange(-1.0, 1.1, 0.25)).max(), 0))


def _beats(curve: Curve, lag: float) -> NDArray[np.int64]:
    """Return at which values the beats are."""
    nearest, farthest = max(2, round(lag * 0.6)), round(lag * 1.6)
    steps = np.arange(farthest, nearest - 1, -1)
    costs = -_TIGHTNESS * np.log(steps / lag) ** 2
    best = np.concatenate([np.zeros(farthest), curve])  # `farthest` values of silence before the song
    before = np.full(len(best), -1)
    # What is best at a value depends on nothing nearer than `nearest`: so many are found at once.
    for first in range(farthest, len(best), nearest):
        stop = min(first + nearest, len(best))
        reach = np.lib.stride_tricks.sliding_window_view(best[first - farthest : stop - nearest], len(steps))
        scores = reach + costs
        chosen = scores.argmax(axis=1)
        rows = np.arange(stop - first)
        best[first:stop] += scores[rows, chosen]
        before[first:stop] = rows + first - steps[chosen]
    at = len(best) - 1 - int(np.argmax(best[::-1][: round(lag)]))
    found = []
    while at >= farthest:
        found.append(at - farthest)
        at = int(before[at])
    return np.array(found[::-1], np.int64)


def _trimmed(beats: NDArray[np.int64], curve: Curve) -> NDArray[np.int64]:
    """Return the beats without those before the first and after the last that something begins with."""
    strong = np.array([curve[max(0, beat - 2) : beat + 3].max() for beat in beats])
    heard = np.nonzero(strong > 0.5 * np.sqrt(np.mean(strong**2)))[0]
    return beats[heard[0] : heard[-1] + 1] if len(heard) else beats[:0]


def _between_frames(beats: NDArray[np.int64], curve: Curve) -> Curve:
    """Return the beats at the tops of the parabolas through the onsets around them."""
    inner = beats.clip(1, len(curve) - 2)
    below, at, above = curve[inner - 1], curve[inner], curve[inner + 1]
    bend = 2 * at - below - above
    top = (bend > 0) & (at >= below) & (at >= above)
    return inner + np.where(top, (above - below) / 2 / np.where(top, bend, 1), 0)
