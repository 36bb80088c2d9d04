"""Songs that are decoded by a process that is shut in: the same samples, the same errors, and no harm if it dies."""

import os
import signal
import subprocess
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest

from audio_files import ENCODINGS, encode, film, music, ogg_vorbis, wav
from support import command_line, eventually
from unmix.audio.confined_reader import ConfinedReader, reader_of
from unmix.audio.song_reader import SongReader, measure, measured
from unmix.errors import AudioError, EngineError


def song_of(kind: str) -> bytes:
    return encode(kind, music(100_000), sample_rate=48_000 if kind in ("opus", "webm") else 44_100)


SONGS: dict[str, Callable[[], bytes]] = {
    **{kind: partial(song_of, kind) for kind in ENCODINGS},
    "ogg": lambda: ogg_vorbis(music(100_000)),
    "wav of floats": lambda: wav(music(100_000)),
    "resampled": lambda: encode("flac", music(100_000), sample_rate=48_000),
    "mono": lambda: encode("mp3", music(100_000, channels=1), layout="mono"),
    "surround": lambda: encode("flac", music(100_000, channels=6), layout="5.1"),
    "film": lambda: film(0.5, container="matroska"),
    "cut": lambda: encode("mp3", music(400_000))[:20_000],
}


@pytest.mark.parametrize("kind", SONGS)
def test_a_song_of_any_kind_has_the_samples_and_facts_that_it_has_without_walls(kind: str, tmp_path: Path) -> None:
    song = tmp_path / "song"
    song.write_bytes(SONGS[kind]())
    plain, confined = SongReader(song), ConfinedReader(song)
    expected, found = list(plain), list(confined)
    assert len(found) == len(expected)
    assert all(map(np.array_equal, found, expected))
    assert confined.info == plain.info


def test_a_song_is_read_as_often_as_it_is_wanted_and_measured_alike(tmp_path: Path) -> None:
    song = tmp_path / "song"
    song.write_bytes(encode("mp3", music(200_000)))
    reader = ConfinedReader(song)
    with pytest.raises(RuntimeError):
        _ = reader.info
    assert measured(reader) == measured(reader) == measure(song)


@pytest.mark.parametrize(
    ("data", "code"), [(b"no song" * 100, "not_audio"), (b"#EXTM3U\nhttp://x/", "unsupported_container")]
)
def test_what_is_no_song_is_refused_as_without_walls(data: bytes, code: str, tmp_path: Path) -> None:
    song = tmp_path / "song"
    song.write_bytes(data)
    with pytest.raises(AudioError) as caught:
        list(ConfinedReader(song))
    assert caught.value.code == code


def test_a_song_that_is_too_long_too_short_or_not_there_is_refused_as_without_walls(tmp_path: Path) -> None:
    song = tmp_path / "song"
    with pytest.raises(AudioError) as caught:
        list(ConfinedReader(song))
    assert caught.value.code == "unreadable"
    song.write_bytes(encode("wav", music(100_000)))
    for reader, code in (
        (ConfinedReader(song, max_seconds=1), "too_long"),
        (ConfinedReader(song, min_seconds=10), "too_short"),
    ):
        with pytest.raises(AudioError) as caught:
            list(reader)
        assert caught.value.code == code


def decoders() -> list[psutil.Process]:
    return [process for process in psutil.Process().children() if "unmix.audio.decoder" in command_line(process)]


def test_a_decoder_ends_with_the_song_that_nobody_reads_on(tmp_path: Path) -> None:
    song = tmp_path / "song"
    song.write_bytes(encode("wav", music(2_000_000)))
    chunks = iter(ConfinedReader(song))
    next(chunks)
    assert len(decoders()) == 1
    del chunks
    assert not decoders()


def test_a_decoder_that_dies_is_an_error_that_passes_and_no_fault_of_the_song(tmp_path: Path) -> None:
    song = tmp_path / "song"
    song.write_bytes(encode("wav", music(2_000_000)))
    chunks = iter(ConfinedReader(song))
    next(chunks)
    (decoder,) = decoders()
    decoder.kill()
    with pytest.raises(EngineError) as caught:
        list(chunks)
    assert (caught.value.code, caught.value.retryable) == ("decoder_died", True)


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere it ends with its pipe")
def test_a_decoder_does_not_outlive_who_reads(tmp_path: Path) -> None:
    song = tmp_path / "song"
    song.write_bytes(encode("wav", music(2_000_000)))
    code = f"""
import time
from pathlib import Path
from unmix.audio.confined_reader import ConfinedReader
chunks = iter(ConfinedReader(Path({str(song)!r})))
next(chunks)
print(flush=True)
time.sleep(600)
"""
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE) as reader:
        try:
            assert reader.stdout is not None
            reader.stdout.readline()
            (decoder,) = psutil.Process(reader.pid).children()
            os.kill(decoder.pid, signal.SIGSTOP)  # so it cannot notice by itself
            reader.kill()
            eventually(lambda: not decoder.is_running(), "the decoder is gone too")
        finally:
            reader.kill()


@pytest.mark.parametrize(
    "says",
    [
        "",
        "la la la\\n",
        '{\\"bytes\\": 99999999999}\\n',
        '{\\"bytes\\": -1}\\n',
        '{\\"bytes\\": 0, \\"error\\": \\"__name__\\"}\\n',
        '{\\"bytes\\": 0, \\"info\\": {\\"container\\": \\"mp3\\"}}\\n',
        '{\\"bytes\\": 3}\\nabc',
        '{\\"bytes\\": 0, \\"x\\": \\"' + "y" * 1000,
    ],
    ids=["nothing", "nonsense", "too much", "too little", "no error", "no facts", "no samples", "half a line"],
)
def test_a_decoder_that_was_taken_over_can_say_nothing_that_harms(
    says: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    song = tmp_path / "song"
    song.write_bytes(b"song")
    popen = subprocess.Popen

    def impostor(_: list[str], **options: Any) -> "subprocess.Popen[bytes]":
        return popen([sys.executable, "-c", f'print("{says}", end="")'], **options)

    monkeypatch.setattr("unmix.audio.confined_reader.subprocess.Popen", impostor)
    with pytest.raises(EngineError) as caught:
        list(ConfinedReader(song))
    assert caught.value.code == "decoder_died"


def test_a_decoder_that_was_taken_over_cannot_go_on_for_ever(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    song = tmp_path / "song"
    song.write_bytes(b"song")
    code = "import sys\nwhile True: sys.stdout.buffer.write(b'{\"bytes\": 80000}\\n' + bytes(80000))"
    popen = subprocess.Popen

    def impostor(_: list[str], **options: Any) -> "subprocess.Popen[bytes]":
        return popen([sys.executable, "-c", code], **options)

    monkeypatch.setattr("unmix.audio.confined_reader.subprocess.Popen", impostor)
    with pytest.raises(EngineError) as caught:
        list(ConfinedReader(song, max_seconds=2))
    assert caught.value.code == "decoder_died"


def test_without_a_sandbox_no_process_is_started(tmp_path: Path) -> None:
    song = tmp_path / "song"
    song.write_bytes(encode("wav", music(2_000_000)))
    chunks = iter(reader_of("off")(song))
    next(chunks)
    assert not decoders()
    assert isinstance(reader_of("auto")(song), ConfinedReader)
