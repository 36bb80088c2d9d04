"""Everything that no client should send, straight at REST and through the gate: told apart, and nothing is kept."""

from contextlib import nullcontext
from pathlib import Path
from typing import Final

import pytest

from bad_requests import BAD_REQUEST_SETTINGS, answered, bad_requests
from gate_process import BEHIND_GATE, gate_before
from rest_process import RestProcess

WAYS: Final = ("straight", "through the gate")


@pytest.mark.parametrize("way", WAYS)
def test_what_no_client_should_send_is_an_error_of_the_client_and_leaves_nothing(
    way: str, tmp_path: Path, redis_url: str
) -> None:
    is_behind = way != WAYS[0]
    rest = RestProcess(tmp_path, redis_url, **BAD_REQUEST_SETTINGS, **(BEHIND_GATE if is_behind else {}))
    many = {"UNMIX_GATE_REQUESTS_PER_SECOND": "1000", **BAD_REQUEST_SETTINGS}
    try:
        rest.wait_until_ready()
        with gate_before(rest, {}, **many) if is_behind else nullcontext(rest) as served:
            wrong = {}
            for request in bad_requests():
                with served.connect() as peer:
                    told = answered(peer, request)
                if not told.is_as_wanted(request):
                    wrong[request.name] = told, request.wanted
        assert wrong == {}
        assert rest.stored() == []
    finally:
        rest.stop()
