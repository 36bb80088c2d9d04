"""From asked stems to sources and back: what a model has to estimate for them, and how they are made of that.

Most stems are a source of the model as it was estimated, the others the song less one. `separator` asks here before it
runs a model, and for every stretch after.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from torch import Tensor

from unmix.engine.consistency import spread_residual
from unmix.engine.models import LoadedModel
from unmix.errors import InputError
from unmix.names import less_one, stem_named, stems_of


@dataclass(frozen=True, slots=True)
class StemPlan:
    """The stems of one song."""

    names: tuple[str, ...]  # in the asked order
    sources: tuple[str, ...]  # that have to be estimated for them
    less: Mapping[str, str]  # those that are the song less one source, and that source
    mixture_consistency: bool

    def stems(self, mixture: Tensor, estimates: Tensor) -> list[Tensor]:
        """Return the stems (channels, time) of a stretch, from its mixture (channels, time) and the estimates in it.

        `estimates` (sources, channels, time) are those of `sources`.
        """
        if self.mixture_consistency:
            estimates = spread_residual(mixture, estimates)
        stems = dict(zip(self.sources, estimates, strict=True))
        stems |= {stem: mixture - stems[source] for stem, source in self.less.items()}
        return [stems[name] for name in self.names]


def plan_stems(model: LoadedModel, asked: Sequence[str], *, mixture_consistency: bool) -> StemPlan:
    """Plan the asked stems, or all sources of the model if none are named.

    Only what they need is estimated. For mixture consistency that is every source: the residual is what all lack.

    Raises:
        InputError: a stem that the model cannot give (`unknown_stem`).
    """
    known, less = stems_of(model.sources), less_one(model.sources)
    asked = [stem_named(name, model.sources) for name in asked]
    for name in asked:
        if name not in known:
            message = f"model {model.name} has no stem {name!r}; it has {', '.join(known)}"
            raise InputError(message, code="unknown_stem")
    names = tuple(dict.fromkeys(asked or model.sources))
    needed = dict.fromkeys(less.get(name, name) for name in names)
    sources = model.sources if mixture_consistency else tuple(needed)
    return StemPlan(names, sources, {name: less[name] for name in names if name in less}, mixture_consistency)
