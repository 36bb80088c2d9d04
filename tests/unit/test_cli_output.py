"""What commands print: one bar however long names are, none where nobody looks, and text of any origin and locale."""

import io
import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from rich.console import Console

from unmix.cli import output
from unmix.cli.output import Run
from unmix.errors import InputError

FILES = {"vocals": Path("out/a/vocals.mp3")}


def on_terminal(monkeypatch: pytest.MonkeyPatch, width: int) -> io.StringIO:
    """Let standard error be a terminal of so many columns, and return what is drawn."""
    drawn = io.StringIO()
    monkeypatch.setattr(output, "stderr", Console(file=drawn, force_terminal=True, width=width, highlight=False))
    return drawn


def test_the_bar_the_count_and_the_time_stay_however_long_a_name_is(monkeypatch: pytest.MonkeyPatch) -> None:
    drawn = on_terminal(monkeypatch, 60)
    with Run(30) as run:
        run.done(Path("first.mp3"), FILES)
        run.goes_on(Path("song"), 0.5, "a name that is much longer than a line " * 9)
    last = drawn.getvalue().split("\r")[-1]
    assert "1 of 30" in last
    assert re.search(r"[0-9-]:[0-9-]{2}:[0-9-]{2}", last)  # how long it will take
    assert "a name" in last
    assert "\N{HORIZONTAL ELLIPSIS}" in last
    assert len(last.split("\n")[0]) < 200  # of which most is colour


def test_where_nobody_looks_there_are_lines_and_no_bar(capsys: pytest.CaptureFixture[str]) -> None:
    with Run(3) as run:
        run.skipped({Path("old.mp3"): FILES})
        run.goes_on(Path("a.mp3"), 0.5, "a.mp3")
        run.done(Path("a.mp3"), FILES, warnings=["it is odd"])
        run.failed(Path("b.mp3"), InputError("it is no song", code="not_audio"))
    printed = capsys.readouterr()
    assert printed.err.splitlines() == [
        "1 song done already, and skipped; --again makes the stems again",
        "2 of 3 done: a.mp3, 1 file in out/a",
        "warning: a.mp3: it is odd",
        "error: b.mp3: it is no song (not_audio)",
        "3 songs: 1 done, 1 skipped, 1 failed",
    ]
    assert printed.out.splitlines() == ["out/a/vocals.mp3"] * 2
    assert run.has_failed


def test_scripts_get_an_object_for_each_song(capsys: pytest.CaptureFixture[str]) -> None:
    odd = Path(os.fsdecode(b"gr\xfcn.mp3"))
    with Run(3, as_json=True) as run:
        run.skipped({Path("old.mp3"): FILES})
        run.done(odd, FILES, job="1", notes=["resampled"])
        run.failed(Path("b.mp3"), InputError("it is no song", code="not_audio"))
    skipped, done, failed = map(json.loads, capsys.readouterr().out.splitlines())
    assert skipped == {"song": "old.mp3", "state": "skipped", "files": {"vocals": "out/a/vocals.mp3"}}
    assert (done["song"], done["job"], done["notes"], done["key"]) == (str(odd), "1", ["resampled"], None)
    assert failed == {
        "song": "b.mp3",
        "state": "failed",
        "files": {},
        "error_code": "not_audio",
        "error": "it is no song",
    }


PRINTS = """
import os
from pathlib import Path
from unmix.cli.output import Run, take_any_text
take_any_text()
with Run(1) as run:
    song, stem = os.fsdecode(b"gr\\xfcn \\xf0\\x9f\\x92\\x83 \\x1b[2J"), os.fsdecode(b"gr\\xfcn/\\xc3\\xbc")
    run.done(Path(song), {"vocals": Path(stem)})
"""


@pytest.mark.parametrize("locale", ["C.UTF-8", "C", "POSIX", "en_US.ISO-8859-1", "nowhere"])
def test_names_of_any_bytes_are_printed_in_any_locale(locale: str) -> None:
    environment = {**os.environ, "LC_ALL": locale, "PYTHONCOERCECLOCALE": "0", "PYTHONUTF8": "0"}
    done = subprocess.run([sys.executable, "-c", PRINTS], env=environment, capture_output=True)
    assert done.returncode == 0, done.stderr
    assert done.stdout == b"gr\xfcn/\xc3\xbc\n"  # as they are, for who reads it
    assert b"\x1b" not in done.stderr
    assert b"1 of 1 done: gr" in done.stderr
