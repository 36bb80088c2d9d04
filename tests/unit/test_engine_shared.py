"""Several songs at once on one estimator: each comes out as alone, and their windows share batches."""

import threading
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from demucs.apply import BagOfModels
from torch import Tensor

from audio_files import encode, music
from demucs_models import htdemucs
from engine_support import estimated, loaded, mixture_of
from unmix.audio.encode import StemWriter
from unmix.engine.device_estimator import DeviceEstimator
from unmix.engine.sdr import sdr_db
from unmix.engine.separator import Separator
from unmix.engine.shared import SharedEstimator
from unmix.engine.transfer import rounded
from unmix.errors import EngineError


class Gated:
    """An estimator that waits, with its first batch, until told to go on, and notes the batches that it gets."""

    def __init__(self, model: Any, batch: int) -> None:
        self._estimator = DeviceEstimator(model, device="cpu", bf16=False)
        self._estimator.batch = self.batch = batch
        self.model, self.device = model, self._estimator.device
        self.entered, self.go_on = threading.Event(), threading.Event()
        self.batches: list[tuple[int, list[int]]] = []
        self.fails = False

    def __call__(self, mixtures: Tensor, sources: Sequence[int]) -> Tensor:
        self.batches.append((len(mixtures), list(sources)))
        self.entered.set()
        assert self.go_on.wait(60)
        if self.fails:
            raise EngineError("injected")
        return self._estimator(mixtures, sources)


def test_songs_at_once_come_out_as_alone() -> None:
    model = htdemucs()
    bag, mixtures = BagOfModels([model]), [mixture_of(samples) for samples in (40_001, 70_001, 9_000)]
    estimator = DeviceEstimator(model, device="cpu", bf16=False)
    estimator.batch = 3
    alone = [estimated([estimator], bag, mixture) for mixture in mixtures]
    shared = SharedEstimator(estimator)
    with ThreadPoolExecutor(3) as threads:
        together = list(threads.map(lambda mixture: estimated([shared], bag, mixture), mixtures))
    for one, other in zip(alone, together, strict=True):
        assert sdr_db(one.numpy(), other.numpy()) > 100


def asked(shared: SharedEstimator, windows: Tensor, sources: Sequence[int]) -> Tensor:
    with torch.inference_mode():
        return shared(windows, sources)


def test_windows_of_songs_that_wait_share_a_batch_whatever_sources_they_need() -> None:
    gated = Gated(htdemucs(), batch=4)
    shared = SharedEstimator(gated)
    windows = torch.randn(5, 2, 11_025, generator=torch.Generator().manual_seed(0))
    with ThreadPoolExecutor(3) as threads:
        first = threads.submit(asked, shared, windows[:1], [3])
        assert gated.entered.wait(60)
        others = [threads.submit(asked, shared, *each) for each in ((windows[1:3], [2, 0]), (windows[3:], [3]))]
        while len(shared._waiting) < 4:
            pass
        gated.go_on.set()
        results = [first.result(), *(other.result() for other in others)]
    assert gated.batches == [(1, [3]), (4, [0, 2, 3])]
    with torch.inference_mode():
        expected = gated._estimator(windows, range(4))
    for result, part in zip(results, (expected[:1, [3]], expected[1:3, [2, 0]], expected[3:, [3]]), strict=True):
        assert result.shape == part.shape
        assert sdr_db(part.flatten(0, 2).numpy(), result.flatten(0, 2).numpy()) > 100


def test_a_failure_reaches_every_song_in_the_batch_and_no_later_one() -> None:
    gated = Gated(htdemucs(), batch=4)
    gated.fails = True
    shared = SharedEstimator(gated)
    windows = torch.zeros(2, 2, 11_025)
    with ThreadPoolExecutor(3) as threads:
        songs = [threads.submit(asked, shared, windows, [0])]
        assert gated.entered.wait(60)
        songs += [threads.submit(asked, shared, windows, [0]) for _ in range(2)]
        while len(shared._waiting) < 4:
            pass
        gated.go_on.set()
        for song in songs:
            with pytest.raises(EngineError, match="injected"):
                song.result()
    gated.fails = False
    assert asked(shared, windows, [0]).shape == (2, 1, 2, 11_025)


def test_files_at_once_are_those_of_one_after_the_other(tmp_path: Path, cache_dir: Path) -> None:
    songs = [tmp_path / f"{number}.flac" for number in range(3)]
    for number, song in enumerate(songs):
        song.write_bytes(encode("flac", music(30_000 + 9_001 * number)))
    model = loaded(htdemucs(), tmp_path)
    one_by_one = Separator(model, backend="torch", precision="exact", cache_dir=cache_dir)
    at_once = Separator(model, backend="torch", precision="exact", cache_dir=cache_dir, at_once=3)

    def stems(separator: Separator, song: Path, out: Path) -> list[bytes]:
        return [path.read_bytes() for path in separator.separate_file(song, out, format="wav").stems.values()]

    expected = [stems(one_by_one, song, tmp_path / "alone" / song.stem) for song in songs]
    with ThreadPoolExecutor(3) as threads:
        found = list(threads.map(lambda song: stems(at_once, song, tmp_path / "at once" / song.stem), songs))
    assert found == expected


def test_what_a_device_rounds_is_what_a_writer_rounds(tmp_path: Path) -> None:
    edges = np.array([-1.5, -1, -0.5 / 32_768, 0.5 / 32_768, 1.5 / 32_768, 32_766.5 / 32_768, 32_767.5 / 32_768, 1])
    generator = np.random.default_rng(0)
    stems = [generator.uniform(-1.1, 1.1, (2, 1_000)).astype(np.float32) for _ in range(2)]
    stems[0][:, : len(edges)] = edges
    pcm, clipped, finite = rounded([torch.from_numpy(stem) for stem in stems])
    assert finite
    for number, stem in enumerate(stems):
        writers = [StemWriter(tmp_path / f"{name}.wav", format="wav") for name in ("own", "device")]
        writers[0].write(stem)
        writers[1].write_pcm(pcm[number].numpy(), clipped=int(clipped[number]))
        for writer in writers:
            writer.close()
        assert writers[0].path.read_bytes() == writers[1].path.read_bytes()
        assert writers[0].clipped == writers[1].clipped > 0
        assert writers[0].samples == writers[1].samples == 1_000


@pytest.mark.parametrize("wrong", [float("nan"), float("inf"), float("-inf")])
def test_a_device_tells_that_samples_are_not_finite(wrong: float) -> None:
    stem = torch.zeros(2, 9)
    stem[1, 4] = wrong
    assert not rounded([torch.zeros(2, 9), stem])[2]
