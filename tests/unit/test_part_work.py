"""The child's side of songs in parts: their stems are byte by byte those of the whole, for every model and length."""

import math
from collections import deque
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import numpy as np
import pytest

from audio_files import encode, music
from demucs_models import SIX, demucs, htdemucs, save_bag
from engine_support import loaded
from unmix.audio.music import music_of
from unmix.engine.models import LoadedModel, load_model
from unmix.engine.parts import PART_STRIDES, PartGrid
from unmix.engine.separator import Separator
from unmix.errors import EngineError, InputError
from unmix.job import SeparationOptions
from unmix_worker.messages import (
    Event,
    MakeRun,
    NoMoreRuns,
    Order,
    PartMade,
    PartsBegun,
    Progress,
    RunWanted,
    SeparationTask,
    UsePart,
)
from unmix_worker.part_work import PartWork, part_work


class Parent:
    """Lets a child make all parts by itself, in runs of two, the last run first if it is told to go `backwards`."""

    def __init__(self, *, backwards: bool = False) -> None:
        self.made: list[PartMade] = []
        self.orders_at_the_end: list[Order] = []
        self._backwards = backwards
        self._orders: deque[Order] = deque()

    def emit(self, event: Event) -> None:
        match event:
            case PartsBegun(count=count):
                runs = [MakeRun(first, min(first + 2, count)) for first in range(0, count, 2)]
                self._orders.extend(reversed(runs) if self._backwards else runs)
                self._orders.extend(self.orders_at_the_end)
            case PartMade() as made:
                self.made.append(made)

    def receive(self) -> Order:
        return self._orders.popleft()


def small(folder: Path) -> LoadedModel:
    return loaded(htdemucs(), folder)


def six_sources(folder: Path) -> LoadedModel:
    return loaded(htdemucs(sources=SIX), folder)


def bag_of_four(folder: Path) -> LoadedModel:
    weights = [[float(row == column) for column in range(4)] for row in range(4)]
    save_bag(folder, "four", {name: htdemucs(seed) for seed, name in enumerate("abcd")}, weights=weights)
    return load_model("four", model_dir=folder)


def without_windows(folder: Path) -> LoadedModel:
    return loaded(demucs(), folder)


def work_on(separator: Separator, song: Path, out: Path, format: str = "wav", **options: Any) -> PartWork | None:
    task = SeparationTask.of(SeparationOptions("small", format=format, **options), song, out, 192)
    return part_work(separator, task, None, max_seconds=math.inf, least_seconds=0)


def assert_the_same(
    separator: Separator, song: Path, folder: Path, parent: Parent, format: str = "wav", **passes: Any
) -> int:
    """Return how many parts there were."""
    work = work_on(separator, song, folder / "parts", format, **passes)
    assert work is not None
    made, peaks, heard = work.join(parent.emit, parent.receive)
    whole = separator.separate_file(song, folder / "whole", format=format, bitrate_kbps=192, **passes)
    assert {stem: path.read_bytes() for stem, path in made.stems.items()} == {
        stem: path.read_bytes() for stem, path in whole.stems.items()
    }
    assert peaks == whole.peaks
    assert music_of(heard) == music_of(whole.heard)
    for stem, of_parts in heard.items():
        assert np.array_equal(of_parts.onsets, whole.heard[stem].onsets)
        assert np.array_equal(of_parts.tones, whole.heard[stem].tones)
    assert (made.clipped, made.warnings, made.notes) == (whole.clipped, whole.warnings, whole.notes)
    return len({part.index for part in parent.made})


@pytest.mark.parametrize("make", [small, six_sources, bag_of_four, without_windows])
@pytest.mark.parametrize("backwards", [pytest.param(False, marks=pytest.mark.slow), True])
def test_stems_of_parts_are_the_bytes_of_the_whole(
    make: Callable[[Path], LoadedModel], backwards: bool, tmp_path: Path
) -> None:
    separator = Separator(make(tmp_path), backend="torch", threads=1)
    song = tmp_path / "song"
    song.write_bytes(encode("flac", music(150_001)))
    assert assert_the_same(separator, song, tmp_path, Parent(backwards=backwards)) >= 2


@pytest.mark.parametrize(
    "passes", [{"overlap": 0.1}, {"overlap": 0.7}, {"overlap": 0.6, "shifts": 2}], ids=lambda passes: str(passes)
)
def test_so_it_is_however_far_windows_overlap_and_with_shifts(passes: dict[str, Any], tmp_path: Path) -> None:
    separator = Separator(small(tmp_path), backend="torch", threads=1)
    song = tmp_path / "song"
    song.write_bytes(encode("flac", music(120_000)))
    assert assert_the_same(separator, song, tmp_path, Parent(backwards=True), **passes) >= 2


