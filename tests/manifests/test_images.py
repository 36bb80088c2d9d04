"""The images, as far as one can tell without building them."""

import os
import re
import subprocess
import sysconfig
import tomllib
from fnmatch import fnmatchcase
from pathlib import Path

import pytest

from manifests.form import quantity
from manifests.rendering import K8S, ROOT, combination
from manifests.workloads import Manifests
from support import free_port

DOCKERFILES = [ROOT / "rest" / "Dockerfile", ROOT / "worker" / "Dockerfile"]
VERSION = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]

Instruction = tuple[str, str]


def instructions(dockerfile: Path) -> list[Instruction]:
    """Return each instruction with its arguments, continued lines joined."""
    lines = [line for line in dockerfile.read_text().splitlines() if not line.startswith("#")]
    text = "\n".join(lines).replace("\\\n", "")
    return [(name, rest) for name, _, rest in (line.partition(" ") for line in text.splitlines() if line)]


def arguments(dockerfile: Path, name: str) -> list[str]:
    return [rest for instruction, rest in instructions(dockerfile) if instruction == name]


def ignored(path: str) -> bool:
    """Tell whether .dockerignore keeps a path from the builder: the last pattern that it or a parent matches counts."""
    answer = False
    for line in (ROOT / ".dockerignore").read_text().splitlines():
        pattern = line.removeprefix("!").removeprefix("**/")
        parts = path.split("/")
        parents = ["/".join(parts[: length + 1]) for length in range(len(parts))]
        candidates = parts if "**/" in line else parents
        if line and not line.startswith("#") and any(fnmatchcase(candidate, pattern) for candidate in candidates):
            answer = not line.startswith("!")
    return answer


@pytest.fixture(params=DOCKERFILES, ids=lambda path: path.parent.name)
def dockerfile(request: pytest.FixtureRequest) -> Path:
    path: Path = request.param
    return path


def test_the_dockerfile_that_is_built_where_none_is_named_is_the_workers() -> None:
    assert (ROOT / "Dockerfile").resolve() == ROOT / "worker" / "Dockerfile"


def test_hadolint_finds_nothing(dockerfile: Path) -> None:
    hadolint = Path(sysconfig.get_path("scripts")) / "hadolint"
    done = subprocess.run([hadolint, "--no-color", dockerfile], capture_output=True, text=True)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_podman_and_buildah_understand_it_too(dockerfile: Path) -> None:
    text = dockerfile.read_text()
    assert "<<" not in text, "no heredocs"
    assert "syntax=" not in text, "no front end of BuildKit that would have to be fetched"
    assert "from=" not in re.sub(r"COPY --from=", "", text), "buildah's cache does not see what changes in such a mount"


def test_it_begins_with_one_pinned_image_that_can_be_replaced(dockerfile: Path) -> None:
    assert arguments(dockerfile, "ARG")[0] == "BASE=docker.io/library/python:3.11-slim-bookworm"
    stages = {"${BASE}"}
    for words in (line.split() for line in arguments(dockerfile, "FROM")):
        assert words[0] in stages
        stages |= set(words[2:])


def test_it_runs_under_an_init_as_the_user_of_the_manifests(dockerfile: Path) -> None:
    assert arguments(dockerfile, "ENTRYPOINT") == ['["dumb-init", "--single-child", "--"]']
    users = {
        f"{workload.pod['securityContext']['runAsUser']}:{workload.pod['securityContext']['runAsGroup']}"
        for workload in Manifests(combination("local")).workloads
        if "track-unmix" in workload.containers[0]["image"]
    }
    assert set(arguments(dockerfile, "USER")) == users == {"10001:10001"}


def test_what_it_runs_beside_our_own_processes_cannot_be_read_by_them(dockerfile: Path) -> None:
    """A program that its user may run and not read is not dumpable, so nobody sees the passwords that it was told."""
    (hidden,) = re.findall(r"for program in ([\w -]+); do chmod 711", dockerfile.read_text())
    assert {"dumb-init", "sh"} <= set(hidden.split())
    for workload in Manifests(combination("local")).workloads:
        container = workload.containers[0]
        for probe in ("startupProbe", "readinessProbe", "livenessProbe"):
            command = container.get(probe, {}).get("exec", {}).get("command")
            if command and "track-unmix" in container["image"]:
                assert command[0] in hidden.split()


def test_it_is_made_of_what_the_builder_gets(dockerfile: Path) -> None:
    sources = [
        source
        for words in (line.split() for line in arguments(dockerfile, "COPY"))
        if not words[0].startswith("--from=")
        for source in words[:-1]
    ]
    assert "src" in sources
    for source in sources:
        assert (ROOT / source).exists()
        assert not ignored(source)


@pytest.mark.parametrize(
    "path",
    [".git/config", ".venv/bin/python", ".unmix/store", "tests/support.py", "src/unmix/__pycache__/cli.pyc", "k8s"],
)
def test_what_no_image_needs_does_not_go_to_the_builder(path: str) -> None:
    assert ignored(path)


def test_the_packages_of_an_image_are_those_of_its_extra_and_of_traces(dockerfile: Path) -> None:
    extras = re.findall(r"\['optional-dependencies'\]\['(\w+)'\]", dockerfile.read_text())
    assert extras == [dockerfile.parent.name, "traces"]


