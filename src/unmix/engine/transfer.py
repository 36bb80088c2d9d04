"""Samples on their way to a device and back, so that neither CPU nor device waits for the other.

A copy from or to pinned memory goes on while the CPU does something else. Pinned memory comes from torch, which gives a
piece out again only when no copy needs it any more. Stems leave a device rounded: most
formats want half of the bytes.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial

import torch
from torch import Tensor

from unmix.audio.encode import Writer
from unmix.errors import EngineError

#: Writes a stretch of a stem.
Write = Callable[[Writer], None]


def on_device(samples: Tensor, device: torch.device) -> Tensor:
    """Return `samples`, which are on the CPU, on `device`; they may still be on their way."""
    if device.type == "cuda":
        samples = samples.pin_memory()
    return samples.to(device, non_blocking=True)


def delivered(stretches: Iterable[Sequence[Tensor]], *, bits: int = 16) -> Iterator[list[Write]]:
    """Yield, for each stretch of all stems, float32 (channels, time) each, what writes each of them with so many bits.

    From a device a stretch is delivered when the next one was ordered there: while the one is fetched and encoded, the
    device computes the other.

    Raises:
        EngineError: the samples from a device are not finite.
    """
    underway: _Parcel | None = None
    for stems in stretches:
        if stems[0].is_cpu:
            yield [partial(_write, stem) for stem in stems]
            continue
        sent, underway = underway, _Parcel(*rounded(stems, bits))
        if sent is not None:
            yield sent.writes()
    if underway is not None:
        yield underway.writes()


def rounded(stems: Sequence[Tensor], bits: int = 16) -> tuple[Tensor, Tensor, Tensor]:
    """Round `stems`, float32 (channels, time) each, where they are, as `StemWriter` does; 32 bits stay as they are.

    Returns (stems, channels, time), as `StemWriter.write_pcm` takes it; how many samples of each stem were beyond full
    scale, and are clamped; whether all were finite.
    """
    samples = torch.stack(list(stems))
    finite = samples.isfinite().all()
    if bits == 32:
        return samples, samples.new_zeros(len(samples), dtype=torch.int64), finite
    full_scale = 1 << bits - 1
    scaled = samples.mul_(full_scale).round_()  # `samples` is a copy: one more would be as large as all stems
    clamped = scaled.clamp(-full_scale, full_scale - 1)
    pcm = clamped.to(torch.int16) if bits == 16 else clamped.to(torch.int32) << 8
    return pcm, (scaled != clamped).sum((1, 2)), finite


class _Parcel:
    """Rounded stems on their way from a CUDA device."""

    def __init__(self, pcm: Tensor, clipped: Tensor, finite: Tensor) -> None:
        self._pcm, self._clipped, self._finite = map(_copied, (pcm, clipped, finite))
        self._arrived = torch.cuda.current_stream(pcm.device).record_event()

    def writes(self) -> list[Write]:
        """Wait until they are there."""
        self._arrived.synchronize()
        if not self._finite:
            raise EngineError("the model gave samples that are not finite")
        return [partial(_write_pcm, *stem) for stem in zip(self._pcm, self._clipped.tolist(), strict=True)]


def _copied(tensor: Tensor) -> Tensor:
    return torch.empty_like(tensor, device="cpu", pin_memory=True).copy_(tensor, non_blocking=True)


def _write(samples: Tensor, writer: Writer) -> None:
    writer.write(samples.numpy())


def _write_pcm(pcm: Tensor, clipped: int, writer: Writer) -> None:
    writer.write_pcm(pcm.numpy(), clipped=clipped)
