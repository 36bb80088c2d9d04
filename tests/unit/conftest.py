"""Fixtures of the unit tests."""

import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from structlog.testing import capture_logs

from rest_server import RestServer
from rest_support import Rest
from unmix.audio.probe import Probe, ProbedSong


@pytest.fixture(scope="session", autouse=True)
def converting_here() -> Iterator[None]:
    """Convert models for OpenVINO in this process, unless there is no torch: another takes ten seconds to start."""
    with pytest.MonkeyPatch.context() as patch:
        if "unmix.engine.openvino_backend" in sys.modules:
            from unmix.engine import conversion, openvino_backend

            patch.setattr(openvino_backend, "converted_apart", conversion.converted)
        yield


@pytest.fixture(scope="session")
def check_once() -> Callable[..., ProbedSong]:
    """The check of an upload, which remembers the songs that it has found good: its process takes a second to start."""
    check, known = Probe.check, dict[tuple[bytes, str], ProbedSong]()

    def check_once(probe: Probe, path: Path, **options: Any) -> ProbedSong:
        asked = (path.read_bytes(), str(vars(probe)["_arguments"]))
        if asked not in known:
            known[asked] = check(probe, path, **options)
        return known[asked]

    return check_once


@pytest.fixture(autouse=True)
def songs_are_checked_once(check_once: Callable[..., ProbedSong], monkeypatch: pytest.MonkeyPatch) -> None:
    """Tests of the check itself have a fixture of this name that does nothing."""
    monkeypatch.setattr(Probe, "check", check_once)


@pytest.fixture
def rest(tmp_path: Path, redis_url: str) -> Rest:
    """The REST application over an empty queue and an empty store."""
    return Rest(tmp_path, redis_url)


@pytest.fixture
def rest_server(rest: Rest) -> Iterator[RestServer]:
    """`rest` behind a port; what it logs is no output of a command."""
    with capture_logs(), RestServer(rest) as server:
        yield server


@pytest.fixture
def url(rest_server: RestServer) -> str:
    """Where `rest` can be reached."""
    return rest_server.url
