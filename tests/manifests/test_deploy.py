"""`deploy-local-dev.sh` and `k8s/e2e-kind.sh`, with stand-ins of kubectl and the like that record their use."""

import base64
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sysconfig
from io import BytesIO
from pathlib import Path

import av
import pytest

from manifests.machine import EARLY, EVERYBODY, LATE, TOOLS, Machine, commands, index
from manifests.rendering import K8S, ROOT, combination
from manifests.workloads import Manifests, walk
from support import eventually, is_alive
from unmix.local.embedded_redis import roles

SCRIPTS = [
    ROOT / ".ci" / "run",
    *sorted(path for folder in (ROOT, ROOT / "redis", K8S) for path in folder.glob("*.sh")),
    *sorted((ROOT / "tests").rglob("*.sh")),
]


def test_all_shell_scripts_are_without_a_known_mistake() -> None:
    shellcheck = Path(sysconfig.get_path("scripts")) / "shellcheck"
    done = subprocess.run([shellcheck, *SCRIPTS], capture_output=True, text=True)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda path: path.name)
def test_each_shell_script_can_be_executed(script: Path) -> None:
    assert os.access(script, os.X_OK)


def test_it_builds_loads_makes_secrets_applies_waits_forwards_and_separates_a_song_in_this_order(
    machine: Machine,
) -> None:
    done = machine.deploy()
    assert (done.returncode, done.stderr) == (0, "")
    steps = [
        "make images DOCKER=docker",
        "kind load docker-image track-unmix-rest:0.1.0 track-unmix-worker:0.1.0 --name unmix",
        "apply -f k8s/base/namespace.yaml",
        "create -f -",
        "apply -k k8s/overlays/local",
        "rollout status statefulset/object-store",
        "rollout status deployment/worker",
        "config set-context kind-unmix --namespace=track-unmix",
        "port-forward service/redis",
        "port-forward service/myminio-proj",
        "port-forward service/rest",
        "python3 sample-requests.py",
    ]
    places = [index(machine.ran, step) for step in steps]
    assert places == sorted(places)
    assert len(machine.forwards()) == 3


def test_each_command_names_the_cluster(machine: Machine) -> None:
    machine.deploy()
    called = machine.ran + (machine.world / "asked").read_text().splitlines()
    to_cluster = [line for line in called if re.match("kubectl (?!config|kustomize)", line)]
    assert len(to_cluster) > 10
    assert [line for line in to_cluster if "--context kind-unmix" not in line] == []


@pytest.mark.parametrize(
    ("context", "load"),
    [
        ("kind-unmix", "kind load docker-image track-unmix-rest:0.1.0 track-unmix-worker:0.1.0 --name unmix"),
        ("minikube", "minikube image load track-unmix-rest:0.1.0 track-unmix-worker:0.1.0"),
        ("k3d-unmix", "k3d image import track-unmix-rest:0.1.0 track-unmix-worker:0.1.0 --cluster unmix"),
        ("docker-desktop", None),
    ],
)
def test_a_dry_run_prints_what_a_run_does_and_does_nothing(machine: Machine, context: str, load: str | None) -> None:
    machine.tell(contexts=f"{context}\n", context=f"{context}\n")
    printed = machine.deploy("--dry-run", "--context", context)
    assert (printed.returncode, printed.stderr, machine.ran) == (0, "", [])
    assert machine.deploy().returncode == 0
    assert commands(printed.stdout) == machine.ran
    assert [line for line in machine.ran if re.match("kind|minikube|k3d", line)] == ([load] if load else [])


def test_a_dry_run_needs_neither_a_cluster_nor_tools(machine: Machine) -> None:
    machine.without("kubectl", *TOOLS)
    done = machine.deploy("--dry-run")
    assert (done.returncode, done.stderr) == (0, "")
    assert "kubectl --context kind-kind apply -k k8s/overlays/local" in commands(done.stdout)


