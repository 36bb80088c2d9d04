"""The manifests, as far as one can tell without a cluster."""

import os
import re
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import pytest

from manifests.arrows import OUTSIDE, PORTS, arrows
from manifests.checks import problems
from manifests.form import quantity
from manifests.rendering import ROOT, SOURCES, combination, render
from manifests.workloads import Manifests, Workload, documented_secrets
from unmix.local.embedded_redis import roles

COMBINATIONS = [
    ("local",),
    ("local", "keda"),
    ("local", "network-policies"),
    ("local", "network-policies", "keda", "minio"),
    ("local", "minio"),
    ("local", "monitoring"),
    ("local", "network-policies", "monitoring"),
    ("local", "external-object-store"),
    ("local", "network-policies", "external-object-store"),
    ("local", "network-policies", "keda", "scale-in", "scale-in-policy"),
    ("gke",),
    ("gke", "keda"),
    ("gke", "keda", "scale-in", "scale-in-policy"),
    ("gke", "keda", "external-object-store"),
    ("gke", "keda", "monitoring"),
    ("gke-spot",),
    ("gke-gpu",),
    ("gke-gpu", "keda"),
    ("gke-gpu", "external-object-store", "keda"),
]


@pytest.mark.parametrize("names", COMBINATIONS, ids="+".join)
def test_every_overlay_and_combination_is_without_a_known_mistake(names: tuple[str, ...]) -> None:
    assert problems(combination(*names)) == []


