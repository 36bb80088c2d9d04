"""Hybrid transformers on OpenVINO: on a CPU the fastest there is, in bfloat16 where the CPU has it.

A model is converted once, checked against torch, and kept in a cache folder; later starts read it from there. Every
start checks what it will really run by the estimates of a known window. The transforms (STFT and inverse) and the
normalisation stay in torch, in float32.
"""

import functools
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import openvino
import structlog
import torch
from filelock import FileLock
from torch import Tensor

from unmix.engine.conversion import converted_apart
from unmix.engine.converted import Converted, Kept, revision
from unmix.engine.faults import fault_of
from unmix.engine.hybrid import HybridNetwork
from unmix.engine.known_window import KnownWindow
from unmix.errors import EngineError

log = structlog.get_logger()

#: Least SNR to torch, in dB, of a converted network in float32; what is right has 89 and more.
_LEAST_SNR: Final = 80.0
#: The same in bfloat16; what is right has 39 and more.
_LEAST_SNR_BF16: Final = 30.0
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
        EngineError: the conversion failed (`conversion_failed`).
    """

    batch = 1
    device = torch.device("cpu")

    def __init__(self, model: Any, *, key: str, bf16: bool, threads: int, cache_dir: Path) -> None:
        self.model = model
        self._network = HybridNetwork(model)
        self._samples = int(model.segment * model.samplerate)
        self._window = torch.hann_window(model.nfft)
        self._bf16 = bf16
        self._threads = threads
        self._request: Any = None
        self._converted = self._converted_once(cache_dir / f"openvino-{version()}-{revision()}" / key)

    def __call__(self, mixtures: Tensor, sources: Sequence[int]) -> Tensor:
        """See `Estimator`."""
        return torch.cat([self._estimated(mixture[None], sources) for mixture in mixtures])

    @torch.no_grad()
    def prepare(self) -> None:
        """Take the memory and the second that the first call would take, and check what will run.

        Raises:
            EngineError: the converted network cannot be loaded (`conversion_failed`), or gives something else than
                torch on this machine (`estimates_differ`); another machine may do better.
        """
        if self._request is not None:
            return
        graph, window = self._converted.graph, self._converted.window
        try:
            if isinstance(window, Path):
                window = KnownWindow.load(window)
            self._request = self._compiled(graph, bf16=self._bf16)
        except (RuntimeError, OSError, ValueError) as error:
            raise fault_of(error) or EngineError(
                f"OpenVINO cannot load {graph}; if that file is damaged, remove it: {error}",
                code="conversion_failed",
                retryable=True,
            ) from error
        try:
            self._check(window)
        except BaseException:
            self._request = None  # the next call must not run what was refused
            raise

    def _check(self, window: KnownWindow) -> None:
        """Refuse a network that does not give the estimates of `window`."""
        snr = window.snr_db(self)
        least = _LEAST_SNR_BF16 if self._bf16 else _LEAST_SNR
        if snr >= least:
            return
        graph = self._converted.graph
        remedies = [f"remove {graph}, and it is converted again"] if isinstance(graph, Path) else []
        remedies += ["set UNMIX_PRECISION=exact"] if self._bf16 else []
        raise EngineError(
            f"OpenVINO gives something else than torch on this machine: SNR {snr:.0f} dB in "
            f"{'bfloat16' if self._bf16 else 'float32'}, where at least {least:.0f} dB are wanted. "
            f"What may help: {'; '.join([*remedies, 'set UNMIX_BACKEND=torch'])}",
            code="estimates_differ",
            retryable=True,
        )

    def _converted_once(self, folder: Path) -> Kept | Converted:
        """Return the converted network in `folder`, made if there is none, or else in memory."""
        kept = Kept.at(folder)
        if kept.is_whole:  # asked before the lock too: a folder that somebody else filled may be read-only
            return kept
        made = None
        try:
            folder.parent.mkdir(parents=True, exist_ok=True)
            # One process converts, those beside it wait: it takes many seconds and a gigabyte.
            with FileLock(folder.with_suffix(".lock")):
                if not kept.is_whole:
                    made = self._converted_anew()
                    made.save(folder)
            return kept
        except OSError as error:
            log.warning("the converted model cannot be kept", folder=str(folder), error=str(error))
            return made or self._converted_anew()

    @torch.no_grad()
    def _converted_anew(self) -> Converted:
        """Convert the network, and check by a known window that it is still the same model."""
        log.info("converting the model for OpenVINO")
        model = self.model
        window = KnownWindow.of(model, self._samples)
        inputs = (_normalised(model._magnitude(model._spec(window.mixture)))[0], _normalised(window.mixture)[0])
        graph = converted_apart(model, inputs)
        self._request = self._compiled(graph, bf16=False)
        snr = window.snr_db(self)
        self._request = None
        if not snr >= _LEAST_SNR:
            raise EngineError(
                f"OpenVINO gives something else than torch for this model (SNR {snr:.0f} dB); set UNMIX_BACKEND=torch",
                code="conversion_failed",
            )
        return Converted(graph, window)

    def _compiled(self, graph: Path | openvino.Model, *, bf16: bool) -> openvino.InferRequest:
        hints = {
            "INFERENCE_PRECISION_HINT": "bf16" if bf16 else "f32",
            "INFERENCE_NUM_THREADS": self._threads,
            "PERFORMANCE_HINT": "LATENCY",
            # It would bind its threads to processors from the first one on, in every process: workers beside each other
            # would then share one processor and leave the next one idle.
            "ENABLE_CPU_PINNING": False,
        }
        return _core().compile_model(graph, "CPU", hints).create_infer_request()

    def _estimated(self, mixture: Tensor, sources: Sequence[int]) -> Tensor:
        """Estimate in one window: (1, channels, time) → (1, sources, channels, time)."""
        transform = self.model._spec(mixture)
        spectrum, level = _normalised(self.model._magnitude(transform))
        wave, wave_level = _normalised(mixture)
        folded, waves = self._infer(spectrum, wave)
        by_source = (len(self.model.sources), mixture.shape[1])
        spectra = self._network.unfolded(folded)[0].unflatten(0, by_source)
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
