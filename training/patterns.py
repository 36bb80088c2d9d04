"""Turns bars into notes: grooves, bass lines, accompaniment, and the sung melody.

Owns how each player reads a chord chart. Every function is pure: it takes bars and a seeded
generator and returns notes. `songs` decides who plays; `render` decides how it sounds.
"""

from __future__ import annotations

from collections.abc import Sequence
from random import Random

from training.score import Bar, Note, Syllable

KICK, SNARE, RIM, CLAP, HAT, OPEN_HAT, RIDE, CRASH = 36, 38, 37, 39, 42, 46, 51, 49
LOW_TOM, MID_TOM, HIGH_TOM, TAMBOURINE, SHAKER = 45, 47, 50, 54, 70

#: Kick and snare steps (sixteenths) of one bar.
GROOVES: tuple[tuple[tuple[int, ...], tuple[int, ...]], ...] = (
    ((0, 8), (4, 12)),
    ((0, 6, 8), (4, 12)),
    ((0, 7, 10), (4, 12)),
    ((0, 3, 8, 10), (4, 12)),
    ((0, 4, 8, 12), (4, 12)),
    ((0, 6, 10), (4, 12, 15)),
    ((0, 10), (8,)),
    ((0, 8, 11), (4, 7, 12)),
    ((0, 3, 6, 8, 14), (4, 12)),
)
#: Steps of the hi-hat or ride.
CYMBALS: tuple[tuple[int, ...], ...] = (
    (0, 2, 4, 6, 8, 10, 12, 14),
    (0, 4, 8, 12),
    tuple(range(16)),
    (2, 6, 10, 14),
    (0, 3, 4, 6, 8, 10, 11, 12, 14),
)
#: Steps and chord degrees (0 root, 1 fifth, 2 octave, 3 approach note) of a bass bar.
BASS_LINES: tuple[tuple[tuple[int, int], ...], ...] = (
    ((0, 0), (2, 0), (4, 0), (6, 0), (8, 0), (10, 0), (12, 0), (14, 3)),
    ((0, 0), (8, 1)),
    ((0, 0), (6, 0), (8, 1), (14, 3)),
    ((0, 0), (4, 1), (8, 2), (12, 3)),
    ((0, 0), (3, 0), (6, 2), (10, 0), (12, 1)),
    ((0, 0), (2, 2), (4, 0), (6, 2), (8, 0), (10, 2), (12, 0), (14, 2)),
    ((0, 0), (10, 0), (12, 1)),
)
#: Steps at which a comping instrument strikes.
COMPS: tuple[tuple[int, ...], ...] = (
    (0, 4, 8, 12),
    (0, 6, 12),
    (4, 12),
    (0, 3, 6, 8, 11, 14),
    (2, 6, 10, 14),
    (0, 2, 4, 6, 8, 10, 12, 14),
)
#: Melody rhythms: (start, length) in sixteenths over one bar.
RHYTHMS: tuple[tuple[tuple[int, int], ...], ...] = (
    ((0, 4), (4, 4), (8, 6)),
    ((0, 2), (2, 2), (4, 4), (8, 2), (10, 4)),
    ((0, 6), (6, 2), (8, 8)),
    ((2, 2), (4, 2), (6, 2), (8, 6)),
    ((0, 3), (3, 3), (6, 2), (8, 3), (11, 5)),
    ((0, 8), (8, 4), (12, 4)),
    ((4, 4), (8, 2), (10, 2), (12, 4)),
)
CONSONANTS = ("", "", "m", "n", "l", "r", "w", "s", "sh", "f", "t", "k", "p", "d", "b", "g", "h")
VOWELS = ("ah", "eh", "ee", "oh", "oo", "uh", "ae", "aw")


def nearest(pitch_class: int, around: float) -> int:
    """MIDI note of a pitch class that lies nearest to `around`."""
    return round((around - pitch_class) / 12) * 12 + pitch_class


def _human(rng: Random, seconds: float) -> float:
    return max(0.0, seconds + rng.gauss(0.0, 0.005))


