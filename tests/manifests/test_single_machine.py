"""The files for one machine: they start the same processes as the cluster does, with words that these understand."""

import configparser
import os
import re
import shlex
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from command_line import unmix
from manifests.form import quantity
from manifests.rendering import ROOT, combination
from manifests.workloads import Manifests
from programs import program
from unmix.local.embedded_redis import roles
from unmix.settings import Settings

FOLDER = ROOT / "docs" / "single-machine"
UNIT = FOLDER / "track-unmix.service"
PAGE = (ROOT / "docs" / "sizes.md").read_text()
COMPOSE: dict[str, Any] = yaml.safe_load((FOLDER / "compose.yaml").read_text())
SERVICES: dict[str, dict[str, Any]] = COMPOSE["services"]
OURS = ("rest", "janitor", "worker")


def pod_container(name: str) -> dict[str, Any]:
    for workload in Manifests(combination("local")).workloads:
        if workload.object["metadata"]["name"] == name:
            container: dict[str, Any] = workload.pod["containers"][0]
            return container
    raise AssertionError(name)


@pytest.mark.parametrize("name", OURS)
def test_a_process_of_compose_understands_its_settings_and_logs_in_as_itself(name: str) -> None:
    told = SERVICES[name]["environment"] | {"UNMIX_MODEL": "demo"}
    assert {key.removeprefix("UNMIX_").lower() for key in told} <= Settings.model_fields.keys()
    settings = Settings(**{key.removeprefix("UNMIX_").lower(): value for key, value in told.items()})
    assert settings.auth == "keys"
    assert settings.redis_url == f"redis://{name}@redis:6379/0"
    assert told["UNMIX_REDIS_PASSWORD"] == f"${{PASSWORD_{name.upper()}:?}}"


@pytest.mark.parametrize("name", ["redis", *OURS])
def test_compose_runs_the_images_of_the_cluster_within_their_limits(name: str) -> None:
    service, container = SERVICES[name], pod_container(name)
    assert service["image"] == container["image"]
    assert quantity(service["mem_limit"].upper() + "i") == quantity(container["resources"]["limits"]["memory"])
    assert service["read_only"]
    assert service["cap_drop"] == ["ALL"]
    if "command" in service:
        assert service["command"] == container["args"]


def test_redis_gets_the_password_of_each_user_and_the_page_makes_them() -> None:
    told = SERVICES["redis"]["environment"]
    assert {key.removeprefix("PASSWORD_") for key in told} == set(roles())
    made = re.search(r"for user in ([A-Z ]+); do echo \"PASSWORD_", PAGE)
    assert made
    assert {name.lower() for name in made[1].split()} == set(roles())


def test_the_passwords_are_written_as_the_server_wants_them(tmp_path: Path) -> None:
    *_, script = SERVICES["redis"]["entrypoint"]
    write, _, start = script.replace("$$", "$").replace("/tmp/passwords", str(tmp_path)).partition("exec ")
    environment = {"PATH": os.environ["PATH"], **{f"PASSWORD_{user}": f"of-{user}" for user in roles()}}
    subprocess.run(["sh", "-ec", write], env=environment, check=True)
    assert {file.name: file.read_text() for file in tmp_path.iterdir()} == {user: f"of-{user}" for user in roles()}
    assert start.split()[1] == "/etc/unmix/start.sh"


def test_volumes_are_named_and_the_store_lies_in_one() -> None:
    volumes = [volume.removesuffix(":ro") for service in SERVICES.values() for volume in service["volumes"]]
    sources = {volume.rpartition(":")[0]: volume.rpartition(":")[2] for volume in volumes}
    assert {source for source in sources if source and not source.startswith(".")} == set(COMPOSE["volumes"])
    (ours,) = (source for source in sources if source.startswith("."))
    assert (FOLDER / ours / "start.sh").is_file()
    for name in OURS:
        folder = Path(str(SERVICES[name]["environment"]["UNMIX_STORE_URL"]).removeprefix("file://"))
        assert f"songs:/{folder.parts[1]}" in SERVICES[name]["volumes"]


@pytest.mark.parametrize("name", OURS)
def test_volumes_that_our_processes_write_to_belong_to_their_user_in_the_image(name: str) -> None:
    """A new volume gets its owner from the folder of the image that it is mounted on; /tmp is for all."""
    image = (ROOT / ("worker" if name == "worker" else "rest") / "Dockerfile").read_text()
    (made,) = re.findall(r"install -d -o 10001 -g 10001 (.+)$", image, re.MULTILINE)
    mounted = {volume.rpartition(":")[2] for volume in SERVICES[name]["volumes"]}
    assert mounted <= {*made.split(), "/tmp"}


def test_no_tmpfs_has_options_that_older_podman_does_not_know() -> None:
    """podman 4.3 takes no uid and gid, and in the place of a folder of the image runc 1.1.5 takes no mode."""
    assert all(folder == "/tmp" for service in SERVICES.values() for folder in service.get("tmpfs", []))


def unit() -> configparser.ConfigParser:
    parser = configparser.ConfigParser(strict=False, interpolation=None)
    parser.optionxform = str  # type: ignore[assignment, method-assign]
    parser.read_string(re.sub(r"(?m)^(Environment=.*)\n", "", UNIT.read_text()))
    return parser


def test_the_unit_starts_local_mode_with_options_that_it_has(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "200")
    program, *arguments = shlex.split(unit()["Service"]["ExecStart"])
    assert program.endswith("/.venv/bin/unmix")
    assert unmix(*arguments, "--help") == 0
    said = capsys.readouterr().out
    for option in (word for word in arguments if word.startswith("--")):
        assert option in said
    folder = arguments[arguments.index("--data-dir") + 1]
    assert folder == f"/var/lib/{unit()['Service']['StateDirectory']}"


def test_the_unit_wants_keys_and_tells_settings_that_there_are() -> None:
    said = " ".join(re.findall(r"^Environment=(.*)$", UNIT.read_text(), re.MULTILINE)).split()
    told = dict(word.split("=", 1) for word in said)
    assert told["UNMIX_AUTH"] == "keys"
    assert {name.removeprefix("UNMIX_").lower() for name in told if name.startswith("UNMIX_")} <= {
        *Settings.model_fields
    }


def test_systemd_understands_the_unit(tmp_path: Path) -> None:
    copy = tmp_path / UNIT.name
    copy.write_text(UNIT.read_text().replace("/opt/track-unmix/.venv/bin/unmix", sys.executable))
    command = [program("systemd-analyze", package="systemd"), "verify", str(copy)]
    done = subprocess.run(command, capture_output=True, text=True)
    mine = [line for line in done.stderr.splitlines() if UNIT.name in line]
    assert (done.returncode, mine) == (0, [])
