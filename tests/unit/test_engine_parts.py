"""Parts of a song: bit by bit the whole, whoever makes which and wherever a run begins."""

import math
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import numpy as np
import pytest
import soundfile
import torch
from numpy.typing import NDArray

from support import make_song
from unmix.audio.level import Level
from unmix.audio.song_reader import SongReader
from unmix.engine.models import DEMO, load_model
from unmix.engine.parts import PartGrid, PartMaker, Piece
from unmix.engine.passes import Passes
from unmix.engine.separator import Separator
from unmix.engine.stems import plan_stems
from unmix.errors import EngineError
from unmix_worker.part_work import parts_kind

STEMS = ("vocals", "instrumental")


@pytest.fixture(scope="module")
def separator(cache_dir: Path) -> Separator:
    return Separator(load_model(DEMO), threads=1, cache_dir=cache_dir)


@pytest.fixture(scope="module")
def song(tmp_path_factory: pytest.TempPathFactory) -> Path:
    song = tmp_path_factory.mktemp("parts") / "song.wav"
    song.write_bytes(make_song(22, seed=5))
    return song


@pytest.fixture(scope="module")
def grid(separator: Separator, song: Path) -> PartGrid:
    grid = PartGrid.of(separator, Level.of(SongReader(song)).samples)
    assert grid is not None
    return grid


@pytest.fixture(scope="module", params=[16, pytest.param(24, marks=pytest.mark.slow)])
def bits(request: pytest.FixtureRequest) -> int:
    return int(request.param)


@pytest.fixture(scope="module")
def whole(
    separator: Separator, song: Path, bits: int, tmp_path_factory: pytest.TempPathFactory
) -> dict[str, NDArray[np.int32]]:
    """The stems as they are without parts, as integers."""
    made = separator.separate_file(song, tmp_path_factory.mktemp("whole"), stems=STEMS, format="wav", bits=bits)
    return {stem: soundfile.read(path, dtype="int32")[0].T for stem, path in made.stems.items()}


def make(separator: Separator, song: Path, grid: PartGrid, bits: int, first: int, count: int) -> list[list[Piece]]:
    """Make `count` parts from number `first` on."""
    plan = plan_stems(separator.model, STEMS, mixture_consistency=False)
    maker = PartMaker(separator, song, Level.of(SongReader(song)), grid, plan, Passes(), bits=bits)
    with torch.inference_mode():
        pieces = maker.pieces(first, lambda _: None)
        return list(islice(whole_parts(pieces), count))


def whole_parts(pieces: Iterator[Piece]) -> Iterator[list[Piece]]:
    part: list[Piece] = []
    for piece in pieces:
        part.append(piece)
        if piece.is_last:
            yield part
            part = []
    assert not part


def as_int32(piece: Piece, bits: int) -> NDArray[np.int32]:
    """Return a piece's samples (stems, 2, time) as soundfile reads them."""
    return np.asarray(piece.pcm.to(torch.int32) << (16 if bits == 16 else 0))


@pytest.mark.parametrize("runs", [[99], [1, 1, 2, 99]], ids=str)
def test_any_runs_of_parts_add_up_to_the_very_bits_of_the_whole(
    runs: list[int], separator: Separator, song: Path, grid: PartGrid, bits: int, whole: dict[str, NDArray[np.int32]]
) -> None:
    made: list[list[Piece]] = []
    for count in runs:
        if len(made) < len(grid):
            made += make(separator, song, grid, bits, len(made), count)
    for index, part in enumerate(made):
        assert {piece.index for piece in part} == {index}
        assert sum(piece.pcm.shape[-1] for piece in part) == len(grid.part(index))
    assert len(made) == len(grid)
    joined = np.concatenate([as_int32(piece, bits) for part in made for piece in part], axis=-1)
    for stem, samples in zip(STEMS, joined, strict=True):
        assert np.array_equal(samples, whole[stem])


def test_nothing_is_computed_for_a_part_that_nobody_asks_for(separator: Separator, song: Path, grid: PartGrid) -> None:
    windows = 0

    def count(more: int) -> None:
        nonlocal windows
        windows += more

    plan = plan_stems(separator.model, ("vocals",), mixture_consistency=False)
    maker = PartMaker(separator, song, Level.of(SongReader(song)), grid, plan, Passes(), bits=16)
    parts = whole_parts(maker.pieces(1, count))
    with torch.inference_mode():
        next(parts)
        alone = windows
        next(parts)
    assert windows - alone < alone  # a part that follows takes one window less
    assert windows < 2 * len(grid)


def test_samples_that_are_not_finite_are_no_part(separator: Separator, song: Path, grid: PartGrid) -> None:
    def stretches(*_: object) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
        """What a device gives is not looked at before it is fetched."""
        silence = torch.zeros(2, len(grid.part(0)))
        yield silence, torch.stack([silence, silence + math.nan])

    device = cast(Separator, SimpleNamespace(stretches=stretches))
    plan = plan_stems(separator.model, ("drums", "bass"), mixture_consistency=False)
    pieces = PartMaker(device, song, Level.of(SongReader(song)), grid, plan, Passes(), bits=16).pieces(
        0, lambda _: None
    )
    with pytest.raises(EngineError, match="not finite"):
        next(pieces)


def test_only_what_is_computed_alike_is_of_one_kind(separator: Separator, cache_dir: Path) -> None:
    alike = Separator(load_model(DEMO), threads=1, cache_dir=cache_dir)
    others = [
        Separator(load_model(DEMO), threads=1, backend="torch", cache_dir=cache_dir),
        SimpleNamespace(**facts_of(separator) | {"precision": "other"}),
        SimpleNamespace(**facts_of(separator) | {"model": SimpleNamespace(weights_sha256="00")}),
    ]
    kinds = [parts_kind(cast(Separator, each), Passes()) for each in (separator, *others)]
    assert parts_kind(alike, Passes()) == kinds[0]
    kinds += [parts_kind(separator, passes) for passes in (Passes(0.5), Passes(shifts=1), Passes(shifts=2))]
    assert len(set(kinds)) == len(kinds)


def facts_of(separator: Separator) -> dict[str, Any]:
    return {name: getattr(separator, name) for name in ("model", "backend", "device", "precision")}