def test_podman_stands_in_for_docker(machine: Machine) -> None:
    machine.without("docker")
    assert machine.deploy().returncode == 0
    archive = ".unmix/deploy/kind-unmix/images.tar"
    assert machine.ran[:5] == [
        "make images DOCKER=podman",
        "podman tag track-unmix-rest:0.1.0 docker.io/library/track-unmix-rest:0.1.0",
        "podman tag track-unmix-worker:0.1.0 docker.io/library/track-unmix-worker:0.1.0",
        f"podman save --multi-image-archive --output {archive} "
        "docker.io/library/track-unmix-rest:0.1.0 docker.io/library/track-unmix-worker:0.1.0",
        f"kind load image-archive {archive} --name unmix",
    ]


def test_the_secrets_are_what_the_manifests_want_and_appear_nowhere_else(machine: Machine) -> None:
    done = machine.deploy()
    secrets = machine.secrets()
    assert secrets["track-unmix", "redis-passwords"].keys() == set(roles())
    assert secrets["track-unmix", "object-store"] == secrets["minio-ns", "object-store"]
    assert secrets["minio-ns", "object-store"].keys() == {"access-key", "secret-key"}
    values = {value for entry in secrets.values() for value in entry.values()}
    assert len(values) == len(roles()) + 2
    assert all(re.fullmatch("[0-9a-f]{20,64}", value) for value in values)
    encoded = {base64.b64encode(value.encode()).decode() for value in values}
    seen = done.stdout + done.stderr + "".join((machine.world / name).read_text() for name in ("ran", "asked"))
    assert [value for value in values | encoded if value in seen] == []


def test_the_song_is_a_new_one_each_time_and_sounds_as_the_bundled_one(machine: Machine) -> None:
    bundled = (ROOT / "src/unmix/local/demo_song/demo-song.mp3").read_bytes()
    songs = []
    for _ in range(2):
        machine.deploy()
        (sent,) = {line.split()[2] for line in machine.ran if "sample-requests.py" in line}
        songs.append((machine.clone / sent).read_bytes())
    assert songs[0] != songs[1]
    for song in songs:
        assert song[:-128] == bundled
        assert re.fullmatch(rb"TAG[0-9a-f]{30} {95}", song[-128:])  # ID3v1, which players and decoders look for there
    assert samples(songs[0]) == samples(bundled)


def samples(song: bytes) -> int:
    with av.open(BytesIO(song), "r") as file:
        return sum(frame.samples for frame in file.decode(file.streams.audio[0]))


def test_a_second_run_keeps_secrets_and_restarts_nothing(machine: Machine) -> None:
    machine.deploy()
    before, secrets, forwards = machine.ran, machine.secrets(), machine.forwards()
    assert machine.deploy().returncode == 0
    assert machine.secrets() == secrets
    # The same once more, but for the namespaces and the Secrets, which are there.
    assert machine.ran[len(before) :] == [line for line in before if not re.search("create -f -|apply -f", line)]
    assert len(machine.forwards()) == 3
    assert not any(is_alive(pid) for pid in forwards)


def test_new_images_restart_the_pods(machine: Machine) -> None:
    machine.deploy()
    machine.tell(**{"image-ids": "sha256:2\n"})
    machine.deploy()
    restart = index(machine.ran, "rollout restart deployment/rest deployment/janitor deployment/worker deployment/logs")
    assert "rollout status" in machine.ran[restart + 1]


def run_since(**started: str) -> str:
    return "".join(f"{name.replace('_', '-')}|{time}\n" for name, time in started.items())


def test_a_new_password_restarts_what_has_the_old_one(machine: Machine) -> None:
    machine.deploy()
    machine.tell(**{"changed-redis-passwords": f"{EARLY} {EARLY} 2026-11-23T03:00:00Z"})
    machine.tell(started=run_since(redis=EARLY, rest=EARLY, worker=LATE, janitor=EARLY, logs=EARLY, buckets=""))
    assert machine.deploy().returncode == 0
    restarts = [line.partition(" rollout restart ")[2] for line in machine.ran if " rollout restart " in line]
    assert restarts == ["statefulset/redis deployment/rest deployment/janitor deployment/logs"]
    assert index(machine.ran, "rollout restart") < max(
        number for number, line in enumerate(machine.ran) if "rollout status statefulset/redis" in line
    )


