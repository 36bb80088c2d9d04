"""What a stranger sees: whoever asks for another tenant's things gets, byte for byte, what there is of nobody's."""

import re
import secrets
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import pytest
import redis

from rest_support import SONG, Answer, Rest
from support import RedisServer
from unmix import names
from unmix.access.keyring import Keyring
from unmix.access.keys import GRANTABLE, USUAL, Scope
from unmix.audio.probe import Probe, ProbedSong
from unmix.job import JobStatus
from unmix.names import hash_song
from unmix_rest import live
from unmix_rest.routes.table import ROUTES

#: What each route has to do with tenants. A route that is not here has not been thought about.
BY_JOB = {
    ("GET", "/apiv1/jobs/<job_id>"),
    ("DELETE", "/apiv1/jobs/<job_id>"),
    ("GET", "/apiv1/jobs/<job_id>/events"),
    ("POST", "/apiv1/jobs/<job_id>/cancel"),
    ("POST", "/apiv1/jobs/<job_id>/retry"),
    ("POST", "/apiv1/jobs/<job_id>/callbacks/<index>/redeliver"),
    ("GET", "/apiv1/jobs/<job_id>/parts"),
    ("GET", "/apiv1/jobs/<job_id>/parts/<int:index>/<stem>"),
    ("GET", "/apiv1/jobs/<job_id>/peaks"),
    ("POST", "/apiv1/jobs/<job_id>/links"),
    ("GET", "/apiv1/jobs/<job_id>/stems.zip"),
    ("GET", "/apiv1/track/<job_id>/<track>"),
    ("GET", "/apiv1/track"),
    ("GET", "/apiv1/remove/<job_id>/<track>"),
    ("DELETE", "/apiv1/remove/<job_id>/<track>"),
    ("GET", "/apiv1/remove/<job_id>"),
    ("DELETE", "/apiv1/remove/<job_id>"),
    ("GET", "/apiv1/remove"),
    ("DELETE", "/apiv1/remove"),
}
#: Of these, what the query names.
IN_QUERY = ("/apiv1/track", "/apiv1/remove")
BY_UPLOAD = {
    ("GET", "/apiv1/uploads/<upload_id>"),
    ("PUT", "/apiv1/uploads/<upload_id>"),
    ("POST", "/apiv1/jobs"),  # of an upload
}
#: Lists, which show the tenant's own.
OF_MANY = {("GET", f"/apiv1/{path}") for path in ("jobs", "events", "queue", "failed")}
#: What begins something of the caller's own.
NEW = {("POST", "/apiv1/separate"), ("POST", "/apiv1/uploads")}
#: What tells of the caller alone.
OWN = {("GET", "/apiv1/usage")}
#: What has sums over all tenants, for those who run the service.
SUMS = {("GET", "/metrics")}

#: What an answer draws at random.
REQUEST_ID = re.compile(rb"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")


@dataclass
class Tenants:
    """A service with jobs of one tenant in every state, and who else asks it."""

    rest: Rest
    keys: dict[str, str]
    jobs: dict[str, str] = field(default_factory=dict)
    upload_id: str = ""

    def ask(self, who: str, method: str, path: str, **options: Any) -> Answer:
        headers = {"Authorization": f"Bearer {self.keys[who]}", **options.pop("headers", {})}
        return self.rest.client.open(path, method=method, headers=headers, **options)

    def send(self, who: str, **query: str) -> str:
        answer = self.ask(who, "POST", "/apiv1/jobs", data=SONG, content_type="audio/wav", query_string=query)
        assert answer.status_code == 202, answer.json
        return str(answer.json["hash"])


@pytest.fixture(scope="module")
def service(
    tmp_path_factory: pytest.TempPathFactory, shared_redis: RedisServer, check_once: Callable[..., ProbedSong]
) -> Tenants:
    """What strangers ask is shared by all who look: they change nothing, which is looked at too."""
    with redis.Redis.from_url(shared_redis.url) as client:
        client.flushall()
    rest = Rest(tmp_path_factory.mktemp("tenants"), shared_redis.url, auth="keys")
    keyring = Keyring(rest.store)
    keys = {
        name: keyring.create(name, scopes=scopes, tenant=tenant)[1]
        for name, tenant, scopes in (
            ("anna", "choir", USUAL),
            ("ben", "band", USUAL),
            ("carla", "main", USUAL),
            ("operator", "main", GRANTABLE),
        )
    }
    tenants = Tenants(rest, keys)
    callback = '{"url": "http://93.184.215.14/done"}'
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Probe, "check", check_once)
        shared = {"labels": "solo", "batch": "mass", "callback": callback}
        for state, stems in (("done", "vocals"), ("failed", "bass"), ("running", ""), ("queued", "drums")):
            tenants.jobs[state] = job_id = tenants.send("anna", name=state, stems=stems, **shared)
            if state == "done":
                rest.finish(job_id, {"vocals": b"some bytes"})
            elif state == "failed":
                rest.finish(job_id, status=JobStatus.FAILED, error_code="poison", error="it crashed", ran=None)
            elif state == "running":
                claim = rest.queue.claim(str(rest.queue.take(block_seconds=1)), job_id, "worker-1")
                assert claim
                rest.queue.renew(claim, progress=0.5)
    tenants.upload_id = tenants.ask("anna", "POST", "/apiv1/uploads").json["upload_id"]
    return tenants


