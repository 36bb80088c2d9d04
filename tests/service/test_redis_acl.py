"""The server's settings and users: each role can do its work and no more."""

import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Self
from unittest.mock import patch

import pytest
import redis

from redis_users import users_of, written_users
from support import RedisServer, eventually, free_port, redis_login, redis_password, song_hash_number
from unmix.errors import QueueError
from unmix.job import JobRequest, JobStatus, SeparationOptions
from unmix.ledger.ledger import utc_now
from unmix.local import embedded_redis
from unmix.local.embedded_redis import roles, server_command
from unmix.local.local import LocalPlan, running
from unmix.outcome import Outcome
from unmix.queue import job_list
from unmix.queue.call_limits import CallRate
from unmix.queue.job_list import JobFilter
from unmix.queue.job_queue import JobQueue, QueuePolicy
from unmix.queue.outbox import FailedTry
from unmix.queue.quotas import Bucket, Places
from unmix.queue.records import Claim, ModelCard
from unmix.queue.runs import PartsOfJob, Run
from unmix.settings import Settings

#: Everything lapses and is due at once.
POLICY = QueuePolicy(lease_seconds=0.001, grace_seconds=0, retry_seconds=0)
JOB_ID = song_hash_number(1)
LEVEL = {"samples": 300, "mean": 0.0, "std": 1.0, "measured_by": "ab", "own_rate": 44_100, "own_samples": 300}
#: How Redis 6.2 to 8 and valkey word that a user lacks a right. DEBUG is refused before that is looked at.
REFUSED = re.compile(
    "no permissions|user executing the script can't|EXEC without MULTI|DEBUG command not allowed", re.IGNORECASE
)


class Logins:
    """What each user of one server can reach."""

    def __init__(self, redis_url: str) -> None:
        self._redis_url = redis_url
        self._queues: dict[str, JobQueue] = {}
        self._clients: list[redis.Redis] = []

    def queue(self, role: str) -> JobQueue:
        if role not in self._queues:
            login = redis_login(self._redis_url, role)
            password = login["UNMIX_REDIS_PASSWORD"]
            self._queues[role] = JobQueue(login["UNMIX_REDIS_URL"], password=password, policy=POLICY)
        return self._queues[role]

    def client(self, role: str) -> redis.Redis:
        """A plain client; as `default` it names no user."""
        url = redis_login(self._redis_url, role)["UNMIX_REDIS_URL"]
        if role == "default":
            client = redis.Redis.from_url(url.replace("default@", ""), decode_responses=True)
        else:
            client = redis.Redis.from_url(url, password=redis_password(role), decode_responses=True)
        self._clients.append(client)
        return client

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        for queue in self._queues.values():
            queue.close()
        for client in self._clients:
            client.close()


@pytest.fixture
def logins(redis_url: str) -> Iterator[Logins]:
    with Logins(redis_url) as logins:
        yield logins


