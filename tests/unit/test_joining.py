"""Stems that are joined of parts: the very bytes of those that were encoded at once, in whatever order parts come."""

import queue
import random
import threading
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from audio_files import FORMATS, music
from unmix.audio.encode import StemWriter
from unmix.audio.joining import Joiner, stem_threads
from unmix.errors import EngineError

STEMS = ("vocals", "drums")
LENGTHS = (50_000, 50_000, 50_000, 50_000, 7)
WRITTEN = [*((format, 16) for format in FORMATS), ("wav", 24), ("flac", 24)]

Pcm = NDArray[np.int16] | NDArray[np.int32]


def rounded(samples: NDArray[np.float32], bits: int) -> Pcm:
    if bits == 16:
        return np.rint(samples * 32_767).astype(np.int16)
    return np.rint(samples * 8_388_607).astype(np.int32) << 8


@pytest.fixture
def parts(bits: int) -> list[list[Pcm]]:
    """The samples of each stem, part by part."""
    stems = [rounded(music(sum(LENGTHS)) * gain, bits) for gain in (0.9, 0.5)]
    ends = np.cumsum(LENGTHS)
    return [[stem[:, end - length : end] for stem in stems] for length, end in zip(LENGTHS, ends, strict=True)]


def files_of(part: list[Pcm], index: int, bits: int, folder: Path) -> dict[str, Path]:
    """Write a part as FLACs."""
    paths = {}
    for stem, pcm in zip(STEMS, part, strict=True):
        paths[stem] = folder / f"{index}.{stem}.flac"
        writer = StemWriter(paths[stem], format="flac", bits=bits)
        writer.write_pcm(pcm, clipped=0)
        writer.close()
    return paths


@pytest.mark.parametrize(("format", "bits"), WRITTEN)
@pytest.mark.parametrize("seed", range(3))
def test_parts_join_to_the_same_bytes_however_they_come(
    format: str, bits: int, seed: int, parts: list[list[Pcm]], tmp_path: Path
) -> None:
    at_once = {}
    for number, stem in enumerate(STEMS):
        writer = StemWriter(tmp_path / f"whole-{stem}", format=format, bits=bits)
        writer.write_pcm(np.concatenate([part[number] for part in parts], axis=1), clipped=len(parts))
        writer.close()
        at_once[stem] = writer.path.read_bytes()
    writers = {stem: StemWriter(tmp_path / f"joined-{stem}", format=format, bits=bits) for stem in STEMS}
    chance = random.Random(seed)
    order = chance.sample(range(len(parts)), len(parts))
    clipped = dict.fromkeys(STEMS, 1)
    joined: list[int] = []
    with stem_threads(STEMS) as threads, Joiner(writers, len(parts), threads, joined.append) as joiner:
        for index in order:
            assert not joiner.is_whole
            if joiner.takes(index) and chance.random() < 0.5:
                half = parts[index][0].shape[1] // 2
                joiner.add([stem[:, :half] for stem in parts[index]], clipped, ends_part=False)
                assert not joiner.is_whole
                joiner.add([stem[:, half:] for stem in parts[index]], dict.fromkeys(STEMS, 0), ends_part=True)
            else:
                files = files_of(parts[index], index, bits, tmp_path)
                samples = parts[index][0].shape[1]
                joiner.add_files(index, files, clipped, samples=samples)
                joiner.add_files(index, files, clipped, samples=samples)  # as when two workers made it
        assert joiner.is_whole
        joiner.wait()
    assert joined == [1, 2, 3, 4, 5]
    for stem, writer in writers.items():
        writer.close()
        assert writer.path.read_bytes() == at_once[stem]
        assert writer.clipped == len(parts)
    assert not list(tmp_path.glob("*.flac"))


def test_whoever_adds_files_does_not_wait_for_those_before_and_samples_do_not_wait_for_them(
    tmp_path: Path,
) -> None:
    part = [rounded(music(5_000), 16), rounded(music(5_000), 16)]
    free = threading.Event()

    class Slow(StemWriter):
        def write(self, samples: NDArray[np.float32]) -> None:
            free.wait()
            super().write(samples)

    writers = {stem: Slow(tmp_path / stem, format="wav") for stem in STEMS}
    clipped = dict.fromkeys(STEMS, 0)
    joined: queue.SimpleQueue[int] = queue.SimpleQueue()
    with stem_threads(STEMS) as threads, Joiner(writers, 5, threads, joined.put) as joiner:
        joiner.add(part, clipped, ends_part=True)
        assert joiner.takes(1)
        for index in (1, 2, 3):
            joiner.add_files(index, files_of(part, index, 16, tmp_path), clipped, samples=5_000)
        assert not joiner.takes(4)
        free.set()
        assert [joined.get(timeout=60) for _ in range(4)] == [1, 2, 3, 4]
        joiner.wait()
        assert joiner.takes(4)
        joiner.add(part, clipped, ends_part=True)
        joiner.wait()
    for writer in writers.values():
        writer.close()
        assert writer.samples == 25_000


@pytest.fixture
def writers(tmp_path: Path) -> Iterator[dict[str, StemWriter]]:
    """Writers of stems that come to nothing."""
    writers = {stem: StemWriter(tmp_path / stem, format="wav") for stem in STEMS}
    yield writers
    for writer in writers.values():
        writer.discard()


@pytest.mark.parametrize("damage", ["no FLAC", "another length"])
def test_a_part_that_is_none_is_told_of_and_nothing_is_put_behind_what_is_missing(
    damage: str, writers: dict[str, StemWriter], tmp_path: Path
) -> None:
    part = [rounded(music(5_000), 16), rounded(music(5_000), 16)]
    clipped = dict.fromkeys(STEMS, 0)
    joined: list[int] = []
    with stem_threads(STEMS) as threads, Joiner(writers, 4, threads, joined.append) as joiner:
        for index in (3, 2, 1):
            files = files_of(part, index, 16, tmp_path)
            if index == 1 and damage == "no FLAC":
                files["drums"].write_bytes(b"noise")
            joiner.add_files(index, files, clipped, samples=5_000 + (index == 1 and damage == "another length"))
        joiner.add(part, clipped, ends_part=True)
        with pytest.raises(EngineError) as caught:
            joiner.wait()
    assert (caught.value.code, caught.value.retryable) == ("part_damaged", True)
    assert joined == [1]


def test_what_goes_wrong_when_a_part_is_told_of_ends_the_joining(
    writers: dict[str, StemWriter], tmp_path: Path
) -> None:
    part = [rounded(music(5_000), 16), rounded(music(5_000), 16)]

    class LeftError(Exception):
        """What a song is left with that nobody wants any more."""

    def leave(_: int) -> None:
        raise LeftError

    with stem_threads(STEMS) as threads, Joiner(writers, 3, threads, leave) as joiner:
        files = [files_of(part, index, 16, tmp_path) for index in range(3)]
        for index in (2, 1, 0):  # the first one comes last: none goes on before
            joiner.add_files(index, files[index], dict.fromkeys(STEMS, 0), samples=5_000)
        with pytest.raises(LeftError):
            joiner.wait()
    assert files[2]["drums"].exists()  # nobody reads it any more
