"""Fixtures of the unit tests."""

from pathlib import Path

import pytest

from rest_support import Rest


@pytest.fixture
def rest(tmp_path: Path, redis_url: str) -> Rest:
    """The REST application over an empty queue and an empty store."""
    return Rest(tmp_path, redis_url)
