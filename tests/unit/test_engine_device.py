"""The path for GPUs, on the CPU: it gives what demucs gives, and no step of it waits for the device.

The device `meta` computes shapes alone: whoever asks it for a value gets an error, as a GPU would be waited for.
"""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from demucs.apply import BagOfModels
from structlog.testing import capture_logs
from torch import Tensor

from demucs_models import SIX, demucs, hdemucs, htdemucs
from engine_support import estimated, mixture_of, reference
from unmix.engine.device_estimator import DeviceEstimator
from unmix.engine.device_network import DeviceNetwork, is_device_model
from unmix.engine.hybrid import UnsupportedModelError
from unmix.engine.models import DEMO, load_model
from unmix.engine.sdr import sdr_db
from unmix.engine.segments import SegmentStream
from unmix.engine.transforms import Transforms
from unmix.errors import EngineError

CPU = torch.device("cpu")

VARIANTS: dict[str, Callable[[], Any]] = {
    "small": htdemucs,
    "six sources": lambda: htdemucs(sources=SIX),
    "all of htdemucs": lambda: htdemucs(dconv_mode=3, channels=8, dconv_comp=4, bottom_channels=16, t_layers=2),
    "attention across first": lambda: htdemucs(t_layers=2, t_cross_first=True),
    "no transformer": lambda: htdemucs(t_layers=0),
    "magnitudes": lambda: htdemucs(cac=False, wiener_iters=1, end_iters=1),
    "demo": lambda: load_model(DEMO).module.models[0],
}


@pytest.fixture(params=VARIANTS)
def make(request: pytest.FixtureRequest) -> Callable[[], Any]:
    return VARIANTS[request.param]


@pytest.fixture(autouse=True)
def inference() -> Any:
    with torch.inference_mode():
        yield


