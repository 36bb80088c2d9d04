"""How often callbacks may be sent: to one host, and of one job, while the others are none the worse."""

import json
import threading
from io import BytesIO
from pathlib import Path

import pytest
import redis

from delivery_support import JOB_ID, STEMS, deliver_all, deliver_until, post, quick_rest
from rest_support import SONG, Rest
from support import CallbackServer, eventually, song_hash_number
from unmix.janitor.deliveries import Deliveries
from unmix.job import Callback, JobRequest, JobStatus, SeparationOptions
from unmix.ledger.callback_room import CALLBACKS_OF_ASKER
from unmix.ledger.ledger import utc_now
from unmix.outcome import Outcome

#: So seldom that no test sees the next token.
NEVER = 1e-6


@pytest.fixture
def rest(tmp_path: Path, redis_url: str) -> Rest:
    return quick_rest(tmp_path, redis_url)


def owe(rest: Rest, number: int, url: str) -> str:
    """Have a job that is over and owes one callback."""
    job_id = song_hash_number(number)
    request, _ = rest.ledger.accept(
        JobRequest(job_id, SeparationOptions("demo"), utc_now(), callbacks=(Callback(url, {"number": number}),))
    )
    rest.ledger.commit(Outcome(job_id, request.generation, JobStatus.CANCELLED, utc_now()))
    rest.queue.outbox.owe(job_id, 0)
    return job_id


def numbers(receiver: CallbackServer) -> list[int]:
    return [body["number"] for body in receiver.bodies]


def test_a_host_is_called_so_often_and_the_rest_waits_uncharged(rest: Rest) -> None:
    with CallbackServer() as receiver, CallbackServer() as other:
        other.url = other.url.replace("127.0.0.1", "localhost")
        jobs = [owe(rest, number, receiver.url) for number in range(4)]
        owe(rest, 4, other.url)
        deliver_until(rest, lambda: bool(other.bodies and receiver.bodies), callback_host_per_minute=NEVER)
        assert len(receiver.bodies) == 1
        assert [rest.queue.outbox.tries(job_id, 0) for job_id in jobs] == [0] * len(jobs)
        assert rest.queue.views.counts().outbox == 3


def test_the_rest_comes_in_its_order_when_the_host_may_be_called_again(rest: Rest) -> None:
    with CallbackServer() as receiver:
        for number in range(6):
            rest.queue.outbox.note_host(owe(rest, number, receiver.url), 0, "127.0.0.1")  # they had to wait before
        steadily = {"callback_host_per_minute": 600, "sweep_seconds": NEVER, "callback_host_at_once": 1}
        deliver_until(rest, lambda: rest.queue.views.counts().outbox == 0, **steadily)
        assert numbers(receiver) == sorted(numbers(receiver))
        assert len(receiver.bodies) == 6


def test_the_pile_of_a_host_that_may_not_be_called_keeps_no_other_waiting(rest: Rest) -> None:
    with CallbackServer() as receiver, CallbackServer() as other:
        for number in range(100):
            owe(rest, number, receiver.url)
        other.url = other.url.replace("127.0.0.1", "localhost")
        owe(rest, 100, other.url)
        deliver_until(rest, lambda: bool(other.bodies), callback_host_per_minute=NEVER)
        assert len(receiver.bodies) <= 1


class SlowServer(CallbackServer):
    """A receiver that answers only when it is told to, and counts who waits."""

    def __init__(self) -> None:
        super().__init__()
        self.answers = threading.Event()
        self._lock = threading.Lock()
        self._waiting = self.most_waiting = 0

    def judge(self, headers: dict[str, str], body: bytes) -> int:
        with self._lock:
            self._waiting += 1
            self.most_waiting = max(self.most_waiting, self._waiting)
        self.answers.wait(30)
        with self._lock:
            self._waiting -= 1
        return self.status


def test_a_slow_host_has_few_deliveries_at_once_and_others_go_on_beside_it(rest: Rest) -> None:
    with SlowServer() as slow, CallbackServer() as quick:
        for number in range(40):
            owe(rest, number, slow.url)
        quick.url = quick.url.replace("127.0.0.1", "localhost")
        for number in range(40, 60):
            owe(rest, number, quick.url)
        with Deliveries(rest.settings, rest.queue, rest.ledger) as deliveries:
            eventually(lambda: len(quick.bodies) == 20, "the quick one has all", meanwhile=deliveries.start_due)
            slow.answers.set()
            eventually(lambda: len(set(numbers(slow))) == 40, "the slow one too", meanwhile=deliveries.start_due)
            deliveries._pool.shutdown()
        assert slow.most_waiting == rest.settings.callback_host_at_once
        assert set(numbers(slow)) == set(range(40))


def test_a_job_that_is_cancelled_and_tried_again_all_the_time_calls_few_times(rest: Rest, redis_url: str) -> None:
    with CallbackServer() as receiver:
        for number in range(CALLBACKS_OF_ASKER):
            post(rest, receiver, number=number)
        few = {"callback_job_per_minute": NEVER}
        for _ in range(5):
            assert rest.client.post(f"/apiv1/jobs/{JOB_ID}/cancel").status_code == 200
            with Deliveries(rest.settings.model_copy(update=few), rest.queue, rest.ledger) as deliveries:
                deliveries.start_due()
                eventually(lambda: not deliveries._under_way, "what may be delivered is")
            assert rest.client.post(f"/apiv1/jobs/{JOB_ID}/retry").status_code == 200
        rest.finish(JOB_ID, STEMS)
        assert len(receiver.bodies) == CALLBACKS_OF_ASKER
        with redis.Redis.from_url(redis_url) as client:
            client.delete(f"unmix:calls:job:{JOB_ID}")  # as time passes
        noted = deliver_all(rest)
    assert {each["state"] for each in noted.values()} == {"delivered"}
    assert [body["status"] for body in receiver.bodies[-CALLBACKS_OF_ASKER:]] == ["done"] * CALLBACKS_OF_ASKER


def test_each_who_asks_for_callbacks_of_a_job_has_as_many_sent_as_one_alone(rest: Rest) -> None:
    with CallbackServer() as receiver:
        for number in range(CALLBACKS_OF_ASKER):
            post(rest, receiver, number=number)
        wish = json.dumps({"url": receiver.url, "data": {"number": 16}})
        another = {"REMOTE_ADDR": "10.0.0.2"}
        sent = {"file": (BytesIO(SONG), "song.mp3"), "callback": wish}
        assert rest.client.post("/apiv1/jobs", data=sent, environ_base=another).status_code == 202
        rest.finish(JOB_ID, STEMS)
        deliver_until(rest, lambda: rest.queue.views.counts().outbox == 0, callback_job_per_minute=NEVER)
        assert sorted(numbers(receiver)) == [*range(CALLBACKS_OF_ASKER + 1)]


def test_a_callback_of_a_new_submission_that_goes_elsewhere_is_counted_there(rest: Rest) -> None:
    with CallbackServer() as busy, CallbackServer() as elsewhere:
        elsewhere.url = elsewhere.url.replace("127.0.0.1", "localhost")
        post(rest, busy)
        rest.client.post(f"/apiv1/jobs/{JOB_ID}/cancel")
        rest.queue.outbox.note_host(JOB_ID, 0, "127.0.0.1")
        rest.client.delete(f"/apiv1/jobs/{JOB_ID}")
        rest.post_form(SONG, callback=json.dumps({"url": elsewhere.url}))
        rest.finish(JOB_ID, STEMS)
        deliver_all(rest)
        assert (len(busy.bodies), len(elsewhere.bodies)) == (0, 1)
