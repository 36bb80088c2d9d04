"""Composes songs: a seed, a length and a palette in, a complete score out. Pure.

Owns the large decisions (tempo, key, mode, progression, form, who plays where in the image);
`patterns` fills the bars. `render` turns the score into stems.
"""

from __future__ import annotations

from random import Random

from training.palette import VOICES, Palette
from training.patterns import (
    play_answers,
    play_bass,
    play_chords,
    play_drums,
    sing_harmony,
    sing_melody,
)
from training.score import Bar, Part, Song

#: Semitones above the tonic.
MODES: dict[str, tuple[int, ...]] = {
    "major": (0, 2, 4, 5, 7, 9, 11),
    "minor": (0, 2, 3, 5, 7, 8, 10),
    "dorian": (0, 2, 3, 5, 7, 9, 10),
    "mixolydian": (0, 2, 4, 5, 7, 9, 10),
}
#: Scale degrees (0 = tonic), one per bar.
PROGRESSIONS: dict[str, tuple[tuple[int, ...], ...]] = {
    "major": ((0, 4, 5, 3), (0, 5, 3, 4), (0, 3, 0, 4), (5, 3, 0, 4), (0, 2, 3, 4), (1, 4, 0, 5)),
    "minor": ((0, 5, 2, 6), (0, 3, 5, 4), (0, 6, 5, 6), (0, 3, 0, 6), (5, 6, 0, 0)),
    "dorian": ((0, 3, 0, 3), (0, 2, 3, 0), (0, 6, 3, 0)),
    "mixolydian": ((0, 6, 3, 0), (0, 3, 6, 3), (0, 0, 6, 3)),
}
NOTE_NAMES = ("C", "Db", "D", "Eb", "E", "F", "Gb", "G", "Ab", "A", "Bb", "B")
#: Left after the last bar's downbeat for the final chord to die away.
ENDING_SECONDS = 2.6


def _chord(scale: tuple[int, ...], degree: int, *, seventh: bool) -> tuple[int, ...]:
    steps = (0, 2, 4, 6) if seventh else (0, 2, 4)
    return tuple(scale[(degree + step) % 7] for step in steps)


def lay_out(rng: Random, duration_seconds: float) -> tuple[tuple[Bar, ...], str]:
    """Choose tempo, key, mode and form; return the bars and a title such as "Ab minor, 104 bpm".

    The tempo is nudged so that whole bars fill the song and the last bar is a tonic "end".
    """
    mode = rng.choice(("major", "major", "minor", "minor", "dorian", "mixolydian"))
    tonic = rng.randrange(12)
    scale = tuple((tonic + step) % 12 for step in MODES[mode])
    wanted_bpm = rng.uniform(76, 138)
    body_seconds = duration_seconds - ENDING_SECONDS
    bar_count = max(4, round(body_seconds / (240 / wanted_bpm)))
    beat_seconds = body_seconds / bar_count / 4
    swing = rng.choice((0.0, 0.0, 0.0, 0.2, 0.33))
    seventh = rng.random() < 0.3
    verse, chorus = (rng.choice(PROGRESSIONS[mode]) for _ in range(2))
    intro_bars = rng.choice((0, 1, 2, 2)) if bar_count >= 8 else rng.choice((0, 0, 1))
    chorus_from = intro_bars + (bar_count - intro_bars + 1) // 2
    bars: list[Bar] = []
    for index in range(bar_count + 1):
        if index == bar_count:
            section, degree = "end", 0
        elif index < intro_bars:
            section, degree = "intro", verse[index % 4]
        elif index < chorus_from:
            section, degree = "verse", verse[(index - intro_bars) % 4]
        else:
            section, degree = "chorus", chorus[(index - chorus_from) % 4]
        chord = _chord(scale, degree, seventh=seventh and section != "end")
        start = index * 4 * beat_seconds
        bars.append(Bar(index, start, beat_seconds, section, chord, scale, swing))
    return tuple(bars), f"{NOTE_NAMES[tonic]} {mode}, {60 / beat_seconds:.0f} bpm"


def compose(seed: int, duration_seconds: float, palette: Palette) -> Song:
    """Write the whole song that belongs to this seed, length and palette."""
    rng = Random(seed)
    bars, title = lay_out(rng, duration_seconds)
    voice = rng.choice(palette.voices)
    low, high = VOICES[voice].low, VOICES[voice].high
    lead = sing_melody(rng, bars, low=low, high=high)
    harmony = sing_harmony(bars, lead) if rng.random() < 0.4 else ()

    side = rng.choice((-1, 1))
    other: list[Part] = []
    rhythm_section = rng.choice(("plucked", "plucked", "both", "both", "sustained"))
    if rhythm_section != "sustained":
        notes = play_chords(rng, bars, sustained=False, centre=rng.uniform(56, 68))
        other.append(Part(rng.choice(palette.plucked), notes, pan=side * rng.uniform(0.3, 0.9)))
    if rhythm_section != "plucked":
        notes = play_chords(rng, bars, sustained=True, centre=rng.uniform(55, 70))
        pan = -side * rng.uniform(0.3, 0.9)
        other.append(Part(rng.choice(palette.sustained), notes, pan=pan, volume=rng.randint(72, 96)))
    if rng.random() < 0.35:
        notes = play_answers(rng, bars, centre=rng.uniform(64, 76))
        pan = -side * rng.uniform(0.2, 0.7)
        other.append(Part(rng.choice(palette.leads), notes, pan=pan, volume=rng.randint(80, 100)))
    drums = Part(rng.choice(palette.kits), play_drums(rng, bars), is_drums=True)
    bass = Part(rng.choice(palette.basses), play_bass(rng, bars))
    return Song(seed, title, duration_seconds, drums, bass, tuple(other), lead, harmony, voice)
