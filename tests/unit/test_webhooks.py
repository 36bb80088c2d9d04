"""How callbacks are signed, verified over a real server by the library of the Standard Webhooks specification."""

import json
import os
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from standardwebhooks import Webhook, WebhookVerificationError

from delivery_support import JOB_ID, STEMS, WebhookReceiver, deliver_all, deliver_until, post, quick_rest
from rest_support import SONG, Rest
from support import CallbackServer
from unmix.callbacks.delivery import deliver
from unmix.callbacks.signing import Signer, new_secret
from unmix.errors import CallbackError
from unmix.job import Callback
from unmix.settings import Settings

OLD, NEW, OTHER = (f"whsec_{letter * 43}=" for letter in "AEI")
FIELDS = {"hash": "h", "songhash": "h", "status": "done", "tracks": ["bass"]}


@pytest.fixture
def rest(tmp_path: Path, redis_url: str) -> Rest:
    return quick_rest(tmp_path, redis_url)


def send(receiver: CallbackServer, secrets: str) -> None:
    callback = Callback(receiver.url, {"ticket": "ü"})
    deliver(callback, FIELDS, allow="127.0.0.1", delivery_id="job-0", signer=Signer(secrets))


def test_a_receiver_verifies_a_callback_with_the_secret_of_the_operator() -> None:
    with WebhookReceiver(OLD) as receiver:
        send(receiver, OLD)
        assert receiver.verified == [{"ticket": "ü", **FIELDS}]


def test_while_a_secret_is_replaced_receivers_that_know_either_are_content() -> None:
    with WebhookReceiver(OLD) as late, WebhookReceiver(NEW) as early:
        for receiver in (late, early):
            send(receiver, f"{NEW}, {OLD}")
            assert len(receiver.verified) == 1
        first, second = late.heads[0]["Webhook-Signature"].split(" ")
        assert first != second
        send(early, NEW)
        assert early.heads[1]["Webhook-Signature"].count("v1,") == 1
    signed = {"webhook-id": "job-0", "webhook-timestamp": late.heads[0]["Webhook-Timestamp"]}
    Webhook(NEW).verify(json.dumps(late.bodies[0]), {**signed, "webhook-signature": first})


def test_a_receiver_refuses_what_is_signed_with_another_secret_or_not_at_all() -> None:
    for secrets in (OTHER, ""):
        with WebhookReceiver(OLD) as receiver:
            with pytest.raises(CallbackError):
                send(receiver, secrets)
            assert receiver.verified == []


def test_a_signature_holds_for_one_id_one_time_and_one_body() -> None:
    now = datetime.now(UTC)
    headers = Signer(OLD).headers("job-0", b'{"a": 1}', at=now)
    Webhook(OLD).verify(b'{"a": 1}', headers)
    later = str(int(headers["Webhook-Timestamp"]) + 1)
    for body, changed in (
        (b'{"a": 2}', headers),
        (b'{"a": 1}', {**headers, "Webhook-Id": "job-1"}),
        (b'{"a": 1}', {**headers, "Webhook-Timestamp": later}),
    ):
        with pytest.raises(WebhookVerificationError, match="No matching signature"):
            Webhook(OLD).verify(body, changed)
    stale = Signer(OLD).headers("job-0", b"{}", at=now - timedelta(hours=1))
    with pytest.raises(WebhookVerificationError, match="too old"):
        Webhook(OLD).verify(b"{}", stale)


def test_without_secrets_a_callback_has_an_id_and_a_time_and_no_signature() -> None:
    with CallbackServer() as receiver:
        send(receiver, "")
        assert {"Webhook-Id", "Webhook-Timestamp"} <= receiver.heads[0].keys()
        assert "Webhook-Signature" not in receiver.heads[0]


def test_the_janitor_signs_and_says_nothing_of_its_secrets(rest: Rest, capfd: pytest.CaptureFixture[str]) -> None:
    secrets = Settings(webhook_secrets=f"{NEW},{OLD}").webhook_secrets
    with WebhookReceiver(OLD) as receiver:
        post(rest, receiver, ticket=1)
        rest.finish(JOB_ID, STEMS)
        noted = deliver_all(rest, webhook_secrets=secrets)
        assert receiver.verified == receiver.bodies
    assert noted["0"]["state"] == "delivered"
    told = "".join(capfd.readouterr())
    assert "callback delivered" in told
    assert not any(secret[6:20] in told for secret in (OLD, NEW))


def test_an_id_has_no_full_stop_which_would_end_it_in_what_is_signed(rest: Rest) -> None:
    with CallbackServer() as receiver:
        answer = rest.post_form(SONG, format="flac", callback=json.dumps({"url": receiver.url}))
        assert "." in answer.json["hash"]
        rest.finish(answer.json["hash"], STEMS)
        deliver_until(rest, lambda: bool(receiver.delivery_ids))
        assert "." not in receiver.delivery_ids[0]


def test_secrets_that_are_made_here_are_all_different_and_good() -> None:
    command = [sys.executable, "-m", "unmix.cli", "webhook-secret"]
    made = [subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip() for _ in range(2)]
    made.append(new_secret())
    assert len(set(made)) == 3
    Settings(webhook_secrets=",".join(made))


@pytest.mark.parametrize(
    ("wrong", "command"),
    [
        ("hunter2-hunter2", ["unmix.cli", "janitor"]),
        ("whsec_hunter2", ["unmix.cli", "janitor"]),
        ("whsec_" + "hunter2-" * 5, ["unmix.cli", "janitor"]),
        ("whsec_" + "hunter22" * 12, ["unmix.cli", "janitor"]),
        (f"{OLD},hunter2", ["unmix.cli", "janitor"]),
        (f"{OLD},hunter2", ["unmix_rest"]),  # which reads them as the janitor does
    ],
    ids=["no prefix", "too short", "not base64", "too long", "the second", "the second, of REST"],
)
def test_a_wrong_secret_stops_the_process_which_names_the_setting_and_not_the_secret(
    wrong: str, command: list[str]
) -> None:
    environment = {**os.environ, "UNMIX_WEBHOOK_SECRETS": wrong}
    ended = subprocess.run([sys.executable, "-m", *command], env=environment, capture_output=True, text=True)
    assert ended.returncode == 1
    assert "UNMIX_WEBHOOK_SECRETS" in ended.stderr
    assert "hunter2" not in ended.stdout + ended.stderr
    assert OLD[6:] not in ended.stdout + ended.stderr
