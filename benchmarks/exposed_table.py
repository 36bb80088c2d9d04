"""The section of the page about hostile clients, made of the JSON of one run of `exposed`."""

from collections.abc import Mapping, Sequence
from statistics import median
from typing import Final

import numpy as np

from benchmarks.tables import Record, Row, markdown, spread

_TEXT: Final = """\
*What no client should send*: broken JSON and forms, fields of every wrong kind, files that are no songs, songs that
cannot be, tricks in hashes and names, and HTTP that is none, as `tests/bad_requests.py` has them.

*Besieged*: {heads} clients trickle a head and {bodies} a song, {deaf} ask for 40 stems of 35 MB each and read none of
them, and {costly} send a FLAC of 0.4 MB that takes an hour of eight channels at 192 kHz to decode. Each kind has four
addresses. They come again two seconds after they were refused or cut off, and keep at it for {seconds:g} s. Meanwhile
another client asks `/healthz` ten times a second, and sends songs of three seconds, of which a worker with the demo
model separates every other one; the rest are cancelled at once. Everything, the hostile clients too, is on this one
machine. *Straight* is waitress on a port, *gate* is nginx before it. Memory is REST's own (RSS), and with the two
processes that check songs the proportional share (PSS).

*Disk*: songs of two seconds until a disk of {disk_mb:g} MB, on which all of a service lies, has come to its reserve;
the rest up to it is filled with something else. Then every tenth is removed, the workers begin (their engine is a
stand-in), and it is looked whether all that is owed is done and can be fetched. *Order*: {songs} songs of one address
wait for one such worker when another address sends its only one. *Cost of the gate*: {at_once} songs of {megabytes:g}
MB at once with the decode check, and {per_second} requests for a job a second, straight and through the gate in turn;
medians of {rounds} rounds."""

_DOCUMENTED: Final = ("503", "507")


def section(record: Record) -> list[str]:
    """Return the paragraphs of the section."""
    gate = record["gate"]
    text = _TEXT.format(
        **record["siege"]["gate"]["crowd"],
        seconds=record["siege"]["gate"]["seconds"],
        disk_mb=(record["room"] or {"disk_mb": 100})["disk_mb"],
        songs=record["order"]["songs"],
        at_once=gate["songs"],
        megabytes=gate["song_bytes"] / 1e6,
        per_second=gate["per_second"],
        rounds=len(gate["uploads_s"]["gate"]),
    )
    return [text, figures(record)]


def figures(record: Record) -> str:
    """Return the table of what was aimed at and what was measured."""
    rows = [
        *_bad(record["bad"]),
        *_siege(record["siege"]),
        *_room(record["room"]),
        *_order(record["order"]),
        *_tenants(record["tenants"]),
        *_gate(record["gate"]),
    ]
    return markdown(["", "target", "measured"], rows)


def _bad(ways: Mapping[str, Record]) -> Sequence[Row]:
    return [
        [
            f"{way}: what no client should send, answered as it should be",
            "all, 0 × 500, nothing kept",
            f"{bad['requests'] - len(bad['wrong'])} of {bad['requests']}, {bad['errors']} × 500, {bad['kept']} kept",
        ]
        for way, bad in ways.items()
    ]


def _siege(ways: Mapping[str, Record]) -> Sequence[Row]:
    rows: list[Row] = []
    for way, siege in ways.items():
        held = ", ".join(f"{count:.0f} {kind}" for kind, count in siege["held"].items())
        rows += [
            [f"{way}: connections held, median", "stated", held],
            [f"{way}, besieged: `/healthz`, most", "≤ 1 s", _slowest(siege["health_s"])],
            [f"{way}, besieged: a cancel, most", "≤ 1 s", _slowest(siege["cancel_s"])],
            [f"{way}, besieged: a song accepted, most", "≤ 5 s", _slowest(siege["accept_s"])],
            [f"{way}, besieged: done after that, most", "done", _slowest(siege["done_s"])],
            [
                f"{way}, besieged: REST's memory, most",
                "≤ 256 MB",
                f"{siege['peak_rss_mb']:.0f} MB, with checks {siege['peak_tree_pss_mb']:.0f} MB",
            ],
            [
                f"{way}: the same right after, and {siege['later_s']:g} s later",
                "≤ 120 MB",
                f"{siege['after_mb']:.0f} and {siege['later_mb']:.0f} MB (before {siege['before_mb']:.0f})",
            ],
        ]
    return rows


def _room(room: Record | None) -> Sequence[Row]:
    name = "disk at its reserve: songs lost of those that are owed"
    if room is None:
        return [[name, "0", "not measured: this user may mount nothing"]]
    errors = {
        said: count
        for said, count in room["answers"].items()
        if (status := said.split()[1]).startswith("5") and status not in _DOCUMENTED
    }
    refused = ", ".join(f"{count} × {said}" for said, count in room["refused_at_the_reserve"].items())
    unknown = ", ".join(f"{count} × {said}" for said, count in errors.items())
    removed = f"{room['removed']} of {room['asked_to_remove']}"
    return [
        [name, "0", f"{room['lost']} of {room['owed']}"],
        ["the same: songs sent then", "503 or 507", refused],
        ["the same: removed then", "all", f"{removed}; {room['accepted_again']} accepted afterwards"],
        ["the same: other errors of the service", "0", unknown or f"0 of {sum(room['answers'].values()):,} answers"],
    ]


def _order(order: Record) -> Sequence[Row]:
    name = f"songs that one waits for while {order['waiting_then']} of another wait"
    refused = f"; {order['refused']} of the many were refused" if order["refused"] else ""
    return [[name, "≤ 2", f"{order['before']}{refused}"]]


def _tenants(tenants: Record) -> Sequence[Row]:
    name = "another tenant's id and an unknown one: medians apart, and the noise"
    told = (
        f"{tenant}: {abs(each['another_ms'] - each['nobodys_ms']):.4f}, {each['noise_ms']:.4f} ms"
        for tenant, each in tenants.items()
    )
    return [[name, "≤ noise", "; ".join(told)]]


def _gate(gate: Record) -> Sequence[Row]:
    uploads, asked = gate["uploads_s"], gate["asked"]
    rate = median(straight / through for straight, through in zip(uploads["straight"], uploads["gate"], strict=True))
    p99 = {way: load["p99_ms"] for way, load in asked.items()}
    more = median(through - straight for straight, through in zip(p99["straight"], p99["gate"], strict=True))
    unsent = "".join(f"; {load['unsent']} never sent {way}" for way, load in asked.items() if load["unsent"])
    return [
        [
            "cost of the gate: rate of songs, share of that without",
            "≥ 90%",
            f"{rate:.0%} ({spread(uploads['gate'])} s, without {spread(uploads['straight'])} s)",
        ],
        [
            "cost of the gate: 99 % of requests for a job",
            "+ ≤ 2 ms",
            f"{more:+.1f} ms ({spread(p99['gate'])} ms, without {spread(p99['straight'])} ms{unsent})",
        ],
    ]


def _slowest(seconds: Sequence[float | None]) -> str:
    """Return the longest of several times, what 99 % were below if there are many, and how many there are."""
    answered = [each for each in seconds if each is not None]
    missing = f", {len(seconds) - len(answered)} not" if len(answered) < len(seconds) else ""
    if not answered:
        return f"none of {len(seconds)}"
    most = f"{max(answered):.2f} s"
    share = f"99 % {np.percentile(answered, 99):.2f}, " if len(answered) >= 100 else f"half {median(answered):.2f}, "
    return f"{most} ({share}{len(answered)} times{missing})"
