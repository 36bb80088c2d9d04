"""The janitor says on the pods of workers who is busy, over an API server that is as strict as the real one."""

import os
import subprocess
import sys
from collections.abc import Iterator
from http import HTTPStatus
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from kubernetes_api import KubernetesApi
from support import eventually, free_port, song_hash_number
from unmix.errors import UnreachableError
from unmix.janitor.deletion_costs import ANNOTATION, BUSY, HELPING, IDLE, DeletionCosts
from unmix.janitor.pods import Pods
from unmix.queue.job_queue import JobQueue
from unmix.queue.records import Claim, WorkerState
from unmix.store.file import FileStore

PODS = ("pod-a", "pod-b", "pod-c")


@pytest.fixture
def api(tmp_path: Path) -> Iterator[KubernetesApi]:
    """Three pods that have an annotation already."""
    with KubernetesApi(tmp_path) as api:
        api.pods = {pod: {"other": "stays"} for pod in PODS}
        yield api


@pytest.fixture
def costs(queue: JobQueue, api: KubernetesApi) -> DeletionCosts:
    """What the janitor runs, with an idle worker in each pod."""
    arrive(queue)
    return DeletionCosts(queue.attendance, Pods(api.url, api.account))


def arrive(queue: JobQueue) -> None:
    """Let the workers say that they are there."""
    for pod in PODS:
        queue.attendance.note(f"{pod}-7-ab", pod, WorkerState.READY)


def claim(queue: JobQueue, pod: str, number: int) -> Claim:
    """Give the worker of a pod a song."""
    job_id = song_hash_number(number)
    queue.submit(job_id, "g")
    found = queue.claim(str(queue.take(block_seconds=1)), job_id, f"{pod}-7-ab")
    assert found is not None
    return found


def look(costs: DeletionCosts) -> int:
    """Let the janitor look once, and return on how many pods it wrote."""
    return costs.note(lambda: None).pods


def written(api: KubernetesApi) -> dict[str, int | None]:
    return {pod: int(notes[ANNOTATION]) if ANNOTATION in notes else None for pod, notes in api.pods.items()}


def test_a_busy_worker_costs_more_than_a_helping_one_and_that_more_than_an_idle_one(
    costs: DeletionCosts, queue: JobQueue, api: KubernetesApi
) -> None:
    claim(queue, "pod-b", 1)
    queue.attendance.note("pod-c-7-ab", "pod-c", WorkerState.HELPING)
    assert look(costs) == 3
    assert written(api) == {"pod-a": IDLE, "pod-b": BUSY, "pod-c": HELPING}
    assert [pod for pod, _ in api.patches] == ["pod-b", "pod-c", "pod-a"]  # the dearest first
    assert {notes["other"] for notes in api.pods.values()} == {"stays"}


def test_only_what_has_changed_is_written(costs: DeletionCosts, queue: JobQueue, api: KubernetesApi) -> None:
    ended = claim(queue, "pod-a", 1)
    claim(queue, "pod-b", 2)
    assert (look(costs), look(costs)) == (3, 0)
    queue.release(ended)
    assert look(costs) == 1
    assert written(api) == {"pod-a": IDLE, "pod-b": BUSY, "pod-c": IDLE}


def test_while_all_cost_the_same_nothing_is_written_and_what_is_wrong_then_is_mended_later(
    costs: DeletionCosts, queue: JobQueue, api: KubernetesApi
) -> None:
    assert look(costs) == 0
    claims = [claim(queue, pod, number) for number, pod in enumerate(PODS)]
    assert look(costs) == 0
    queue.release(claims[0])
    assert look(costs) == 3
    for each in claims[1:]:
        queue.release(each)
    assert look(costs) == 0
    assert written(api) == {"pod-a": IDLE, "pod-b": BUSY, "pod-c": BUSY}
    job_id = str(queue.take(block_seconds=1))
    assert queue.claim(job_id, job_id, "pod-a-7-ab")
    assert look(costs) == 3
    assert written(api) == {"pod-a": BUSY, "pod-b": IDLE, "pod-c": IDLE}


