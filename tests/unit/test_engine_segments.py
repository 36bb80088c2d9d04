"""The stream of segments is what `demucs.apply.apply_model` gives, whatever the length, the chunks and the model."""

import subprocess
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping
from fractions import Fraction
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import torch
from demucs.apply import BagOfModels
from torch import Tensor

from demucs_models import demucs, full_htdemucs, hdemucs, htdemucs, save_ft, save_mdx
from engine_support import engine_of, estimated, loaded, mixture_of, reference
from unmix.engine.backends import Backend, Precision
from unmix.engine.estimators import Estimator, TorchEstimator
from unmix.engine.models import load_model
from unmix.engine.passes import Passes
from unmix.engine.sdr import sdr_db
from unmix.engine.segments import Plan, SegmentStream, separate_windows
from unmix.errors import EngineError

SEGMENT = 11_025  # of `htdemucs()`
STRIDE = int(0.75 * SEGMENT)


def estimators_of(bag: BagOfModels) -> list[TorchEstimator]:
    return [TorchEstimator(model, device="cpu", bf16=False) for model in bag.models]


def stream(bag: BagOfModels, mixture: Tensor, **how: Any) -> Tensor:
    return estimated(estimators_of(bag), bag, mixture, **how)


def segments_of(bag: BagOfModels, samples: int, sources: list[int]) -> SegmentStream:
    return SegmentStream(estimators_of(bag), bag.weights, samples, sources)


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


@pytest.mark.parametrize("overlap", [0.1, 0.5, 0.6, 0.75])
@pytest.mark.parametrize("samples", [1, SEGMENT - 1, SEGMENT + 1, 44_444])
def test_every_overlap_comes_out_as_from_apply_model(samples: int, overlap: float) -> None:
    bag, mixture, passes = BagOfModels([htdemucs()]), mixture_of(samples), Passes(overlap)
    estimates = stream(bag, mixture, passes=passes)
    assert sdr_db(reference(bag, mixture, passes).numpy(), estimates.numpy()) > 100
    if samples > SEGMENT:  # else there is little to overlap
        assert sdr_db(estimates.numpy(), stream(bag, mixture).numpy()) < 60


@pytest.mark.parametrize("overlap", [0.25, 0.6])
@pytest.mark.parametrize("shifts", [1, 3])
@pytest.mark.parametrize("samples", [1, 999, SEGMENT, 60_001])
def test_shifts_come_out_as_from_apply_model(samples: int, shifts: int, overlap: float) -> None:
    bag, mixture, passes = BagOfModels([htdemucs()]), mixture_of(samples), Passes(overlap, shifts, seed="a song")
    estimates = stream(bag, mixture, passes=passes)
    assert estimates.shape == (4, 2, samples)
    assert sdr_db(reference(bag, mixture, passes).numpy(), estimates.numpy()) > 100


def test_shifts_of_other_classes_and_of_bags_come_out_as_from_apply_model(tmp_path: Path) -> None:
    save_mdx(tmp_path)
    mixed = BagOfModels([htdemucs(0), hdemucs(1, segment=0.3), htdemucs(2, segment=Fraction(2, 5))])
    passes, mixture = Passes(0.4, 2, seed="a song"), mixture_of(60_001)
    for bag in (mixed, load_model("mdx", model_dir=tmp_path).module, BagOfModels([demucs()])):
        assert sdr_db(reference(bag, mixture, passes).numpy(), stream(bag, mixture, passes=passes).numpy()) > 100


def test_shifts_follow_from_the_song_and_differ_for_every_pass_and_model() -> None:
    passes = Passes(shifts=5, seed="a song")
    drawn = [passes.silences(model, 44_100) for model in range(4)]
    assert drawn == [Passes(0.5, 5, "a song").silences(model, 44_100) for model in range(4)]
    assert len({silence for silences in drawn for silence in silences}) == 20
    assert all(0 <= silence <= 22_050 for silences in drawn for silence in silences)
    assert drawn != [Passes(shifts=5, seed="another").silences(model, 44_100) for model in range(4)]
    assert drawn[0] == (13_252, 11_529, 2_420, 10_990, 4_441)  # for ever, or a song would not give what it gave


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


