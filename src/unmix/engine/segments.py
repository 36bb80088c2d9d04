"""Segments: a song as overlapping windows, each separated on its own, and their estimates as one stream again.

Gives what `demucs.apply.apply_model` gives for an overlap and shifts, in memory that does not grow with the song: at
any time there are about two segments of mixture and, for each pass, one of estimates, on the device of the estimators.
A window depends on nothing but the song's length and its samples there, so any range of windows can be separated
anywhere. Normalisation and files are `separator`'s.

Shapes: mixture (channels, time), estimates (sources, channels, time); float32, at the model's sample rate.
"""

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice, takewhile
from typing import Any

import torch
from demucs.utils import center_trim
from torch import Tensor
from torch.nn import functional

from unmix.audio.passes import OVERLAP
from unmix.engine.estimators import Estimator
from unmix.engine.passes import Passes
from unmix.errors import EngineError


@dataclass(frozen=True, slots=True)
class Window:
    """One segment: the samples `[offset, offset + length)` are estimated from the mixture `[start, stop)`.

    Models want inputs of certain lengths. The rest is the song around the segment, and silence beyond its ends.
    """

    offset: int
    length: int
    start: int
    stop: int

    @property
    def end(self) -> int:
        """The sample behind the segment."""
        return self.offset + self.length

    @property
    def span(self) -> int:
        """Samples of mixture that the model gets."""
        return self.stop - self.start


