"""Jobs of tenants from their song to their end: each has its own, wherever they are listed, and whatever was lost."""

import json
from collections.abc import Iterator
from io import BytesIO
from pathlib import Path
from typing import Any

import pytest
import redis

from rest_support import SONG, Answer, Rest
from support import SongServer
from unmix import names
from unmix.access.keyring import Keyring
from unmix.access.keys import GRANTABLE, USUAL
from unmix.access.tenants import Tenants
from unmix.janitor.audit import Audit
from unmix.janitor.reconciler import Reconciler
from unmix.janitor.retention import Retention
from unmix.job import JobStatus
from unmix.names import hash_song

WHO = {"anna": "choir", "ben": "band", "carla": "main"}


class Service:
    """A service that wants keys, with those of three tenants and of whoever runs it."""

    def __init__(self, folder: Path, redis_url: str, **settings: Any) -> None:
        self.rest = Rest(folder, redis_url, auth="keys", **settings)
        keyring = Keyring(self.rest.store)
        self.keys = {who: keyring.create(who, scopes=USUAL, tenant=tenant)[1] for who, tenant in WHO.items()}
        self.keys["operator"] = keyring.create("operator", scopes=GRANTABLE, tenant="main")[1]

    def ask(self, who: str, method: str, path: str, **options: Any) -> Answer:
        headers = {"Authorization": f"Bearer {self.keys[who]}"}
        return self.rest.client.open(path, method=method, headers=headers, **options)

    def send(self, who: str, **query: str) -> str:
        answer = self.ask(who, "POST", "/apiv1/jobs", data=SONG, content_type="audio/wav", query_string=query)
        assert answer.status_code == 202, answer.json
        return str(answer.json["hash"])

    def listed(self, who: str, **query: str) -> list[str]:
        return [job["hash"] for job in self.ask(who, "GET", "/apiv1/jobs", query_string=query).json["jobs"]]


@pytest.fixture
def service(tmp_path: Path, redis_url: str) -> Service:
    return Service(tmp_path, redis_url)


@pytest.fixture
def raw(redis_url: str) -> Iterator["redis.Redis"]:
    with redis.Redis.from_url(redis_url, decode_responses=True) as client:
        yield client


def test_a_song_of_several_tenants_is_a_job_of_each(service: Service) -> None:
    jobs = {who: service.send(who) for who in WHO}
    assert len(set(jobs.values())) == len(WHO)
    assert jobs["carla"] == hash_song(SONG)
    for who, job_id in jobs.items():
        assert service.send(who) == job_id  # who sends it again joins the own one
        service.rest.finish(job_id, {"vocals": who.encode()})
    for who, job_id in jobs.items():
        assert service.ask(who, "GET", f"/apiv1/track/{job_id}/vocals.mp3").data == who.encode()
        assert service.listed(who) == [job_id]
        view = service.ask(who, "GET", f"/apiv1/jobs/{job_id}").json
        assert (view["hash"], view["songhash"], view["status"]) == (job_id, job_id, "done")
    service.ask("anna", "DELETE", f"/apiv1/jobs/{jobs['anna']}")
    for who in ("ben", "carla"):
        assert service.rest.ledger.has_song(jobs[who])
        assert service.ask(who, "GET", f"/apiv1/track/{jobs[who]}/vocals").status_code == 200
    assert set(service.listed("operator")) == {jobs["ben"], jobs["carla"]}


def test_a_request_says_whose_it_is_and_what_its_song_is(service: Service) -> None:
    for who, tenant in WHO.items():
        request = service.rest.ledger.request(service.send(who))
        assert request
        assert (request.tenant, request.wanted_sha256) == (tenant, hash_song(SONG))


def test_callbacks_stay_with_the_tenant_that_asked(service: Service) -> None:
    for who in WHO:
        job_id = service.send(who, callback=json.dumps({"url": f"http://93.184.215.14/{who}"}))
        request = service.rest.ledger.request(job_id)
        assert request
        assert [callback.url for callback in request.callbacks] == [f"http://93.184.215.14/{who}"]


