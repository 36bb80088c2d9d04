"""The table of what was aimed at and what a run reached, for `make bench` and the page."""

from collections.abc import Callable, Mapping
from typing import Final

from benchmarks import tables
from benchmarks.machine import has_bfloat16
from benchmarks.tables import BASELINE, Record, ratio, share_of_peak

_SONG_SECONDS: Final = 180.0

#: By kind, the newest run on this machine.
Records = Mapping[str, Record]


def table(records: Records) -> str:
    """Return the table of targets; what `records` do not tell stands there as not measured."""
    rows = [[name, target, measured(records) or "not measured"] for name, target, measured in _TARGETS]
    return tables.markdown(["", "target", "measured"], rows)


def _command(contestant: str) -> Callable[[Records], str | None]:
    def measured(records: Records) -> str | None:
        bench = records["bench"]
        times = ratio(bench, bench["models"][0]["name"], contestant, _SONG_SECONDS)
        return None if times is None else f"{times:.2f} ×"

    return measured


def _share(contestant: str) -> Callable[[Records], str | None]:
    def measured(records: Records) -> str | None:
        bench = records["bench"]
        dtype = "bfloat16" if has_bfloat16(bench["machine"]) else "float32"
        share = share_of_peak(bench, bench["models"][0], contestant, dtype)
        return None if share is None else f"{share:.0%} of {dtype}"

    return measured


def _two_workers(records: Records) -> str | None:
    """Return what a second worker of one thread brought, from the rows of the run `workers`."""
    rows = records.get("workers", {}).get("rows", [])
    songs_s = {row["workers"]: row["songs_s"] for row in rows if row["threads"] == 1 and not row["bound"]}
    return f"{songs_s[1] / songs_s[2]:.2f} ×" if {1, 2} <= songs_s.keys() else None


_TARGETS: Final = (
    (f"3 minutes, `unmix separate`, `fast`, beside `{BASELINE}`, both cold", "≥ 2.9 ×", _command("unmix separate")),
    ("3 minutes, a warm worker, `fast`, beside the same (Zen 5)", "≥ 3.9 ×", _command("fast, mp3 as demucs")),
    ("3 minutes, `unmix separate`, `exact`, both cold", "≥ 1.6 ×", _command("unmix separate, exact")),
    ("two workers of one thread beside one, songs a minute (`make bench-service`)", "≥ 1.75 ×", _two_workers),
    ("share of the peak, `fast`, samples to samples", "≥ 70 %", _share("fast, no codec")),
)
