"""The network of a hybrid transformer, arranged for what runs fixed graphs: OpenVINO and CUDA graphs.

`demucs.htdemucs.HTDemucs` goes from samples to samples. Its transforms (STFT and inverse) stay in torch, in float32;
this module takes what lies between them and says the same arithmetic in the form that CPU libraries compute fastest:
both branches in four dimensions with the channels innermost, group norms as layer norms, and transposed convolutions
as plain ones. The weights are demucs' own. docs/engine.md has what each of these is worth.

Shapes: spectrum (batch, channels, bins, frames), wave (batch, channels, time); of the type of the weights.
"""

from typing import Any

import torch
from demucs.hdemucs import HDecLayer, HEncLayer
from demucs.htdemucs import HTDemucs
from torch import Tensor, nn
from torch.nn import functional


class UnsupportedModelError(Exception):
    """The model is not of the form that is rearranged here."""


class HybridNetwork(nn.Module):
    """What an `HTDemucs` does between its transforms; for windows of the model's own length.

    Raises:
        UnsupportedModelError: it is another model, or has layers that no published hybrid transformer has.
    """

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        _check(model)
        self.model: Any = model

    def forward(self, spectrum: Tensor, wave: Tensor) -> tuple[Tensor, Tensor]:
        """Return folded spectra and waves of the sources, from normalised `spectrum` and `wave`.

        The spectra come as they are computed: (batch, bins / fold, frames, channels · fold), see `unfolded`; the
        waves as (batch, sources · channels, time).
        """
        model = self.model
        wave = wave[:, :, None]
        skips, wave_skips, lengths = [], [], []
        for index, (layer, wave_layer) in enumerate(zip(model.encoder, model.tencoder, strict=True)):
            lengths.append(wave.shape[-1])
            spectrum, wave = _encoded(layer, spectrum), _encoded(wave_layer, wave)
            if index == 0 and model.freq_emb is not None:
                embedding = model.freq_emb(torch.arange(spectrum.shape[2], device=spectrum.device))
                spectrum = spectrum + model.freq_emb_scale * embedding.t()[None, :, :, None]
            skips.append(spectrum)
            wave_skips.append(wave)
        if model.crosstransformer is not None:
            spectrum, wave = _transformed(model, spectrum, wave)
        for layer, wave_layer in zip(model.decoder, model.tdecoder, strict=True):
            spectrum = _decoded(layer, spectrum, skips.pop(), parts=self.parts)
            wave = _decoded(wave_layer, wave, wave_skips.pop())[..., : lengths.pop()]
        return spectrum.permute(0, 2, 3, 1), wave[:, :, 0]

    @property
    def parts(self) -> int:
        """Numbers per bin: 2 for a model that estimates complex spectra, 1 for one that estimates magnitudes."""
        return 2 if self.model.cac else 1

    def unfolded(self, folded: Tensor) -> Tensor:
        """Return a view (batch, sources · channels, frames, bins / fold, fold, parts) of the spectra of `forward`."""
        fold = self.model.decoder[-1].stride
        unfolded: Tensor = folded.unflatten(3, (-1, fold, self.parts)).permute(0, 3, 2, 1, 4, 5)
        return unfolded


def _check(model: Any) -> None:
    if type(model) is not HTDemucs:
        raise UnsupportedModelError(f"{type(model).__name__} is no hybrid transformer")
    if not model.use_train_segment:
        raise UnsupportedModelError("its windows have no fixed length")
    layers = [*model.encoder, *model.tencoder, *model.decoder, *model.tdecoder]
    for layer in layers:
        # Half as many samples cut off as steps taken: then three taps are enough for `_convolved_folded`.
        plain = isinstance(layer, HEncLayer | HDecLayer) and layer.kernel_size == 2 * layer.stride == 4 * layer.pad
        if not plain or layer.empty or not (layer.dconv is None or _is_plain(layer.dconv)):
            raise UnsupportedModelError("it has layers of another kind than the published hybrid transformers")
        if isinstance(layer, HDecLayer) and not isinstance(layer.norm2, nn.Identity):
            raise UnsupportedModelError("its decoder normalises what is cut off after")


def _is_plain(dconv: Any) -> bool:
    """Whether the branch is convolutions alone: no LSTM, no attention."""
    kinds = [nn.Conv1d, nn.GroupNorm, nn.GELU, nn.Conv1d, nn.GroupNorm, nn.GLU]
    return all([type(part) for part in layer][:-1] == kinds for layer in dconv.layers)  # and a scale


def _encoded(layer: Any, x: Tensor) -> Tensor:
    if not layer.freq:
        x = functional.pad(x, (0, -x.shape[-1] % layer.stride))
    x = functional.gelu(layer.norm1(_convolved(layer.conv, x)))
    if layer.dconv:
        x = _with_residuals(layer.dconv, x)
    if layer.rewrite is None:
        return x
    return functional.glu(layer.norm2(_convolved(layer.rewrite, x)), dim=1)