def windows(model: Any, batch: int, seed: int = 0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(batch, 2, int(model.segment * model.samplerate), generator=generator)


def snr_db(expected: Tensor, given: Tensor) -> float:
    """SNR over all windows and sources, (batch, sources, channels, time)."""
    return sdr_db(expected.flatten(0, 2).numpy(), given.flatten(0, 2).numpy())


def all_of(model: Any) -> range:
    return range(len(model.sources))


def on_cpu(model: Any, *, bf16: bool = False) -> DeviceNetwork:
    return DeviceNetwork(model, device=CPU, bf16=bf16)


def in_batches_of(batch: int, model: Any) -> DeviceEstimator:
    estimator = DeviceEstimator(model, device="cpu", bf16=False)
    estimator.batch = batch
    return estimator


@pytest.mark.parametrize("make", [htdemucs, VARIANTS["demo"]])
def test_the_transforms_give_the_very_bits_of_demucs(make: Callable[[], Any]) -> None:
    model = make()
    transforms, mixtures = Transforms(model, CPU), windows(model, 3)
    spectra = model._spec(mixtures)
    assert torch.equal(transforms.spectra(mixtures), spectra)
    waves = model._ispec(spectra, mixtures.shape[-1])
    assert torch.equal(transforms.waves(spectra.transpose(2, 3)), waves)


@pytest.mark.parametrize("batch", [1, 2, 3])
def test_a_batch_of_any_size_comes_out_as_from_demucs(make: Callable[[], Any], batch: int) -> None:
    mixtures = windows(model := make(), batch)
    expected = model(mixtures)
    assert snr_db(expected, on_cpu(model)(mixtures, all_of(model))) > 100


def test_the_windows_beside_a_window_do_not_matter(make: Callable[[], Any]) -> None:
    network = on_cpu(model := make())
    first, other = windows(model, 3), 100 * windows(model, 3, seed=1)
    other[1] = first[1]
    given, beside = (network(mixtures, all_of(model))[1:2] for mixtures in (first, other))
    assert snr_db(given, beside) > 120


def test_some_sources_are_those_of_all(make: Callable[[], Any]) -> None:
    network, mixtures = on_cpu(model := make()), windows(make(), 2)
    assert torch.equal(network(mixtures, [3, 0]), network(mixtures, all_of(model))[:, [3, 0]])


def test_in_bfloat16_the_weights_are_cast_and_the_estimates_stay_close(make: Callable[[], Any]) -> None:
    mixtures = windows(model := make(), 2)
    expected = model(mixtures)
    estimates = on_cpu(model, bf16=True)(mixtures, all_of(model))
    assert {parameter.dtype for parameter in model.parameters()} == {torch.bfloat16}
    assert estimates.dtype == torch.float32
    assert 35 < snr_db(expected, estimates) < 90


def test_no_value_on_the_device_is_asked_for(make: Callable[[], Any]) -> None:
    model = make()
    if not model.cac:
        pytest.skip("demucs' own filter of magnitudes is not ours to arrange")
    mixtures = windows(model, 2).to("meta")
    network = DeviceNetwork(model, device=torch.device("meta"), bf16=True)
    assert network(mixtures, [0]).shape == (2, 1, *mixtures.shape[1:])


def test_demucs_itself_asks_the_device_for_values() -> None:
    model = htdemucs()
    with pytest.raises((RuntimeError, NotImplementedError)):
        model.to("meta")(windows(model, 1).to("meta"))


def test_a_whole_song_is_given_to_the_device_without_asking_it_for_a_value() -> None:
    model = htdemucs()
    stream = SegmentStream([DeviceEstimator(model, device="meta", bf16=True)], [[1.0] * 4], 70_001, range(4))
    chunks = torch.zeros(2, 70_001, device="meta").split(7_001, dim=-1)
    stretches = [estimates for _, estimates in stream.estimates(chunks, lambda done: None)]
    assert sum(stretch.shape[-1] for stretch in stretches) == 70_001
    assert {stretch.device.type for stretch in stretches} == {"meta"}


REFUSED: dict[str, Callable[[], Any]] = {
    "Demucs": demucs,
    "HDemucs": hdemucs,
    "positions": lambda: htdemucs(t_emb="scaled", t_layers=2),
    "shifted positions": lambda: htdemucs(t_sin_random_shift=3, t_layers=2),
}


@pytest.mark.parametrize("reason", REFUSED)
def test_a_model_of_another_form_is_refused_and_left_as_it_is(reason: str) -> None:
    model = REFUSED[reason]()
    assert not is_device_model(model)
    with pytest.raises(UnsupportedModelError):
        on_cpu(model, bf16=True)
    assert {parameter.dtype for parameter in model.parameters()} == {torch.float32}


def test_a_song_comes_out_as_from_apply_model(make: Callable[[], Any]) -> None:
    bag, mixture = BagOfModels([model := make()]), mixture_of(150_001)
    expected = reference(bag, mixture)
    assert sdr_db(expected.numpy(), estimated([in_batches_of(3, model)], bag, mixture).numpy()) > 100


def test_the_last_batch_is_filled_up_with_silence() -> None:
    estimator = in_batches_of(8, model := htdemucs())
    seen: list[Tensor] = []
    network = estimator.network
    estimator.network = lambda mixtures, sources: (seen.append(mixtures), network(mixtures, sources))[1]  # type: ignore[assignment, func-returns-value]
    assert len(estimator(windows(model, 11), [0])) == 11
    assert [len(mixtures) for mixtures in seen] == [8, 8]
    assert not seen[1][3:].any()


def test_too_little_memory_for_a_batch_halves_it_and_loses_nothing() -> None:
    estimator = in_batches_of(8, model := htdemucs())
    network, mixtures = estimator.network, windows(model, 11)

    def crowded(given: Tensor, sources: Any) -> Tensor:
        if len(given) > 2:
            raise torch.OutOfMemoryError("injected")
        return network(given, sources)

    estimator.network = crowded  # type: ignore[assignment]
    with capture_logs() as logs:
        estimates = estimator(mixtures, [0, 1])
    assert [(line["log_level"], line["batch"]) for line in logs] == [("warning", 4), ("warning", 2)]
    assert snr_db(torch.cat([network(each[None], [0, 1]) for each in mixtures]), estimates) > 100
    estimator.network = lambda given, sources: crowded(torch.zeros(3), sources)  # type: ignore[assignment]
    with pytest.raises(EngineError) as caught:
        estimator(mixtures, [0, 1])
    assert caught.value.code == "out_of_memory"


def test_what_cannot_be_recorded_as_a_graph_is_computed_without(monkeypatch: pytest.MonkeyPatch) -> None:
    estimator = in_batches_of(2, model := htdemucs())
    mixtures = windows(model, 2)
    expected = estimator(mixtures, [0])
    asked: list[int] = []

    def record(batch: int) -> None:
        asked.append(batch)
        raise RuntimeError("operation not permitted when stream is capturing")

    monkeypatch.setattr(estimator.network, "record", record)
    monkeypatch.setattr(estimator, "_can_record", True)
    with capture_logs() as logs:
        assert torch.equal(estimator(mixtures, [0]), expected)
        assert torch.equal(estimator(mixtures, [0]), expected)
    assert asked == [2]
    assert [line["log_level"] for line in logs] == ["warning"]


def test_a_recording_is_made_once_for_each_size_of_the_batches(monkeypatch: pytest.MonkeyPatch) -> None:
    estimator = in_batches_of(4, model := htdemucs())
    recorded: list[int] = []
    monkeypatch.setattr(estimator.network, "record", recorded.append)
    monkeypatch.setattr(estimator, "_can_record", True)
    for batch in (4, 4, 2):
        estimator.batch = batch
        estimator(windows(model, 5), [0])
    assert recorded == [4, 2]
