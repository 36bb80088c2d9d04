"""The transforms of a hybrid transformer, STFT and inverse, as a device runs them without being waited for.

What demucs does in `_spec` and `_ispec`, for windows of one length, with all that depends on the length alone computed
once: where a sample of the padded window comes from, and what the overlapping frames have to be divided by. Demucs' own
compare the padded window with the first one, and `torch.istft` looks for zeros in what it divides by: each makes the
CPU wait for the device, and forbids to record what the device does.
"""

import math
from typing import Any, Final

import torch
from demucs.hdemucs import pad1d
from torch import Tensor
from torch.nn import functional

#: Half hops that demucs reflects at each end of a window, beside what an STFT with centred frames reflects.
_REFLECTED: Final = 3
#: Frames at each end that lie beyond the window, and are left out.
_OUTSIDE: Final = 2
#: Hops in a frame; demucs insists on it.
_OVERLAP: Final = 4


class Transforms:
    """STFT and inverse of `model`, an `HTDemucs`, for its own windows, in float32 on `device`."""

    def __init__(self, model: Any, device: torch.device) -> None:
        self._nfft: int = model.nfft
        self._hop = self._nfft // _OVERLAP
        self.samples = int(model.segment * model.samplerate)
        self.frames = math.ceil(self.samples / self._hop)
        window = torch.hann_window(self._nfft)
        self._window = window.to(device)
        self._origin = self._origins().to(device)
        # Every frame that `torch.istft` would get, the silent ones beyond the ends too.
        everywhere = window.square().expand(1, self.frames + 2 * _OUTSIDE, -1)
        envelope = _overlapped(everywhere)[..., _OUTSIDE * self._hop :]
        self._envelope = self._inside(envelope).to(device)

    def spectra(self, mixtures: Tensor) -> Tensor:
        """(batch, channels, time) → complex (batch, channels, bins, frames), without Nyquist's bin."""
        spectra = torch.stft(
            mixtures.flatten(0, 1).index_select(-1, self._origin),
            self._nfft,
            self._hop,
            window=self._window,
            normalized=True,
            center=False,
            return_complex=True,
        )
        without_nyquist: Tensor = spectra[:, :-1].unflatten(0, mixtures.shape[:2])
        return without_nyquist

    def waves(self, spectra: Tensor) -> Tensor:
        """Return complex (…, frames, bins) to samples (…, time); Nyquist's bin is silent where it is missing."""
        frames: Tensor = torch.fft.irfft(spectra, self._nfft, norm="ortho") * self._window
        return self._inside(_overlapped(frames)) / self._envelope

    def _origins(self) -> Tensor:
        """Return from which sample of a window each one that is in a frame comes."""
        indexes = torch.arange(self.samples, dtype=torch.float64)[None]  # which padding knows, unlike integers
        beyond = _REFLECTED * self._hop // 2
        padded = pad1d(indexes, (beyond, beyond + self.frames * self._hop - self.samples), mode="reflect")
        padded = functional.pad(padded, (self._nfft // 2, self._nfft // 2), mode="reflect")[0].long()
        return padded[_OUTSIDE * self._hop :][: (self.frames - 1) * self._hop + self._nfft]

    def _inside(self, overlapped: Tensor) -> Tensor:
        """Cut the window out of its overlapped frames."""
        start = _REFLECTED * self._hop // 2
        return overlapped[..., start : start + self.samples]


def _overlapped(frames: Tensor) -> Tensor:
    """Add frames (…, frames, nfft), each a quarter later than the one before: (…, time)."""
    quarters = frames.unflatten(-1, (_OVERLAP, -1))  # (…, frames, quarters, hop)
    count, hop = quarters.shape[-3], quarters.shape[-1]
    total = frames.new_zeros(*frames.shape[:-2], count + _OVERLAP - 1, hop)
    for quarter in reversed(range(_OVERLAP)):  # the earliest frame first, as `torch.istft` adds them
        total[..., quarter : quarter + count, :] += quarters[..., quarter, :]
    return total.flatten(-2)