def test_new_keys_of_the_store_restart_it_and_those_who_use_it(machine: Machine) -> None:
    machine.deploy()
    started = run_since(redis=EARLY, rest=EARLY, worker=EARLY, janitor=EARLY, logs=EARLY, object_store=EARLY)
    machine.tell(**{"changed-object-store": LATE, "started": started})
    assert machine.deploy().returncode == 0
    restarts = [line.partition(" --namespace ")[2] for line in machine.ran if " rollout restart " in line]
    assert restarts == [
        "track-unmix rollout restart deployment/rest deployment/janitor deployment/worker",
        "minio-ns rollout restart statefulset/object-store",
    ]


def test_a_new_secret_of_callbacks_restarts_the_janitor(machine: Machine) -> None:
    machine.deploy()
    machine.tell(**{"changed-webhooks": LATE, "started": run_since(rest=EARLY, janitor=EARLY)})
    machine.deploy()
    assert [line.split()[-1] for line in machine.ran if " rollout restart " in line] == ["deployment/janitor"]


def test_what_the_script_restarts_for_a_secret_is_what_uses_it(machine: Machine) -> None:
    users: dict[str, set[str]] = {}
    for workload in Manifests(combination("local")).workloads:
        for _, key, value in walk(workload.pod):
            if workload.object["kind"] != "Job" and key in ("secretKeyRef", "secret"):
                users.setdefault(value.get("name") or value["secretName"], set()).add(workload.name.split()[1])
    for secret, names in users.items():
        machine.deploy("--down")
        machine.deploy()
        before = len(machine.ran)
        machine.tell(**{f"changed-{secret}": LATE, "started": run_since(**dict.fromkeys(EVERYBODY, EARLY))})
        machine.deploy()
        restarted = [line for line in machine.ran[before:] if " rollout restart " in line]
        assert {name.split("/")[1] for line in restarted for name in line.split()[7:]} == names
        machine.forget(f"changed-{secret}")


def test_no_build_takes_the_images_that_are_there(machine: Machine) -> None:
    machine.without("docker", "podman", "kind")
    assert machine.deploy("--no-build").returncode == 0
    assert machine.ran[0].endswith("apply -f k8s/base/namespace.yaml")


def test_keys_of_the_store_that_one_namespace_has_are_copied_to_the_other(machine: Machine) -> None:
    machine.deploy()
    kept = machine.secrets()["minio-ns", "object-store"]
    machine.forget("secret-track-unmix-object-store")
    machine.deploy()
    assert machine.secrets()["track-unmix", "object-store"] == kept


def test_an_overlay_without_a_store_uses_the_keys_that_were_made_for_it(machine: Machine) -> None:
    machine.tell(overlay='  UNMIX_OPEN: "yes"\n  namespace: track-unmix\n')
    done = machine.deploy("--overlay", "k8s/overlays/mine")
    assert done.returncode == 1
    assert "no Secret object-store in track-unmix" in done.stderr
    keys = 'data:\n  access-key: "a2V5"\n  secret-key: "c2VjcmV0"\n'
    machine.tell(**{"secret-track-unmix-object-store": f"metadata: {{namespace: track-unmix, name: x}}\n{keys}"})
    assert machine.deploy("--overlay", "k8s/overlays/mine").returncode == 0
    assert "minio" not in "\n".join(machine.ran)