def work_of_rest(logins: Logins) -> None:
    rest = logins.queue("rest")
    rest.ping()
    _list(rest)
    assert [job.hash for job in rest.job_list.page(JobFilter(), limit=1)[0]] == [JOB_ID]
    rest.job_list.page(JobFilter(), limit=1, after=f"1-{JOB_ID}")
    assert rest.submit(JOB_ID, "g1", callbacks=1, share="a")
    _let_each_have_its_turn(rest)
    rest.add_callback(JOB_ID, 1)
    assert rest.pulses.read([JOB_ID]).keys() == rest.pulses.positions([JOB_ID]).keys() == {JOB_ID}
    assert rest.pulses.open([JOB_ID]) == {JOB_ID}
    assert rest.pulses.parts([JOB_ID]) == {}
    assert rest.pulses.of_batch("b", rest.job_list.tenants()) == [JOB_ID]
    assert rest.pulses.work() == ({}, {})
    assert rest.speeds.get("demo") is None
    rest.outbox.owe_anew(JOB_ID, 1)
    assert rest.outbox.standings(JOB_ID, [1])[1].tries == 0
    assert rest.views.record(JOB_ID) is not None
    assert rest.views.position(JOB_ID) == 1
    assert rest.views.waiting(limit=10) == ([JOB_ID], 1)
    assert rest.views.running() == []
    assert rest.views.counts().open == 1
    assert rest.guard.first_commit(JOB_ID, "g1", b"{}") == b"{}"
    assert rest.settle(JOB_ID, "g1", JobStatus.FAILED, error_code="poison", callbacks=1)
    assert rest.views.failed(limit=10) == ([JOB_ID], 1)
    rest.forget(JOB_ID)
    assert rest.models.get("demo") is None
    assert rest.attendance.present() == []
    assert rest.attendance.last_to_leave() is None
    assert rest.runs.known(JOB_ID) is None
    assert rest.views.ahead_of("b") == 0
    assert rest.quotas.take("10.0.0.1", {"requests": Bucket(1, 60, 1)})["requests"].used == 1
    assert rest.quotas.take("10.0.0.1", {"jobs": Places(1, JOB_ID, 60)})["jobs"].used == 1
    rest.quotas.keep_place("jobs", "10.0.0.1", JOB_ID)
    rest.quotas.leave_place("jobs", "10.0.0.1", JOB_ID)
    rest.room.refuse_if_full()
    rest.room.check_writing()
    rest.log_list.push("node.rest.info:done", max_lines=10)


def work_of_a_worker(logins: Logins) -> None:
    worker = logins.queue("worker")
    worker.ping()
    worker.models.announce(ModelCard("demo", "ab" * 32, ("drums", "bass", "other", "vocals"), 44_100))
    worker.attendance.arrive("worker-1", "pod")
    worker.attendance.leave("worker-1", code=None, error=None)
    _list(worker)
    logins.queue("rest").submit("junk", "g1")
    worker.discard(worker.take(block_seconds=1) or "")
    ends: list[Callable[[Claim], object]] = [
        worker.release,
        worker.drop,
        lambda claim: worker.fail(claim, error_code="store_unavailable"),
        lambda claim: worker.finish(claim, JobStatus.FAILED, error_code="poison", callbacks=1),
    ]
    for number, end in enumerate(ends):
        claim = _claim(logins, f"g{number}")
        worker.renew(claim, progress=0.5)
        _share(worker, PartsOfJob(JOB_ID, f"g{number}", "exact-1", 3, 100, LEVEL), claim)
        end(claim)
    logins.queue("rest").submit(JOB_ID, "blpop")
    assert worker.take(block_seconds=1, fetch="blpop") == JOB_ID
    assert worker.guard.first_commit(JOB_ID, "blpop", b"{}") == b"{}"
    worker.speeds.note("demo", song_seconds=1, work_seconds=1)
    worker.log_list.push("node.worker.info:done", max_lines=10)


def _let_each_have_its_turn(rest: JobQueue) -> None:
    """Queue jobs that come before one that waits already, and remove them."""
    others = [song_hash_number(number) for number in (2, 3, 4)]
    for job_id, share in zip(others, "aab", strict=True):
        rest.submit(job_id, "g1", share=share)
    assert rest.views.waiting(limit=10)[0] == [JOB_ID, others[2], others[0], others[1]]
    for job_id in others:
        rest.forget(job_id)


def _list(queue: JobQueue) -> None:
    """Put a job on the list, and then how it ended."""
    request = JobRequest(JOB_ID, SeparationOptions("demo"), utc_now(), generation="g1", labels=("a",), batches=("b",))
    queue.job_list.note(request)
    queue.job_list.note(request, Outcome(JOB_ID, "g1", JobStatus.DONE, utc_now()))


def _share(worker: JobQueue, parts: PartsOfJob, claim: Claim) -> None:
    """Lead and help with a job that falls into parts."""
    assert not worker.has_waiting()
    assert worker.runs.ask_help(claim, parts, there=())
    assert worker.runs.wanted(parts.kind) == [parts]
    run = worker.runs.take(parts)
    assert isinstance(run, Run)
    assert worker.runs.renew(parts, run)
    worker.runs.note_there(parts, 0)
    worker.runs.note_missing(parts, 1)
    assert worker.runs.there(parts) == {0}
    worker.runs.give_back(parts, run)