def play_drums(rng: Random, bars: Sequence[Bar]) -> tuple[Note, ...]:
    """Groove per section, a fill before each new section, a crash at its start."""
    notes: list[Note] = []
    accent = rng.randint(92, 118)
    steps_of: dict[str, tuple[tuple[tuple[int, ...], tuple[int, ...]], tuple[int, ...], int, int]] = {}
    shaker = rng.choice((0, 0, 0, TAMBOURINE, SHAKER))

    def hit(bar: Bar, step: float, pitch: int, velocity: float) -> None:
        level = max(1, min(127, round(velocity + rng.gauss(0, 6))))
        notes.append(Note(_human(rng, bar.at(step)), 0.15, pitch, level))

    for position, bar in enumerate(bars):
        if bar.section == "end":
            hit(bar, 0, KICK, accent)
            hit(bar, 0, CRASH, accent - 15)
            continue
        if bar.section not in steps_of:
            backbeat = rng.choice((SNARE, SNARE, SNARE, RIM if bar.section == "verse" else CLAP))
            cymbal = rng.choice((HAT, HAT, HAT, RIDE))
            steps_of[bar.section] = (rng.choice(GROOVES), rng.choice(CYMBALS), backbeat, cymbal)
        (kicks, snares), cymbals, backbeat, cymbal = steps_of[bar.section]
        following = bars[position + 1] if position + 1 < len(bars) else bar
        fill_from = 12 if following.section != bar.section and rng.random() < 0.8 else 16
        if position and bars[position - 1].section != bar.section:
            hit(bar, 0, CRASH, accent - 8)
        for step in kicks:
            hit(bar, step, KICK, accent)
        for step in snares:
            if step < fill_from:
                hit(bar, step, backbeat, accent - (0 if step % 4 == 0 else 45))
        for step in cymbals:
            if step < fill_from:
                is_open = cymbal == HAT and step == 14 and rng.random() < 0.25
                hit(bar, step, OPEN_HAT if is_open else cymbal, accent - 25 - (12 if step % 4 else 0))
        if shaker and bar.section == "chorus":
            for step in range(0, 16, 2):
                hit(bar, step, shaker, accent - 40)
        if fill_from < 16:
            for step, drum in zip(range(12, 16), (HIGH_TOM, MID_TOM, LOW_TOM, SNARE), strict=True):
                hit(bar, step, drum if rng.random() < 0.7 else SNARE, accent - 12)
    return tuple(notes)


def play_bass(rng: Random, bars: Sequence[Bar]) -> tuple[Note, ...]:
    """One line per section on the chord roots, between E1 and D#3."""
    notes: list[Note] = []
    lines: dict[str, tuple[tuple[int, int], ...]] = {}
    centre = rng.uniform(33, 40)
    legato = rng.uniform(0.6, 0.98)
    for position, bar in enumerate(bars):
        root = nearest(bar.chord[0], centre)
        fifth = nearest(bar.chord[2], root + 5)
        if bar.section == "end":
            notes.append(Note(bar.at(0), 4 * bar.beat_seconds, root, 100))
            continue
        line = lines.setdefault(bar.section, rng.choice(BASS_LINES))
        following = bars[position + 1] if position + 1 < len(bars) else bar
        approach = nearest(following.chord[0], centre) + rng.choice((-2, -1, 1, 2))
        ends = [step for step, _ in line[1:]] + [16]
        for (step, degree), end in zip(line, ends, strict=True):
            pitch = (root, fifth, root + 12, approach)[degree]
            length = (end - step) / 4 * bar.beat_seconds * legato
            level = rng.randint(88, 112)
            notes.append(Note(_human(rng, bar.at(step)), length, pitch, level))
    return tuple(notes)


