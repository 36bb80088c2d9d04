"""Mistakes that people make in manifests, and whether the checks find them."""

import copy
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from manifests.arrows import arrows
from manifests.checks import problems
from manifests.rendering import ROOT, Object, combination
from manifests.workloads import Manifests, title

GONE = object()

REST = "Deployment rest", "spec.template.spec"
WORKER = "Deployment worker", "spec.template.spec"
REST_CONTAINER = "Deployment rest", "spec.template.spec.containers.0"
GATE_CONTAINER = "Deployment rest", "spec.template.spec.containers.1"
WORKER_CONTAINER = "Deployment worker", "spec.template.spec.containers.0"
STORE_CONTAINER = "StatefulSet object-store", "spec.template.spec.containers.0"
REDIS = "StatefulSet redis", "spec.template.spec"
REDIS_CONTAINER = "StatefulSet redis", "spec.template.spec.containers.0"


def put(place: tuple[str, str], path: str, value: Any) -> Callable[[list[Object]], None]:
    """Return a change: at `path`, keys and indices between dots, below `place`, stands `value`, or nothing."""

    def change(objects: list[Object]) -> None:
        node: Any = next(entry for entry in objects if title(entry) == place[0])
        *steps, last = [part.replace("~", ".") for part in f"{place[1]}.{path}".strip(".").split(".")]
        for step in steps:
            node = node[int(step)] if isinstance(node, list) else node[step]
        if isinstance(node, list):
            node[int(last) : int(last) + 1] = [] if value is GONE else [value]
        elif value is GONE:
            del node[last]
        else:
            node[last] = value

    return change


def extend(place: tuple[str, str], path: str, value: Any) -> Callable[[list[Object]], None]:
    """Return a change: `value` is added to the list at `path`."""

    def change(objects: list[Object]) -> None:
        put(place, f"{path}.{10**6}", value)(objects)

    return change


def without(name: str) -> Callable[[list[Object]], None]:
    def change(objects: list[Object]) -> None:
        objects[:] = [entry for entry in objects if title(entry) != name]

    return change


