"""The section of the page about key and tempo, made of the JSON of one run of `music`."""

from collections.abc import Sequence
from statistics import mean
from typing import Final

from benchmarks.tables import Record, markdown

_TEXT: Final = """\
What is told of {songs} synthetic songs of {song_s:g} s, of which the score is known; songs of people will be harder.
*Tempo* is right within 2 %, *octave* if it is twice, half, three times or a third of the true one. *Beats* is the
F-measure at 70 ms, the mean over songs: of those for which no beat was told it is 0. *Key* is right if tonic and mode
are. Every third song is dorian or mixolydian, which are told as minor and major; the next column is without them.
*MIREX* gives 1 for the key, 0.5 for one a fifth away, 0.3 for the relative, 0.2 for the parallel one. *Null* is how
often nothing was told. The constants of the tempo were chosen on 26 such songs, 16 of them among these: of others it
will be right somewhat less often.

Listening to four stems takes {listening:.0f} ms of a processor for a minute of song."""

_TONICS: Final = ("C", "Db", "D", "Eb", "E", "F", "F#", "G", "Ab", "A", "Bb", "B")
_SAME: Final = {"C#": "Db", "G#": "Ab"}


def section(record: Record) -> list[str]:
    """Return the paragraphs of the section."""
    listening_s = record["listening_cpu_s_a_minute"]
    separating = " and ".join(
        f"{seconds:.1f} s with {model} ({listening_s / seconds:.2%})"
        for model, seconds in record["separating_cpu_s_a_minute"].items()
    )
    text = _TEXT.format(**record, listening=listening_s * 1000)
    if separating:
        text += f" Separating it and writing mp3 takes {separating}."
    rows = [[name, str(len(songs)), *_row(songs)] for name, songs in record["rows"].items()]
    head = ["", "songs", "tempo", "octave", "null", "beats", "key", "of major and minor", "MIREX", "null"]
    return [text, markdown(head, rows)]


def _row(songs: Sequence[Record]) -> list[str]:
    plain = [song for song in songs if song["mode"] in ("major", "minor")]
    return [
        _share(_is_tempo(song) for song in songs),
        _share(_is_octave(song) for song in songs),
        _share(song["told"]["tempo_bpm"] is None for song in songs),
        f"{mean(song['beats'] for song in songs):.2f}",
        _share(mirex(song["key"], song["told"]["key"]) == 1 for song in songs),
        _share(mirex(song["key"], song["told"]["key"]) == 1 for song in plain),
        f"{mean(mirex(song['key'], song['told']['key']) for song in songs):.2f}",
        _share(song["told"]["key"] is None for song in songs),
    ]


def mirex(true: str, told: str | None) -> float:
    """Return the score of a key."""
    if told is None:
        return 0.0
    (tonic, mode), (other, told_mode) = _place(true), _place(told)
    up = (other - tonic) % 12
    if mode == told_mode:
        return {0: 1.0, 7: 0.5, 5: 0.5}.get(up, 0.0)
    relative = 9 if mode == "major" else 3
    return {0: 0.2, relative: 0.3}.get(up, 0.0)


def _place(key: str) -> tuple[int, str]:
    name, mode = key.split()
    return _TONICS.index(_SAME.get(name, name)), mode


def _is_tempo(song: Record, times: float = 1.0) -> bool:
    told = song["told"]["tempo_bpm"]
    return told is not None and abs(told / (times * song["tempo_bpm"]) - 1) <= 0.02


def _is_octave(song: Record) -> bool:
    return any(_is_tempo(song, times) for times in (1 / 3, 1 / 2, 2.0, 3.0))


def _share(values: object) -> str:
    return f"{mean(map(float, values)):.0%}"  # type: ignore[call-overload]