@dataclass(frozen=True, slots=True)
class Plan:
    """Where the windows of one model lie in a song of `total` samples.

    The first one begins `silence` samples before the song: so it is shifted.
    """

    model: Any  # one model of demucs, no bag
    total: int
    overlap: float = OVERLAP
    silence: int = 0

    @property
    def segment(self) -> int:
        """Samples of a whole segment."""
        return int(self.model.samplerate * self.model.segment)

    @property
    def stride(self) -> int:
        """Samples from one segment to the next."""
        return int((1 - self.overlap) * self.segment)

    def __len__(self) -> int:
        return -(-(self.silence + self.total) // self.stride)

    def window(self, index: int) -> Window:
        """Return the window number `index`, from 0."""
        offset = index * self.stride - self.silence
        length = min(self.segment, self.total - offset)
        wanted = self.model.valid_length(length) if hasattr(self.model, "valid_length") else length
        start = offset - (wanted - length) // 2
        return Window(offset, length, start, start + wanted)


def separate_windows(
    estimator: Estimator, mixtures: Sequence[Tensor], windows: Sequence[Window], sources: Sequence[int]
) -> list[Tensor]:
    """Estimate the sources with these indexes in `windows`, from the song's samples `[start, stop)` of each.

    Returns (sources, channels, window.length) for each, where the mixtures are. Pure: what else was separated before,
    beside it, or where, does not matter.

    Raises:
        EngineError: the device ran out of memory (`out_of_memory`), or the model failed.
    """
    results = []
    for window, estimates in zip(windows, estimator(torch.stack(list(mixtures)), sources), strict=True):
        # A device would have to be waited for to tell; whoever fetches the estimates from there looks then.
        if estimates.is_cpu and not estimates.isfinite().all():
            raise EngineError("the model gave samples that are not finite")
        results.append(center_trim(estimates, window.length))
    return results


class SegmentStream:
    """Separates a song that arrives in chunks and hands on every stretch as soon as it is finished."""

    def __init__(
        self,
        estimators: Sequence[Estimator],
        weights: Sequence[Sequence[float]],
        total: int,
        sources: Sequence[int],
        region: range | None = None,
        passes: Passes | None = None,
    ) -> None:
        """Prepare for a song of `total` samples and the sources with these indexes.

        `weights` has, for each model, its weight in every source. A model without weight in the asked ones is not run.
        Of the song only `region` is estimated, with the windows that touch it: what comes out is what the whole song
        would give there. `passes` are the plain one unless they are given.
        """
        self._region, passes = region or range(total), passes or Passes()
        self._lanes = [
            _Lane(
                estimator,
                Plan(estimator.model, total, passes.overlap, silence),
                self._region,
                [own[source] for source in sources],
            )
            for index, (estimator, own) in enumerate(zip(estimators, weights, strict=True))
            if any(own[source] for source in sources)
            for silence in passes.silences(index, estimator.model.samplerate)
        ]
        times = max(1, passes.shifts)
        weight_sums = [times * sum(own[source] for own in weights) for source in sources]
        (self.device,) = {lane.estimator.device for lane in self._lanes}
        self._weight_sums = torch.tensor(weight_sums, device=self.device)[:, None, None]
        self._sources = sources
        self._total = total
        self._windows = sum(len(lane.todo) for lane in self._lanes)

    def __len__(self) -> int:
        """Return how many windows there are to separate."""
        return self._windows

    @property
    def first_sample(self) -> int:
        """Number of the first sample of the song that a window needs."""
        return max(0, min(lane.todo[0].start for lane in self._lanes))

    def estimates(
        self, chunks: Iterable[Tensor], on_segment: Callable[[int], None], *, begin: int = 0
    ) -> Iterator[tuple[Tensor, Tensor]]:
        """Yield mixture (channels, time) and estimates (sources, channels, time) of the region's consecutive stretches.

        `chunks` are the mixture on `device` from sample `begin` on, which is no later than `first_sample`, to the
        song's end, cut anywhere; `on_segment` is told how many windows are done.

        Raises:
            EngineError: a window failed, or the chunks are not `total` samples long (`song_changed`).
        """
        mixture = _Mixture(self.device, begin)
        done, finished = 0, self._region.start
        for chunk in chunks:
            mixture.append(chunk)
            mixture.forget(min([mixture.end, *(lane.todo[0].start for lane in self._lanes if lane.todo)]))
            while (lane := self._furthest_behind()) and (windows := self._batch(lane, mixture.end)):
                stretches = [mixture.cut(window.start, window.stop) for window in windows]
                for separated in separate_windows(lane.estimator, stretches, windows, self._sources):
                    lane.add(separated)
                done += len(windows)
                on_segment(done)
                length = min(self._region.stop - finished, *(lane.finished.shape[-1] for lane in self._lanes))
                if length:
                    estimates = sum(lane.take(length) for lane in self._lanes) / self._weight_sums
                    yield mixture.cut(finished, finished + length), estimates
                    finished += length
        if mixture.end != self._total:
            raise EngineError("the song changed while it was read", code="song_changed", retryable=True)

    def _furthest_behind(self) -> "_Lane | None":
        waiting = [lane for lane in self._lanes if lane.todo]
        return min(waiting, key=lambda lane: lane.todo[0].stop, default=None)

    def _batch(self, lane: "_Lane", arrived: int) -> list[Window]:
        """Return the next windows for one call of the lane's estimator; none while their mixture has not arrived."""
        windows = list(islice(lane.todo, lane.estimator.batch))
        if min(windows[-1].stop, self._total) > arrived:
            return []
        # Some models take a shorter last window: it goes alone.
        return list(takewhile(lambda window: window.span == windows[0].span, windows))


class _Lane:
    """One model of a bag on one way through the song: the windows before it, the overlap-add of those behind."""

    def __init__(self, estimator: Estimator, plan: Plan, region: range, weights: Sequence[float]) -> None:
        self.estimator = estimator
        self.plan = plan
        windows = map(plan.window, range(len(plan)))
        self.todo = deque(each for each in windows if each.offset < region.stop and region.start < each.end)
        self._unwanted = region.start - self.todo[0].offset  # samples before the region
        device = estimator.device
        self.finished = torch.zeros(len(weights), 2, 0, device=device)
        self._weights = torch.tensor(weights, device=device)[:, None, None]
        # The triangle of demucs: the middle of a segment counts most, its edges, where context lacks, least.
        half = plan.segment // 2
        rising, falling = torch.arange(1, half + 1), torch.arange(plan.segment - half, 0, -1)
        self._triangle = (torch.cat([rising, falling]) / (plan.segment - half)).to(device)
        self._sum = torch.zeros(len(weights), 2, plan.segment, device=device)
        self._triangle_sum = torch.zeros(plan.segment, device=device)

    def add(self, estimates: Tensor) -> None:
        """Add the estimates (sources, channels, time) in the next window, which is then done."""
        length = estimates.shape[-1]
        self._sum[..., :length] += self._triangle[:length] * estimates
        self._triangle_sum[:length] += self._triangle[:length]
        self.todo.popleft()
        ready = self.plan.stride if self.todo else length  # no later window reaches back there
        finished = self._sum[..., :ready] / self._triangle_sum[:ready]
        self.finished = torch.cat([self.finished, finished[..., self._unwanted :]], dim=-1)
        self._unwanted = max(0, self._unwanted - ready)
        self._sum = _shifted(self._sum, ready)
        self._triangle_sum = _shifted(self._triangle_sum, ready)

    def take(self, length: int) -> Tensor:
        """Hand on the first `length` finished samples of every source, times this model's weight in it."""
        taken, self.finished = self.finished[..., :length], self.finished[..., length:]
        return taken * self._weights


class _Mixture:
    """The stretch of the song that windows still need."""

    def __init__(self, device: torch.device, begin: int) -> None:
        self._samples = torch.zeros(2, 0, device=device)
        self._begin = begin

    @property
    def end(self) -> int:
        """How many samples of the song have arrived."""
        return self._begin + self._samples.shape[-1]

    def append(self, chunk: Tensor) -> None:
        self._samples = torch.cat([self._samples, chunk], dim=-1)

    def cut(self, start: int, stop: int) -> Tensor:
        """Return the samples `[start, stop)`, silence where the song has none."""
        inside = self._samples[:, max(0, start - self._begin) : max(0, stop - self._begin)]
        left = max(0, self._begin - start)
        return functional.pad(inside, (left, stop - start - left - inside.shape[-1]))

    def forget(self, before: int) -> None:
        if before > self._begin:
            self._samples = self._samples[:, before - self._begin :].clone()
            self._begin = before


def _shifted(tensor: Tensor, by: int) -> Tensor:
    return functional.pad(tensor[..., by:], (0, by))