def test_the_first_part_waits_for_no_other_and_one_worker_computes_no_window_twice(tmp_path: Path) -> None:
    separator = Separator(small(tmp_path), backend="torch", threads=1)
    song = tmp_path / "song"
    song.write_bytes(encode("flac", music(150_001)))
    events: list[Event] = []
    orders: deque[Order] = deque()

    def emit(event: Event) -> None:
        events.append(event)
        if isinstance(event, PartsBegun):
            orders.extend([MakeRun(0, 1), MakeRun(1, 3), MakeRun(3, event.count)])

    work = work_on(separator, song, tmp_path / "parts")
    assert work is not None
    work.join(emit, orders.popleft)
    whole = separator.separate_file(song, tmp_path / "whole", format="wav")
    done, done_when_made = 0, []
    for event in events:
        if isinstance(event, Progress):
            done = event.done
        elif isinstance(event, PartMade):
            done_when_made.append(done)
    assert done_when_made[0] == PART_STRIDES
    # A part is told of before the one behind it is whole, in a long run too.
    assert all(done <= PART_STRIDES * (index + 1) + 1 for index, done in enumerate(done_when_made))
    assert done == whole.segments


def test_what_there_is_not_is_refused_of_a_song_in_parts_too(tmp_path: Path) -> None:
    separator = Separator(small(tmp_path), backend="torch", threads=1)
    song = tmp_path / "song"
    song.write_bytes(encode("flac", music(60_000)))
    for wrong in ({"overlap": 1.0}, {"shifts": 6}):
        with pytest.raises(InputError, match="from"):
            work_on(separator, song, tmp_path / "parts", **wrong)
        with pytest.raises(InputError, match="from"):
            separator.separate_file(song, tmp_path / "whole", **wrong)


@pytest.mark.parametrize("format", ["mp3", "flac", "m4a", "opus", "ogg", "stem.mp4"])
def test_so_it_is_in_every_format(format: str, tmp_path: Path) -> None:
    separator = Separator(small(tmp_path), backend="torch", threads=1)
    song = tmp_path / "song"
    song.write_bytes(encode("mp3", music(120_000), title="Song", artist="Somebody"))
    assert_the_same(separator, song, tmp_path, Parent(backwards=True), format)
    made = list((tmp_path / "parts").glob(f"*.{format}"))
    assert made
    assert all(b"Somebody" in path.read_bytes() for path in made)


@pytest.mark.parametrize("options", [{"format": "wav"}, {"format": "flac", "bits": 24}], ids=lambda it: it["format"])
def test_so_it_is_in_the_rate_of_the_song(options: dict[str, Any], tmp_path: Path) -> None:
    separator = Separator(small(tmp_path), backend="torch", threads=1)
    song = tmp_path / "song"
    song.write_bytes(encode("flac", music(130_001, sample_rate=48_000), sample_rate=48_000, title="Song"))
    assert assert_the_same(separator, song, tmp_path, Parent(backwards=True), song_rate=True, **options) >= 2


@pytest.mark.parametrize(("parts", "more"), [(0, 1), (1, -1), (1, 0), (1, 1), (2, -1), (2, 0), (2, 1)])
def test_so_it_is_for_songs_that_end_with_a_part_or_a_sample_beside(parts: int, more: int, tmp_path: Path) -> None:
    separator = Separator(small(tmp_path), backend="torch", threads=1)
    grid = PartGrid.of(separator, 1)
    assert grid is not None
    samples = parts * grid.length + more
    song = tmp_path / "song"
    song.write_bytes(encode("flac", music(samples)))
    assert assert_the_same(separator, song, tmp_path, Parent()) == math.ceil(samples / grid.length)


def test_joining_what_others_made_gives_the_same_bytes_and_shows_that_it_gets_on(tmp_path: Path) -> None:
    separator = Separator(small(tmp_path), backend="torch", threads=1)
    song = tmp_path / "song"
    song.write_bytes(encode("flac", music(150_001)))
    helping, helper = work_on(separator, song, tmp_path / "helper"), Parent()
    assert helping is not None
    helper.orders_at_the_end.append(NoMoreRuns())
    helping.help(helper.emit, helper.receive)

    joining, events = work_on(separator, song, tmp_path / "parts"), list[Event]()
    found = deque(UsePart(made.index, made.files, made.clipped) for made in reversed(helper.made))
    count = len(found)
    assert joining is not None
    joined, _, heard = joining.join(events.append, found.popleft)
    whole = separator.separate_file(song, tmp_path / "whole", format="wav")
    assert [path.read_bytes() for path in joined.stems.values()] == [path.read_bytes() for path in whole.stems.values()]
    assert np.array_equal(heard["vocals"].onsets, whole.heard["vocals"].onsets)
    assert sum(isinstance(event, Progress) for event in events) == count


def test_there_is_no_grid_for_a_model_of_another_rate() -> None:
    """It hears the song as a whole."""
    separator = SimpleNamespace(model=SimpleNamespace(sample_rate=22_050))
    assert PartGrid.of(cast(Separator, separator), 1_000_000) is None


def test_a_song_that_changes_while_it_is_read_leaves_no_stem(tmp_path: Path) -> None:
    separator = Separator(small(tmp_path), backend="torch", threads=1)
    song = tmp_path / "song"
    song.write_bytes(encode("flac", music(150_001)))
    work, parent = work_on(separator, song, tmp_path / "out"), Parent(backwards=True)
    assert work is not None

    def emit(event: Event) -> None:
        parent.emit(event)
        if isinstance(event, RunWanted) and parent.made:
            song.write_bytes(encode("flac", music(20_000)))

    with pytest.raises(EngineError):
        work.join(emit, parent.receive)
    assert not list((tmp_path / "out").glob("*.*"))
