"""What `deploy-local-dev.sh` says of pods that do not become ready, and what it asks the real kubectl for that."""

import json
import re
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
import yaml

from manifests.machine import EARLY, LATE, Machine
from manifests.rendering import kubectl_path


def waiting(reason: str, message: str = "") -> dict[str, Any]:
    return {"ready": False, "state": {"waiting": {"reason": reason, "message": message}}}


def running_since(time: str) -> dict[str, Any]:
    return {"ready": True, "state": {"running": {"startedAt": time}}}


def pod(name: str, phase: str, image: str, *containers: dict[str, Any], unschedulable: str = "") -> dict[str, Any]:
    status: dict[str, Any] = {"phase": phase, "conditions": [{"type": "Initialized", "status": "True"}]}
    if unschedulable:
        status["conditions"].append({"type": "PodScheduled", "status": "False", "message": unschedulable})
    if containers:
        status["containerStatuses"] = [{"name": "it", "image": image} | container for container in containers]
    spec = {"containers": [{"name": "it", "image": image}]}
    metadata = {"name": name, "labels": {"app.kubernetes.io/name": name.partition("-")[0]}}
    return {"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": spec, "status": status}


OWN_IMAGE = "track-unmix-rest:0.1.0"
CRASHED = waiting("CrashLoopBackOff", "back-off 40s restarting failed container")
RUNNING = {"ready": True, "state": {"running": {}}}
STARTING = {"ready": False, "state": {"running": {}}}
LOGS = {
    "wrong-password": "level='error' event='a service stays away' code='queue_denied' error='Redis refuses'",
    "wrong-keys": "level='error' event='a service stays away' code='store_denied' error='the object store at'",
    "no-store": "level='warning' event='waiting' service='object store' error='the object store at x'",
    "no-redis": "level='warning' event='waiting' service='redis' error='Redis does not answer'",
    "hungry": "level='info' event='song begun'",
    "odd": "Traceback",
}
PODS = [
    pod("not-loaded", "Pending", OWN_IMAGE, waiting("ErrImageNeverPull")),
    pod("not-pulled", "Pending", "docker.io/valkey/valkey:8.1.8", waiting("ImagePullBackOff", "no such host")),
    pod("no-secret", "Pending", OWN_IMAGE, waiting("CreateContainerConfigError", 'secret "redis-passwords" not found')),
    pod("wrong-password", "Running", OWN_IMAGE, CRASHED),
    pod("wrong-keys", "Running", OWN_IMAGE, CRASHED),
    pod("no-store", "Running", OWN_IMAGE, STARTING),
    pod("no-redis", "Running", OWN_IMAGE, STARTING),
    pod("hungry", "Running", OWN_IMAGE, CRASHED | {"lastState": {"terminated": {"reason": "OOMKilled"}}}),
    pod("odd", "Running", OWN_IMAGE, CRASHED),
    pod("mounting", "Pending", OWN_IMAGE, waiting("ContainerCreating")),
    pod("too-large", "Pending", OWN_IMAGE, unschedulable="0/1 nodes are available: 1 Insufficient cpu."),
    pod("gateless", "Running", OWN_IMAGE, RUNNING, {"name": "gate"} | waiting("ImagePullBackOff")),
    pod("with-gate", "Running", OWN_IMAGE, RUNNING, {"name": "gate"} | RUNNING),
    pod("healthy", "Running", OWN_IMAGE, RUNNING),
    pod("rest-1", "Running", OWN_IMAGE, running_since(EARLY), {"name": "gate"} | running_since(LATE)),
    pod("worker-1", "Running", OWN_IMAGE, running_since(LATE)),
    pod("over", "Succeeded", OWN_IMAGE, {"ready": False, "state": {"terminated": {"reason": "Completed"}}}),
    pod("just-over", "Running", OWN_IMAGE, {"ready": False, "state": {"terminated": {"reason": "Completed"}}}),
]
SECRETS = [
    {
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": {
            "name": "redis-passwords",
            "creationTimestamp": "2026-11-22T00:00:00Z",
            "managedFields": [{"manager": "kubectl", "operation": "Update", "time": "2026-11-23T03:00:00Z"}],
        },
    }
]
CLAIMS = [
    {"apiVersion": "v1", "kind": "PersistentVolumeClaim", "metadata": {"name": name}, "status": {"phase": phase}}
    for name, phase in (("data-redis-0", "Pending"), ("data-other-0", "Bound"))
]
EVENTS = [
    {
        "apiVersion": "v1",
        "kind": "Event",
        "metadata": {"name": "e", "creationTimestamp": "2026-11-23T00:00:00Z"},
        "type": "Warning",
        "involvedObject": {"name": "mounting"},
        "message": message,
    }
    for message in ('secret "redis-passwords" not found', "", "Back-off restarting\n")
]