def work_of_the_janitor(logins: Logins) -> None:
    janitor = logins.queue("janitor")
    janitor.ping()
    with patch.object(job_list, "MOST_JOBS", 0):
        _list(janitor)
    _list(janitor)
    assert janitor.job_list.members() == {JOB_ID: True}
    assert janitor.job_list.since_ms > 0
    janitor.job_list.drop(JOB_ID)
    janitor.job_list.note_begin()
    janitor.job_list.note_whole()
    assert janitor.job_list.is_whole
    _claim(logins)
    assert janitor.attendance.present() == []
    assert janitor.attendance.busy() == {"worker-1"}
    eventually(lambda: janitor.sweep().lapsed, "the lease has lapsed")
    assert logins.queue("worker").take(block_seconds=1) == JOB_ID
    assert janitor.sweep().unclaimed == 1
    logins.queue("worker").fail(_claim(logins), error_code="store_unavailable")
    eventually(lambda: janitor.sweep().retries, "the retry is due")
    logins.client("admin").delete("toWorker")
    assert JOB_ID not in janitor.views.snapshot().present
    assert janitor.requeue(JOB_ID, "g1", callbacks=1, submitted_at_ms=1)
    logins.client("admin").delete("toWorker")
    assert janitor.requeue(JOB_ID, "g2", callbacks=1, submitted_at_ms=1)
    assert janitor.settle(JOB_ID, "g2", JobStatus.FAILED, error_code="poison", callbacks=1)
    logins.queue("rest").submit(JOB_ID, "g3", share="a")
    assert janitor.settle(JOB_ID, "g3", JobStatus.FAILED, error_code="poison", callbacks=1)
    janitor.note_failed(JOB_ID, 1)
    janitor.note_damaged("queue/document.json")
    janitor.outbox.owe(JOB_ID, 0)
    assert janitor.outbox.due(limit=10) == [(JOB_ID, 0)]
    janitor.outbox.note_host(JOB_ID, 0, "example.com")
    assert list(janitor.outbox.due_with_hosts()) == [((JOB_ID, 0), "example.com")]
    assert janitor.calls.take({"host:example.com": CallRate(60, 1)}) == {}
    failed = FailedTry("then", "no", 500)
    assert janitor.outbox.put_off(JOB_ID, 0, retry_seconds=1, failed=failed) == janitor.outbox.tries(JOB_ID, 0) == 1
    janitor.outbox.end(JOB_ID, 0)
    assert janitor.views.counts().damaged == 1
    janitor.forget(JOB_ID)
    janitor.log_list.push("node.janitor.info:done", max_lines=10)
    janitor.log_list.trim(max_lines=10, max_bytes=1)


def _claim(logins: Logins, generation: str = "g1") -> Claim:
    logins.queue("rest").submit(JOB_ID, generation, share="a")
    element = logins.queue("worker").take(block_seconds=1)
    assert element == JOB_ID
    claim = logins.queue("worker").claim(element, JOB_ID, "worker-1")
    assert claim is not None
    return claim


def work_of_logs(logins: Logins) -> None:
    logins.queue("rest").log_list.push("node.rest.info:line", max_lines=10)
    logs = logins.queue("logs")
    logs.ping()
    assert logs.log_list.peek() == ["node.rest.info:line"]
    assert logs.log_list.pop(block_seconds=1) == "node.rest.info:line"


def work_of_the_old_contract(client: redis.Redis) -> None:
    client.ping()
    for key in ("toWorker", "logging"):
        assert client.lpush(key, "b", "a") == 2
        assert client.rpush(key, "c", "d") == 4
        assert client.llen(key) == 4
        assert client.lrange(key, 0, -1) == ["a", "b", "c", "d"]
        assert (client.lpop(key), client.rpop(key)) == ("a", "d")
        assert client.blpop([key], timeout=1) == (key, "b")
        assert client.brpop([key], timeout=1) == (key, "c")