#: What is done to `overlays/gke` with KEDA and what Prometheus needs, and words of the complaint.
MISTAKES: dict[str, tuple[Callable[[list[Object]], None], str]] = {
    "a misspelt field": (put(REST, "teminationGracePeriodSeconds", 30), "not valid"),
    "a field in the wrong place": (put(REST_CONTAINER, "replicas", 2), "not valid"),
    "a number as text": (put(("Deployment rest", "spec"), "replicas", "2"), "not valid"),
    "a text as number": (extend(REST_CONTAINER, "env", {"name": "UNMIX_PORT", "value": 5000}), "not valid"),
    "a REST that asks nobody for keys": (
        extend(REST_CONTAINER, "env", {"name": "UNMIX_AUTH", "value": "none"}),
        "asks nobody for a key",
    ),
    "an old version of the API": (put(("PodDisruptionBudget rest", ""), "apiVersion", "policy/v1beta1"), "has no"),
    "a misspelt kind": (put(("Deployment logs", ""), "kind", "Deploiment"), "has no"),
    "a misspelt field of KEDA": (put(("ScaledObject worker", "spec"), "minReplicas", 0), "not valid"),
    "a misspelt word of a trigger of KEDA": (
        put(("ScaledObject worker", "spec.triggers.0.metadata"), "listLenght", "1"),
        "unknown word 'listLenght'",
    ),
    "a trigger of KEDA that names no list": (
        put(("ScaledObject worker", "spec.triggers.0.metadata"), "listName", GONE),
        "has no listName",
    ),
    "a misspelt field of an alert": (
        put(("PrometheusRule track-unmix", "spec.groups.0.rules.0"), "fro", "1m"),
        "not valid",
    ),
    "a port that Prometheus does not find": (
        put(("PodMonitor track-unmix", "spec.podMetricsEndpoints.0"), "port", "metric"),
        "asks the port metric",
    ),
    "a number where KEDA wants text": (
        put(("ScaledObject worker", "spec.triggers.0.metadata"), "listLength", 1),
        "not valid",
    ),
    "a selector that misses the pods": (
        put(("Service redis", "spec.selector"), "app~kubernetes~io/name", "rediss"),
        "no pods behind it",
    ),
    "a Deployment that misses its pods": (
        put(("Deployment rest", "spec.template.metadata.labels"), "app~kubernetes~io/name", "api"),
        "does not select its own pods",
    ),
    "a budget for no pods": (
        put(("PodDisruptionBudget worker", "spec.selector.matchLabels"), "app~kubernetes~io/name", "workers"),
        "selects no pods",
    ),
    "a budget that forbids every drain": (
        put(("PodDisruptionBudget rest", "spec"), "maxUnavailable", 0),
        "keep a node from being drained",
    ),
    "a policy for no pods": (
        put(("NetworkPolicy redis", "spec.podSelector.matchLabels"), "app~kubernetes~io/name", "valkey"),
        "selects no pods",
    ),
    "a Service to a port that is not there": (put(("Service rest", "spec.ports.0"), "targetPort", "htpp"), "leads to"),
    "a probe of a port that is not there": (
        put(GATE_CONTAINER, "readinessProbe.tcpSocket.port", "metrics"),
        "asks the port",
    ),
    "two ports of one name": (
        extend(GATE_CONTAINER, "ports", {"name": "http", "containerPort": 8080}),
        "two ports",
    ),
    "a Secret that nobody makes": (
        put(WORKER_CONTAINER, "env.1.valueFrom.secretKeyRef.name", "redis-password"),
        "of the Secret redis-password",
    ),
    "a key that its Secret does not have": (
        put(WORKER_CONTAINER, "env.2.valueFrom.secretKeyRef.key", "accesskey"),
        "of the Secret object-store",
    ),
    "a ConfigMap that is not there": (
        put(REST_CONTAINER, "envFrom.0.configMapRef.name", "settings"),
        "the ConfigMap settings",
    ),
    "a ServiceAccount that is not there": (without("ServiceAccount worker"), "runs as the ServiceAccount"),
    "a namespace that is not there": (without("Namespace minio-ns"), "namespace minio-ns, which is not there"),
    "a volume that is not there": (put(WORKER, "volumes.1", GONE), "mounts the volume scratch"),
    "a claim that is not there": (
        extend(REST, "volumes", {"name": "more", "persistentVolumeClaim": {"claimName": "more"}}),
        "the claim more",
    ),
    "a script that is not in its ConfigMap": (
        put(REDIS_CONTAINER, "command.1", "/etc/unmix/run.sh"),
        "not in the ConfigMap",
    ),
    "KEDA scales what is not there": (
        put(("ScaledObject worker", "spec.scaleTargetRef"), "name", "workers"),
        "scales workers",
    ),
    "KEDA counts at a wrong address": (
        put(("ScaledObject worker", "spec.triggers.1.metadata"), "address", "redis.redis.svc:6379"),
        "is no Service",
    ),
    "replicas that KEDA should own": (put(("Deployment worker", "spec"), "replicas", 1), "fixes the replicas"),
    "a bad quantity": (put(REST_CONTAINER, "resources.limits.memory", "2304MiB"), "no quantity"),
    "a limit in thousandths of a byte": (put(REST_CONTAINER, "resources.limits.memory", "512m"), "nothing starts"),
    "a request above the limit": (put(REST_CONTAINER, "resources.requests.cpu", "2500m"), "more cpu than its limit"),
    "no limit of memory": (put(REST_CONTAINER, "resources.limits.memory", GONE), "no request and limit of memory"),
    "an image without a version": (put(REDIS_CONTAINER, "image", "docker.io/valkey/valkey"), "does not pin"),
    "the latest image": (put(REST_CONTAINER, "image", "localhost:5001/track-unmix-rest:latest"), "does not pin"),
    "an unknown word": (put(REST_CONTAINER, "imagePullPolicy", "IfNotPresentt"), "cannot be"),
    "an unknown type": (put(("Service rest", "spec"), "type", "Loadbalancer"), "cannot be"),
    "a wrong restart policy": (put(("Job buckets", "spec.template.spec"), "restartPolicy", "Always"), "restart policy"),
    "an invalid name": (put(("Service rest", "metadata"), "name", "rest_service"), "no valid name"),
    "the same object twice": (
        lambda objects: objects.append(next(entry for entry in objects if title(entry) == "Service rest")),
        "is there twice",
    ),
    "no security context of a container": (put(REST_CONTAINER, "securityContext", GONE), "may gain privileges"),
    "no security context of a pod": (put(REST, "securityContext", GONE), "may run as root"),
    "a user by name only": (put(REST, "securityContext.runAsUser", GONE), "numeric user"),
    "service links": (put(WORKER, "enableServiceLinks", GONE), "REDIS_PORT"),
    "a token in the pod": (put(WORKER, "automountServiceAccountToken", GONE), "mounts a token"),
    "rights without a token": (
        lambda objects: objects.append(
            {
                **{"apiVersion": "rbac.authorization.k8s.io/v1", "kind": "RoleBinding"},
                "metadata": {"name": "mine", "namespace": "track-unmix"},
                "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": "mine"},
                "subjects": [{"kind": "ServiceAccount", "name": "worker", "namespace": "track-unmix"}],
            }
        ),
        "Deployment worker mounts no token, though it has rights",
    ),
    "no liveness": (put(WORKER_CONTAINER, "livenessProbe", GONE), "has no livenessProbe"),
    "no pause before the end": (put(GATE_CONTAINER, "lifecycle", GONE), "preStop"),
    "a broken pod that stays": (put(("StatefulSet redis", "spec"), "podManagementPolicy", GONE), "not Parallel"),
    "too little time to end": (put(WORKER, "terminationGracePeriodSeconds", 60), "is killed after 60 s"),
    "too little time for transfers": (put(REST, "terminationGracePeriodSeconds", 70), "may take 65 s to end"),
    "an unknown time for transfers": (put(REST_CONTAINER, "env.5", GONE), "does not say how long transfers have"),
    "a password in the open": (
        put(REST_CONTAINER, "env.2", {"name": "UNMIX_REDIS_PASSWORD", "value": "hunter2"}),
        "is told UNMIX_REDIS_PASSWORD",
    ),
    "a password in a URL": (
        put(REST_CONTAINER, "env.1.value", "redis://rest:hunter2@redis:6379/0"),
        "has a password",
    ),
    "a Secret in the repository": (
        lambda objects: objects.append(
            {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "mine", "namespace": "track-unmix"}}
        ),
        "is in the repository",
    ),
    "a misspelt setting": (put(WORKER_CONTAINER, "env.4.name", "UNMIX_SHUTDOWN_SECOND"), "is no setting"),
    "a setting with a wrong value": (put(WORKER_CONTAINER, "env.4.value", "1m"), "shutdown_seconds"),
    "more threads than processors": (put(WORKER_CONTAINER, "env.5.value", "8"), "8 threads on 2 processors"),
    "a login of another role": (put(WORKER_CONTAINER, "env.0.value", "redis://rest@redis:6379/0"), "the password of"),
    "a wrong port of Redis": (put(WORKER_CONTAINER, "env.0.value", "redis://worker@redis:6380/0"), "at port 6380"),
    "a probe that asks in two ways": (
        put(REST_CONTAINER, "readinessProbe.tcpSocket", {"port": "metrics"}),
        "its readinessProbe does not do one thing",
    ),
    "a probe that asks nothing": (
        put(WORKER_CONTAINER, "livenessProbe.exec", GONE),
        "its livenessProbe does not do one thing",
    ),
    "two things to do before the end": (
        put(GATE_CONTAINER, "lifecycle.preStop.exec", {"command": ["true"]}),
        "its preStop does not do one thing",
    ),
    "a variable in two ways": (put(WORKER_CONTAINER, "env.1.value", "x"), "the variable UNMIX_REDIS_PASSWORD in two"),
    "a volume of two kinds": (put(WORKER, "volumes.0.secret", {"secretName": "object-store"}), "is not of one kind"),
    "a volume of the network": (
        put(WORKER, "volumes.1", {"name": "scratch", "nfs": {"server": "nas", "path": "/"}}),
        "a kind that the standard forbids",
    ),
    "a budget in two ways": (put(("PodDisruptionBudget rest", "spec"), "minAvailable", 1), "says both how many"),
    "addresses and pods in one peer": (
        put(("NetworkPolicy callbacks", "spec.egress.0.to.0"), "podSelector", {}),
        "addresses and pods in one peer",
    ),
    "rules of a direction that does not count": (
        put(("NetworkPolicy to-redis", "spec"), "policyTypes", ["Ingress"]),
        "rules of egress, which is not among",
    ),
    "a new start with a plan for a rollout": (
        put(("Deployment logs", "spec.strategy"), "rollingUpdate", {"maxSurge": 1}),
        "is made anew, and says how",
    ),
    "a rollout that cannot go on": (
        put(("Deployment rest", "spec.strategy"), "rollingUpdate.maxSurge", 0),
        "rolled out",
    ),
    "a liveness that has to pass twice": (put(REST_CONTAINER, "livenessProbe.successThreshold", 2), "has to pass once"),
    "a port of the node": (put(GATE_CONTAINER, "ports.0.hostPort", 80), "takes the port 80 of its node"),
    "a claim of no size": (
        put(("StatefulSet redis", "spec.volumeClaimTemplates.0.spec"), "resources", {}),
        "how large it is",
    ),
    "a Deployment that takes the pods of others": (
        put(("Deployment logs", "spec.selector"), "matchLabels", {"app.kubernetes.io/part-of": "track-unmix"}),
        "takes pods of others",
    ),
    "a Service to pods of all kinds": (
        put(("Service rest", "spec"), "selector", {"app.kubernetes.io/part-of": "track-unmix"}),
        "leads to pods of different kinds",
    ),
    "two budgets for the same pods": (
        put(("PodDisruptionBudget rest", "spec.selector.matchLabels"), "app~kubernetes~io/name", "worker"),
        "Deployment worker has two budgets",
    ),
    "a scratch folder on the image": (
        put(WORKER_CONTAINER, "env.6.value", "/data"),
        "cannot write to /data (UNMIX_SCRATCH_DIR)",
    ),
    "a volume that its user cannot write to": (
        put(REDIS, "securityContext.fsGroup", GONE),
        "StatefulSet redis cannot write to its claims",
    ),
    "a folder without a limit": (put(WORKER, "volumes.0.emptyDir", {}), "may fill the node"),
    "folders larger than what a pod may take": (
        put(WORKER, "volumes.1.emptyDir.sizeLimit", "60Gi"),
        "is evicted before its folders are full",
    ),
    "a probe of a file that nobody writes": (put(WORKER_CONTAINER, "env.7", GONE), "reads UNMIX_WORKER_HEARTBEAT"),
    "a start that nobody waits for": (
        put(REST_CONTAINER, "startupProbe.failureThreshold", 5),
        "is killed while it waits for others",
    ),
    "a policy that forgets one who asks Redis": (
        put(
            ("NetworkPolicy redis", "spec.ingress.0.from.0.podSelector.matchExpressions.0"),
            "values",
            ["rest", "worker"],
        ),
        "Deployment janitor is told to ask redis at 6379, and no policy lets it through",
    ),
    "a policy that forgets one who asks the store": (
        put(("NetworkPolicy to-object-store", "spec.podSelector.matchExpressions.0"), "values", ["rest", "worker"]),
        "Job buckets is told to ask object-store at 9000",
    ),
    "workers that are scaled by their CPU": (
        lambda objects: objects.append(
            {
                "apiVersion": "autoscaling/v2",
                "kind": "HorizontalPodAutoscaler",
                "metadata": {"name": "worker", "namespace": "track-unmix"},
                "spec": {
                    "scaleTargetRef": {"apiVersion": "apps/v1", "kind": "Deployment", "name": "worker"},
                    "maxReplicas": 5,
                },
            }
        ),
        "which is KEDA's or yours to scale",
    ),
    "more workers at least than at most": (
        put(("ScaledObject worker", "spec"), "minReplicaCount", 11),
        "more replicas at least than at most",
    ),
}