def test_an_overlay_that_would_serve_strangers_by_accident_is_not_applied(machine: Machine) -> None:
    machine.tell(overlay="  UNMIX_AUTH: none\n  namespace: minio-ns\n  type: LoadBalancer\n")
    done = machine.deploy()
    assert done.returncode == 1
    assert "UNMIX_AUTH=keys" in done.stderr
    assert "UNMIX_OPEN=yes" in done.stderr
    assert not [command for command in machine.ran if " apply " in command]


def test_where_keys_are_wanted_it_says_how_to_make_one_or_tries_the_service_with_one(machine: Machine) -> None:
    machine.tell(overlay="  UNMIX_AUTH: keys\n  namespace: minio-ns\n")
    done = machine.deploy()
    assert done.returncode == 0, done.stderr
    assert "unmix keys create" in done.stdout
    assert not [command for command in machine.ran if "sample-requests.py" in command]
    machine.environment["UNMIX_KEY"] = "unmix_key"
    assert machine.deploy().returncode == 0
    assert [command for command in machine.ran if "sample-requests.py" in command]


def test_down_ends_the_forwards_and_removes_everything(machine: Machine) -> None:
    machine.tell(namespace="earlier")
    machine.deploy()
    forwards, before = machine.forwards(), len(machine.ran)
    done = machine.deploy("--down")
    assert (done.returncode, done.stderr) == (0, "")
    assert machine.ran[before:] == [
        "kubectl --context kind-unmix delete namespace track-unmix minio-ns --ignore-not-found --timeout=300s",
        "kubectl config set-context kind-unmix --namespace=earlier",
    ]
    assert machine.secrets() == {}
    assert not any(is_alive(pid) for pid in forwards)
    assert not (machine.clone / ".unmix/deploy/kind-unmix").exists()
    assert machine.deploy("--down").returncode == 0  # once more does no harm


def test_a_forward_that_ended_is_not_mistaken_for_another_process(machine: Machine) -> None:
    state = machine.clone / ".unmix/deploy/kind-unmix"
    state.mkdir(parents=True)
    with subprocess.Popen([str(shutil.which("sleep")), "30"]) as other:
        (state / "port-1.pid").write_text(f"{other.pid}\n")
        machine.deploy("--down")
        assert other.poll() is None
        other.kill()


def test_ctrl_c_ends_the_forwards(machine: Machine) -> None:
    machine.tell(**{"hangs-python3": ""})
    with (machine.world / "said").open("w") as said:
        process = subprocess.Popen(machine.command(), env=machine.environment, start_new_session=True, stdout=said)
    eventually(
        lambda: process.poll() is not None or any("sample-requests.py" in line for line in machine.ran),
        "the song is being separated",
    )
    assert process.poll() is None
    forwards = machine.forwards()
    assert len(forwards) == 3
    os.killpg(process.pid, signal.SIGINT)
    assert process.wait() == 130
    assert not any(is_alive(pid) for pid in forwards)


def test_a_cluster_that_is_not_local_is_not_touched_without_consent(machine: Machine) -> None:
    for options in ((), ("--down",)):
        done = machine.deploy("--context", "gke_prod", *options)
        assert done.returncode == 1
        assert "gke_prod is not local, so nothing was done there" in done.stderr
        assert "--yes" in done.stderr
    assert machine.ran == []


def test_with_consent_it_takes_images_from_the_registry(machine: Machine) -> None:
    done = machine.deploy("--context", "gke_prod", "--yes", "--overlay", "k8s/overlays/gke")
    assert done.returncode == 0
    assert machine.ran[0] == "kubectl --context gke_prod apply -f k8s/base/namespace.yaml"
    assert "kubectl --context gke_prod apply -k k8s/overlays/gke" in machine.ran


@pytest.mark.parametrize(("answer", "status"), [("y", 0), ("n", 1), ("", 1)])
def test_whoever_sits_at_a_terminal_is_asked(machine: Machine, answer: str, status: int) -> None:
    terminal, inside = os.openpty()
    os.write(terminal, f"{answer}\n".encode())
    command = machine.command("--context", "gke_prod", "--down")
    done = subprocess.run(command, env=machine.environment, stdin=inside, capture_output=True, text=True)
    os.close(terminal)
    os.close(inside)
    assert done.returncode == status
    assert "Go on there? [y/N]" in done.stderr
    assert bool(machine.ran) == (status == 0)