def work_of_the_scaler(logins: Logins) -> None:
    scaler = logins.client("scaler")
    scaler.ping()
    assert _lengths_as_keda_counts(scaler) == [0, 0, 0]
    logins.queue("rest").submit(JOB_ID, "g1")
    assert _lengths_as_keda_counts(scaler) == [1, 1, 0]


def _lengths_as_keda_counts(client: redis.Redis) -> list[int]:
    """What KEDA's Redis scaler sees: it asks for the type of a key, and takes a missing one for a list."""
    script = "return redis.call(redis.call('TYPE', KEYS[1]).ok == 'zset' and 'ZCARD' or 'LLEN', KEYS[1])"
    return [client.eval(script, 1, key) for key in ("unmix:open", "toWorker", "unmix:help")]


def work_of_a_person(logins: Logins) -> None:
    logins.queue("rest").submit(JOB_ID, "g1")
    person = logins.client("default")
    assert person.zcard("unmix:open") == 1
    assert person.rpop("toWorker") == JOB_ID
    work_of_the_old_contract(person)


WORK: dict[str, Callable[[Logins], None]] = {
    "rest": work_of_rest,
    "worker": work_of_a_worker,
    "janitor": work_of_the_janitor,
    "logs": work_of_logs,
    "legacy": lambda logins: work_of_the_old_contract(logins.client("legacy")),
    "scaler": work_of_the_scaler,
    "default": work_of_a_person,
}


def test_every_user_of_the_template_is_tested_here() -> None:
    assert {*roles(), "default"} == set(WORK)


@pytest.mark.parametrize("role", WORK)
def test_a_user_can_do_its_work(logins: Logins, role: str) -> None:
    WORK[role](logins)


@pytest.mark.parametrize("role", WORK)
def test_a_user_has_no_right_that_its_work_can_do_without(own_redis: RedisServer, tmp_path: Path, role: str) -> None:
    rights = _rights(tmp_path)[role]
    login = "nopass" if role == "default" else f">{redis_password(role)}"
    refusals = {}
    with redis.Redis.from_url(own_redis.url) as admin:
        for right in (right for right in rights if not right.startswith("-")):
            admin.flushall()
            admin.script_flush()
            without = [other for other in rights if other != right]
            admin.execute_command("ACL", "SETUSER", role, "reset", "on", login, *without)
            with Logins(own_redis.url) as logins:
                refusals[right] = _refusal(logins, role)
    assert {right: refusal for right, refusal in refusals.items() if not REFUSED.search(refusal)} == {}


def _refusal(logins: Logins, role: str) -> str:
    """What the server refuses a user at its work."""
    try:
        WORK[role](logins)
    except (QueueError, redis.ResponseError) as error:
        return str(error)
    return "nothing"


FORBIDDEN = (
    "FLUSHALL", "FLUSHDB", "CONFIG GET *", "CONFIG SET maxmemory 0", "KEYS *", "DEBUG SLEEP 0", "SHUTDOWN NOSAVE",
    "ACL LIST", "ACL WHOAMI", "MODULE LIST", "REPLICAOF NO ONE", "SAVE", "BGREWRITEAOF", "MONITOR", "CLIENT LIST",
    "CLIENT KILL TYPE normal", "EVAL return(1) 0", "SCRIPT FLUSH", "SCAN 0", "RANDOMKEY", "PUBLISH channel message",
)  # fmt: skip


@pytest.mark.parametrize("role", WORK)
def test_a_user_cannot_rule_the_server(logins: Logins, role: str) -> None:
    client = logins.client(role)
    for command in FORBIDDEN:
        if role == "scaler" and command.startswith("EVAL"):
            continue  # it may; see test_a_script_of_the_scaler_can_only_count
        with pytest.raises(redis.ResponseError, match=REFUSED):
            client.execute_command(*command.split())


