"""Hybrid transformers on OpenVINO: on a CPU the fastest there is, in bfloat16 where the CPU has it.

A model is converted once, checked against torch, and kept in a cache folder; later starts read it from there. The
transforms (STFT and inverse) and the normalisation stay in torch, in float32.
"""

import functools
import hashlib
import os
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import openvino
import structlog
import torch
from filelock import FileLock
from torch import Tensor

from unmix.engine import hybrid
from unmix.engine.conversion import converted_apart
from unmix.engine.faults import fault_of
from unmix.engine.hybrid import HybridNetwork
from unmix.engine.sdr import sdr_db
from unmix.errors import EngineError

log = structlog.get_logger()

#: Least SNR, in dB, of a converted model in float32 to torch; what was converted right has more than 100.
_LEAST_SNR: Final = 80.0
#: Half hops that demucs' STFT reflects at each end of a window, beside its own.
_REFLECTED: Final = 3


def version() -> str:
    """Return OpenVINO's version, as `2026.4.1`."""
    return str(openvino.__version__).split("-")[0]


def has_bf16() -> bool:
    """Tell whether this machine's CPU computes in bfloat16."""
    return "BF16" in _core().get_property("CPU", "OPTIMIZATION_CAPABILITIES")


@functools.cache
def _core() -> openvino.Core:
    """Return the one core of this process. It stays: once the last one is gone, the next signal ends the process."""
    return openvino.Core()


class OpenVinoEstimator:
    """See `estimators.Estimator`.

    `key` names the weights: a digest, under which the converted network is kept in `cache_dir`. A folder that cannot
    be written costs the conversion, about 20 s for `htdemucs`, at every start.

    Raises:
        UnsupportedModelError: the model is no hybrid transformer of the published form.
        EngineError: the conversion failed.
    """

    batch = 1

    def __init__(self, model: Any, *, key: str, bf16: bool, threads: int, cache_dir: Path) -> None:
        self.model = model
        self._network = HybridNetwork(model)
        self._samples = int(model.segment * model.samplerate)
        self._window = torch.hann_window(model.nfft)
        self._bf16 = bf16
        self._threads = threads
        self._request: Any = None
        self._graph = self._converted_once(cache_dir / f"openvino-{version()}-{_revision()}" / key)

    def __call__(self, mixtures: Tensor, sources: Sequence[int]) -> Tensor:
        """See `Estimator`."""
        return torch.cat([self._estimated(mixture[None], sources) for mixture in mixtures])

    def prepare(self) -> None:
        """Take the memory and the second that the first call would take."""
        if self._request is not None:
            return
        try:
            self._request = self._compiled(self._graph, bf16=self._bf16)
        except RuntimeError as error:
            raise fault_of(error) or EngineError(
                f"OpenVINO cannot load {self._graph}; if that file is damaged, remove it: {error}",
                code="conversion_failed",
            ) from error

    def _converted_once(self, folder: Path) -> Path | openvino.Model:
        """Return the file of the converted network in `folder`, made if there is none, or the network itself."""
        file = folder / "network.xml"
        if file.exists():  # asked before the lock too: a folder that somebody else filled may be read-only
            return file
        graph = None
        try:
            folder.parent.mkdir(parents=True, exist_ok=True)
            # One process converts, those beside it wait: it takes many seconds and a gigabyte.
            with FileLock(folder.with_suffix(".lock")):
                if not file.exists():
                    graph = self._converted()
                    _save(graph, file)
            return file
        except OSError as error:
            log.warning("the converted model cannot be kept", folder=str(folder), error=str(error))
            return graph or self._converted()

    @torch.no_grad()
    def _converted(self) -> openvino.Model:
        """Convert the network, and check on noise that it is still the same model."""
        log.info("converting the model for OpenVINO")
        model = self.model
        noise = torch.randn(1, model.audio_channels, self._samples, generator=torch.Generator().manual_seed(0))
        expected = model(noise)
        inputs = (_normalised(model._magnitude(model._spec(noise)))[0], _normalised(noise)[0])
        graph = converted_apart(model, inputs)
        self._request = self._compiled(graph, bf16=False)
        estimates = self(noise, range(len(model.sources)))
        self._request = None
        snr = sdr_db(expected.flatten(0, 2).numpy(), estimates.flatten(0, 2).numpy())
        if not snr >= _LEAST_SNR:
            raise EngineError(
                f"OpenVINO gives something else than torch for this model (SNR {snr:.0f} dB); set UNMIX_BACKEND=torch",
                code="conversion_failed",
            )
        return graph

    def _compiled(self, graph: Path | openvino.Model, *, bf16: bool) -> openvino.InferRequest:
        hints = {
            "INFERENCE_PRECISION_HINT": "bf16" if bf16 else "f32",
            "INFERENCE_NUM_THREADS": self._threads,
            "PERFORMANCE_HINT": "LATENCY",
        }
        return _core().compile_model(graph, "CPU", hints).create_infer_request()

    def _estimated(self, mixture: Tensor, sources: Sequence[int]) -> Tensor:
        """Estimate in one window: (1, channels, time) → (1, sources, channels, time)."""
        transform = self.model._spec(mixture)
        spectrum, level = _normalised(self.model._magnitude(transform))
        wave, wave_level = _normalised(mixture)
        folded, waves = self._infer(spectrum, wave)
        by_source = (len(self.model.sources), mixture.shape[1])
        spectra = self._network.unfolded(folded).unflatten(0, by_source)
        waves = waves.unflatten(1, by_source)[:, list(sources)]
        inverse = self._inverse if self.model.cac else self._inverse_of_magnitudes
        return inverse(transform, spectra, level, sources) + wave_level.restored(waves)

    def _infer(self, spectrum: Tensor, wave: Tensor) -> tuple[Tensor, Tensor]:
        self.prepare()
        try:
            self._request.infer([spectrum.numpy(), wave.numpy()], share_inputs=True, share_outputs=True)
        except RuntimeError as error:
            raise fault_of(error) or EngineError(f"the model failed: {error}") from error
        folded, waves = (torch.from_numpy(self._request.get_output_tensor(index).data) for index in range(2))
        return folded, waves

    def _inverse(self, transform: Tensor, spectra: Tensor, level: "_Level", sources: Sequence[int]) -> Tensor:
        """Return complex `spectra` to samples: demucs' inverse STFT, with one copy on the way instead of five.

        `spectra` is (all sources, channels, frames, bins / fold, fold, 2); returns (1, sources, channels, time).
        """
        channels, frames, rows, fold, _ = spectra.shape[1:]
        hop = self.model.hop_length
        start = _REFLECTED * hop // 2
        # As demucs: silence for the two frames beyond each end and for Nyquist's bin.
        padded = torch.zeros(channels, frames + 4, rows * fold + 1, 2)
        inner = padded[:, 2:-2, :-1].unflatten(2, (rows, fold))
        waves = []
        for source in sources:  # one by one, for memory's sake
            torch.add(level.mean, spectra[source], alpha=float(level.std), out=inner)
            wave = torch.istft(
                torch.view_as_complex(padded).transpose(1, 2),
                self.model.nfft,
                hop,
                window=self._window,
                normalized=True,
                length=hop * frames + 2 * start,
            )
            waves.append(wave[:, start : start + self._samples])
        return torch.stack(waves)[None]

    def _inverse_of_magnitudes(
        self, transform: Tensor, spectra: Tensor, level: "_Level", sources: Sequence[int]
    ) -> Tensor:
        """Return magnitudes to samples, with the phases of the mixture's `transform`."""
        magnitudes = level.restored(spectra[..., 0].flatten(3).transpose(2, 3))[None]
        masked = self.model._mask(transform, magnitudes)[:, list(sources)]  # a Wiener filter looks at all sources
        waves: Tensor = self.model._ispec(masked, self._samples)
        return waves


