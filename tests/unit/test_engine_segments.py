"""The stream of segments is what `demucs.apply.apply_model` gives, whatever the length, the chunks and the model."""

from collections.abc import Callable
from fractions import Fraction
from pathlib import Path
from typing import Any

import pytest
import torch
from demucs.apply import BagOfModels, apply_model
from torch import Tensor

from audio_files import music
from demucs_models import demucs, full_htdemucs, hdemucs, htdemucs, save_ft, save_mdx
from unmix.engine.estimators import TorchEstimator
from unmix.engine.models import load_model
from unmix.engine.sdr import sdr_db
from unmix.engine.segments import Plan, SegmentStream, separate_windows
from unmix.errors import EngineError

SEGMENT = 11_025  # of `htdemucs()`
STRIDE = int(0.75 * SEGMENT)


def stream(bag: BagOfModels, mixture: Tensor, *, sources: list[int] | None = None, chunk: int = 7_001) -> Tensor:
    chosen = list(range(len(bag.sources))) if sources is None else sources
    segments = segments_of(bag, mixture.shape[-1], chosen)
    with torch.inference_mode():
        stretches = segments.estimates(mixture.split(chunk, dim=-1), lambda done: None)
        return torch.cat([estimates for _, estimates in stretches], dim=-1)


def segments_of(bag: BagOfModels, samples: int, sources: list[int]) -> SegmentStream:
    estimators = [TorchEstimator(model, device="cpu", bf16=False) for model in bag.models]
    return SegmentStream(estimators, bag.weights, samples, sources)


def reference(bag: BagOfModels, mixture: Tensor) -> Tensor:
    return apply_model(bag, mixture[None], shifts=0, split=True, overlap=0.25)[0]


def mixture_of(samples: int) -> Tensor:
    return torch.from_numpy(music(samples))


@pytest.mark.parametrize(
    "samples",
    [
        1,
        2,
        999,
        STRIDE,
        STRIDE + 1,
        SEGMENT - 1,
        SEGMENT,
        SEGMENT + 1,
        2 * STRIDE + 1,
        2 * STRIDE + SEGMENT,
        44_444,
    ],
)
def test_songs_of_every_length_come_out_as_from_apply_model(samples: int) -> None:
    bag, mixture = BagOfModels([htdemucs()]), mixture_of(samples)
    estimates = stream(bag, mixture)
    assert estimates.shape == (4, 2, samples)
    assert sdr_db(reference(bag, mixture).numpy(), estimates.numpy()) > 100


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_a_model_of_the_full_size_comes_out_as_from_apply_model() -> None:
    bag, mixture = BagOfModels([full_htdemucs()]), mixture_of(20 * 44_100 + 1)
    assert sdr_db(reference(bag, mixture).numpy(), stream(bag, mixture).numpy()) > 100


@pytest.mark.parametrize("samples", [50, 44_100, 33_076, 60_001, 100_003])
@pytest.mark.parametrize("make", [hdemucs, demucs])
def test_other_classes_of_demucs_come_out_as_from_apply_model(make: Callable[[], Any], samples: int) -> None:
    bag, mixture = BagOfModels([make()]), mixture_of(samples)
    assert sdr_db(reference(bag, mixture).numpy(), stream(bag, mixture).numpy()) > 100


@pytest.mark.parametrize(("save", "name"), [(save_ft, "htdemucs_ft"), (save_mdx, "mdx")])
def test_bags_come_out_as_from_apply_model(save: Callable[[Path], None], name: str, tmp_path: Path) -> None:
    save(tmp_path)
    bag = load_model(name, model_dir=tmp_path).module
    mixture = mixture_of(80_001)
    assert sdr_db(reference(bag, mixture).numpy(), stream(bag, mixture).numpy()) > 100


def test_models_of_different_segments_in_one_bag_are_brought_together() -> None:
    bag = BagOfModels([htdemucs(0), hdemucs(1, segment=0.3), htdemucs(2, segment=Fraction(2, 5))])
    mixture = mixture_of(90_001)
    assert sdr_db(reference(bag, mixture).numpy(), stream(bag, mixture).numpy()) > 100


def test_a_segment_set_by_the_bag_is_obeyed() -> None:
    bag = BagOfModels([htdemucs()], segment=0.1)
    assert len(segments_of(bag, 44_100, [0])) > len(segments_of(BagOfModels([htdemucs()]), 44_100, [0]))
    mixture = mixture_of(44_100)
    assert sdr_db(reference(bag, mixture).numpy(), stream(bag, mixture).numpy()) > 100