def test_old_clients_of_a_tenant_are_served_as_ever(service: Service) -> None:
    form = {"mp3": (BytesIO(SONG), "song.mp3")}
    job_id = service.ask("anna", "POST", "/apiv1/separate", data=form).json["hash"]
    assert service.ask("anna", "GET", "/apiv1/queue").json["queue"] == [job_id]
    service.rest.finish(job_id, {"vocals": b"voice", "bass": b"low"})
    assert service.ask("anna", "GET", f"/apiv1/track?file_id={job_id}&component=base").data == b"low"
    assert service.ask("anna", "GET", f"/apiv1/remove/{job_id}/base").status_code == 200
    assert service.ask("anna", "GET", f"/apiv1/remove/{job_id}").status_code == 200
    assert service.listed("anna") == []


def test_the_owner_can_do_all_that_there_is_to_do_with_a_job(service: Service) -> None:
    job_id = service.send("anna", format="wav")
    assert service.ask("anna", "POST", f"/apiv1/jobs/{job_id}/cancel").json["status"] == "cancelled"
    assert service.listed("anna", status="cancelled") == [job_id]
    assert service.ask("anna", "POST", f"/apiv1/jobs/{job_id}/retry").json["status"] == "queued"
    assert service.listed("anna", status="queued") == [job_id]
    assert service.listed("anna", status="cancelled") == service.listed("ben", status="queued") == []
    service.rest.finish(job_id, status=JobStatus.FAILED, error_code="poison", error="it crashed", ran=None)
    assert service.listed("anna", status="failed") == [job_id]
    assert service.listed("anna", status="queued") == []
    assert service.ask("anna", "DELETE", f"/apiv1/jobs/{job_id}").status_code == 204
    assert [name for name in service.rest.stored() if "access/" not in name] == []


def test_a_tenants_upload_becomes_the_tenants_job(service: Service) -> None:
    url = service.ask("anna", "POST", "/apiv1/uploads").json["url"]
    upload_id = url.rpartition("/")[2]
    sent = service.ask("anna", "PUT", url, data=SONG, content_type="application/octet-stream")
    assert sent.json["complete"]
    for who in ("ben", "carla"):
        assert service.ask(who, "POST", "/apiv1/jobs", json={"upload": upload_id}).json["code"] == "unknown_upload"
    job_id = service.ask("anna", "POST", "/apiv1/jobs", json={"upload": upload_id}).json["hash"]
    assert job_id == service.send("anna")
    used = service.ask("anna", "GET", url).json
    assert (used["code"], used["hash"]) == ("upload_used", job_id)
    assert service.ask("ben", "GET", url).json["code"] == "unknown_upload"


def test_a_song_by_url_is_the_tenants_too(tmp_path: Path, redis_url: str) -> None:
    service = Service(tmp_path, redis_url, song_urls=True, song_url_allow="127.0.0.1")
    with SongServer({"/song": SONG}) as server:
        sent = {who: service.ask(who, "POST", "/apiv1/jobs", json={"url": f"{server.url}/song"}).json for who in WHO}
    for who in WHO:
        for other in WHO:
            status = service.ask(who, "GET", f"/apiv1/jobs/{sent[other]['hash']}").status_code
            assert status == (200 if who == other else 404)


def test_another_process_knows_the_same_ids(service: Service, tmp_path: Path, redis_url: str) -> None:
    job_id = service.send("anna")
    again = Rest(tmp_path, redis_url, auth="keys")
    headers = {"Authorization": f"Bearer {service.keys['anna']}"}
    assert again.client.get(f"/apiv1/jobs/{job_id}", headers=headers).status_code == 200
    assert again.client.post("/apiv1/jobs", data=SONG, content_type="audio/wav", headers=headers).json["hash"] == job_id


def audit(rest: Rest) -> None:
    Audit(rest.queue, rest.ledger, Retention(rest.queue, rest.ledger, songs_hours=0, stems_days=0)).run()