def test_without_a_current_context_it_takes_a_local_one(machine: Machine) -> None:
    machine.forget("context")
    assert machine.deploy().returncode == 0
    assert "--context kind-unmix" in machine.ran[-2]


def fail_with(machine: Machine, *options: str) -> str:
    """Run the script, which has to fail without a change to the cluster, and return what it says."""
    done = machine.deploy(*options)
    assert done.returncode == 1
    assert [line for line in machine.ran if line.startswith("kubectl")] == []
    return done.stderr


def test_no_kubectl(machine: Machine) -> None:
    machine.without("kubectl")
    assert "kubectl is missing: install it" in fail_with(machine)


def test_no_docker(machine: Machine) -> None:
    machine.without("docker", "podman")
    assert "podman is missing: so is docker. Install one of them" in fail_with(machine)


def test_docker_that_does_not_run(machine: Machine) -> None:
    machine.without("podman")
    machine.tell(**{"fails-docker-info": ""})
    assert "docker does not answer: start it" in fail_with(machine)
    machine.tell(contexts="docker-desktop\n", context="docker-desktop\n")
    assert "docker does not answer: start it" in fail_with(machine)


def test_podman_where_docker_has_no_daemon(machine: Machine) -> None:
    machine.tell(**{"fails-docker-info": ""})
    assert machine.deploy().returncode == 0
    assert machine.ran[0] == "make images DOCKER=podman"


def test_docker_desktop_takes_no_images_of_podman(machine: Machine) -> None:
    machine.tell(contexts="docker-desktop\n", context="docker-desktop\n")
    machine.without("docker")
    assert "put that of Docker Desktop on the PATH" in fail_with(machine)


def test_an_overlay_with_objects_that_the_cluster_does_not_know_is_not_half_applied(machine: Machine) -> None:
    overlay = '  UNMIX_OPEN: "yes"\n  namespace: minio-ns\n---\napiVersion: v1\n---\napiVersion: keda.sh/v1alpha1\n'
    machine.tell(overlay=overlay, apis="apps/v1\nv1\n")
    said = fail_with(machine)
    assert "kind-unmix does not know the objects of keda.sh/v1alpha1" in said
    assert "docs/gke.md" in said
    machine.tell(apis="apps/v1\nkeda.sh/v1alpha1\nv1\n")
    assert machine.deploy().returncode == 0


def test_no_kind(machine: Machine) -> None:
    machine.without("kind")
    assert "kind is missing: the context kind-unmix is one of kind's" in fail_with(machine)


def test_no_packages_for_the_song(machine: Machine) -> None:
    machine.tell(**{"fails-python3--c": ""})
    assert "pip install requests jsonpickle" in fail_with(machine)


def test_no_cluster(machine: Machine) -> None:
    machine.tell(contexts="")
    assert "kubectl knows no cluster: make one, for instance with: kind create cluster" in fail_with(machine)


def test_a_context_that_is_not_there(machine: Machine) -> None:
    assert "there is no context kind-unmixx; kubectl knows: gke_prod\nkind-unmix" in fail_with(
        machine, "--context", "kind-unmixx"
    )


@pytest.mark.parametrize(
    ("context", "remedy"),
    [
        ("kind-unmix", "docker start unmix-control-plane"),
        ("minikube", "minikube start"),
        ("k3d-unmix", "k3d cluster start unmix"),
        ("docker-desktop", "start Docker Desktop"),
    ],
)
def test_a_cluster_that_does_not_answer(machine: Machine, context: str, remedy: str) -> None:
    machine.tell(contexts=f"{context}\n", context=context)
    machine.forget("version")
    said = fail_with(machine)
    assert f"the cluster of the context {context} does not answer" in said
    assert remedy in said
    assert "kubectl says: connection refused" in said


