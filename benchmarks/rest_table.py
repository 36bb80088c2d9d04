"""The section of the page about REST, made of the JSON of one run of `rest`."""

from collections.abc import Sequence
from statistics import median
from typing import Final

from benchmarks.tables import Record, Row, markdown, spread

_VIEWS: Final = """\
Services on this one machine that know so many finished jobs, and ten that run. Each thing is asked so many times a
second, when it is due, whether or not earlier answers have come, and is timed from that moment: the slowest 1 % in
{rounds} rounds of {seconds:g} s, the services in turn; the median of the rounds, with the least and the most. *As many
times* is the right one divided by the left one. A page of the list has 50 jobs; a search for a name that no job has
looks at 1,000 of them. Each view of a job asks its store several times, and the S3 server, SeaweedFS, computes on the
same processors. The list is in Redis alone. These stores lie {where}."""

_OTHERS: Final = """\
*Streams*: {streams} event streams are open, three quarters of them of one of {running} running jobs, the others of the
batch that has these jobs; each job says every five seconds how far it is, as a worker's does. {sending} clients send a
song of 50 MB over a line of 1 Mbit/s, and {per_second} requests of each kind are sent a second, one kind after the
other; 99 % is of those of one kind. *Told* is the time from the moment before a worker writes how far it is until a
client has the event that says so, for each client that watches. REST's memory is its proportional share (PSS) at most,
and in brackets all that it had in memory (RSS).

*Done when it was said*: one worker with the demo model separates {songs} songs of {least_s:g} to {most_s:g} s, sent one
after the other; `eta_seconds` of the first event after the song was queued is compared with the time until the event
`done`. {before} songs were separated before.

*Uploads*: {at_once} songs of {megabytes:g} MB (WAV of noise) at once, from this machine to REST and on to a store on
the disk; medians of {upload_rounds} rounds. Rates are shares of what `put_file` reaches with as many such songs at
once, in the same round. A form, or the song as it is, makes a job at once, so it includes the decode check, at most two
at a time. In brackets is the rate without the time that the check takes alone. A ticket comes with the song in pieces
of 8 MiB; what makes the job of it afterwards is in a row of its own. On S3 the ticket leads straight into the store."""

#: The least rate of an upload, as a share of what the store does by itself.
_RATE: Final = "≥ 0.80"


def section(record: Record) -> list[str]:
    """Return the paragraphs of the section."""
    lengths_s = [song["song_s"] for song in record["eta"]["songs"]]
    where = "in memory, so the disk does not count" if record["in_memory"] else "among the temporary files"
    text = _OTHERS.format(
        **record["streams"],
        songs=len(lengths_s),
        least_s=min(lengths_s),
        most_s=max(lengths_s),
        before=len(record["eta"]["before_s"]),
        at_once=record["at_once"],
        megabytes=record["song_bytes"] / 1e6,
        upload_rounds=len(record["uploads"]["file"]),
    )
    return [_VIEWS.format(**record, where=where), views(record), text, others(record)]


def views(record: Record) -> str:
    """Return the table of how long it takes to tell of jobs, by how many are known."""
    sizes = [str(jobs) for jobs in record["jobs"]]
    rows = []
    for each in record["views"]:
        measured = each["by_jobs"]
        known = [size for size in sizes if size in measured]
        few, many = (median(measured[size]["p99_ms"]) for size in (known[0], known[-1]))
        rows.append(
            [
                f"{each['store']}: {each['request']}",
                str(each["per_second"]),
                *(_slowest(measured[size]) if size in measured else "–" for size in sizes),
                f"{many / few:.2f}" if len(known) > 1 else "–",
                "≤ 20, ≤ 1.5 ×" if each["has_target"] else "stated",
            ]
        )
    head = ["99 % ms", "a second", *(f"{jobs:,} known" for jobs in record["jobs"]), "as many times", "target"]
    return markdown(head, rows)


def others(record: Record) -> str:
    """Return the table of what is noticed beside streams and slow uploads, of what is told, and of uploads."""
    return markdown(["", "target", "measured"], [*_streams(record), *_eta(record), *_uploads(record)])


def _slowest(load: Record) -> str:
    late = f", {load['unsent']:,} of {load['requests']:,} never sent" if load["unsent"] else ""
    return f"{spread(load['p99_ms'])}{late}"


def _streams(record: Record) -> Sequence[Row]:
    streams = record["streams"]
    told, missed = streams["told_s"], streams["missed"]
    never = f"; {missed:,} of {missed + streams['told']:,} never" if missed else ""
    beside = f"beside {streams['streams']} streams and {streams['sending']} slow uploads, 99 %"
    return [
        *([f"{request} {beside}", "≤ 50 ms", f"{_slowest(load)} ms"] for request, load in streams["asked"].items()),
        ["REST's memory meanwhile", "≤ 256 MB", f"{streams['peak_pss_mb']:.0f} MB (RSS {streams['peak_rss_mb']:.0f})"],
        [
            "told of progress, 95 %",
            "≤ 1 s",
            f"{told['95']:.2f} s (half {told['50']:.2f}, most {told['100']:.2f}{never})",
        ],
    ]


def _eta(record: Record) -> Sequence[Row]:
    songs = record["eta"]["songs"]
    wrong = sorted(abs(song["told_s"] - song["true_s"]) / song["true_s"] for song in songs)
    never = f"; {record['eta']['never_told']} never told" if record["eta"]["never_told"] else ""
    text = f"{median(wrong):.0%} (most {wrong[-1]:.0%}{never})"
    return [[f"done when it was said, {len(songs)} songs, median error", "≤ 20%", text]]


def _uploads(record: Record) -> Sequence[Row]:
    rows: list[Row] = []
    for store, rounds in record["uploads"].items():
        megabytes = record["at_once"] * record["song_bytes"] / 1e6
        for way, target in (("form", _RATE), ("raw", _RATE), ("ticket", _RATE)):
            if way in rounds[0]:
                rows.append([f"{store}: {way}, share of the rate of the store alone", target, _rate(rounds, way)])
        for way, what in (("directly", "put into the store alone"), ("check", "the decode check alone")):
            if way in rounds[0]:
                seconds = [each[way] for each in rounds]
                rate = megabytes / median(seconds)
                rows.append([f"{store}: {what}", "stated", f"{spread(seconds)} s, {rate:.0f} MB/s"])
        seconds = [each["job of it"] for each in rounds]
        rows.append([f"{store}: jobs of the songs that came by ticket", "stated", f"{spread(seconds)} s"])
    return rows


def _rate(rounds: Sequence[dict[str, float]], way: str) -> str:
    whole = median(each["directly"] / each[way] for each in rounds)
    if way == "ticket":
        return f"{whole:.2f}"
    # They overlap, so what is left may be less than nothing where the check takes nearly all of the time.
    left = [each["directly"] / rest if (rest := each[way] - each["check"]) > 0 else None for each in rounds]
    rates = [rate for rate in left if rate is not None]
    return f"{whole:.2f} ({f'{median(rates):.2f}' if rates else '–'} without the check)"