def everything(tenants: Tenants) -> tuple[list[str], dict[str, Any]]:
    """What there is in the store and in Redis, but for what changes by itself."""
    views = tenants.rest.queue.views
    kept = [name for name in tenants.rest.stored() if "access/" not in name]
    return kept, {job_id: views.record_and_position(job_id) for job_id in tenants.jobs.values()}


def told(answer: Answer, *ids: str) -> tuple[int, list[tuple[str, str]], bytes]:
    """An answer as a stranger sees it, without its time, what is drawn at random and the id that was asked for."""
    body = REQUEST_ID.sub(b"*", answer.data)
    for each in ids:
        body = body.replace(each.encode(), b"*")
    return answer.status_code, sorted(answer.headers.items()), body


def path_of(rule: str, job_id: str) -> str:
    path = rule.replace("<job_id>", job_id).replace("<track>", "vocals").replace("<int:index>", "0")
    return path.replace("<stem>", "vocals").replace("<index>", "0")


def query_of(rule: str, job_id: str) -> dict[str, str]:
    return {"hash": job_id, "track": "vocals"} if rule in IN_QUERY else {}


def test_every_route_has_been_thought_about() -> None:
    public = {(method, route.rule) for route in ROUTES if route.scope is Scope.PUBLIC for method in route.methods}
    thought_of = [BY_JOB, BY_UPLOAD, OF_MANY, NEW, OWN, SUMS, public]
    assert set[tuple[str, str]]().union(*thought_of) == {
        (method, route.rule) for route in ROUTES for method in route.methods
    }
    assert sum(map(len, thought_of)) == sum(len(route.methods) for route in ROUTES)
    assert all("<" not in rule or rule.startswith("/static/") for _, rule in public)


@pytest.mark.parametrize("who", ["ben", "carla"])
@pytest.mark.parametrize(("method", "rule"), sorted(BY_JOB), ids=lambda text: text)
def test_another_tenants_job_is_told_of_as_nobodys_is(service: Tenants, who: str, method: str, rule: str) -> None:
    before = everything(service)

    def ask(job_id: str) -> tuple[int, list[tuple[str, str]], bytes]:
        return told(service.ask(who, method, path_of(rule, job_id), query_string=query_of(rule, job_id)), job_id)

    for job_id in service.jobs.values():
        variant = job_id[names.SONG_HASH_LENGTH :]
        nobodys = ask(secrets.token_hex(32) + variant)
        assert nobodys[0] == 404
        assert ask(job_id) == nobodys
    assert everything(service) == before


@pytest.mark.parametrize(("method", "rule"), sorted(BY_JOB), ids=lambda text: text)
def test_the_main_tenants_jobs_are_nobodys_for_the_others(service: Tenants, method: str, rule: str) -> None:
    mains = hash_song(SONG)
    service.rest.store.put(names.song_object(mains), SONG)  # as a push would need it
    try:
        one, other = (
            told(service.ask("ben", method, path_of(rule, job_id), query_string=query_of(rule, job_id)))
            for job_id in (mains, "0" * 64)
        )
        assert (one[0], one) == (404, other)
        assert service.rest.ledger.has_song(mains)
    finally:
        service.rest.store.remove(names.song_object(mains))


@pytest.mark.parametrize("who", ["ben", "carla"])
@pytest.mark.parametrize(("method", "rule"), sorted(BY_UPLOAD), ids=lambda text: text)
def test_another_tenants_upload_is_told_of_as_nobodys_is(service: Tenants, who: str, method: str, rule: str) -> None:
    before = everything(service)

    def ask(upload_id: str) -> tuple[int, list[tuple[str, str]], bytes]:
        path = rule.replace("<upload_id>", upload_id)
        how: dict[str, Any] = {"json": {"upload": upload_id}} if method == "POST" else {}
        if method == "PUT":
            how = {"data": b"x" * 100, "content_type": "application/octet-stream"}
        return told(service.ask(who, method, path, **how), upload_id)

    ends_at = names.upload_ends_at(service.upload_id)
    nobodys = ask(names.new_upload_id(ends_at))
    assert nobodys[0] == 404
    assert ask(service.upload_id) == nobodys
    assert ask(f"{names.new_upload_id(ends_at)}-{secrets.token_hex(8)}") == nobodys
    assert everything(service) == before


