"""Peaks: what is drawn of a stem is what is in it, however it was written."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from unmix.audio.codec_pool import CodecPool
from unmix.audio.encode import StemWriter, Writer
from unmix.audio.peaks import MOST_PAIRS, PEAK_SAMPLES, Peaks, of_song

PCM = np.random.default_rng(1).integers(-32768, 32767, (2, 5 * PEAK_SAMPLES + 17), dtype=np.int16)


def peaks_of(pcm: np.ndarray, *, start: int = 0, pieces: tuple[int, ...] = ()) -> list[int]:
    peaks = Peaks(start)
    for piece in np.split(pcm, pieces, axis=1):
        if piece.shape[1]:
            peaks.add(piece)
    return peaks.values


def naive(pcm: np.ndarray, start: int = 0) -> list[int]:
    values = []
    for pixel in range(start // PEAK_SAMPLES, (start + pcm.shape[1] - 1) // PEAK_SAMPLES + 1):
        within = pcm[:, max(0, pixel * PEAK_SAMPLES - start) : (pixel + 1) * PEAK_SAMPLES - start]
        values += [int(within.min()) >> 8, int(within.max()) >> 8]
    return values


@pytest.mark.parametrize("start", [0, 1, PEAK_SAMPLES - 1, PEAK_SAMPLES, 7 * PEAK_SAMPLES + 5])
def test_each_pair_is_the_lowest_and_the_highest_sample_of_its_stretch(start: int) -> None:
    assert peaks_of(PCM, start=start) == naive(PCM, start)


@pytest.mark.parametrize("pieces", [(1,), (PEAK_SAMPLES,), (100, 200, 4500, 9000), tuple(range(0, 22_000, 999))])
def test_pieces_change_nothing(pieces: tuple[int, ...]) -> None:
    assert peaks_of(PCM, pieces=pieces) == peaks_of(PCM)


def test_all_kinds_of_samples_have_the_same_peaks() -> None:
    assert peaks_of(PCM.astype(np.int32) << 16) == peaks_of(PCM)
    assert peaks_of(PCM.astype(np.float32) / 32768) == peaks_of(PCM)


def test_a_long_song_gets_a_coarser_drawing_of_the_same_extremes() -> None:
    values = [value for pair in range(MOST_PAIRS + 1) for value in (-pair % 128 - 128, pair % 128)]
    document = of_song({"vocals": values, "drums": values[:4]})
    assert document["samples_per_pixel"] == 2 * PEAK_SAMPLES
    vocals = document["stems"]["vocals"]
    assert len(vocals) == MOST_PAIRS + 2
    assert vocals[:2] == [min(values[0], values[2]), max(values[1], values[3])]
    assert document["stems"]["drums"] == [min(values[0], values[2]), max(values[1], values[3])]


def test_beats_go_with_the_peaks_to_the_millisecond() -> None:
    assert of_song({}, (0.0, 0.50049, 1.25))["beats"] == [0.0, 0.5, 1.25]
    assert of_song({})["beats"] == []


@pytest.mark.parametrize("format", ["mp3", "wav", "flac"])
def test_a_writer_knows_the_peaks_of_what_it_wrote_here_and_in_another_process(format: str, tmp_path: Path) -> None:
    writers: list[Callable[..., Writer]] = [StemWriter, CodecPool(1).writer]
    for number, open_writer in enumerate(writers):
        writer = open_writer(tmp_path / f"{number}.{format}", format=format)
        writer.write(PCM.astype(np.float32) / np.float32(32768))
        writer.close()
        assert writer.peaks == peaks_of(PCM)
