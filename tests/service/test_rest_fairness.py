"""REST as a process, and many clients at once: who has gone is not served, and nobody holds up the others."""

import json
import socket
from collections.abc import Callable
from contextlib import closing, suppress
from dataclasses import replace
from http.client import HTTPConnection
from typing import Any
from urllib.parse import urlencode

import psutil
import pytest
import requests

from rest_process import HOLD, RestProcess, answer_on, form_head, send
from rest_support import encoded
from support import PATIENCE_SECONDS, command_line, make_song
from unmix import names
from unmix.ledger.callback_room import CALLBACKS_OF_ASKER
from unmix.ledger.ledger import Ledger

GOOD = make_song(1, 77)
#: Whose uploads cost much, and somebody else on the same machine.
BUSY, OTHER = "127.0.0.1", "127.0.0.2"


@pytest.fixture(scope="module")
def hour() -> bytes:
    """An hour of mp3, which takes seconds to decode."""
    return encoded(10, "mp3", "libmp3lame", rate=16_000, layout="mono") * 360


def upload(rest: RestProcess, song: bytes, *, address: str = BUSY) -> socket.socket:
    """Send a song from an address, and return the connection on which the answer will come."""
    before, after = form_head(len(song))
    peer = socket.create_connection((BUSY, rest.port), timeout=PATIENCE_SECONDS, source_address=(address, 0))
    peer.sendall(before + song + after)
    return peer


def answered(peers: list[socket.socket]) -> int:
    """How many have got an answer by now."""
    count = 0
    for peer in peers:
        peer.setblocking(False)
        with suppress(BlockingIOError):
            count += bool(peer.recv(1, socket.MSG_PEEK))
        peer.settimeout(PATIENCE_SECONDS)
    return count


def submit(rest: RestProcess, url: str, *, address: str) -> tuple[int, dict[str, Any]]:
    """Send the good song from an address, with a callback to `url`."""
    connection = HTTPConnection(BUSY, rest.port, PATIENCE_SECONDS, (address, 0))
    with closing(connection):
        connection.request("POST", f"/apiv1/jobs?{urlencode({'callback': json.dumps({'url': url})})}", GOOD)
        answer = connection.getresponse()
        return answer.status, json.loads(answer.read())


def rejected(rest: RestProcess, code: str) -> int:
    text = requests.get(f"{rest.url}/metrics", timeout=30).text
    line = next((line for line in text.splitlines() if f'unmix_songs_rejected_total{{code="{code}"}}' in line), " 0")
    return round(float(line.rpartition(" ")[2]))


def test_songs_of_clients_that_have_gone_are_neither_checked_nor_accepted(start: Callable[..., RestProcess]) -> None:
    rest = start(patch=HOLD, UNMIX_REST_THREADS="4")
    rest.hold_checks()
    peers = [upload(rest, make_song(1, number)) for number in range(8)]
    rest.wait_until_checking(3)  # as many as one client may have
    for peer in peers:
        peer.close()
    rest.let_checks_end()
    assert send(rest, GOOD).json()["hash"] == names.hash_song(GOOD)
    rest.wait_for(lambda: rejected(rest, "client_gone") == len(peers), "all of them were given up")
    assert [name for name in rest.stored() if name.endswith(".mp3")] == [f"queue/{names.hash_song(GOOD)}.mp3"]


def test_a_check_ends_when_its_client_goes(start: Callable[..., RestProcess], hour: bytes) -> None:
    rest = start()
    peer = upload(rest, hour)
    rest.wait_for(lambda: bool(checks(rest)), "the song is being checked")
    peer.close()
    rest.wait_for(lambda: rejected(rest, "client_gone") == 1, "the song was given up")
    assert checks(rest) == []
    assert rest.stored() == []


def test_a_client_that_sends_many_costly_songs_does_not_hold_up_another_one(
    start: Callable[..., RestProcess], hour: bytes
) -> None:
    rest = start(UNMIX_REST_THREADS="8")
    costly = [upload(rest, hour + bytes([number]) * 9) for number in range(16)]
    rest.wait_for(lambda: len(checks(rest)) == 2, "two are being checked")
    serve_another(rest, costly)


def test_many_clients_with_costly_songs_do_not_hold_up_another_one(
    start: Callable[..., RestProcess], hour: bytes
) -> None:
    rest = start(patch="import unmix.audio.turns as turns; turns.SURE_SECONDS = 0.5", UNMIX_REST_THREADS="8")
    costly = [upload(rest, hour + bytes([number]) * 9, address=f"127.0.0.{3 + number % 4}") for number in range(12)]
    rest.wait_for(lambda: len(checks(rest)) == 2, "two are being checked")
    serve_another(rest, costly)


def test_whoever_fills_a_songs_callbacks_leaves_others_theirs(start: Callable[..., RestProcess]) -> None:
    rest = start()
    ledger, job_id = Ledger(rest.store), names.hash_song(GOOD)
    assert submit(rest, "https://example.com/0", address=BUSY)[0] == 202
    known = ledger.request(job_id)
    assert known is not None
    for number in range(1, CALLBACKS_OF_ASKER):  # as it would by sending the song again and again
        ledger.accept(replace(known, callbacks=(replace(known.callbacks[0], url=f"https://example.com/{number}"),)))
    status, refusal = submit(rest, "https://example.com/more", address=BUSY)
    assert (status, refusal["code"]) == (422, "too_many_callbacks")
    for address in (OTHER, "127.0.0.3"):
        assert submit(rest, f"https://{address}.example.com/", address=address)[0] == 202
    kept = ledger.request(job_id)
    assert kept is not None
    assert len(kept.callbacks) == CALLBACKS_OF_ASKER + 2
    assert len({callback.asker for callback in kept.callbacks}) == 3
    assert not {BUSY, OTHER} & {callback.asker for callback in kept.callbacks}, "a document tells no addresses"


def serve_another(rest: RestProcess, costly: list[socket.socket]) -> None:
    """Send good songs from another address, which wait for the end of one costly check at most."""
    for number in range(3):
        before = answered(costly)
        with upload(rest, make_song(1, number), address=OTHER) as peer:
            assert answer_on(peer)[0] == 200
        assert answered(costly) <= before + 1, "it had to wait for one check at most"
    for peer in costly:
        peer.close()


def checks(rest: RestProcess) -> list[int]:
    """The pids of the processes that check songs."""
    return [
        child.pid for child in psutil.Process(rest.process.pid).children() if "unmix.audio.probe" in command_line(child)
    ]
