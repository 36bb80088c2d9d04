"""Two tenants of one service, with a real worker: each has its song separated, and hears nothing of the other's."""

from collections.abc import Callable
from typing import Any

import requests

from stack import Stack
from support import CallbackServer, make_song
from unmix import names
from unmix.access.keyring import Keyring
from unmix.access.keys import USUAL
from unmix.names import hash_song

SONG = make_song(2, seed=91)


class Tenant:
    """A tenant of a service, by its key."""

    def __init__(self, service: Stack, tenant: str) -> None:
        self._service = service
        key = Keyring(service.objects).create(tenant, scopes=USUAL, tenant=tenant)[1]
        self._headers = {"Authorization": f"Bearer {key}"}

    def ask(self, method: str, path: str, **how: Any) -> requests.Response:
        return requests.request(method, self._service.url + path, headers=self._headers, timeout=60, **how)

    def send(self, **fields: Any) -> str:
        form = {"file": ("song.wav", SONG)}
        answer = self.ask("POST", "/apiv1/jobs", files=form, data={"format": "wav", **fields})
        assert answer.status_code == 202, answer.text
        return str(answer.json()["hash"])

    def end_of(self, job_id: str) -> dict[str, Any]:
        def over() -> bool:
            return self.ask("GET", f"/apiv1/jobs/{job_id}?wait=30").json()["status"] in ("done", "failed", "cancelled")

        self._service.wait_for(over, f"{job_id} is over")
        return dict(self.ask("GET", f"/apiv1/jobs/{job_id}").json())


def test_two_tenants_have_a_song_separated_each_for_itself(make_stack: Callable[..., Stack]) -> None:
    service = make_stack(UNMIX_AUTH="keys", UNMIX_CALLBACK_ALLOW="127.0.0.1").start()
    tenants = {name: Tenant(service, name) for name in ("choir", "band", "main")}
    with CallbackServer() as receiver:
        callback = f'{{"url": "{receiver.url}"}}'
        jobs = {name: tenant.send(callback=callback) for name, tenant in tenants.items()}
        views = {name: tenants[name].end_of(job_id) for name, job_id in jobs.items()}
        service.wait_for(lambda: len(receiver.bodies) == len(jobs), "all are called back")
    assert names.song_hash_of(jobs["main"]) == hash_song(SONG)
    assert len({names.song_hash_of(job_id) for job_id in jobs.values()}) == len(jobs)
    told = {body["hash"]: (body["songhash"], body["status"]) for body in receiver.bodies}
    assert told == {job_id: (names.song_hash_of(job_id), "done") for job_id in jobs.values()}
    assert {view["status"] for view in views.values()} == {"done"}
    stems = {
        name: tenants[name].ask("GET", f"/apiv1/track/{job_id}/vocals.wav").content for name, job_id in jobs.items()
    }
    assert len(set(stems.values())) == 1
    for name, tenant in tenants.items():
        assert [job["hash"] for job in tenant.ask("GET", "/apiv1/jobs").json()["jobs"]] == [jobs[name]]
        for other in jobs.keys() - {name}:
            assert tenant.ask("GET", f"/apiv1/track/{jobs[other]}/vocals.wav").status_code == 404
