"""Mixture consistency: estimates that add up to their mixture. A pure function; `stems` decides when it is used."""

from torch import Tensor


def spread_residual(mixture: Tensor, estimates: Tensor) -> Tensor:
    """Return `estimates` (sources, channels, time), changed as little as possible to add up to `mixture`.

    `mixture` is (channels, time). What all estimates together lack of it, the residual, goes to each in equal shares:
    the unweighted projection of Wisdom et al., "Differentiable consistency constraints for improved deep speech
    enhancement" (ICASSP 2019). Shares by energy did not come closer to the true sources (worker/README.md).
    """
    return estimates + (mixture - estimates.sum(0)) / len(estimates)
