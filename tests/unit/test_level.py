"""The level of a song: measured by whoever decodes it first, kept in the request, and worth a decode to the engine."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from audio_files import encode, music
from demucs_models import tiny_htdemucs
from engine_support import loaded
from unmix.audio.level import Level
from unmix.audio.probe import Probe
from unmix.audio.samples import Samples
from unmix.audio.song_reader import SongReader, measure
from unmix.engine.separator import Separator
from unmix.errors import EngineError
from unmix.job import SeparationOptions, SongLevel
from unmix.settings import Settings
from unmix_worker import child
from unmix_worker.messages import SeparationTask


@pytest.fixture(autouse=True)
def songs_are_checked_once() -> None:
    """Here they are checked each time."""


def chunks_of(song: Samples, length: int) -> list[Samples]:
    return [song[:, begin : begin + length] for begin in range(0, song.shape[1], length)]


def test_a_song_is_measured_in_chunks_as_demucs_measures_it_whole() -> None:
    song = music(100_001) + np.linspace(-0.3, 0.4, 100_001, dtype=np.float32)
    level, whole = Level.of(chunks_of(song, 7_000)), torch.from_numpy(song).double().mean(0)
    assert level.samples == 100_001
    assert level.mean == pytest.approx(float(whole.mean()), abs=1e-12)
    assert level.std == pytest.approx(float(whole.std()) + 1e-8, rel=1e-12)


@pytest.fixture(params=["mp3", "opus"])
def song(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    """A song of several chunks, one of them resampled."""
    sample_rate = 48_000 if request.param == "opus" else 44_100
    path = tmp_path / "song"
    path.write_bytes(encode(request.param, music(200_001, sample_rate=sample_rate), sample_rate=sample_rate))
    return path


def test_the_check_of_an_upload_measures_the_very_bits_of_the_engine(song: Path) -> None:
    probe = Probe(min_seconds=0.1, max_seconds=60, limit_seconds=30, cpu_seconds=30, memory_mb=1024)
    level = measure(song).level
    assert probe.check(song).level == level
    assert replace(level, own_rate=0, own_samples=0) == Level.of(SongReader(song))


class Bench:
    """A separator that counts how often it decodes."""

    def __init__(self, separator: Separator, folder: Path, patch: pytest.MonkeyPatch) -> None:
        self._separator = separator
        self._out = folder / "out"
        self.decodes = 0
        read = SongReader.__iter__

        def counted(reader: SongReader) -> Iterator[Samples]:
            self.decodes += 1
            return read(reader)

        patch.setattr(SongReader, "__iter__", counted)

    def stems(self, song: Path, level: Level | None) -> list[bytes]:
        self.decodes = 0
        separation = self._separator.separate_file(song, self._out, format="wav", level=level)
        return [path.read_bytes() for path in separation.stems.values()]


@pytest.fixture(scope="module")
def separator(tmp_path_factory: pytest.TempPathFactory, cache_dir: Path) -> Separator:
    return Separator(loaded(tiny_htdemucs(), tmp_path_factory.mktemp("model")), threads=1, cache_dir=cache_dir)


@pytest.fixture
def bench(separator: Separator, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Bench:
    return Bench(separator, tmp_path, monkeypatch)


def test_a_known_level_saves_a_decode_and_changes_no_bit(bench: Bench, song: Path) -> None:
    level = Level.of(SongReader(song))
    measured = bench.stems(song, None)
    assert bench.decodes == 2
    assert bench.stems(song, level) == measured
    assert bench.decodes == 1


def test_a_level_that_another_version_measured_is_not_used(bench: Bench, song: Path) -> None:
    """It may have decoded other samples of the same file, or more of them."""
    measured = bench.stems(song, None)
    assert bench.stems(song, Level(1, 0.5, 7.0, "another")) == measured
    assert bench.decodes == 2


def test_a_level_of_another_song_is_an_error(bench: Bench, song: Path) -> None:
    level = Level.of(SongReader(song))
    with pytest.raises(EngineError) as caught:
        bench.stems(song, replace(level, samples=level.samples - 1))
    assert caught.value.code == "song_changed"


def test_the_child_separates_with_the_level_of_its_task(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    told: dict[str, Any] = {}

    class Told(Exception):
        """The engine was asked."""

    def separate_file(self: Separator, song: Path, out: Path, **options: Any) -> None:
        told.update(options)
        raise Told

    monkeypatch.setattr(Separator, "separate_file", separate_file)
    separator = Separator(loaded(tiny_htdemucs(), tmp_path), backend="torch")
    known = SongLevel(3, 0.25, 0.5, "ab", 48_000, 4)
    for level, expected in ((known, Level(3, 0.25, 0.5, "ab", 48_000, 4)), (None, None)):
        task = SeparationTask.of(SeparationOptions(model="small"), tmp_path, tmp_path, 192, level=level)
        with pytest.raises(Told):
            child._as_a_whole(task, separator, Settings(), lambda event: None)
        assert told["level"] == expected