def test_every_package_of_an_image_has_a_version_that_is_written_down(dockerfile: Path) -> None:
    (constraints,) = (line for line in arguments(dockerfile, "COPY") if "constraints.txt" in line)
    assert constraints.endswith((" .", " ./"))
    installs = [
        command
        for line in arguments(dockerfile, "RUN")
        for command in re.split(r"&&", line)
        if " install " in command and "pip " in command and "--no-deps" not in command
    ]
    assert installs
    assert all("-c constraints.txt" in command for command in installs)


def test_who_puts_the_weights_of_others_into_an_image_is_told_that_they_are_not_ours() -> None:
    assert "they are not ours" in made("MODELS=htdemucs")
    assert "they are not ours" not in made()


def test_both_images_have_the_same_init() -> None:
    pins = [re.findall(r"dumb-init==([\w.]+)", path.read_text()) for path in DOCKERFILES]
    assert len(pins[0]) == 1
    assert pins[0] == pins[1]


def test_torch_is_the_one_of_the_makefile_and_allowed_by_the_project() -> None:
    places = (DOCKERFILES[1], ROOT / "Makefile", ROOT / "constraints.txt")
    pins = {re.findall(r"torch==([\d.]+)", path.read_text())[0] for path in places}
    assert len(pins) == 1
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    allowed = next(line for line in project["optional-dependencies"]["worker"] if line.startswith("torch=="))
    assert fnmatchcase(pins.pop(), allowed.removeprefix("torch=="))
    assert "torch" not in DOCKERFILES[0].read_text().split("FROM", 1)[1]


def made(*variables: str) -> str:
    """Return the commands of `make images push` with these variables."""
    command = ["make", "--dry-run", "images", "push", *variables]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    return " ".join(done.stdout.replace("\\\n", " ").split())


def test_make_builds_the_images_that_the_manifests_name() -> None:
    revision = "v0.1.0-5-gabcdef0"
    for overlay, variables in (("local", ()), ("gke-gpu", ("CUDA=cu130",))):
        commands = made(f"REVISION={revision}", "DOCKER=podman", *variables)
        named = {
            container["image"].rpartition("/")[2]
            for workload in Manifests(combination(overlay)).workloads
            for container in workload.containers
            if "track-unmix" in container["image"]
        }
        assert len(named) == 2
        for image in named:
            assert f" -t {image} " in commands
    assert f" -t track-unmix-worker:{revision}-cuda " in commands
    assert re.findall(r"podman build -f (\S+)", commands) == ["rest/Dockerfile", "worker/Dockerfile"]
    for argument in re.findall(r"--build-arg (\w+)=", commands):
        assert any(argument in line for path in DOCKERFILES for line in arguments(path, "ARG"))


def test_make_pushes_nowhere_unless_told_where() -> None:
    environment = os.environ | {"REGISTRY": "registry.invalid"}  # which somebody may have set for something else
    command = ["make", "push", "DOCKER=false"]
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True)
    assert done.returncode != 0
    assert "make push REGISTRY=" in done.stdout


def test_the_trial_without_a_cluster_has_the_images_and_the_limits_of_the_pods() -> None:
    script = (K8S / "try-images.sh").read_text()
    assert f"TAG: {VERSION} " in script
    pods = {"redis": "redis", "object-store": "store", "rest": "rest", "janitor": "janitor", "worker": "worker"}
    for workload in Manifests(combination("local")).workloads:
        name = workload.name.split()[1]
        if name not in pods:
            continue
        container = workload.pod["containers"][0]
        ((memory, cpus),) = re.findall(rf"^(?:start|service) {pods[name]} (\S+) (\S+) ", script, re.MULTILINE)
        limits = container["resources"]["limits"]
        assert quantity(memory.upper() + "i") == quantity(limits["memory"]), name
        assert quantity(cpus) == quantity(limits["cpu"]), name
        if "track-unmix" not in container["image"]:
            assert container["image"] in script


def test_an_image_whose_weights_cannot_be_downloaded_is_not_built_and_the_message_says_why(tmp_path: Path) -> None:
    (command,) = (line for line in arguments(DOCKERFILES[1], "RUN") if "unmix fetch" in line)
    command = command.removeprefix("--mount=type=secret,id=ca").strip()
    assert "${MODELS}" in command
    environment = {
        "PATH": f"{sysconfig.get_path('scripts')}:{os.environ['PATH']}",
        "HOME": str(tmp_path),
        "UNMIX_MODEL_DIR": str(tmp_path / "models"),
        "UNMIX_CACHE_DIR": str(tmp_path / "models" / "converted"),
        "MODELS": "htdemucs",
        "https_proxy": f"http://127.0.0.1:{free_port()}",
    }
    done = subprocess.run(["sh", "-c", command], env=environment, capture_output=True, text=True, cwd=tmp_path)
    assert done.returncode == 1
    assert done.stderr.startswith("error: model 'htdemucs' is not available.")
    for part in ("adefossez/HTDemucs", "dl.fbaipublicfiles.com", "refused", "UNMIX_MODEL_DIR"):
        assert part in done.stderr
    assert "Traceback" not in done.stderr
    assert not (tmp_path / "models").exists()
