"""Where the weights of a model come from, and what is known of their licence.

The demo model's weights are ours. What demucs publishes has two licences, depending on whom one believes; an
operator's own files come without any. This module only says so; which ones are used is the settings' business.
"""

from dataclasses import dataclass
from typing import Final

from unmix.names import DEMO_LICENCE


@dataclass(frozen=True, slots=True)
class Provenance:
    """The origin of weights and their licence, as sentences for people; they appear in `ran` of every finished job."""

    source: str
    licence: str


#: The model in this package.
DEMO: Final = Provenance("Track-Unmix", DEMO_LICENCE)

#: Files in an operator's folder that are not named as demucs names its own.
OPERATORS: Final = Provenance("the operator's model folder", "unknown")

#: When asked, their author wrote in 2022 that demucs' MIT licence does not cover them and that they are for scientific
#: purposes (https://github.com/facebookresearch/demucs/issues/327, also 508). In 2026 he uploaded them to the Hugging
#: Face hub; his tool for that writes `license: mit` (https://github.com/adefossez/demucs, tools/export_hf.py).
_PUBLISHED_LICENCE: Final = (
    "unclear: for scientific purposes (demucs issues 327, 508) or MIT (cards on the Hugging Face hub)"
)


def published(name: str) -> Provenance:
    """Return the provenance of what demucs publishes as `name`, wherever a copy of it is kept."""
    return Provenance(f"demucs, {name}", _PUBLISHED_LICENCE)
