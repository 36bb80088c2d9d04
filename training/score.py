"""The written form of a song: notes, parts, syllables. Values only; no sound, no chance.

`songs` and `patterns` write it, `midi` and `voice` read it. Times are seconds from the start of
the song, pitches MIDI numbers (60 = middle C), velocities 1..127.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Note:
    """One key pressed and released."""

    start_seconds: float
    duration_seconds: float
    pitch: int
    velocity: int


@dataclass(frozen=True)
class Part:
    """One instrument's notes and its place in the stereo image."""

    #: General MIDI program, or the drum kit's number when `is_drums`
    program: int
    notes: tuple[Note, ...]
    #: -1 left, 0 centre, 1 right
    pan: float = 0.0
    #: channel volume, 0..127
    volume: int = 100
    is_drums: bool = False


@dataclass(frozen=True)
class Syllable:
    """One sung note: an optional consonant, then a vowel (keys of the tables in `voice`)."""

    start_seconds: float
    duration_seconds: float
    pitch: int
    consonant: str
    vowel: str
    #: 0..1
    loudness: float


@dataclass(frozen=True)
class Bar:
    """One bar of the form with its chord: all that patterns need to know of the harmony."""

    index: int
    start_seconds: float
    #: length of one quarter note
    beat_seconds: float
    #: "intro", "verse", "chorus" or "end"
    section: str
    #: pitch classes 0..11, root first
    chord: tuple[int, ...]
    #: pitch classes of the key, tonic first
    scale: tuple[int, ...]
    #: delay of the second eighth of each beat, as a share of an eighth (0 straight, 0.33 swing)
    swing: float

    def at(self, sixteenth: float) -> float:
        """Time of a sixteenth (0..16) of this bar in seconds, swung."""
        delay = self.swing / 2 if int(sixteenth) % 4 >= 2 else 0.0
        return self.start_seconds + (sixteenth / 4 + delay) * self.beat_seconds


@dataclass(frozen=True)
class Song:
    """A complete score: who plays what, and when."""

    seed: int
    title: str
    duration_seconds: float
    drums: Part
    bass: Part
    other: tuple[Part, ...]
    lead: tuple[Syllable, ...]
    harmony: tuple[Syllable, ...]
    #: key of `palette.VOICES`
    voice: str
