"""One estimator for several songs at once: their windows fill its batches together.

A GPU computes eight windows in little more time than one. Songs whose last windows are few, or that are short, would
leave most of a batch empty; here each of them takes along what the others are waiting for.
"""

import threading
from collections import deque
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from unmix.engine.estimators import Estimator


class SharedEstimator:
    """See `Estimator`; may be called from several threads, of which one at a time computes, for all."""

    def __init__(self, estimator: Estimator) -> None:
        self._estimator = estimator
        self._waiting: deque[_Window] = deque()  # the longest waiting first; appending and taking are atomic
        self._turn = threading.Lock()
        self._ordered: deque[torch.cuda.Event] = deque()  # what the device was told to compute and may not have done

    @property
    def model(self) -> Any:
        """See `Estimator`."""
        return self._estimator.model

    @property
    def batch(self) -> int:
        """See `Estimator`."""
        return self._estimator.batch

    @property
    def device(self) -> torch.device:
        """See `Estimator`."""
        return self._estimator.device

    def __call__(self, mixtures: Tensor, sources: Sequence[int]) -> Tensor:
        """See `Estimator`."""
        own = [_Window(mixture, sources) for mixture in mixtures]
        self._waiting.extend(own)
        with self._turn:
            while not all(window.is_over for window in own):
                self._compute()
        return torch.stack([window.estimates() for window in own])

    def _compute(self) -> None:
        """Compute one batch of those that have waited longest."""
        if len(self._ordered) > 1:  # time for others to come along: the device has one more batch to do
            self._ordered.popleft().synchronize()
        windows = [self._waiting.popleft() for _ in range(min(self.batch, len(self._waiting)))]
        sources = sorted({source for window in windows for source in window.sources})
        try:
            estimates = self._estimator(torch.stack([window.mixture for window in windows]), sources)
        except BaseException as error:  # each of them is told by the thread that waits for it
            for window in windows:
                window.error = error
            return
        for window, result in zip(windows, estimates, strict=True):
            window.result = torch.stack([result[sources.index(source)] for source in window.sources])
        if self.device.type == "cuda":
            self._ordered.append(torch.cuda.current_stream(self.device).record_event())


class _Window:
    """A window of one of the songs, and what became of it."""

    def __init__(self, mixture: Tensor, sources: Sequence[int]) -> None:
        self.mixture = mixture
        self.sources = list(sources)
        self.result: Tensor | None = None
        self.error: BaseException | None = None

    @property
    def is_over(self) -> bool:
        return self.result is not None or self.error is not None

    def estimates(self) -> Tensor:
        if self.error is not None:
            raise self.error
        assert self.result is not None
        return self.result
