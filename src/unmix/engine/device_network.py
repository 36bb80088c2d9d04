"""A hybrid transformer from samples to samples, arranged so that a device never waits for the CPU in between.

`HybridNetwork` between `Transforms`. Whatever depends on nothing but the length of a window was computed before, so a
call only tells the device what to do, and what lies between the transforms can be recorded as a CUDA graph, which tells
it a thousand things at once. Weights and network are in float32 or bfloat16; transforms and normalisation are in
float32 always.
"""

from collections.abc import Callable, Sequence
from typing import Any

import torch
from demucs.transformer import create_2d_sin_embedding, create_sin_embedding
from torch import Tensor, nn

from unmix.engine.hybrid import HybridNetwork, UnsupportedModelError
from unmix.engine.transforms import Transforms

#: Takes spectrum and wave, returns folded spectra and waves; see `HybridNetwork`.
Between = Callable[[Tensor, Tensor], tuple[Tensor, Tensor]]


class DeviceNetwork:
    """`model`, an `HTDemucs`, on `device`: changed for good, its weights moved and, with `bf16`, cast to bfloat16.

    Raises:
        UnsupportedModelError: it is of another form than the published hybrid transformers, and was not touched.
    """

    def __init__(self, model: Any, *, device: torch.device, bf16: bool) -> None:
        self.network = HybridNetwork(model)
        _check(model)
        self._model = model
        self.transforms = Transforms(model, device)
        self.dtype = torch.bfloat16 if bf16 else torch.float32
        model.to(device, self.dtype)
        if model.crosstransformer is not None:
            model.crosstransformer = _PositionedTransformer(model.crosstransformer)
        self._recorded: tuple[int, Between] | None = None

    def __call__(self, mixtures: Tensor, sources: Sequence[int]) -> Tensor:
        """Estimate the sources with these indexes: (batch, channels, time) → (batch, sources, channels, time)."""
        transform = self.transforms.spectra(mixtures)
        spectrum, mean, std = _normalised(self._model._magnitude(transform))
        wave, wave_mean, wave_std = _normalised(mixtures)
        folded, waves = self.between(len(mixtures))(spectrum.to(self.dtype), wave.to(self.dtype))
        by_source = (len(self._model.sources), mixtures.shape[1])
        spectra = self.network.unfolded(folded).unflatten(1, by_source)
        if self._model.cac:
            spectra = torch.view_as_complex(_restored(_picked(spectra, sources), mean, std))
        else:  # what is estimated are magnitudes, and the phases are the mixture's
            magnitudes = _restored(spectra, mean, std)[..., :-1, 0].transpose(3, 4)
            spectra = _picked(self._model._mask(transform, magnitudes), sources).transpose(3, 4)
        waves = _picked(waves.unflatten(1, by_source), sources).float()
        estimates: Tensor = waves * wave_std[:, None] + wave_mean[:, None]
        return estimates + self.transforms.waves(spectra)

    def record(self, batch: int) -> None:
        """Record as a CUDA graph what the device does between the transforms for `batch` windows.

        So many are then computed that way, other numbers as before. What was recorded before is forgotten first, for
        its memory.
        """
        self._recorded = None
        model = self._model
        device = next(model.parameters()).device
        channels, bins = model.audio_channels * self.network.parts, model.nfft // 2
        spectrum = torch.zeros(batch, channels, bins, self.transforms.frames, device=device, dtype=self.dtype)
        wave = torch.zeros(batch, model.audio_channels, self.transforms.samples, device=device, dtype=self.dtype)
        self._recorded = batch, _Recording(self.network, spectrum, wave)

    def between(self, batch: int) -> Between:
        """Return what computes so many windows between the transforms."""
        recorded, between = self._recorded or (0, self.network)
        return between if recorded == batch else self.network


class _Recording:
    """A CUDA graph of `network` for inputs of one shape. What it returns is overwritten by the next call."""

    def __init__(self, network: Between, *inputs: Tensor) -> None:
        self._inputs = inputs
        beside = torch.cuda.Stream()
        beside.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(beside):  # whatever a first call prepares must not be part of what is recorded
            network(*inputs)
        torch.cuda.current_stream().wait_stream(beside)
        self._graph = torch.cuda.CUDAGraph()
        # Other threads may be giving the device songs meanwhile.
        with torch.cuda.graph(self._graph, capture_error_mode="thread_local"):
            self._outputs = network(*inputs)

    def __call__(self, *inputs: Tensor) -> tuple[Tensor, Tensor]:
        for own, given in zip(self._inputs, inputs, strict=True):
            own.copy_(given)
        self._graph.replay()
        return self._outputs


