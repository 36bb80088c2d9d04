"""`python -m benchmarks.exposed_attack PORT STEM SECONDS SCALE`: clients that want a service stopped, for `exposed`.

All are in one process, which does next to nothing but wait, and come from a few addresses of this machine. Each begins
again soon after it was refused or cut off. It ends by itself after its seconds and prints, as JSON, how many of each
kind had a connection and how they were answered.
"""

import asyncio
import json
import select
import socket
import sys
from collections import Counter
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import asdict, dataclass, fields
from statistics import median
from typing import Any, Final

from benchmarks.costly_flac import costly_flac

#: From how many addresses each kind comes: few enough for what one address may have to matter.
ADDRESSES: Final = 4
#: Pipelined requests of a client that reads none of the answers, and the size of its buffer for them.
PIPELINED: Final = 40
_SMALL_BUFFER_BYTES: Final = 16 * 1024
#: How a body trickles: so much at first, and then so much a second, which is more than the least that REST asks for.
BODY_BEGINS_BYTES: Final = 100_000
BODY_PER_SECOND: Final = 300
_PAUSE_SECONDS: Final = 1.0
#: Whoever was refused or cut off comes again after so long.
_AGAIN_SECONDS: Final = 2.0
_ALL_AT_ONCE_SECONDS: Final = 3.0


@dataclass(frozen=True, slots=True)
class Crowd:
    """How many there are of each kind."""

    heads: int  # that trickle
    bodies: int  # that trickle
    deaf: int  # who ask and do not read
    costly: int  # who send what takes long to decode

    @property
    def all(self) -> int:
        """How many there are."""
        return self.heads + self.bodies + self.deaf + self.costly


#: Each kind has its own addresses.
_KINDS: Final = tuple(field.name for field in fields(Crowd))


class _Attack:
    """Clients of one port."""

    def __init__(self, port: int, stem: str) -> None:
        self._port = port
        self._asked = f"GET {stem} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode() * PIPELINED
        song = costly_flac()
        head = f"POST /apiv1/jobs HTTP/1.1\r\nHost: localhost\r\nContent-Length: {len(song)}\r\n\r\n"
        self._song = head.encode() + song
        self.held: Counter[str] = Counter()
        self.answered: Counter[str] = Counter()
        self._loop = asyncio.get_running_loop()

    async def head(self, peer: socket.socket) -> None:
        """Send a head that does not end, a byte a second."""
        await self._loop.sock_sendall(peer, b"GET /healthz HTTP/1.1\r\nHost: localhost\r\nX-Slow: ")
        while not _is_over(peer):
            await self._loop.sock_sendall(peer, b"a")
            await asyncio.sleep(_PAUSE_SECONDS)

    async def body(self, peer: socket.socket) -> None:
        """Send a song that does not end, just fast enough."""
        head = b"POST /apiv1/jobs HTTP/1.1\r\nHost: localhost\r\nContent-Length: 50000000\r\n\r\n"
        await self._loop.sock_sendall(peer, head + bytes(BODY_BEGINS_BYTES))
        while not _is_over(peer):
            await self._loop.sock_sendall(peer, bytes(BODY_PER_SECOND))
            await asyncio.sleep(_PAUSE_SECONDS)

    async def deaf(self, peer: socket.socket) -> None:
        """Ask for many stems at once, and read none."""
        await self._loop.sock_sendall(peer, self._asked)
        while not _is_over(peer, but_for_answers=True):
            await asyncio.sleep(_PAUSE_SECONDS)

    async def costly(self, peer: socket.socket) -> None:
        """Send a song that takes long to decode, and wait for what becomes of it."""
        await self._loop.sock_sendall(peer, self._song)
        answer = await self._loop.sock_recv(peer, 4096)
        self.answered[answer[9:12].decode() or "cut off"] += 1

    async def keep_on(self, kind: str, act: Callable[[socket.socket], Awaitable[None]], number: int) -> None:
        """Do it again and again, each time on a new connection."""
        await asyncio.sleep(_ALL_AT_ONCE_SECONDS * number / 1000)
        while True:
            with socket.socket() as peer, suppress(OSError):
                peer.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, _SMALL_BUFFER_BYTES)
                peer.setblocking(False)
                peer.bind((f"127.0.{1 + _KINDS.index(kind)}.{1 + number % ADDRESSES}", 0))
                await self._loop.sock_connect(peer, ("127.0.0.1", self._port))
                self.held[kind] += 1
                try:
                    await act(peer)
                finally:
                    self.held[kind] -= 1
            await asyncio.sleep(_AGAIN_SECONDS)


def _is_over(peer: socket.socket, *, but_for_answers: bool = False) -> bool:
    """Tell whether a connection was answered or closed."""
    poll = select.poll()
    poll.register(peer, select.POLLRDHUP | (0 if but_for_answers else select.POLLIN))
    return bool(poll.poll(0))


async def _attack(port: int, stem: str, seconds: float, crowd: Crowd) -> dict[str, Any]:
    attack = _Attack(port, stem)
    acts = {"heads": attack.head, "bodies": attack.body, "deaf": attack.deaf, "costly": attack.costly}
    kinds = [kind for kind, count in asdict(crowd).items() for _ in range(count)]
    tasks = [asyncio.create_task(attack.keep_on(kind, acts[kind], number)) for number, kind in enumerate(kinds)]
    samples = []
    for _ in range(round(seconds)):
        await asyncio.sleep(1)
        samples.append(dict(attack.held))
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    held = {kind: median(sample.get(kind, 0) for sample in samples) for kind in acts}
    return {"held": held, "costly_answered": dict(attack.answered)}


def main() -> None:
    """Attack, and say how it went."""
    port, stem, seconds, *crowd = sys.argv[1:]
    print(json.dumps(asyncio.run(_attack(int(port), stem, float(seconds), Crowd(*map(int, crowd))))))


if __name__ == "__main__":
    main()
