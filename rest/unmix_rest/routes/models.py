"""`/apiv1/models`: which models there are, as far as a worker has told of them."""

from dataclasses import replace

from flask import Response

from unmix import names
from unmix.queue.records import ModelCard
from unmix.settings import Settings
from unmix_rest.answer_shapes import Model, Models, Weights
from unmix_rest.http.answers import json_answer
from unmix_rest.services import Services


def models(services: Services) -> Response:
    """Tell which models a client may name, the default one first, and whether songs are fetched."""
    settings, cards = services.settings, services.queue.models.all()
    listed = tuple(_model(name, cards.get(name), services) for name in settings.allowed_models)
    return json_answer(Models(listed, song_urls=settings.song_urls))


def is_offered(name: str, card: ModelCard | None, settings: Settings) -> bool:
    """Tell whether jobs may be of a model: whether its weights may be used, by what is known of them."""
    licence = card.weights_licence if card else None
    return settings.allows_weights(names.DEMO_LICENCE if name == names.DEMO_MODEL else licence)


def _model(name: str, card: ModelCard | None, services: Services) -> Model:
    speed = services.queue.speeds.get(name)
    model = Model(
        name,
        default=name == services.settings.model,
        offered=is_offered(name, card, services.settings),
        announced=card is not None,
        realtime_factor=None if speed is None else round(speed.per_second, 4),
    )
    if card is None:  # no worker has loaded it since Redis was empty: it may be on none of them
        return model
    return replace(
        model,
        announced_at=card.announced_at,
        memory_mb=card.memory_mb,
        stems=names.stems_of(card.sources),
        sample_rate=card.sample_rate,
        weights=Weights(card.weights_sha256, card.weights_source, card.weights_licence),
    )
