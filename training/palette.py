"""The instruments and voices of the synthetic world, split into known and held-out ones.

Owns which General MIDI programs, drum kits and singers may appear in which song. Training draws
from `KNOWN` only; `HELD_OUT_INSTRUMENTS` and `HELD_OUT_VOICES` exist so that evaluation can tell
"a new song by the same band" from "a band never heard". `songs` draws from here.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Voice:
    """A singer, as the numbers that `voice.sing` needs."""

    #: lowest and highest comfortable note, MIDI numbers
    low: int
    high: int
    #: formant frequencies relative to an average adult male tract
    tract_scale: float
    #: extra spectral slope of the glottal source, dB per octave above 500 Hz
    tilt_db: float
    #: level of aspiration noise relative to the voiced source, amplitude
    breath: float
    vibrato_hz: float
    #: peak deviation, semitones
    vibrato_semitones: float
    #: formant bandwidths relative to the table in `voice`
    bandwidth_scale: float
    #: time constant with which pitch reaches the next note, seconds
    glide_seconds: float


VOICES: dict[str, Voice] = {
    "bass": Voice(40, 57, 0.94, -2.0, 0.02, 5.0, 0.35, 1.0, 0.035),
    "baritone": Voice(45, 62, 0.98, -1.0, 0.03, 5.4, 0.30, 0.9, 0.030),
    "tenor": Voice(50, 67, 1.02, 0.0, 0.03, 5.6, 0.40, 0.9, 0.025),
    "bright-tenor": Voice(52, 69, 1.06, 1.5, 0.02, 5.9, 0.25, 0.8, 0.020),
    "breathy-man": Voice(46, 62, 1.00, -3.0, 0.12, 5.0, 0.15, 1.3, 0.035),
    "alto": Voice(55, 70, 1.10, -1.0, 0.04, 5.5, 0.30, 1.0, 0.030),
    "mezzo": Voice(57, 73, 1.14, 0.0, 0.04, 5.8, 0.35, 1.0, 0.025),
    "pop-woman": Voice(57, 74, 1.16, 1.0, 0.05, 5.6, 0.20, 0.9, 0.018),
    "breathy-woman": Voice(57, 72, 1.15, -3.0, 0.14, 5.2, 0.15, 1.3, 0.035),
    "soprano": Voice(60, 77, 1.19, -0.5, 0.04, 6.0, 0.45, 1.1, 0.030),
    "belter": Voice(55, 72, 1.12, 2.5, 0.02, 6.1, 0.40, 0.8, 0.020),
    "youth": Voice(60, 76, 1.24, -1.0, 0.06, 5.4, 0.10, 1.1, 0.022),
    # the four below are never trained on
    "dark-baritone": Voice(43, 60, 0.92, -4.0, 0.04, 4.7, 0.50, 1.1, 0.045),
    "thin-tenor": Voice(52, 68, 1.08, 3.0, 0.08, 6.5, 0.20, 0.7, 0.015),
    "husky-alto": Voice(54, 69, 1.07, -2.0, 0.18, 5.0, 0.25, 1.2, 0.040),
    "clear-treble": Voice(62, 78, 1.28, 0.5, 0.02, 6.3, 0.30, 0.9, 0.020),
}


@dataclass(frozen=True)
class Palette:
    """What one family of songs may be played and sung with; programs are General MIDI, 0-based."""

    kits: tuple[int, ...]
    basses: tuple[int, ...]
    #: short, struck or plucked: broken chords and comping
    plucked: tuple[int, ...]
    #: long tones: pads, strings, organs
    sustained: tuple[int, ...]
    #: single lines that answer the singer
    leads: tuple[int, ...]
    voices: tuple[str, ...]


_HELD_OUT_SINGERS = ("dark-baritone", "thin-tenor", "husky-alto", "clear-treble")

#: Choirs, vocal pads and synth voices (52-54, 85, 91) are left out: they would be sung "other".
KNOWN = Palette(
    kits=(0, 8, 24, 25, 32),
    basses=(32, 33, 34, 36, 38),
    plucked=(0, 2, 4, 6, 7, 8, 12, 15, 24, 25, 27, 28, 45, 46, 108),
    sustained=(16, 17, 20, 48, 50, 51, 61, 62, 88, 89, 94),
    leads=(11, 21, 30, 40, 56, 60, 65, 68, 71, 73, 80, 81),
    voices=tuple(name for name in VOICES if name not in _HELD_OUT_SINGERS),
)

HELD_OUT_INSTRUMENTS = Palette(
    kits=(16, 40),
    basses=(35, 37, 39),
    plucked=(1, 5, 13, 26, 107),
    sustained=(18, 19, 49, 63, 95),
    leads=(22, 29, 42, 57, 66, 75, 84),
    voices=KNOWN.voices,
)

HELD_OUT_VOICES = Palette(
    kits=KNOWN.kits,
    basses=KNOWN.basses,
    plucked=KNOWN.plucked,
    sustained=KNOWN.sustained,
    leads=KNOWN.leads,
    voices=_HELD_OUT_SINGERS,
)

PALETTES: dict[str, Palette] = {
    "known": KNOWN,
    "instruments": HELD_OUT_INSTRUMENTS,
    "voices": HELD_OUT_VOICES,
}
