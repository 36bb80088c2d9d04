"""The music of a song: its key, its tempo and its beats, by what was heard in its stems.

The drums tell the tempo, all else the key. Where there are no drums, or they are silent, everything together has to
tell the tempo. What the stems do not tell is not told: a made-up number would be worse than none.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import reduce
from operator import add
from typing import Final

from unmix.audio.ear import Heard
from unmix.audio.key import key_of
from unmix.audio.tempo import tempo_of

_DRUMS: Final = "drums"


@dataclass(frozen=True, slots=True)
class Music:
    """What is known of the music of a song; None is what is not."""

    key: str | None  # one of `unmix.audio.key.KEYS`
    key_confidence: float  # 0..1
    tempo_bpm: float | None
    tempo_confidence: float  # 0..1
    beats: tuple[float, ...]  # in seconds from the first sample of the stems on


def music_of(stems: Mapping[str, Heard]) -> Music:
    """Tell the music of a song by what was heard in each of its stems."""
    tuned = [heard for stem, heard in stems.items() if stem != _DRUMS]
    key, key_confidence = key_of(reduce(add, tuned)) if tuned else (None, 0.0)
    tempo = tempo_of(stems[_DRUMS].onsets) if _DRUMS in stems else None
    if tempo is None and stems:
        tempo = tempo_of(reduce(add, stems.values()).onsets)
    if tempo is None:
        return Music(key, key_confidence, None, 0.0, ())
    return Music(key, key_confidence, tempo.bpm, tempo.confidence, tempo.beats)
