"""The gate in REST's pods: it leads to REST and nobody else does, has room for what it keeps, and ends before REST."""

import subprocess
from pathlib import Path
from typing import Any

import pytest

from manifests.form import quantity
from manifests.rendering import combination
from manifests.workloads import Manifests, Workload
from support import eventually
from unmix.settings import Settings
from unmix_rest.gate import render
from unmix_rest.http.connection import MOST_KEPT_BYTES

MANIFESTS = Manifests(combination("gke"))
POD = Workload(MANIFESTS.find("Deployment", "track-unmix", "rest") or {})
INIT, REST, GATE = POD.containers


def settings_of(container: dict[str, Any]) -> Settings:
    """Return the settings that a process in a container reads."""
    told = {name: value for name, value in MANIFESTS.environment(POD, container).items() if value is not None}
    return Settings(**{name.removeprefix("UNMIX_").lower(): value for name, value in told.items()})  # type: ignore[arg-type]


def test_the_gate_of_a_pod_leads_to_its_rest_which_nobody_else_reaches() -> None:
    config = render(settings_of(INIT), Path("/gate"))
    rest = settings_of(REST)
    assert (rest.host, rest.trusted_proxy) == ("127.0.0.1", "127.0.0.1")
    assert f"server {rest.host}:{rest.port};" in config
    assert f"listen 0.0.0.0:{GATE['ports'][0]['containerPort']};" in config
    assert [port["name"] for port in REST["ports"]] == ["metrics"]
    folder = INIT["args"][-1]
    assert f"{folder}/nginx.conf" in GATE["command"]
    assert folder in [mount["mountPath"] for mount in GATE["volumeMounts"]]


def test_rest_and_the_gate_are_told_the_same() -> None:
    own = {"redis_url": "", "gate_port": 0, "admin_host": "", "admin_port": None}
    assert settings_of(REST).model_copy(update=own) == settings_of(INIT).model_copy(update=own)


def test_the_volumes_have_room_for_what_is_kept_and_the_pod_is_not_evicted_for_it() -> None:
    sizes = {volume["name"]: quantity(volume["emptyDir"]["sizeLimit"]) or 0 for volume in POD.pod["volumes"]}
    settings = settings_of(REST)
    room_bytes = settings.upload_room_mb << 20
    assert sizes["gate"] > room_bytes
    assert sizes["tmp"] > room_bytes + MOST_KEPT_BYTES
    for name, container in (("gate", GATE), ("tmp", REST)):
        assert (quantity(container["resources"]["limits"]["ephemeral-storage"]) or 0) >= sizes[name]


@pytest.mark.parametrize("probe", ["startupProbe", "readinessProbe", "livenessProbe"])
def test_rest_is_asked_where_those_ask_who_run_it(probe: str) -> None:
    assert (REST[probe]["httpGet"]["path"], REST[probe]["httpGet"]["port"]) == ("/healthz", "metrics")
    assert REST["ports"][0]["containerPort"] == settings_of(REST).admin_port


def test_rest_waits_with_its_end_until_the_gate_has_ended(tmp_path: Path) -> None:
    shell, option, code = REST["lifecycle"]["preStop"]["exec"]["command"]
    command = [shell, option, "echo begun; " + code.replace("/gate/", f"{tmp_path}/")]
    assert subprocess.run(command, capture_output=True, check=False).returncode == 0
    pid_file = tmp_path / "nginx.pid"
    pid_file.touch()
    with subprocess.Popen(command, stdout=subprocess.PIPE) as waiting:
        assert waiting.stdout is not None
        assert waiting.stdout.readline() == b"begun\n"
        assert waiting.poll() is None
        pid_file.unlink()
        eventually(lambda: waiting.poll() == 0, "it goes on")