@pytest.mark.parametrize(
    ("role", "keys"),
    [
        ("rest", ["other", "unmix:other"]),
        ("worker", ["other", "unmix:other"]),
        ("janitor", ["other", "unmix:models", "unmix:commit:x", "unmix:other"]),
        ("logs", ["other", "toWorker", "unmix:open"]),
        ("legacy", ["other", "unmix:open", "unmix:taken", f"unmix:job:{JOB_ID}"]),
        ("scaler", ["other", "unmix:taken", "logging", f"unmix:job:{JOB_ID}"]),
        ("default", ["other", "unmix:taken", "unmix:leases", f"unmix:job:{JOB_ID}"]),
    ],
)
def test_a_user_cannot_touch_other_keys(logins: Logins, role: str, keys: list[str]) -> None:
    client = logins.client(role)

    def touch(key: str) -> object:
        """Use a command that the user has."""
        if role == "logs":
            return client.brpop([key], timeout=0.1)
        return client.zcard(key) if role == "scaler" else client.lpush(key, "x")

    for key in keys:
        with pytest.raises(redis.exceptions.NoPermissionError, match="key"):
            touch(key)


@pytest.mark.parametrize("call", ["'FLUSHALL'", "'KEYS', '*'", "'SET', 'other', 1"])
def test_a_script_can_do_no_more_than_its_user(logins: Logins, call: str) -> None:
    client = logins.client("rest")
    script = client.script_load(f"return redis.call({call})")
    with pytest.raises(redis.ResponseError, match=REFUSED):
        client.evalsha(script, 0)


@pytest.mark.parametrize("call", ["'FLUSHALL'", "'LPUSH', 'toWorker', 'x'", "'LLEN', 'logging'", "'RPOP', 'toWorker'"])
def test_a_script_of_the_scaler_can_only_count(logins: Logins, call: str) -> None:
    with pytest.raises(redis.ResponseError, match=REFUSED):
        logins.client("scaler").eval(f"return redis.call({call})", 0)


@pytest.mark.parametrize(
    ("user", "password"), [("worker", "wrong"), ("worker", ""), ("stranger", redis_password("worker"))]
)
def test_a_wrong_password_or_user_is_told_from_a_server_that_is_away(redis_url: str, user: str, password: str) -> None:
    url = redis_login(redis_url, user)["UNMIX_REDIS_URL"]
    with JobQueue(url, password=password) as queue, pytest.raises(QueueError) as caught:
        queue.ping()
    assert caught.value.code == "queue_denied"


def test_what_is_accepted_is_on_the_disk_and_nothing_is_dropped_for_room(logins: Logins) -> None:
    names = ("appendonly", "appendfsync", "no-appendfsync-on-rewrite", "save", "maxmemory-policy", "databases")
    admin = logins.client("admin")
    assert [admin.config_get(name)[name] for name in names] == ["yes", "always", "no", "", "noeviction", "1"]


def test_a_server_without_its_settings_is_not_started(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(embedded_redis, "_FOLDERS", (tmp_path,))
    with pytest.raises(QueueError, match=f"redis.conf is in none of {tmp_path}") as caught:
        server_command(free_port(), tmp_path)
    assert caught.value.code == "no_redis_config"


@pytest.mark.slow
def test_local_mode_runs_each_process_as_its_user_and_lets_a_person_look(tmp_path: Path) -> None:
    plan = LocalPlan(data_dir=tmp_path, port=free_port(), workers=1, model="demo")
    with running(Settings(), plan, say=print) as stack:
        stack.wait_until_ready(limit_seconds=90)
        with redis.Redis.from_url(stack.redis_url, decode_responses=True) as person:
            origins = (".rest.info:", ".worker.info:", ".janitor.info:")
            eventually(
                lambda: all(origin in " ".join(person.lrange("logging", 0, -1)) for origin in origins),
                "each process has logged",
            )
            assert person.zcard("unmix:open") == 0
            with pytest.raises(redis.exceptions.NoPermissionError):
                person.flushall()
        command = [sys.executable, "-m", "unmix.cli", "logs", "--peek"]
        logs = subprocess.run(command, env={"UNMIX_REDIS_URL": stack.redis_url}, capture_output=True, text=True)
        assert (logs.returncode, logs.stderr) == (0, "")
        assert all(origin in logs.stdout for origin in origins)
        assert not REFUSED.search(stack.tails())


def _rights(folder: Path) -> dict[str, list[str]]:
    return {user: words[2:] for user, words in users_of(written_users(folder)).items()}
