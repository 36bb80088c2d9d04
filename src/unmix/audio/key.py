"""The key of a song, from how much of each tone sounds in it.

The tones are compared with a profile of each key, as by Krumhansl and Schmuckler (Krumhansl, Cognitive Foundations of
Musical Pitch, 1990).
"""

from typing import Final

import numpy as np
from numpy.typing import NDArray

from unmix.audio.ear import ONSET_RATE, TONE_STEPS, Heard

_TONES: Final = 12
#: Names of the keys, by tonic from A on, as they are mostly written.
_MAJOR: Final = ("A", "Bb", "B", "C", "Db", "D", "Eb", "E", "F", "F#", "G", "Ab")
_MINOR: Final = ("A", "Bb", "B", "C", "C#", "D", "Eb", "E", "F", "F#", "G", "G#")
KEYS: Final = (*(f"{name} major" for name in _MAJOR), *(f"{name} minor" for name in _MINOR))
#: How often each tone comes in major and in minor, from the tonic on: Albrecht and Shanahan, The Use of Large Corpora
#: to Train a New Type of Key-Finding Algorithm (2013).
_PROFILES: Final = (
    (0.238, 0.006, 0.111, 0.006, 0.137, 0.094, 0.016, 0.214, 0.009, 0.080, 0.008, 0.081),
    (0.220, 0.006, 0.104, 0.123, 0.019, 0.103, 0.012, 0.214, 0.062, 0.022, 0.061, 0.052),
)
#: By so much a better likeness with one key makes another one less probable by the factor e.
_DOUBT: Final = 0.08
#: Tones of which none stands out by this share of their mean have no key.
_LEAST_CONTRAST: Final = 0.25
#: Nor has less than so many seconds of a song.
_LEAST_SECONDS: Final = 3.0
#: A key that is less sure is none.
_LEAST: Final = 0.2


def key_of(heard: Heard) -> tuple[str | None, float]:
    """Return the key of a song and how sure it is (0..1); None and 0.0 if it has none."""
    tones = _semitones(heard.tones)
    lasts = len(heard.onsets) / ONSET_RATE
    if lasts < _LEAST_SECONDS or tones.sum() <= 0 or tones.std() < _LEAST_CONTRAST * tones.mean():
        return None, 0.0
    profiles = np.array([np.roll(profile, tonic) for profile in _PROFILES for tonic in range(_TONES)])
    likeness = np.corrcoef(tones, profiles)[0, 1:]
    best = int(np.argmax(likeness))
    confidence = float(likeness[best] / np.exp((likeness - likeness[best]) / _DOUBT).sum())
    return (KEYS[best], round(confidence, 3)) if confidence >= _LEAST else (None, 0.0)


def _semitones(tones: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return how much there is of each semitone from A on, (12,), wherever the song is tuned to."""
    width = TONE_STEPS // _TONES
    steps = np.arange(TONE_STEPS)
    tuning = np.angle((tones * np.exp(2j * np.pi * steps / width)).sum()) / (2 * np.pi) * width
    away = (steps - tuning - width * np.arange(_TONES)[:, None] + TONE_STEPS / 2) % TONE_STEPS - TONE_STEPS / 2
    near: NDArray[np.float64] = np.cos(np.pi * away / width) * (np.abs(away) < width / 2)
    return near @ tones