REGIONS = [
    range(100_003),
    range(1),
    range(50_000, 50_001),
    range(3 * STRIDE, 4 * STRIDE),
    range(3 * STRIDE - 1, 4 * STRIDE + 1),
    range(SEGMENT, SEGMENT + 1),
    range(20_000, 77_777),
    range(99_000, 100_003),
    range(0, 30_000),
]


@cache
def whole(passes: Passes | None = None) -> Tensor:
    """The estimates of the whole song, of which regions are asked."""
    return stream(BagOfModels([htdemucs()]), mixture_of(100_003), passes=passes)


@pytest.mark.parametrize("region", REGIONS, ids=lambda region: f"{region.start}-{region.stop}")
def test_a_region_comes_out_bit_by_bit_as_from_the_whole_song(region: range) -> None:
    bag, mixture = BagOfModels([htdemucs()]), mixture_of(100_003)
    part = stream(bag, mixture, region=region)
    assert torch.equal(part, whole()[..., region.start : region.stop])


@pytest.mark.parametrize("region", REGIONS, ids=lambda region: f"{region.start}-{region.stop}")
def test_so_it_does_of_windows_that_overlap_far_and_are_shifted(region: range) -> None:
    bag, mixture, passes = BagOfModels([htdemucs()]), mixture_of(100_003), Passes(0.7, 3, seed="a song")
    part = stream(bag, mixture, region=region, passes=passes)
    assert torch.equal(part, whole(passes)[..., region.start : region.stop])


@pytest.mark.parametrize(("save", "name"), [(save_ft, "htdemucs_ft"), (save_mdx, "mdx")])
@pytest.mark.parametrize("region", [range(20_000, 40_001), range(99_000, 100_003)], ids=["middle", "end"])
def test_a_region_comes_out_of_a_bag_as_from_the_whole_song(
    save: Callable[[Path], None], name: str, region: range, tmp_path: Path
) -> None:
    save(tmp_path)
    bag, mixture = load_model(name, model_dir=tmp_path).module, mixture_of(100_003)
    part = stream(bag, mixture, region=region)
    assert torch.equal(part, stream(bag, mixture)[..., region.start : region.stop])


def test_only_the_windows_that_touch_a_region_are_separated() -> None:
    bag = BagOfModels([htdemucs()])

    def windows(region: range) -> int:
        return len(SegmentStream(estimators_of(bag), bag.weights, 100 * STRIDE, range(4), region))

    assert windows(range(100 * STRIDE)) == 100
    assert windows(range(0, 1)) == 1
    assert windows(range(SEGMENT, 2 * STRIDE)) == 1  # where no other window reaches
    assert windows(range(2 * STRIDE, 2 * STRIDE + 1)) == 2  # where two overlap
    assert windows(range(50 * STRIDE, 53 * STRIDE)) == 4


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


def separated(estimator: Estimator, mixture: Tensor, indexes: Iterable[int]) -> dict[int, Tensor]:
    """Separate the windows with these indexes, one after the other."""
    plan = Plan(estimator.model, mixture.shape[-1])
    results = {}
    for index in indexes:
        window = plan.window(index)
        inside = mixture[:, max(0, window.start) : window.stop]
        left = max(0, -window.start)
        own = torch.nn.functional.pad(inside, (left, window.span - left - inside.shape[-1]))
        with torch.inference_mode():
            (results[index],) = separate_windows(estimator, [own], [window], range(4))
    return results


def merged(plan: Plan, windows: Mapping[int, Tensor]) -> Tensor:
    """Add overlapping windows up to the estimates of the whole song, (sources, channels, time)."""
    half = plan.segment // 2
    rising, falling = torch.arange(1, half + 1), torch.arange(plan.segment - half, 0, -1)
    triangle = torch.cat([rising, falling]) / (plan.segment - half)
    total, weight = torch.zeros(4, 2, plan.total), torch.zeros(plan.total)
    for index in range(len(plan)):
        window = plan.window(index)
        there = slice(window.offset, window.offset + window.length)
        total[..., there] += triangle[: window.length] * windows[index]
        weight[there] += triangle[: window.length]
    return total / weight


ENGINES: list[tuple[Backend, Precision]] = [("torch", "exact"), ("openvino", "exact"), ("openvino", "fast")]