@pytest.fixture
def api(tmp_path: Path) -> Iterator[str]:
    """A kubeconfig whose context kind-unmix leads to an API server that has the objects above, and nothing else."""
    lists = {"pods": PODS, "persistentvolumeclaims": CLAIMS, "events": EVENTS, "secrets": SECRETS}
    resources = [
        {"name": name, "singularName": "", "namespaced": True, "kind": found[0]["kind"], "verbs": ["get", "list"]}
        for name, found in lists.items()
    ]
    answers: dict[str, Any] = {
        "/api": {"kind": "APIVersions", "versions": ["v1"]},
        "/apis": {"kind": "APIGroupList", "apiVersion": "v1", "groups": []},
        "/api/v1": {"kind": "APIResourceList", "groupVersion": "v1", "resources": resources},
    }
    for name, found in lists.items():
        answers[f"/api/v1/namespaces/track-unmix/{name}"] = {"kind": "List", "apiVersion": "v1", "items": found}
    for name in ("pods", "secrets"):
        for entry in lists[name]:
            answers[f"/api/v1/namespaces/track-unmix/{name}/{entry['metadata']['name']}"] = entry

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            path = self.path.partition("?")[0]
            name = path.split("/")[-2]
            if path.endswith("/log"):
                status, kind, body = 200, "text/plain", LOGS.get(name, "")
            else:
                status, kind, body = (
                    (200 if path in answers else 404),
                    "application/json",
                    json.dumps(answers.get(path)),
                )
            self.send_response(status)
            self.send_header("Content-Type", kind)
            self.end_headers()
            self.wfile.write(body.encode())

        def log_message(self, format: str, *args: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
    config = {
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [{"name": "it", "cluster": {"server": f"http://127.0.0.1:{server.server_port}"}}],
        "contexts": [{"name": "kind-unmix", "context": {"cluster": "it", "user": ""}}],
    }
    (tmp_path / "kubeconfig").write_text(yaml.safe_dump(config))
    yield str(tmp_path / "kubeconfig")
    server.shutdown()
    server.server_close()


#: Words of the cause and of the remedy, for each pod that is not ready.
EXPLANATIONS = {
    "not-loaded": ("does not have the image track-unmix-rest:0.1.0", "without --no-build"),
    "not-pulled": ("docker.io/valkey/valkey:8.1.8 cannot be pulled", "no such host"),
    "no-secret": ('secret "redis-passwords" not found', "run this again"),
    "wrong-password": ("Redis refuses the password", "Secret redis-passwords was changed: run this again"),
    "wrong-keys": ("the object store refuses the keys", "Secrets object-store"),
    "no-store": ("the object store does not answer", "--namespace minio-ns describe pods"),
    "no-redis": ("Redis does not answer", "describe pod redis-0"),
    "hungry": ("needs more memory than its limit", "raise the limit"),
    "odd": ("is not ready (CrashLoopBackOff)", "last lines"),
    "mounting": ("is not created yet", "events"),
    "too-large": ("1 Insufficient cpu.", "more CPUs"),
    "gateless": ("the gate of gateless is not ready (ImagePullBackOff)", "logs gateless -c gate"),
    "data-redis-0": ("has no volume", "default storage class"),
}


def test_pods_that_do_not_become_ready_are_explained(machine: Machine, api: str) -> None:
    """With the real kubectl, so that the questions are ones that it understands."""
    machine.environment |= {"KUBECTL": kubectl_path(), "KUBECONFIG": api}
    machine.tell(stuck="deployment/rest\n")
    done = machine.deploy("--timeout", "30")
    assert done.returncode == 1
    explained = re.findall(r"^    (\S.*)\n        -> (.*)$", done.stderr, re.MULTILINE)
    assert len(explained) == len(EXPLANATIONS)
    for (name, (cause, remedy)), (said_cause, said_remedy) in zip(EXPLANATIONS.items(), explained, strict=True):
        assert name in said_cause
        assert cause in said_cause
        assert remedy in said_remedy
    assert all(f"    log: {line}\n" in done.stderr for line in LOGS.values())
    events = [line for line in done.stderr.splitlines() if line.startswith("    event:")]
    said = ('secret "redis-passwords" not found', "Back-off restarting")
    assert events == [f"    event: mounting: {message}" for message in said]
    assert "deployment/rest is not ready after 30 s" in done.stderr
    assert "healthy" not in done.stderr
    assert "port-forward" not in "\n".join(machine.ran)


def test_how_old_secrets_and_processes_are_is_asked_as_the_real_kubectl_understands_it(
    machine: Machine, api: str
) -> None:
    machine.deploy()
    machine.environment |= {"KUBECTL": kubectl_path(), "KUBECONFIG": api}
    machine.tell(overlay='  UNMIX_OPEN: "yes"\n  namespace: track-unmix\n')
    assert machine.deploy().returncode == 0
    assert [line.split()[-1] for line in machine.ran if " rollout restart " in line] == ["deployment/rest"]


def test_an_image_that_is_not_there_is_pushed_where_nothing_can_be_loaded(machine: Machine) -> None:
    machine.tell(stuck="deployment/rest\n", pods="rest-1|Pending|false|ErrImagePull||track-unmix-rest:0.1.0|||\n")
    remedies = {"kind-unmix": "run this again without --no-build", "gke_prod": "make images push REGISTRY="}
    for context, remedy in remedies.items():
        said = machine.deploy("--context", context, "--yes", "--timeout", "30").stderr
        assert "does not have the image track-unmix-rest:0.1.0 (ErrImagePull)" in said
        assert [each for each in remedies.values() if each in said] == [remedy]


def test_a_deployment_that_kubectl_gives_up_at_once_is_waited_for(machine: Machine) -> None:
    machine.record("sleep")
    machine.tell(stuck="deployment/rest\n")
    assert machine.deploy("--timeout", "60").returncode == 1
    waited = [line.split()[0] for line in machine.ran if "status deployment/rest" in line or line.startswith("sleep")]
    assert waited == ["kubectl", "sleep", "kubectl"]
