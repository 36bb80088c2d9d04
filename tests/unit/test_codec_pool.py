"""Decoding and encoding in other processes: the same samples, the same files, the same errors."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from audio_files import encode, music, png
from unmix.audio.codec_pool import CodecPool
from unmix.audio.encode import StemWriter
from unmix.audio.song_reader import SongReader
from unmix.audio.tags import Tags
from unmix.errors import AudioError, EngineError


@pytest.fixture
def pool() -> CodecPool:
    return CodecPool(2)


@pytest.fixture
def song(tmp_path: Path) -> Path:
    path = tmp_path / "song.mp3"
    path.write_bytes(encode("mp3", music(200_000)))
    return path


def written(make: Callable[..., Any], path: Path, format: str) -> bytes:
    writer = make(path, format=format, tags=Tags({"title": "Söng"}, png(5_000)))
    samples = 20 * music(50_000)
    for part in (samples[:, :10_000], samples[:, 10_000:10_000], samples[:, 10_000:]):
        writer.write(part)
    writer.write_pcm(np.ones((2, 500), np.int16), clipped=3)
    writer.close()
    assert writer.samples == 50_500
    assert writer.clipped > 3
    return path.read_bytes()


def test_a_song_has_the_same_samples_and_facts_as_often_as_it_is_read(pool: CodecPool, song: Path) -> None:
    expected = SongReader(song)
    chunks = list(expected)
    reader = pool.reader(song)
    for _ in range(2):
        found = list(reader)
        assert all(map(np.array_equal, found, chunks))
        assert len(found) == len(chunks)
        assert reader.info == expected.info


@pytest.mark.parametrize("format", ["mp3", "wav", "flac", "m4a", "opus", "ogg"])
def test_a_stem_has_the_same_bytes(pool: CodecPool, tmp_path: Path, format: str) -> None:
    assert written(pool.writer, tmp_path / "pooled", format) == written(StemWriter, tmp_path / "own", format)


def test_what_is_wrong_with_a_song_is_told_as_it_is(pool: CodecPool, song: Path, tmp_path: Path) -> None:
    (tmp_path / "junk").write_text("this is not music " * 100)
    for reader, code in ((pool.reader(tmp_path / "junk"), "not_audio"), (pool.reader(song, max_seconds=1), "too_long")):
        with pytest.raises(AudioError) as caught:
            list(reader)
        assert (caught.value.code, caught.value.retryable) == (code, False)


def test_a_file_that_cannot_be_written_is_told_as_it_is(pool: CodecPool, tmp_path: Path) -> None:
    with pytest.raises(EngineError) as caught:
        pool.writer(tmp_path / "no such folder" / "stem.wav", format="wav")
    assert (caught.value.code, caught.value.retryable) == ("write_failed", True)


def test_a_stem_that_is_discarded_leaves_nothing(pool: CodecPool, tmp_path: Path) -> None:
    writer = pool.writer(tmp_path / "stem.mp3", format="mp3")
    writer.write(music(5_000))
    writer.discard()
    assert list(tmp_path.iterdir()) == []


def test_a_process_that_dies_costs_what_was_open_in_it_and_nothing_later(song: Path, tmp_path: Path) -> None:
    pool = CodecPool(1)
    chunks = iter(pool.reader(song))
    next(chunks)
    writer = pool.writer(tmp_path / "stem.wav", format="wav")
    running = pool._processes[0]._running
    assert running is not None
    os.kill(running.pid, signal.SIGKILL)
    running.wait()
    for step in (lambda: next(chunks), lambda: writer.write(music(5_000))):
        with pytest.raises(EngineError) as caught:
            step()
        assert (caught.value.code, caught.value.retryable) == ("codec_died", True)
    writer.discard()
    assert [path.name for path in tmp_path.iterdir()] == ["song.mp3"]
    assert sum(chunk.shape[1] for chunk in pool.reader(song)) == 200_000


def test_the_processes_end_with_the_one_that_started_them(song: Path) -> None:
    program = """
import os, sys
from pathlib import Path
from unmix.audio.codec_pool import CodecPool
pool = CodecPool(1)
next(iter(pool.reader(Path(sys.argv[1]))))
print(pool._processes[0]._running.pid, flush=True)
os._exit(1)
"""
    run = subprocess.run([sys.executable, "-c", program, str(song)], stdout=subprocess.PIPE, text=True)
    process = Path("/proc") / run.stdout.strip()
    while process.exists():
        time.sleep(0.01)