@pytest.mark.parametrize("chunk", [1_000, 65_536, 1_000_000])
def test_the_size_of_the_chunks_does_not_matter(chunk: int) -> None:
    bag, mixture = BagOfModels([htdemucs()]), mixture_of(70_001)
    assert torch.equal(stream(bag, mixture, chunk=chunk), stream(bag, mixture))


@pytest.mark.parametrize("chunk", [1_000, 90_001])
def test_every_stretch_comes_with_its_mixture(chunk: int) -> None:
    bag = BagOfModels([htdemucs(0), hdemucs(1, segment=0.3), htdemucs(2, segment=Fraction(2, 5))])
    mixture = mixture_of(90_001)
    segments = segments_of(bag, 90_001, [0, 1])
    with torch.inference_mode():
        stretches = list(segments.estimates(mixture.split(chunk, dim=-1), lambda done: None))
    assert len(stretches) > 3
    assert all(own.shape[-1] == estimates.shape[-1] for own, estimates in stretches)
    assert torch.equal(torch.cat([own for own, _ in stretches], dim=-1), mixture)


def test_windows_separated_on_their_own_in_any_order_are_those_of_the_stream() -> None:
    model, mixture = htdemucs(), mixture_of(70_001)
    estimator = TorchEstimator(model, device="cpu", bf16=False)
    plan = Plan(model, mixture.shape[-1])
    padded = torch.nn.functional.pad(mixture, (SEGMENT, SEGMENT))
    total, weight = torch.zeros(4, 2, 70_001), torch.zeros(70_001)
    triangle = torch.minimum(torch.arange(1, SEGMENT + 1), torch.arange(SEGMENT, 0, -1)).float()
    with torch.inference_mode():
        for index in reversed(range(len(plan))):
            window = plan.window(index)
            own = padded[:, window.start + SEGMENT : window.stop + SEGMENT]
            there = slice(window.offset, window.offset + window.length)
            (separated,) = separate_windows(estimator, [own], [window], range(4))
            total[..., there] += separated * triangle[: window.length]
            weight[there] += triangle[: window.length]
    assert sdr_db(stream(BagOfModels([model]), mixture).numpy(), (total / weight).numpy()) > 100


def test_asked_sources_are_those_of_the_whole_in_the_asked_order() -> None:
    bag, mixture = BagOfModels([htdemucs()]), mixture_of(50_000)
    assert torch.equal(stream(bag, mixture, sources=[3, 0]), stream(bag, mixture)[[3, 0]])


def test_a_model_without_weight_in_the_asked_sources_is_not_run(tmp_path: Path) -> None:
    save_ft(tmp_path)
    bag = load_model("htdemucs_ft", model_dir=tmp_path).module
    mixture = mixture_of(50_000)
    assert len(segments_of(bag, 50_000, [2])) * 4 == len(segments_of(bag, 50_000, [0, 1, 2, 3]))
    assert torch.equal(stream(bag, mixture, sources=[2])[0], stream(bag, mixture)[2])


def test_every_segment_is_reported_once() -> None:
    segments = segments_of(BagOfModels([htdemucs()]), 70_001, [0])
    done: list[int] = []
    with torch.inference_mode():
        list(segments.estimates(mixture_of(70_001).split(9_000, dim=-1), done.append))
    assert done == list(range(1, len(segments) + 1))


def test_stretches_are_finished_long_before_the_song_ends() -> None:
    segments = segments_of(BagOfModels([htdemucs()]), 10 * SEGMENT, [0])
    fed = 0

    def chunks() -> Any:
        nonlocal fed
        for chunk in mixture_of(10 * SEGMENT).split(1_000, dim=-1):
            fed += chunk.shape[-1]
            yield chunk

    with torch.inference_mode():
        next(segments.estimates(chunks(), lambda done: None))
    assert fed <= SEGMENT + 1_000


@pytest.mark.parametrize("samples", [49_000, 51_000])
def test_a_song_that_changes_between_two_readings_is_an_error(samples: int) -> None:
    segments = segments_of(BagOfModels([htdemucs()]), 50_000, [0])
    with torch.inference_mode(), pytest.raises(EngineError, match="changed"):
        list(segments.estimates(mixture_of(samples).split(9_000, dim=-1), lambda done: None))


def test_a_model_that_gives_no_numbers_is_an_error() -> None:
    model = htdemucs()
    with torch.no_grad():
        next(model.parameters()).fill_(float("nan"))
    with pytest.raises(EngineError, match="not finite"):
        stream(BagOfModels([model]), mixture_of(30_000))
