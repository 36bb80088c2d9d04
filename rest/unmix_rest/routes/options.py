"""The options of a job as clients say them: read, checked, and completed by the service's own.

Nothing is stored here; whatever is wrong is found before a song is looked at.
"""

from collections.abc import Mapping
from typing import Any, Final

from unmix import names
from unmix.audio.formats import check_bitrate, check_format, check_rate, check_stems
from unmix.audio.passes import check_passes
from unmix.errors import InputError
from unmix.job import PRECISIONS, SeparationOptions
from unmix.queue.records import ModelCard
from unmix_rest.http.fields import flag_field, list_field, number_field, text_field, whole_field
from unmix_rest.routes.models import is_offered
from unmix_rest.services import Services

#: What a job can be told.
OPTIONS: Final = (
    *("model", "stems", "format", "bits", "bitrate_kbps", "mixture_consistency", "start", "end"),
    *("precision", "overlap", "shifts", "song_rate"),
)
#: What other services let clients choose and this one decides itself.
FIXED_OPTIONS: Final = ("segment", "segment_seconds", "sample_rate")


def read_options(fields: Mapping[str, Any], services: Services) -> SeparationOptions:
    """Return the effective options, as far as the queue knows the model."""
    defaults = services.settings.default_options
    if any(fields.get(name) is not None for name in FIXED_OPTIONS):
        text = f"{', '.join(FIXED_OPTIONS)} are fixed by this service; song_rate asks for stems in the rate of the song"
        raise InputError(text, code="out_of_range")
    model = text_field(fields, "model") or defaults.model
    if model not in services.settings.allowed_models:
        known = ", ".join(services.settings.allowed_models)
        raise InputError(f"the models of this service are: {known}", code="unknown_model")
    format = text_field(fields, "format") or defaults.format
    bits = whole_field(fields, "bits")
    bits = defaults.bits if bits is None else bits
    check_format(format, bits)
    song_rate = flag_field(fields, "song_rate")
    check_rate(format, song_rate=song_rate)
    bitrate_kbps = whole_field(fields, "bitrate_kbps")
    check_bitrate(format, bitrate_kbps)
    precision = text_field(fields, "precision")
    if precision not in (None, *PRECISIONS):
        raise InputError(f"the precisions of this service are: {', '.join(PRECISIONS)}", code="unknown_precision")
    overlap = number_field(fields, "overlap")
    overlap = defaults.overlap if overlap is None else overlap
    shifts = whole_field(fields, "shifts") or 0
    check_passes(overlap, shifts)
    card = services.queue.models.get(model)
    if not is_offered(model, card, services.settings):
        text = "only models are served whose weights anybody may use, and of this one that is not known"
        raise InputError(text, code="weights_not_open")
    stems = _stems(fields, card)
    if wanted := stems or (card.sources if card else ()):
        check_stems(format, wanted)
    return SeparationOptions(
        model,
        stems,
        format,
        weights_sha256=card.weights_sha256 if card else None,
        mixture_consistency=flag_field(fields, "mixture_consistency"),
        bits=bits,
        start=number_field(fields, "start") or 0.0,
        end=number_field(fields, "end"),
        bitrate_kbps=bitrate_kbps,
        precision=precision,
        overlap=overlap,
        shifts=shifts,
        song_rate=song_rate,
    )


def _stems(fields: Mapping[str, Any], card: ModelCard | None) -> tuple[str, ...]:
    """Read the stems that are wanted; none are all sources, and so is each of them by name."""
    sources = card.sources if card else ()
    given = [name.lower() for name in list_field(fields, "stems")]
    stems = tuple(dict.fromkeys(names.stem_named(name, sources) for name in given))
    offered = names.stems_of(sources) if card else None
    if not all(map(names.is_stem, stems)) or not (offered is None or set(stems) <= set(offered)):
        known = f"the stems of this model are: {', '.join(offered)}" if offered else "no stem is called like this"
        raise InputError(known, code="unknown_stem")
    return () if card and set(stems) == set(sources) else stems
