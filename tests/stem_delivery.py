"""Stems that are written and delivered as whoever separates does it, without separating anything."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from unmix.audio.delivery import Delivered, delivery_of
from unmix.audio.encode import StemWriter
from unmix.audio.level import Level
from unmix.audio.samples import SAMPLE_RATE, Samples
from unmix.audio.tags import NO_TAGS, Tags


def delivered(
    folder: Path,
    stems: Mapping[str, Samples],
    *,
    own_rate: int = SAMPLE_RATE,
    own_samples: int = 0,
    region: range | None = None,
    tags: Tags = NO_TAGS,
    go_on: Callable[[], None] = lambda: None,
    **wish: Any,
) -> Delivered:
    """Deliver stems of one length of a song of such a rate: as long as they are, or of which they are a `region`."""
    length = next(iter(stems.values())).shape[1]
    level = Level(length if region is None else region.stop + 1, 0.0, 1.0, "", own_rate, own_samples)
    wish = {"bits": 16, "song_rate": False, **wish}
    delivery = delivery_of(folder, tuple(stems), level, region or range(length), **wish)
    with delivery.writers(StemWriter, tags) as writers:
        for writer, samples in zip(writers, stems.values(), strict=True):
            writer.write(samples)
    return delivery.deliver(writers, tags, go_on)