class _PositionedTransformer(nn.Module):
    """demucs' transformer with the embeddings of positions computed once: `CrossTransformerEncoder.forward` anew."""

    def __init__(self, transformer: Any) -> None:
        super().__init__()
        self.transformer = transformer
        self._positions: tuple[Tensor, Tensor] | None = None

    def forward(self, spectrum: Tensor, wave: Tensor) -> tuple[Tensor, Tensor]:
        """(batch, channels, bins, frames) and (batch, channels, time) → the same."""
        own, bins = self.transformer, spectrum.shape[2]
        if self._positions is None:
            self._positions = self._embeddings(spectrum, wave)
        positions, wave_positions = self._positions
        x = own.norm_in(spectrum.permute(0, 3, 2, 1).flatten(1, 2)) + positions  # (batch, frames · bins, channels)
        y = own.norm_in_t(wave.transpose(1, 2)) + wave_positions  # (batch, time, channels)
        for index, (layer, wave_layer) in enumerate(zip(own.layers, own.layers_t, strict=True)):
            if index % 2 == own.classic_parity:
                x, y = layer(x), wave_layer(y)
            else:
                x, y = layer(x, y), wave_layer(y, x)
        return x.unflatten(1, (-1, bins)).permute(0, 3, 2, 1), y.transpose(1, 2)

    def _embeddings(self, spectrum: Tensor, wave: Tensor) -> tuple[Tensor, Tensor]:
        """Compute as demucs does, on the CPU in float32, what is added to all tokens."""
        own, (_, channels, bins, frames) = self.transformer, spectrum.shape
        of_spectrum = create_2d_sin_embedding(channels, bins, frames, max_period=own.max_period)  # type: ignore[no-untyped-call]
        of_wave = create_sin_embedding(wave.shape[2], channels, max_period=own.max_period)
        return (
            (own.weight_pos_embed * of_spectrum.permute(0, 3, 2, 1).flatten(1, 2)).to(spectrum),
            (own.weight_pos_embed * of_wave.transpose(0, 1)).to(wave),
        )


def is_device_model(model: Any) -> bool:
    """Tell whether `DeviceNetwork` computes `model`."""
    try:
        HybridNetwork(model)
        _check(model)
    except UnsupportedModelError:
        return False
    return True


def _check(model: Any) -> None:
    """Refuse what is in no published hybrid transformer, and in none that `HybridNetwork` refuses."""
    transformer = model.crosstransformer
    if transformer is None:
        return
    if transformer.emb != "sin" or transformer.sin_random_shift:
        raise UnsupportedModelError("its transformer knows positions in another way")
    if any(layer.sparse for layer in [*transformer.layers, *transformer.layers_t]):
        raise UnsupportedModelError("its attention is sparse")


def _picked(x: Tensor, sources: Sequence[int]) -> Tensor:
    """Return what (batch, sources, …) has of these; a list as index would have to be copied to the device."""
    return torch.stack([x[:, source] for source in sources], dim=1)


def _normalised(x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Normalise every window: return that, and mean and deviation with as many dimensions."""
    dims = tuple(range(1, x.dim()))
    mean, std = x.mean(dim=dims, keepdim=True), x.std(dim=dims, keepdim=True)
    return (x - mean) / (1e-5 + std), mean, std


def _restored(spectra: Tensor, mean: Tensor, std: Tensor) -> Tensor:
    """Give `spectra` (batch, sources, channels, frames, bins / fold, fold, parts) their level, and put them in order.

    Returns (batch, sources, channels, frames, bins + 1, parts): the last bin, Nyquist's, is silent, as in demucs.
    """
    *shape, rows, fold, parts = spectra.shape
    ordered = torch.zeros(*shape, rows * fold + 1, parts, device=spectra.device)
    inner = ordered[..., :-1, :].unflatten(-2, (rows, fold))
    torch.mul(spectra, std[(..., *[None] * 3)], out=inner)
    inner += mean[(..., *[None] * 3)]
    return ordered
