"""What tests of callbacks share: a service whose callbacks come here, the janitor's part, a receiver that verifies."""

import json
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

from standardwebhooks import Webhook, WebhookVerificationError

from rest_support import SONG, Rest
from support import CallbackServer, eventually
from unmix.errors import QueueError
from unmix.janitor.deliveries import Deliveries
from unmix.janitor.reconciler import Reconciler
from unmix.names import hash_song

JOB_ID = hash_song(SONG)
STEMS = {"vocals": b"voice", "drums": b"boom"}


class WebhookReceiver(CallbackServer):
    """A receiver that lets in only what is signed with its secret, as the library of the specification has it."""

    def __init__(self, secret: str) -> None:
        super().__init__()
        self._webhook = Webhook(secret)
        self.verified: list[dict[str, Any]] = []

    def judge(self, headers: dict[str, str], body: bytes) -> int:
        try:
            self.verified.append(self._webhook.verify(body, headers))
        except WebhookVerificationError:
            return 401
        return self.status


def quick_rest(folder: Path, redis_url: str, **settings: Any) -> Rest:
    """A service whose callbacks may come here, as often as it likes, three tries shortly after another."""
    quick = {
        "callback_allow": "127.0.0.1,localhost",
        "callback_max_attempts": 3,
        "callback_retry_seconds": 0.02,
        "callback_host_per_minute": 1e6,
        "callback_job_per_minute": 1e6,
    }
    return Rest(folder, redis_url, **{**quick, **settings})


def post(rest: Rest, receiver: CallbackServer, *, events: list[str] | None = None, **data: Any) -> None:
    """Send the song with a callback."""
    wish = {"url": receiver.url, "data": data, **({} if events is None else {"events": events})}
    answer = rest.post_form(SONG, callback=json.dumps(wish))
    assert answer.status_code == 200, answer.json


def deliver_until(rest: Rest, condition: Callable[[], bool], **settings: Any) -> None:
    """Do what the janitor does with callbacks, again and again; Redis may be away meanwhile."""
    changed = rest.settings.model_copy(update=settings)

    def start_due() -> None:
        with suppress(QueueError):
            deliveries.start_due()

    with Deliveries(changed, rest.queue, rest.ledger) as deliveries:
        eventually(condition, "the callbacks are where they should be", meanwhile=start_due)
        deliveries._pool.shutdown()  # what is under way comes to its end


def deliver_all(rest: Rest, **settings: Any) -> dict[str, Any]:
    """Deliver until the outbox is empty, and return what the job says of its callbacks."""
    deliver_until(rest, lambda: rest.queue.views.counts().outbox == 0, **settings)
    return callbacks_of(rest)


def callbacks_of(rest: Rest) -> dict[str, Any]:
    """Return what the job says of its callbacks."""
    return dict(rest.client.get(f"/apiv1/jobs/{JOB_ID}").json["callbacks"])


def assert_needs_nothing(rest: Rest) -> None:
    """No job is left open when the reconciler has looked twice."""
    reconciler = Reconciler(rest.queue, rest.ledger)
    for _ in range(2):
        reconciler.run()
    assert list(rest.ledger.inventory.open_marks()) == []
