"""What all scenarios of one run share: the seed, the size, the history, the zygote, and services to be made."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from random import Random
from typing import Any

from chaos.checker import Objects, Verdict, objects_on_s3
from chaos.history import History
from chaos.service import SCALED, Service
from chaos.zygote import Zygote
from s3_servers import ACCESS_KEY, SECRET_KEY, S3Server
from support import RedisServer


@dataclass(frozen=True)
class Run:
    """One run of `python -m chaos`."""

    seed: int
    quick: bool
    folder: Path  # for stores and Redis' files, best in memory
    history: Path
    zygote: Zygote

    def size(self, full: int, quick: int) -> int:
        """Return how many of something there are to be."""
        return quick if self.quick else full

    def rng(self, scenario: str) -> Random:
        """Return the scenario's own source of chance, whichever scenarios run before it."""
        return Random(f"{self.seed} {scenario}")

    @contextmanager
    def service(
        self,
        scenario: str,
        settings: Mapping[str, str] = SCALED,
        *,
        s3: S3Server | None = None,
        calls: Sequence[dict[str, Any]] = (),
    ) -> Iterator[Service]:
        """Run a service of the scenario's own, on a file store or on an S3 server."""
        folder = self.folder / scenario
        (folder / "redis").mkdir(parents=True)
        server = RedisServer(folder / "redis")
        server.start()
        if s3 is not None:
            keys = {"UNMIX_STORE_ACCESS_KEY": ACCESS_KEY, "UNMIX_STORE_SECRET_KEY": SECRET_KEY}
            settings = {"UNMIX_STORE_URL": s3.url, **keys, **settings}
        history = History(self.history, scenario)
        read_objects = reader_of(s3) if s3 else None
        try:
            with Service(
                self.zygote, server, history, folder, settings, read_objects=read_objects, calls=calls
            ) as service:
                yield service
        finally:
            server.kill()


def reader_of(s3: S3Server) -> Callable[[], Objects]:
    """Return what reads all objects of an S3 server."""
    return lambda: objects_on_s3(f"http://{s3.endpoint}", ACCESS_KEY, SECRET_KEY)


def tell(verdict: Verdict) -> None:
    """Print what is wrong, as far as a reader can take it in."""
    for text in verdict.wrong[:20]:
        print(f"    WRONG {text}", flush=True)
