"""A file may hold its whole song in one block: that takes little more memory than the block, or is refused."""

import subprocess
import sys
from io import BytesIO
from pathlib import Path
from types import SimpleNamespace

import av
import av.error
import numpy as np
import pytest

from audio_files import decoded, matroska_of_one_block, music, wav
from unmix.audio import decoding
from unmix.audio.decoding import Decoding
from unmix.audio.samples import SAMPLE_RATE
from unmix.errors import AudioError

#: As much of a file's one block as is accepted, and a little less.
LARGE_MB = 60

#: Decodes a song, and prints by how many MiB the most memory that it ever had has grown over that.
PROGRAM = """
import re, sys
from pathlib import Path
from unmix.audio.song_reader import measure

def most_memory():
    return int(re.search(r"VmHWM:\\s*(\\d+)", Path("/proc/self/status").read_text())[1]) >> 10

measure(Path(sys.argv[1]))  # whatever is loaded or kept for good
before = most_memory()
info = measure(Path(sys.argv[2]))
print(info.samples, most_memory() - before)
"""


def silence(size_mb: int) -> bytes:
    return matroska_of_one_block(np.zeros((2, size_mb * 250_000), np.int16))


@pytest.mark.parametrize("channels", [1, 2, 6])
@pytest.mark.parametrize("sample_rate", [SAMPLE_RATE, 48_000])
def test_a_song_in_one_block_comes_out_as_it_does_in_many(channels: int, sample_rate: int) -> None:
    song = (music(300_001, channels=channels, sample_rate=sample_rate) * 32_767).astype(np.int16)
    in_many = wav(song, sample_rate=sample_rate)
    assert np.array_equal(decoded(matroska_of_one_block(song, sample_rate=sample_rate)), decoded(in_many))


def test_a_frame_whose_samples_lie_channel_by_channel_is_cut_as_well() -> None:
    song = music(300_001)
    frame = av.AudioFrame.from_ndarray(song, format="fltp", layout="stereo")
    frame.sample_rate = 48_000
    pieces = list(decoding._cut(frame))
    assert {piece.sample_rate for piece in pieces} == {48_000}
    assert max(piece.samples for piece in pieces) == 65_536
    assert np.array_equal(np.concatenate([piece.to_ndarray() for piece in pieces], axis=1), song)


@pytest.mark.skipif(sys.platform != "linux", reason="there is no /proc to ask")
def test_a_song_in_one_block_takes_little_more_memory_than_the_block(tmp_path: Path) -> None:
    small, large = tmp_path / "small.mkv", tmp_path / "large.mkv"
    small.write_bytes(silence(1))
    large.write_bytes(silence(LARGE_MB))
    command = [sys.executable, "-c", PROGRAM, str(small), str(large)]
    run = subprocess.run(command, capture_output=True, text=True, check=True)
    samples, growth_mb = map(int, run.stdout.split())
    assert samples == LARGE_MB * 250_000
    assert growth_mb < 3 * LARGE_MB  # the packet and its frame; each copy would be LARGE_MB more, as float twice that


def test_a_block_of_absurd_size_is_refused() -> None:
    with pytest.raises(AudioError) as caught:
        decoded(silence(100))
    assert caught.value.code == "undecodable"
    assert "block of 95 MiB" in caught.value.message


def test_too_little_memory_to_decode_is_not_taken_for_a_broken_packet(monkeypatch: pytest.MonkeyPatch) -> None:
    def decode() -> None:
        raise av.error.MemoryError(12, "Cannot allocate memory")

    song = Decoding(BytesIO(silence(1)), "matroska")
    packets = iter([SimpleNamespace(size=1, decode=decode)])
    container = SimpleNamespace(demux=lambda stream: packets, streams=SimpleNamespace(video=(), audio=()))
    monkeypatch.setattr(song, "_opened", SimpleNamespace(container=container, stream=SimpleNamespace(start_time=None)))
    with pytest.raises(MemoryError):
        list(song.chunks())