@dataclass(frozen=True, slots=True)
class _Level:
    """What a window is normalised by, as 0-dimensional tensors."""

    mean: Tensor
    std: Tensor

    def restored(self, x: Tensor) -> Tensor:
        return x * self.std + self.mean


def _normalised(x: Tensor) -> tuple[Tensor, _Level]:
    level = _Level(x.mean(), x.std())
    return (x - level.mean) / (1e-5 + level.std), level


def _revision() -> str:
    """Return a digest of the code that arranges the network: networks of other code are not read."""
    return hashlib.sha256(Path(hybrid.__file__).read_bytes()).hexdigest()[:8]


def _save(graph: openvino.Model, file: Path) -> None:
    """Write the network so that its folder is there with everything in it, or not at all."""
    part = file.parent.with_suffix(".part")
    shutil.rmtree(part, ignore_errors=True)  # of a process that was killed: nobody else's, as this one has the lock
    part.mkdir()
    try:
        openvino.save_model(graph, part / file.name, compress_to_fp16=False)
        for written in part.iterdir():
            with written.open("rb") as contents:
                os.fsync(contents.fileno())  # the name must not outlive a power cut that the contents do not
        shutil.rmtree(file.parent, ignore_errors=True)  # what is left of a damaged one
        part.rename(file.parent)
    except RuntimeError as error:  # so OpenVINO says that the disk is full
        raise OSError(str(error)) from error
    finally:
        shutil.rmtree(part, ignore_errors=True)
