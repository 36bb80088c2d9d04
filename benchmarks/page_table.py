"""The section of the page about the page for people, made of the JSON of one run of `page`."""

from statistics import median
from typing import Final

from benchmarks.tables import Record, markdown, spread

_TEXT: Final = """\
`unmix local` with the demo model at its defaults and Chromium {browser}, both on this one machine. A song of
{song_s:g} s (mp3) is dropped on our page, and *Karaoke* is pressed as soon as it can be; another copy of it is dropped
on an ordinary player, `benchmarks/ordinary_player.html`, which waits until the stems are done and plays their files by
itself, in `<audio>`; {rounds} rounds, in turn. The time is by the page's own clock, from the event `drop` to the first
sample on its way to the loudspeakers that is louder than a thousandth, looked for every 5 ms.

*Weight* is of bodies as they come over the line, gzipped; *all* is every file that a browser of one
language can load, with the code for speed and pitch, and the icons. *Interactive* is the time from navigation, by a
browser that has never been there, until choosing songs is answered and a picture was made since; {openings} times.
Memory is the proportional share (PSS) of the tab's own process, five times a second, while the finished song is played
at {seeks} places from one end to the other, with no developer tools looking on: they would keep there what is fetched.
*Apart* is looked for at {places} places after seeks, in the samples on their way to the loudspeakers, by where each
stem, another noise each, is found in them."""


def section(record: Record) -> list[str]:
    """Return the paragraphs of the section."""
    text = _TEXT.format(
        browser=record["browser"],
        song_s=record["song_s"],
        rounds=len(record["sound_s"]["page"]),
        openings=len(record["interactive_s"]),
        seeks=record["long"]["seeks"],
        places=record["apart"]["places"],
    )
    return [text, figures(record)]


def figures(record: Record) -> str:
    """Return the table of what was aimed at and what was measured."""
    page_s, ordinary_s = record["sound_s"]["page"], record["sound_s"]["ordinary"]
    sooner = median(ordinary / page for ordinary, page in zip(ordinary_s, page_s, strict=True))
    weight, long = record["weight"], record["long"]
    rows = [
        [f"drop → sound, {record['song_s'] / 60:.3g} minutes of song", "≤ 6 s", f"{spread(page_s)} s"],
        ["the same in an ordinary player of finished stems", "stated", f"{spread(ordinary_s)} s, {sooner:.1f} ×"],
        [
            "weight before a song is sent",
            "≤ 100 kB",
            f"{weight['before'] / 1000:.0f} kB, {weight['before_files']} files",
        ],
        ["weight of all", "≤ 300 kB", f"{weight['all'] / 1000:.0f} kB, {weight['all_files']} files"],
        ["interactive on loopback", "≤ 0.5 s", f"{_hundredths(record['interactive_s'])} s"],
        [
            f"memory of a tab, {long['song_s'] / 60:.3g} minutes of song, 4 stems, playing and seeking",
            "≤ 300 MB",
            f"{long['peak_pss_mb']:.0f} MB",
        ],
        ["stems apart from each other", "0 samples", f"{record['apart']['samples']} samples"],
        ["actions from the open page to a karaoke version playing", "2", str(record["actions"])],
    ]
    return markdown(["", "target", "measured"], rows)


def _hundredths(seconds: list[float]) -> str:
    """Return the median of times, with the least and the most: they are short."""
    if len(seconds) == 1:
        return f"{seconds[0]:.2f}"
    return f"{median(seconds):.2f} ({min(seconds):.2f}–{max(seconds):.2f})"
