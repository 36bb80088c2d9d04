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
import threading
from collections.abc import Iterator
from contextlib import suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from io import BytesIO
from pathlib import Path
from typing import Any

import av
import psutil
import pytest
import yaml

from manifests.rendering import K8S, ROOT, combination, kubectl_path
from manifests.workloads import Manifests, walk
from support import eventually, free_port, is_alive
from unmix.local.embedded_redis import roles

SCRIPTS = [
    ROOT / ".ci" / "run",
    *sorted(path for folder in (ROOT, ROOT / "redis", K8S) for path in folder.glob("*.sh")),
    *sorted((ROOT / "tests").rglob("*.sh")),
]
STAND_INS = Path(__file__).parent / "stand_ins"
#: All of the system that the scripts use.
SYSTEM = [
    "bash",
    "sh",
    "env",
    "cat",
    "sed",
    "grep",
    "tail",
    "tr",
    "od",
    "base64",
    "mkdir",
    "mv",
    "rm",
    "paste",
    "sleep",
    "dirname",
    *([] if Path("/proc/self/cmdline").exists() else ["ps"]),
]
EVERYBODY = ("redis", "rest", "worker", "janitor", "logs", "object_store")
TOOLS = ["make", "docker", "podman", "kind", "minikube", "k3d", "python3"]


class Machine:
    """A machine with a clone of the project, tools that record how they are called, and a cluster of kind."""

    def __init__(self, folder: Path) -> None:
        self.world = folder / "world"
        self.clone = folder / "clone"
        self._bin = folder / "bin"
        for made in (self.world, self.clone, self._bin):
            made.mkdir()
        for name in ("k8s", "minio", "redis", "src", "pyproject.toml", "sample-requests.py"):
            (self.clone / name).symlink_to(ROOT / name)
        shutil.copy(ROOT / "deploy-local-dev.sh", self.clone)
        for name in SYSTEM:
            (self._bin / name).symlink_to(str(shutil.which(name)))
        (self._bin / "kubectl").symlink_to(STAND_INS / "kubectl.sh")
        for name in TOOLS:
            (self._bin / name).symlink_to(STAND_INS / "tool.sh")
        self.tell(contexts="gke_prod\nkind-unmix\n", context="kind-unmix\n", version="Server Version: v1.36.2\n")
        self.tell(**{"overlay": '  UNMIX_OPEN: "yes"\n  namespace: minio-ns\n', "image-ids": "sha256:1\n"})
        self.ports = {name: free_port() for name in ("rest", "redis", "store")}
        self.environment = {"PATH": str(self._bin), "WORLD": str(self.world), "HOME": str(folder)}

    def tell(self, **answers: str) -> None:
        """Let the stand-ins answer something else from now on."""
        for name, text in answers.items():
            (self.world / name).write_text(text)

    def forget(self, *names: str) -> None:
        for name in names:
            (self.world / name).unlink()

    def without(self, *names: str) -> None:
        """Take tools away."""
        for name in names:
            (self._bin / name).unlink()

    def record(self, name: str) -> None:
        """Put a stand-in in the place of a tool of the system."""
        self.without(name)
        (self._bin / name).symlink_to(STAND_INS / "tool.sh")

    def command(self, *options: str) -> list[str]:
        ports = [part for name, port in self.ports.items() for part in (f"--{name}-port", str(port))]
        # Not by itself: nothing can be executed in some temporary folders.
        return [str(self._bin / "bash"), str(self.clone / "deploy-local-dev.sh"), *ports, *options]

    def deploy(self, *options: str) -> subprocess.CompletedProcess[str]:
        """Run the script to its end. Its port-forwards keep standard output open, so that goes to a file."""
        said = self.world / "said"
        with said.open("w+") as output:
            done = subprocess.run(
                self.command(*options),
                env=self.environment,
                cwd="/",
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.PIPE,
                text=True,
            )
            output.seek(0)
            done.stdout = output.read()
        return done

    @property
    def ran(self) -> list[str]:
        """What was called that changes something, in order."""
        record = self.world / "ran"
        return record.read_text().splitlines() if record.exists() else []

    def secrets(self) -> dict[tuple[str, str], dict[str, str]]:
        """The values of all Secrets in the cluster, by namespace and name."""
        found = {}
        for file in self.world.glob("secret-*"):
            manifest = yaml.safe_load(file.read_text())
            values = manifest.get("stringData") or {
                key: base64.b64decode(value).decode() for key, value in manifest["data"].items()
            }
            found[manifest["metadata"]["namespace"], manifest["metadata"]["name"]] = values
        return found

    def forwards(self) -> list[int]:
        """The pids of port-forwards that run, as the script has noted them."""
        pids = [int(file.read_text()) for file in self.clone.glob(".unmix/deploy/*/port-*.pid")]
        return [pid for pid in pids if is_alive(pid)]


@pytest.fixture
def machine(tmp_path: Path) -> Iterator[Machine]:
    machine = Machine(tmp_path)
    yield machine
    for pid in machine.forwards():
        children = psutil.Process(pid).children()
        os.kill(pid, signal.SIGKILL)
        for child in children:
            with suppress(psutil.NoSuchProcess):
                child.kill()


def commands(printed: str) -> list[str]:
    """Return the commands that a dry run printed, as the stand-ins record them."""
    lines = [line for line in printed.splitlines() if not line.startswith("# ")]
    return [re.sub(r"^env \S+=\S+ ", "", line) for line in lines]


def index(ran: list[str], words: str) -> int:
    found = [number for number, line in enumerate(ran) if words in line]
    assert found, f"nothing ran with {words!r}: {ran}"
    return found[0]


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


#: When Secrets were changed, and since when processes run, as the API tells it.
EARLY, LATE = "2026-11-23T00:00:00Z", "2026-11-23T06:00:00Z"


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
