"""Fixtures of the unit tests."""

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from rest_support import Rest


@pytest.fixture(scope="session", autouse=True)
def converting_here() -> Iterator[None]:
    """Convert models for OpenVINO in this process, unless there is no torch: another takes ten seconds to start."""
    with pytest.MonkeyPatch.context() as patch:
        if "unmix.engine.openvino_backend" in sys.modules:
            from unmix.engine import conversion, openvino_backend

            patch.setattr(openvino_backend, "converted_apart", conversion.converted)
        yield


@pytest.fixture
def rest(tmp_path: Path, redis_url: str) -> Rest:
    """The REST application over an empty queue and an empty store."""
    return Rest(tmp_path, redis_url)