def test_a_pod_that_is_gone_is_passed_over_and_one_whose_worker_was_started_again_keeps_its_song(
    costs: DeletionCosts, queue: JobQueue, api: KubernetesApi
) -> None:
    del api.pods["pod-c"]
    claim(queue, "pod-b", 1)
    queue.attendance.note("pod-b-9-cd", "pod-b", WorkerState.LOADING)
    assert look(costs) == 2
    assert written(api) == {"pod-a": IDLE, "pod-b": BUSY}
    assert look(costs) == 0


@pytest.mark.parametrize(
    ("refusal", "code"),
    [(HTTPStatus.FORBIDDEN, "cluster_denied"), (HTTPStatus.INTERNAL_SERVER_ERROR, "unreachable")],
)
def test_an_api_server_that_refuses_is_told_of_once_and_asked_again(
    costs: DeletionCosts, queue: JobQueue, api: KubernetesApi, refusal: HTTPStatus, code: str
) -> None:
    claim(queue, "pod-b", 1)
    api.refusal = refusal
    with capture_logs() as logs:
        assert (look(costs), look(costs)) == (0, 0)
    assert [(line["log_level"], line["event"], line["code"]) for line in logs] == [
        ("warning", "busy workers are not spared", code)
    ]
    assert "a-token" not in str(logs)
    api.refusal = None
    assert look(costs) == 3


def test_a_token_that_was_replaced_is_read_again(costs: DeletionCosts, queue: JobQueue, api: KubernetesApi) -> None:
    claim(queue, "pod-b", 1)
    assert look(costs) == 3
    api.renew("another")
    claim(queue, "pod-a", 2)
    assert look(costs) == 1


def test_only_the_server_that_the_cluster_s_ca_vouches_for_gets_the_token(
    api: KubernetesApi, tmp_path_factory: pytest.TempPathFactory
) -> None:
    with KubernetesApi(tmp_path_factory.mktemp("other")) as other:
        with pytest.raises(UnreachableError, match="CERTIFICATE_VERIFY_FAILED"):
            Pods(other.url, api.account).annotate("pod-a", {})
        assert other.patches == []


@pytest.mark.parametrize("missing", ["token", "namespace", "ca.crt", "server"])
def test_what_a_pod_without_rights_lacks_is_said(api: KubernetesApi, missing: str) -> None:
    url = f"https://localhost:{free_port()}" if missing == "server" else api.url
    if missing != "server":
        (api.account / missing).unlink()
    with pytest.raises(UnreachableError, match="the API server of Kubernetes cannot be asked") as caught:
        Pods(url, api.account).annotate("pod-a", {})
    assert caught.value.retryable


#: A janitor that finds what the kubelet would give it in another folder.
JANITOR = """
import sys
from pathlib import Path
from unmix.janitor import janitor
from unmix.settings import Settings
pods = janitor.Pods
janitor.Pods = lambda server: pods(server, Path(sys.argv[1]))
janitor.run(Settings())
"""


def test_the_janitor_does_so_where_it_is_told_of_a_server(
    costs: DeletionCosts, queue: JobQueue, api: KubernetesApi, redis_url: str, store: FileStore
) -> None:
    claim(queue, "pod-b", 1)
    told = {"REDIS_URL": redis_url, "STORE_URL": f"file://{store.root}", "KUBERNETES_URL": api.url}
    environment = os.environ | {f"UNMIX_{name}": value for name, value in told.items()}
    command = [sys.executable, "-c", JANITOR, str(api.account)]
    expected = {"pod-a": IDLE, "pod-b": BUSY, "pod-c": IDLE}
    with subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT) as process:
        try:
            eventually(
                lambda: written(api) == expected or process.poll() is not None,
                "the janitor has looked",
                meanwhile=lambda: arrive(queue),
            )
        finally:
            process.terminate()
            said, _ = process.communicate()
    assert (process.returncode, written(api)) == (0, expected), said.decode()