def test_what_redis_has_lost_is_listed_by_tenant_again(service: Service, raw: "redis.Redis") -> None:
    for who in WHO:
        service.rest.finish(service.send(who, labels="solo", batch="mass"), {"vocals": b"voice"})
    for who in WHO:
        service.send(who, format="flac", labels="solo", batch="mass")
    queries: list[dict[str, str]] = [{}, {"label": "solo"}, {"batch": "mass"}, {"status": "done"}, {"status": "queued"}]

    def lists() -> dict[tuple[str, int], list[str]]:
        return {(who, index): service.listed(who, **query) for who in WHO for index, query in enumerate(queries)}

    before = lists()
    assert all(before.values())
    raw.flushall()
    assert not any(lists().values())
    reconciler = Reconciler(service.rest.queue, service.rest.ledger)
    reconciler.run()
    reconciler.run()
    audit(service.rest)
    assert lists() == before


def test_a_job_whose_request_is_damaged_is_on_no_other_tenants_list(service: Service) -> None:
    job_id = service.send("anna")
    service.rest.store.put(names.request_object(job_id), b"?")
    service.rest.queue.forget(job_id)
    audit(service.rest)
    assert service.listed("operator") == [job_id]
    assert service.listed("anna") == service.listed("ben") == service.listed("carla") == []
    assert service.ask("anna", "GET", f"/apiv1/jobs/{job_id}").status_code == 200
    assert service.send("anna") == job_id
    assert service.listed("operator") == service.listed("anna") == [job_id]


def test_what_was_sent_without_keys_is_the_main_tenants(tmp_path: Path, redis_url: str) -> None:
    rest = Rest(tmp_path, redis_url)
    job_id = rest.post_form(SONG).json["hash"]
    service = Service(tmp_path, redis_url)
    assert service.listed("carla") == service.listed("operator") == [job_id]
    assert service.ask("carla", "GET", f"/apiv1/jobs/{job_id}").status_code == 200
    assert service.ask("anna", "GET", f"/apiv1/jobs/{job_id}").status_code == 404


def test_without_keys_all_see_all_again(service: Service, tmp_path: Path, redis_url: str) -> None:
    jobs = [service.send(who, batch="mass") for who in WHO]
    rest = Rest(tmp_path, redis_url)
    for query in ("", "batch=mass", "status=queued"):
        listed = [job["hash"] for job in rest.client.get(f"/apiv1/jobs?{query}").json["jobs"]]
        assert set(listed) == set(jobs)
    pages: list[str] = []
    url = "/apiv1/jobs?batch=mass&limit=1"
    while url:
        page = rest.client.get(url).json
        pages += [job["hash"] for job in page["jobs"]]
        url = page["next"]
    assert pages == jobs[::-1]
    assert all(rest.client.get(f"/apiv1/jobs/{job_id}").status_code == 200 for job_id in jobs)
    assert rest.client.get("/apiv1/queue").json["queue"] == jobs


def test_the_queue_of_a_tenant_has_its_own_in_their_places(service: Service) -> None:
    jobs = [service.send(who, format=format) for format in ("wav", "flac") for who in ("ben", "anna", "carla")]
    for who, places in (("ben", [1, 4]), ("anna", [2, 5]), ("carla", [3, 6])):
        told = service.ask(who, "GET", "/apiv1/queue").json
        assert (told["positions"], told["queue"]) == (places, [jobs[place - 1] for place in places])
        assert told["total"] == 6
    told = service.ask("anna", "GET", "/apiv1/queue?offset=2&limit=3").json
    assert (told["positions"], told["queue"]) == ([5], [jobs[4]])


def test_a_foreign_push_is_the_main_tenants(service: Service, raw: "redis.Redis") -> None:
    raw.lpush("toWorker", hash_song(SONG))
    assert service.ask("carla", "GET", "/apiv1/queue").json["queue"] == [hash_song(SONG)]
    assert service.ask("ben", "GET", "/apiv1/queue").json["queue"] == []
    assert service.ask("carla", "POST", f"/apiv1/jobs/{hash_song(SONG)}/cancel").status_code == 200
    assert service.listed("carla") == [hash_song(SONG)]
    pushed = Tenants(service.rest.store).ids("choir").of_song(hash_song(SONG))
    raw.lpush("toWorker", pushed)
    assert service.ask("carla", "GET", "/apiv1/queue").json["queue"] == []
    assert service.ask("anna", "POST", f"/apiv1/jobs/{pushed}/cancel").status_code == 200
    assert service.listed("carla") == [hash_song(SONG)]