def test_the_sources_are_clean_yaml() -> None:
    command = [sys.executable, "-m", "yamllint", "--strict", *map(str, SOURCES)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (0, "")


REDIS_USERS = ("rest", "worker", "janitor", "logs")
STORE_USERS = ("rest", "worker", "janitor", "buckets")
ARROWS = {
    *((name, "redis", 6379) for name in (*REDIS_USERS, "keda")),
    *((peer.name, "rest", 5000) for peer in OUTSIDE),
    *(("prometheus", name, 5002) for name in ("rest", "worker", "janitor")),
    *((name, dns, 53) for name in ("redis", "logs", *STORE_USERS) for dns in ("dns", "node-dns", "metadata-server")),
    *(("janitor", address, port) for address in ("internet", "internet-v6") for port in PORTS),
}


def test_network_policies_leave_the_arrows_of_the_architecture() -> None:
    expected = ARROWS | {(name, "object-store", 9000) for name in STORE_USERS}
    assert arrows(Manifests(combination("gke"))) == expected


def test_with_an_external_store_its_users_reach_the_port_of_https_outside() -> None:
    outside = {
        (name, address, 443)
        for name in STORE_USERS
        for address in ("internet", "internet-v6", "private", "metadata-server", "node-dns")
    }
    assert arrows(Manifests(combination("local", "network-policies", "external-object-store"))) == ARROWS | outside


def test_workers_get_out_where_songs_are_fetched_and_only_to_public_addresses() -> None:
    public = {("worker", target, port) for target in ("internet", "internet-v6") for port in PORTS}
    store = {(name, "object-store", 9000) for name in STORE_USERS}
    assert arrows(Manifests(combination("local", "network-policies", "song-urls"))) == ARROWS | store | public


def test_where_scale_in_spares_the_busy_the_janitor_alone_reaches_the_api_server_too() -> None:
    components = ("network-policies", "song-urls", "scale-in", "scale-in-policy")
    public = {("worker", target, port) for target in ("internet", "internet-v6") for port in PORTS}
    store = {(name, "object-store", 9000) for name in STORE_USERS}
    api_server = {("janitor", "private", port) for port in (443, 6443)}
    assert arrows(Manifests(combination("local", *components))) == ARROWS | store | public | api_server


def test_where_scale_in_spares_the_busy_the_janitor_alone_gets_a_token_that_can_patch_pods_and_no_more() -> None:
    manifests = Manifests(combination("local", "keda", "scale-in"))
    (role,) = manifests.of_kind("Role", "ClusterRole")
    (binding,) = manifests.of_kind("RoleBinding", "ClusterRoleBinding")
    assert (role["kind"], role["rules"]) == ("Role", [{"apiGroups": [""], "resources": ["pods"], "verbs": ["patch"]}])
    assert binding["roleRef"]["name"] == role["metadata"]["name"]
    assert [(subject["kind"], subject["name"]) for subject in binding["subjects"]] == [("ServiceAccount", "janitor")]
    with_token = [each.name for each in manifests.workloads if each.pod["automountServiceAccountToken"]]
    asking = [
        each.name
        for each in manifests.workloads
        for container in each.containers
        if "UNMIX_KUBERNETES_URL" in manifests.environment(each, container)
    ]
    assert with_token == asking == ["Deployment janitor"]


def test_songs_are_fetched_without_network_policies_too() -> None:
    settings = {
        key: value
        for each in Manifests(combination("local", "song-urls")).of_kind("ConfigMap")
        for key, value in each["data"].items()
    }
    assert settings["UNMIX_SONG_URLS"] == "true"


@pytest.mark.parametrize("components", [(), ("minio",)], ids=["seaweedfs", "minio"])
@pytest.mark.parametrize(
    ("namespace", "service", "port"),
    [
        ("track-unmix", "redis", 6379),
        ("track-unmix", "rest", 5000),
        ("track-unmix", "rest-service", 5000),
        ("minio-ns", "myminio-proj", 9000),
        ("minio-ns", "minio-proj", 9000),
    ],
)
def test_port_forwards_of_the_old_guide_find_pods(
    namespace: str, service: str, port: int, components: tuple[str, ...]
) -> None:
    manifests = Manifests(combination("local", *components))
    found = manifests.find("Service", namespace, service)
    assert found is not None
    targets = {entry["port"]: entry["targetPort"] for entry in found["spec"]["ports"]}
    assert [workload.port_number(targets[port]) for workload in manifests.behind(found)] == [port]


def test_the_passwords_of_all_redis_users_are_documented() -> None:
    secrets = documented_secrets((ROOT / "k8s" / "README.md").read_text())
    assert secrets["track-unmix", "redis-passwords"] == set(roles())


def test_settings_of_an_operator_reach_rest_the_janitor_and_workers(tmp_path: Path) -> None:
    page = (ROOT / "k8s" / "README.md").read_text().partition("\n## Settings\n")[2]
    found = re.search(r"^    apiVersion: kustomize.*?(?=^\S)", page, re.MULTILINE | re.DOTALL)
    assert found
    folder = tmp_path.resolve()
    text = textwrap.dedent(found[0]).replace("../local", os.path.relpath(ROOT / "k8s" / "overlays" / "local", folder))
    (folder / "kustomization.yaml").write_text(text)
    objects = render(folder)
    assert problems(objects) == []
    manifests = Manifests(objects)
    for workload in manifests.workloads:
        if workload.name in ("Deployment rest", "Deployment janitor", "Deployment worker"):
            (source,) = workload.containers[0]["envFrom"]
            told = manifests.find("ConfigMap", "track-unmix", source["configMapRef"]["name"])
            assert told
            assert told["data"]["UNMIX_UPLOAD_HOURS"] == "6"
            assert told["data"]["UNMIX_MODEL"] == "demo"


def test_callbacks_are_signed_where_the_operator_has_made_the_secret() -> None:
    for workload in Manifests(combination("gke")).workloads:
        keys = [
            entry["valueFrom"]["secretKeyRef"]
            for container in workload.containers
            for entry in container.get("env", [])
            if entry["name"] == "UNMIX_WEBHOOK_SECRETS"
        ]
        secret = {"name": "webhooks", "key": "secrets", "optional": True}
        assert keys == ([secret] if workload.name == "Deployment janitor" else []), workload.name


def test_with_an_external_store_nothing_is_left_of_the_inner_one() -> None:
    left = combination("gke", "external-object-store")
    assert {entry["metadata"].get("namespace", entry["metadata"]["name"]) for entry in left} == {"track-unmix"}


def most_pods(workload: Workload) -> int:
    """Return how many pods of a workload there are at most, while it is rolled out."""
    spec = workload.object["spec"]
    rolling = {"maxSurge": 1} | spec.get("strategy", {}).get("rollingUpdate", {})
    surges = workload.object["kind"] == "Deployment" and spec.get("strategy", {}).get("type") != "Recreate"
    return int(spec.get("replicas", 1)) + (int(rolling["maxSurge"]) if surges else 0)


def test_the_local_overlay_is_rolled_out_on_two_processors() -> None:
    control_plane = 0.95  # what the pods of kind itself request
    requested = sum(
        most_pods(workload) * (quantity(container["resources"]["requests"]["cpu"]) or 0)
        for workload in Manifests(combination("local")).workloads
        for container in workload.containers
    )
    assert requested <= 2 - control_plane


def test_a_rollout_on_gpus_needs_none_more() -> None:
    worker = Manifests(combination("gke-gpu")).find("Deployment", "track-unmix", "worker")
    assert worker is not None
    assert most_pods(Workload(worker)) == worker["spec"]["replicas"]


def test_redis_restarts_with_its_new_configuration() -> None:
    manifests = Manifests(combination("local"))
    names = {entry["metadata"]["name"] for entry in manifests.of_kind("ConfigMap")}
    assert {name.rpartition("-")[0] for name in names} == {"redis-server", "settings"}


def answers(workload: str, heartbeat: Path) -> list[bool]:
    """Run the probes of a workload as the kubelet does: has it started, is it ready, does it live?"""
    deployment = Manifests(combination("local")).find("Deployment", "track-unmix", workload)
    assert deployment is not None
    container = deployment["spec"]["template"]["spec"]["containers"][0]
    environment = {"PATH": os.environ["PATH"], f"UNMIX_{workload.upper()}_HEARTBEAT": str(heartbeat)}
    commands = [container[name]["exec"]["command"] for name in ("startupProbe", "readinessProbe", "livenessProbe")]
    return [subprocess.run(command, env=environment, capture_output=True).returncode == 0 for command in commands]


@pytest.mark.skipif(sys.platform != "linux", reason="the probes are for the find of the images")
@pytest.mark.parametrize("workload", ["worker", "janitor"])
def test_probes_tell_by_the_age_of_the_heartbeat(workload: str, tmp_path: Path) -> None:
    heartbeat = tmp_path / "heartbeat"
    assert answers(workload, heartbeat) == [False, False, False]
    heartbeat.touch()
    assert answers(workload, heartbeat) == [True, True, True]
    for age, expected in ((90, [False, False, True]), (900, [False, False, False])):
        os.utime(heartbeat, (time.time() - age, time.time() - age))
        assert answers(workload, heartbeat) == expected


def test_the_job_makes_the_buckets(tmp_path: Path) -> None:
    job = Manifests(combination("local")).find("Job", "track-unmix", "buckets")
    assert job is not None
    command, *arguments = job["spec"]["template"]["spec"]["containers"][0]["args"]
    assert command == "unmix"
    environment = {"UNMIX_STORE_URL": f"file://{tmp_path}/store"}
    subprocess.run([sys.executable, "-m", "unmix.cli", *arguments], env=environment, check=True)
    assert {"queue", "output"} <= {path.name for path in (tmp_path / "store").iterdir()}
