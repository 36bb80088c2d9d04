"""`/apiv1/models`: which models there are, as far as a worker has told of them."""

from typing import Any

from flask import Response

from unmix import names
from unmix.queue.records import ModelCard
from unmix_rest.http.answers import json_answer
from unmix_rest.services import Services


def models(services: Services) -> Response:
    """Tell which models a client may name, the default one first."""
    cards = services.queue.models.all()
    return json_answer(
        {
            "models": [
                {"name": name, "default": name == services.settings.model, **_of_card(cards.get(name))}
                for name in services.settings.allowed_models
            ]
        }
    )


def _of_card(card: ModelCard | None) -> dict[str, Any]:
    if card is None:  # no worker has loaded it since Redis was empty: it may be on none of them
        return {"announced": False, "stems": None, "sample_rate": None, "weights": None}
    return {
        "announced": True,
        "stems": list(names.stems_of(card.sources)),
        "sample_rate": card.sample_rate,
        "weights": {"sha256": card.weights_sha256, "source": card.weights_source, "licence": card.weights_licence},
    }