def _decoded(layer: Any, x: Tensor, skip: Tensor, parts: int = 1) -> Tensor:
    x = x + skip
    if layer.rewrite is not None:
        x = functional.glu(layer.norm1(_convolved(layer.rewrite, x)), dim=1)
    if layer.dconv:
        x = _with_residuals(layer.dconv, x)
    if layer.freq and layer.last:
        # Left folded: to bring the bins in order is a copy of its own here, and part of another one in torch.
        return _convolved_folded(layer, x, parts)
    if layer.freq:
        # These the libraries compute as fast as plain convolutions, in one dimension they do not.
        x = layer.conv_tr(x)[:, :, layer.pad : -layer.pad]
    else:
        x = _unfolded_wave(_convolved_folded(layer, x), layer.stride)
    return x if layer.last else functional.gelu(x)


def _transformed(model: Any, spectrum: Tensor, wave: Tensor) -> tuple[Tensor, Tensor]:
    bins, frames = spectrum.shape[2:]
    wave = wave[:, :, 0]
    if model.bottom_channels:
        spectrum = model.channel_upsampler(spectrum.flatten(2)).unflatten(2, (bins, frames))
        wave = model.channel_upsampler_t(wave)
    spectrum, wave = model.crosstransformer(spectrum, wave)
    if model.bottom_channels:
        spectrum = model.channel_downsampler(spectrum.flatten(2)).unflatten(2, (bins, frames))
        wave = model.channel_downsampler_t(wave)
    return spectrum, wave[:, :, None]


def _convolved(conv: Any, x: Tensor) -> Tensor:
    """Apply a convolution in one or two dimensions to (batch, channels, bins, time), a single bin in one."""
    if isinstance(conv, nn.Conv2d):
        return functional.conv2d(x, conv.weight, conv.bias, conv.stride, conv.padding)
    weight = conv.weight[:, :, None]
    return functional.conv2d(x, weight, conv.bias, (1, *conv.stride), (0, *conv.padding), (1, *conv.dilation))


def _with_residuals(dconv: Any, x: Tensor) -> Tensor:
    """Apply the dilated convolutions over time, every bin on its own."""
    bins = x.shape[2]
    x = _bins_as_batch(x)
    for first, first_norm, _, second, second_norm, _, scale in dconv.layers:
        branch = functional.gelu(_normalised(first_norm, _convolved(first, x)))
        branch = functional.glu(_normalised(second_norm, _convolved(second, branch)), dim=1)
        x = x + scale.scale[:, None, None] * branch
    return _bins_from_batch(x, bins)


# Channels go last for both steps: as the libraries hold them innermost, they need not move for it.


def _bins_as_batch(x: Tensor) -> Tensor:
    batch, channels, bins, time = x.shape
    return x.permute(0, 2, 3, 1).reshape(batch * bins, 1, time, channels).permute(0, 3, 1, 2)


def _bins_from_batch(x: Tensor, bins: int) -> Tensor:
    rows, channels, _, time = x.shape
    return x.permute(0, 2, 3, 1).reshape(rows // bins, bins, time, channels).permute(0, 3, 1, 2)


def _normalised(norm: Any, x: Tensor) -> Tensor:
    """Apply a group norm of one group; as a layer norm it keeps the channels innermost."""
    x = functional.layer_norm(x, x.shape[1:], eps=norm.eps)
    normalised: Tensor = x * norm.weight[:, None, None] + norm.bias[:, None, None]
    return normalised


def _convolved_folded(layer: Any, x: Tensor, parts: int = 1) -> Tensor:
    """Apply a transposed convolution, without what demucs cuts off after, as a convolution with three taps.

    Every `stride` consecutive outputs depend on an input and its two neighbours. They come as channels, innermost but
    for the parts of complex numbers.
    """
    stride, pad, weight = layer.stride, layer.pad, layer.conv_tr.weight.flatten(2)  # (in, out, kernel)
    outputs = weight.shape[1]
    taps = weight.new_zeros(outputs, stride, weight.shape[0], 3)
    for position in range(weight.shape[2]):
        distance, output = divmod(position - pad, stride)
        taps[:, output, :, 1 - distance] = weight[:, :, position].t()
    taps = taps.unflatten(0, (-1, parts)).transpose(1, 2).reshape(outputs * stride, -1, 3)
    bias = layer.conv_tr.bias.unflatten(0, (-1, 1, parts)).expand(-1, stride, -1).flatten()
    if layer.freq:
        return functional.conv2d(x, taps[..., None], bias, padding=(1, 0))
    return functional.conv2d(x, taps[:, :, None], bias, padding=(0, 1))


def _unfolded_wave(x: Tensor, fold: int) -> Tensor:
    """(batch, channels · fold, 1, time) → (batch, channels, 1, time · fold)."""
    batch, channels, time = x.shape[0], x.shape[1] // fold, x.shape[3]
    x = x.permute(0, 2, 3, 1).reshape(batch, time, channels, fold).transpose(2, 3)
    return x.reshape(batch, 1, time * fold, channels).permute(0, 3, 1, 2)
