"""What tests of all folders share: real servers on free loopback ports, ended by pid, and names for songs."""

import hashlib
import socket
import subprocess
import time
from pathlib import Path

import redis

from unmix.embedded_redis import server_command


def song_hash_number(number: int) -> str:
    """Return a song hash that looks like any other, the same one for the same number."""
    return hashlib.sha256(str(number).encode()).hexdigest()


def free_port() -> int:
    """Return a TCP port on 127.0.0.1 that nobody listens on now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


class RedisServer:
    """A real Redis-protocol server that a test may stop and start again on the same data."""

    def __init__(self, data_dir: Path) -> None:
        self.port = free_port()
        self.url = f"redis://127.0.0.1:{self.port}/0"
        self._data_dir = data_dir
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        log = (self._data_dir / "redis.log").open("ab")
        self._process = subprocess.Popen(server_command(self.port, self._data_dir), stdout=log, stderr=log)
        log.close()
        with redis.Redis.from_url(self.url) as client:
            for _ in range(200):
                try:
                    client.ping()
                    return
                except redis.ConnectionError:
                    time.sleep(0.05)
        raise RuntimeError(f"the Redis server did not start: {(self._data_dir / 'redis.log').read_text()}")

    def kill(self) -> None:
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None