def test_an_old_cluster(machine: Machine) -> None:
    machine.tell(version="Server Version: v1.32.4-gke.1\n")
    assert "need Kubernetes 1.33 or newer; kind-unmix has 1.32" in fail_with(machine)


def test_a_port_that_is_taken(machine: Machine) -> None:
    with socket.create_server(("127.0.0.1", machine.ports["rest"])):
        said = fail_with(machine)
    assert f"port {machine.ports['rest']} of this machine is taken" in said
    assert "--rest-port" in said


def test_images_that_cannot_be_built_or_loaded(machine: Machine) -> None:
    machine.tell(**{"fails-kind-load": ""})
    assert "the images could not be loaded into kind-unmix" in fail_with(machine)
    machine.tell(**{"fails-make-images": ""})
    assert "the images could not be built, see above; in a closed network set BUILD_ARGS" in fail_with(machine)


@pytest.mark.parametrize("options", [("--what",), ("--context",), ("--rest-port", "http")])
def test_options_that_make_no_sense(machine: Machine, options: tuple[str, ...]) -> None:
    assert "--help" in fail_with(machine, *options)


def test_a_forward_that_fails_says_why(machine: Machine) -> None:
    machine.tell(**{"no-forward": ""})
    done = machine.deploy()
    assert done.returncode == 1
    assert "could not be forwarded to the Service redis: error: unable to forward" in done.stderr


def test_a_song_that_is_not_separated(machine: Machine) -> None:
    machine.tell(**{"fails-python3-sample-requests.py": ""})
    done = machine.deploy()
    assert done.returncode == 1
    assert "the service is up, but did not separate the song" in done.stderr
    assert "REST runs" not in done.stderr


@pytest.mark.parametrize(
    ("checks", "cause", "remedy"),
    [
        ({"redis": "queue_denied", "store": "ok"}, "Redis refuses its password", "Secret redis-passwords"),
        ({"redis": "ok", "store": "store_denied"}, "the object store refuses its keys", "Secrets object-store"),
        ({"redis": "ok", "store": "store_full"}, "cannot serve", '"store": "store_full"'),
    ],
)
def test_where_all_pods_are_ready_rest_says_what_is_wrong(
    machine: Machine, checks: dict[str, str], cause: str, remedy: str
) -> None:
    machine.tell(readyz=json.dumps({"code": "not_ready", "checks": checks}))
    machine.tell(**{"fails-python3-sample-requests.py": ""})
    said = machine.deploy().stderr
    assert f"    REST runs, but {cause}" in said
    assert remedy in said
    machine.tell(overlay="  UNMIX_AUTH: keys\n  namespace: minio-ns\n")  # and without a song to try it
    assert f"    REST runs, but {cause}" in machine.deploy().stderr


def test_the_end_to_end_script_shows_its_commands_without_a_cluster(machine: Machine) -> None:
    machine.without("kubectl", *TOOLS)
    done = subprocess.run(
        [ROOT / "k8s" / "e2e-kind.sh", "--dry-run"], env=machine.environment, capture_output=True, text=True, cwd="/"
    )
    assert (done.returncode, done.stderr) == (0, "")
    ran = commands(done.stdout)
    steps = [
        "kind create cluster",
        "./deploy-local-dev.sh --context kind-track-unmix-e2e",
        "transfers.py http://127.0.0.1:30500",
        "load.py submit",
        "exec deployment/worker -- sh -c",
        "delete pod --selector app.kubernetes.io/name=worker --force",
        "scale deployment/worker --replicas 5",
        "scale deployment/worker --replicas 1",
        "set image deployment/worker",
        "set image deployment/rest",
        "load.py check",
        "deploy-local-dev.sh --context kind-track-unmix-e2e --down",
        "kind delete cluster",
    ]
    places = [index(ran, step) for step in steps]
    assert places == sorted(places)
