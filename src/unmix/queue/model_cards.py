"""Model cards: what workers announce of the models that they have loaded, so that REST knows weights and sources."""

import json
from dataclasses import asdict, fields, replace
from datetime import UTC, datetime
from typing import cast

from unmix.queue.keys import MODELS
from unmix.queue.link import RedisLink
from unmix.queue.records import ModelCard


class ModelCards:
    """The announced models, by name. Every method raises `QueueError` when Redis is away."""

    def __init__(self, link: RedisLink) -> None:
        self._link = link

    def announce(self, card: ModelCard) -> None:
        """Tell REST which weights and sources a model has; what it takes stays known until a worker knows better."""
        if card.memory_mb is None and (known := self.get(card.name)) and known.weights_sha256 == card.weights_sha256:
            card = replace(card, memory_mb=known.memory_mb)
        with self._link.errors():
            written = {**asdict(card), "announced_at": datetime.now(UTC).isoformat(timespec="seconds")}
            self._link.client.hset(MODELS, card.name, json.dumps(written, sort_keys=True))

    def get(self, name: str) -> ModelCard | None:
        """Return what workers announced of a model, None if none has loaded it yet."""
        with self._link.errors():
            text = cast(str | None, self._link.client.hget(MODELS, name))
        return None if text is None else _card(text)

    def all(self) -> dict[str, ModelCard]:
        """Return all that workers announced, by the names of the models."""
        with self._link.errors():
            texts = cast(dict[str, str], self._link.client.hgetall(MODELS))
        return {name: _card(text) for name, text in texts.items()}


def _card(text: str) -> ModelCard:
    """Read a card; what only later versions write on it is passed over."""
    known = {field.name for field in fields(ModelCard)}
    written = {name: value for name, value in json.loads(text).items() if name in known}
    return ModelCard(**{**written, "sources": tuple(written["sources"])})