def broken(change: Callable[[list[Object]], None]) -> list[Object]:
    objects = copy.deepcopy(combination("gke", "keda", "monitoring"))
    change(objects)
    return objects


@pytest.mark.parametrize("name", MISTAKES)
def test_the_checks_find(name: str) -> None:
    change, words = MISTAKES[name]
    assert words in "\n".join(problems(broken(change), versions=("1.37",)))


#: What only a cluster could tell.
BEYOND = {
    "a tag that the registry does not have": put(REDIS_CONTAINER, "image", "docker.io/valkey/valkey:8.1.999"),
    "a command that the image does not have": put(WORKER_CONTAINER, "args", ["python", "-m", "unmix_workers"]),
    "a path that the server does not have": put(STORE_CONTAINER, "livenessProbe.httpGet.path", "/health"),
    "a node that nobody has": put(WORKER, "nodeSelector", {"cloud.google.com/gke-accelerator": "nvidia-l44"}),
    "too little memory for the model": put(WORKER_CONTAINER, "resources.limits.memory", "2049Mi"),
}


@pytest.mark.parametrize("name", BEYOND)
def test_the_checks_cannot_find(name: str) -> None:
    assert problems(broken(BEYOND[name]), versions=("1.37",)) == []


@pytest.mark.parametrize(
    "change",
    [
        without("NetworkPolicy to-dns"),
        without("NetworkPolicy default-deny"),
        put(("NetworkPolicy to-redis", "spec.egress.0.ports.0"), "port", 6380),
        put(("NetworkPolicy callbacks", "spec.egress.0.to.0"), "ipBlock", {"cidr": "0.0.0.0/0"}),
        put(("NetworkPolicy redis", "spec.ingress.0.from"), "0", {"namespaceSelector": {}}),
        put(("NetworkPolicy to-object-store", "spec.egress.0.to.0"), "namespaceSelector", GONE),
    ],
    ids=["no DNS", "no denial", "wrong port", "private addresses", "too open", "wrong namespace"],
)
def test_the_arrows_show(change: Callable[[list[Object]], None]) -> None:
    assert arrows(Manifests(broken(change))) != arrows(Manifests(combination("gke", "keda", "monitoring")))


@pytest.mark.parametrize(
    "text", ["kind: Service\nkind: Deployment\n", "spec:\n  a: 1\n   b: 2\n", "spec: {a: 1\n", "command: [a]\t\n"]
)
def test_the_sources_could_not_be(tmp_path: Path, text: str) -> None:
    (tmp_path / "broken.yaml").write_text(text)
    command = [sys.executable, "-m", "yamllint", "--strict", "-c", str(ROOT / ".yamllint.yaml"), str(tmp_path)]
    assert subprocess.run(command, capture_output=True).returncode == 1