@pytest.mark.parametrize("who", ["ben", "carla"])
def test_lists_show_nothing_of_another_tenant(service: Tenants, who: str) -> None:
    for query in ("", "label=solo", "batch=mass", "name=e", *(f"status={status}" for status in JobStatus)):
        for limit in ("", "&limit=1"):
            assert service.ask(who, "GET", f"/apiv1/jobs?{query}{limit}").json == {"jobs": [], "next": None}
    after = f"9999999999999-{service.jobs['done']}"
    assert service.ask(who, "GET", f"/apiv1/jobs?after={after}").json == {"jobs": [], "next": None}
    assert service.ask(who, "GET", "/apiv1/failed").json == {"failed": [], "total": 0}


def test_lists_show_all_that_is_the_tenants_own(service: Tenants) -> None:
    jobs = service.jobs

    def listed(who: str, query: str) -> set[str]:
        return {job["name"] for job in service.ask(who, "GET", f"/apiv1/jobs?{query}").json["jobs"]}

    for who in ("anna", "operator"):
        assert listed(who, "") == listed(who, "label=solo") == listed(who, "batch=mass") == set(jobs)
        for status in ("done", "failed", "running", "queued"):
            assert listed(who, f"status={status}") == {status}
        failed = service.ask(who, "GET", "/apiv1/failed").json
        assert ([failure["hash"] for failure in failed["failed"]], failed["total"]) == ([jobs["failed"]], 1)


def test_the_queue_shows_the_tenants_own_in_their_places_and_counts_the_others(service: Tenants) -> None:
    workers = service.ask("ben", "GET", "/apiv1/queue").json["workers"]
    waits = {"total": 1, "running_total": 1, "workers": workers}
    own: dict[str, Any] = {"queue": [service.jobs["queued"]], "positions": [1], "running": [service.jobs["running"]]}
    assert service.ask("anna", "GET", "/apiv1/queue").json == {**own, **waits}
    assert service.ask("operator", "GET", "/apiv1/queue").json == {**own, **waits}
    for who in ("ben", "carla"):
        nothing: dict[str, Any] = {"queue": [], "positions": [], "running": []}
        assert service.ask(who, "GET", "/apiv1/queue").json == {**nothing, **waits}


def first_events(service: Tenants, who: str, monkeypatch: pytest.MonkeyPatch) -> bytes:
    """What a stream of the batch tells that another tenant has too, until it has been silent."""
    monkeypatch.setattr("unmix_rest.routes.events.COMMENT_SECONDS", 0.5)
    monkeypatch.setattr(live, "LOOK_SECONDS", 0.02)
    answer = service.ask(who, "GET", "/apiv1/events?batch=mass", buffered=False)
    seen = b""
    for chunk in answer.response:
        seen += chunk if isinstance(chunk, bytes) else chunk.encode()
        if b": nothing new" in seen or seen.count(b"event:") == len(service.jobs):
            break
    answer.close()
    return seen


def test_a_stream_of_a_batch_tells_of_the_tenants_own(service: Tenants, monkeypatch: pytest.MonkeyPatch) -> None:
    own = first_events(service, "anna", monkeypatch)
    assert all(job_id.encode() in own for job_id in service.jobs.values())
    for who in ("ben", "carla"):
        assert b"event:" not in first_events(service, who, monkeypatch)


def test_metrics_name_no_tenant(service: Tenants) -> None:
    text = service.ask("operator", "GET", "/metrics").text
    assert not re.search("choir|band|anna|ben|carla", text)


def test_an_id_of_a_tenant_says_nothing_of_its_song(service: Tenants) -> None:
    for job_id in service.jobs.values():
        assert hash_song(SONG)[:8] not in job_id
        view = service.ask("anna", "GET", f"/apiv1/jobs/{job_id}").json
        assert hash_song(SONG) not in str(view)


def test_a_link_opens_the_one_job_of_its_tenant(service: Tenants) -> None:
    done, failed = service.jobs["done"], service.jobs["failed"]
    link = service.ask("anna", "POST", f"/apiv1/jobs/{done}/links").json["link"]
    guest = service.rest.client
    assert guest.get(f"/apiv1/track/{done}/vocals?link={link}").data == b"some bytes"
    assert guest.get(f"/apiv1/jobs/{failed}?link={link}").status_code == 403
    for_all = service.ask("operator", "POST", f"/apiv1/jobs/{done}/links").json["link"]
    assert guest.get(f"/apiv1/jobs/{done}?link={for_all}").status_code == 200


def test_whoever_runs_the_service_sees_the_jobs_of_all(service: Tenants) -> None:
    for job_id in service.jobs.values():
        assert service.ask("operator", "GET", f"/apiv1/jobs/{job_id}").status_code == 200
