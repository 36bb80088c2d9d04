"""Writes a standard MIDI file from parts: just enough of the format for fluidsynth to play it.

Reference: the Standard MIDI File 1.0 specification (header chunk, one track, delta times).
"""

from __future__ import annotations

import struct
from collections.abc import Sequence

from training.score import Part

#: 480 ticks per quarter at the default tempo of 120 per minute
TICKS_PER_SECOND = 960
_DRUM_CHANNEL = 9


def _variable_length(value: int) -> bytes:
    """Encode a non-negative number in groups of seven bits, most significant first."""
    groups = [value & 0x7F]
    while value := value >> 7:
        groups.append(value & 0x7F | 0x80)
    return bytes(reversed(groups))


def midi_file(parts: Sequence[Part]) -> bytes:
    """Return a format-0 MIDI file that plays all parts at once, one channel each."""
    events: list[tuple[int, int, bytes]] = []
    melodic_channels = iter(channel for channel in range(16) if channel != _DRUM_CHANNEL)
    for part in parts:
        channel = _DRUM_CHANNEL if part.is_drums else next(melodic_channels)
        pan = round(64 + 63 * part.pan)
        setup = [
            bytes([0xC0 | channel, part.program]),
            bytes([0xB0 | channel, 7, part.volume]),
            bytes([0xB0 | channel, 10, pan]),
        ]
        events += [(0, 0, message) for message in setup]
        for note in part.notes:
            start = max(0, round(note.start_seconds * TICKS_PER_SECOND))
            end = max(start + 1, round((note.start_seconds + note.duration_seconds) * TICKS_PER_SECOND))
            # at equal times an "off" sorts before an "on", or a repeated note would be cut at once
            events.append((start, 2, bytes([0x90 | channel, note.pitch, note.velocity])))
            events.append((end, 1, bytes([0x80 | channel, note.pitch, 0])))
    events.sort(key=lambda event: event[:2])
    track = bytearray()
    now = 0
    for tick, _, message in events:
        track += _variable_length(tick - now) + message
        now = tick
    track += b"\x00\xff\x2f\x00"
    header = b"MThd" + struct.pack(">IHHH", 6, 0, 1, 480)
    return header + b"MTrk" + struct.pack(">I", len(track)) + bytes(track)