def play_chords(rng: Random, bars: Sequence[Bar], *, sustained: bool, centre: float) -> tuple[Note, ...]:
    """Comping, broken chords, or held chords in close position around `centre`."""
    notes: list[Note] = []
    broken = not sustained and rng.random() < 0.4
    strikes = rng.choice(COMPS)
    order = [rng.randrange(4) for _ in range(8)]
    length_share = rng.uniform(0.5, 1.0)
    for bar in bars:
        voicing = sorted({nearest(pitch_class, centre + rng.uniform(-1, 1)) for pitch_class in bar.chord})
        level = rng.randint(72, 92) + (10 if bar.section == "chorus" else 0)
        if sustained or bar.section == "end":
            for pitch in voicing:
                notes.append(Note(_human(rng, bar.at(0)), 3.9 * bar.beat_seconds, pitch, level))
        elif broken:
            arpeggio = [*voicing, voicing[0] + 12]
            for step in range(0, 16, 2):
                pitch = arpeggio[order[step // 2] % len(arpeggio)]
                notes.append(Note(_human(rng, bar.at(step)), 0.7 * bar.beat_seconds, pitch, level))
        else:
            for step, end in zip(strikes, (*strikes[1:], 16), strict=True):
                length = (end - step) / 4 * bar.beat_seconds * length_share
                for index, pitch in enumerate(voicing):
                    # a strum: fingers do not land at once
                    start = _human(rng, bar.at(step)) + 0.008 * index
                    notes.append(Note(start, length, pitch, min(127, level + rng.randint(-6, 6))))
    return tuple(notes)


def play_answers(rng: Random, bars: Sequence[Bar], *, centre: float) -> tuple[Note, ...]:
    """A short line in intros and in the gap at the end of every second bar."""
    notes: list[Note] = []
    pitch = float(nearest(bars[0].chord[0], centre))
    for bar in bars:
        if bar.section == "end":
            notes.append(Note(bar.at(0), 3.5 * bar.beat_seconds, nearest(bar.chord[0], pitch), 84))
            continue
        steps = (0, 3, 6, 8, 12) if bar.section == "intro" else (10, 12, 14) if bar.index % 2 else ()
        for step, end in zip(steps, (*steps[1:], 16), strict=True) if steps else ():
            pitch += rng.choice((-3, -2, 0, 2, 3)) - 0.2 * (pitch - centre)
            pool = bar.chord if step % 4 == 0 else bar.scale
            target = min((nearest(pc, pitch) for pc in pool), key=lambda note: abs(note - pitch))
            length = (end - step) / 4 * bar.beat_seconds * 0.95
            notes.append(Note(_human(rng, bar.at(step)), length, target, rng.randint(78, 98)))
            pitch = float(target)
    return tuple(notes)


def sing_melody(rng: Random, bars: Sequence[Bar], *, low: int, high: int) -> tuple[Syllable, ...]:
    """Two-bar phrases over a motif per section: chord tones on the beat, steps between."""
    syllables: list[Syllable] = []
    motifs: dict[str, tuple[tuple[tuple[int, int], ...], ...]] = {}
    pitch = (low + high) / 2
    for bar in bars:
        if bar.section == "intro":
            continue
        if bar.section == "end":
            target = nearest(bar.scale[0], min(pitch, high - 4))
            syllables.append(Syllable(bar.at(0), 3.2 * bar.beat_seconds, target, "", rng.choice(VOWELS), 0.9))
            continue
        motif = motifs.setdefault(bar.section, tuple(rng.choice(RHYTHMS) for _ in range(2)))
        centre = low + (high - low) * (0.62 if bar.section == "chorus" else 0.42)
        for step, length in motif[bar.index % 2]:
            pitch += rng.choice((-4, -2, -2, 0, 2, 2, 4)) - 0.25 * (pitch - centre)
            pool = bar.chord if step % 4 == 0 else bar.scale
            target = min((nearest(pc, pitch) for pc in pool), key=lambda note: abs(note - pitch))
            target = target - 12 if target > high else target + 12 if target < low else target
            seconds = length / 4 * bar.beat_seconds * rng.uniform(0.85, 0.98)
            loudness = rng.uniform(0.75, 1.0)
            syllables.append(
                Syllable(bar.at(step), seconds, target, rng.choice(CONSONANTS), rng.choice(VOWELS), loudness)
            )
            pitch = float(target)
    return tuple(syllables)


def sing_harmony(bars: Sequence[Bar], lead: Sequence[Syllable]) -> tuple[Syllable, ...]:
    """A third (two scale steps) above the lead, in choruses only."""
    choruses = [bar for bar in bars if bar.section == "chorus"]
    above: list[Syllable] = []
    for syllable in lead:
        for bar in choruses:
            if bar.start_seconds <= syllable.start_seconds < bar.at(16) and syllable.pitch % 12 in bar.scale:
                step = bar.scale.index(syllable.pitch % 12)
                third = nearest(bar.scale[(step + 2) % len(bar.scale)], syllable.pitch + 3.5)
                above.append(
                    Syllable(
                        syllable.start_seconds + 0.015,
                        syllable.duration_seconds,
                        third,
                        syllable.consonant,
                        syllable.vowel,
                        syllable.loudness * 0.6,
                    )
                )
    return tuple(above)
