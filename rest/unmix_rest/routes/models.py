"""`/apiv1/models`: which models there are, as far as a worker has told of them."""

from typing import Any

from flask import Response

from unmix import names
from unmix.queue.records import ModelCard
from unmix.queue.speeds import Speed
from unmix.settings import Settings
from unmix_rest.http.answers import json_answer
from unmix_rest.services import Services


def models(services: Services) -> Response:
    """Tell which models a client may name, the default one first."""
    settings, cards = services.settings, services.queue.models.all()
    return json_answer(
        {
            "models": [
                {
                    "name": name,
                    "default": name == settings.model,
                    "offered": is_offered(name, cards.get(name), settings),
                    **_of_card(cards.get(name)),
                    "realtime_factor": _realtime_factor(services.queue.speeds.get(name)),
                }
                for name in settings.allowed_models
            ]
        }
    )


def is_offered(name: str, card: ModelCard | None, settings: Settings) -> bool:
    """Tell whether jobs may be of a model: whether its weights may be used, by what is known of them."""
    licence = card.weights_licence if card else None
    return settings.allows_weights(names.DEMO_LICENCE if name == names.DEMO_MODEL else licence)


def _realtime_factor(speed: Speed | None) -> float | None:
    """Return how many seconds a worker here takes for a second of song; None until one was done."""
    return None if speed is None else round(speed.per_second, 4)


def _of_card(card: ModelCard | None) -> dict[str, Any]:
    if card is None:  # no worker has loaded it since Redis was empty: it may be on none of them
        return {"announced": False, "announced_at": None, "stems": None, "sample_rate": None, "weights": None}
    return {
        "announced": True,
        "announced_at": card.announced_at,
        "stems": list(names.stems_of(card.sources)),
        "sample_rate": card.sample_rate,
        "weights": {"sha256": card.weights_sha256, "source": card.weights_source, "licence": card.weights_licence},
    }