@pytest.mark.parametrize(("backend", "precision"), ENGINES)
def test_windows_separated_in_any_order_add_up_to_the_very_bits_of_the_stream(
    backend: Backend, precision: Precision, tmp_path: Path, cache_dir: Path
) -> None:
    model, mixture = loaded(htdemucs(), tmp_path), mixture_of(70_001)
    (estimator,) = engine_of(model, cache_dir, backend=backend, precision=precision).estimators
    plan = Plan(estimator.model, 70_001)
    windows = separated(estimator, mixture, reversed(range(len(plan))))
    assert torch.equal(merged(plan, windows), estimated([estimator], model.module, mixture))


PROGRAM = """
import sys
from pathlib import Path
import torch
from engine_support import engine_of, mixture_of
from unmix.engine.models import load_model
from test_engine_segments import ENGINES, separated
folder, cache_dir, samples, first, last = Path(sys.argv[1]), Path(sys.argv[2]), *map(int, sys.argv[3:])
model = load_model("small", model_dir=folder)
for backend, precision in ENGINES:
    (estimator,) = engine_of(model, cache_dir, backend=backend, precision=precision).estimators
    torch.save(separated(estimator, mixture_of(samples), range(first, last)), folder / f"{backend}-{precision}")
"""


@pytest.mark.slow
def test_ranges_of_windows_separated_in_different_processes_add_up_to_the_very_bits_of_the_stream(
    tmp_path: Path, cache_dir: Path
) -> None:
    model, mixture = loaded(htdemucs(), tmp_path), mixture_of(70_001)
    folders = [str(Path(__file__).parent), str(Path(__file__).parents[1])]
    program = f"import sys; sys.path[:0] = {folders}{PROGRAM}"
    arguments = [tmp_path, cache_dir, 70_001, 3, 7]
    subprocess.run([sys.executable, "-c", program, *map(str, arguments)], check=True)
    for backend, precision in ENGINES:
        (estimator,) = engine_of(model, cache_dir, backend=backend, precision=precision).estimators
        plan = Plan(estimator.model, 70_001)
        elsewhere: dict[int, Tensor] = torch.load(tmp_path / f"{backend}-{precision}")
        assert sorted(elsewhere) == [3, 4, 5, 6]
        here = separated(estimator, mixture, [*range(7, len(plan)), 0, 1, 2])
        assert torch.equal(merged(plan, elsewhere | here), estimated([estimator], model.module, mixture))


def test_asked_sources_are_those_of_the_whole_in_the_asked_order() -> None:
    bag, mixture = BagOfModels([htdemucs()]), mixture_of(50_000)
    assert torch.equal(stream(bag, mixture, sources=[3, 0]), stream(bag, mixture)[[3, 0]])


def test_a_model_without_weight_in_the_asked_sources_is_not_run(tmp_path: Path) -> None:
    save_ft(tmp_path)
    bag = load_model("htdemucs_ft", model_dir=tmp_path).module
    mixture = mixture_of(50_000)
    assert len(segments_of(bag, 50_000, [2])) * 4 == len(segments_of(bag, 50_000, [0, 1, 2, 3]))
    assert torch.equal(stream(bag, mixture, sources=[2])[0], stream(bag, mixture)[2])


def test_a_long_song_needs_no_more_of_its_mixture_and_estimates_at_a_time_than_a_short_one() -> None:
    def most_held(samples: int) -> int:
        """Return most samples of the song that were read and not handed on yet."""
        bag, passes = BagOfModels([htdemucs()]), Passes(0.5, 2, seed="a song")
        segments = SegmentStream(estimators_of(bag), bag.weights, samples, [0], passes=passes)
        read = given = most = 0

        def chunks() -> Iterator[Tensor]:
            nonlocal read, most
            for chunk in mixture_of(samples).split(1_000, dim=-1):
                read += chunk.shape[-1]
                most = max(most, read - given)
                yield chunk

        with torch.inference_mode():
            for mixture, _ in segments.estimates(chunks(), lambda done: None):
                given += mixture.shape[-1]
        return most

    assert most_held(20 * SEGMENT) <= most_held(5 * SEGMENT) + 1_000 <= 3 * SEGMENT


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
