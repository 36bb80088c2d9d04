"""S3 servers full of finished jobs: SeaweedFS as `minio/statefulset.yaml` starts it, from its wheel.

Through S3 a million objects would take hours. So they are laid out in a folder first, which SeaweedFS' own copying
brings into the buckets; from then on everything goes through S3.
"""

import random
import shutil
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Final

from benchmarks import past
from benchmarks.processes import started, wait_until
from unmix.errors import StoreError
from unmix.names import OUTPUT_BUCKET, QUEUE_BUCKET, ObjectName
from unmix.store.s3 import MinioStore

ACCESS_KEY: Final = "unmix-benchmarks"
SECRET_KEY: Final = "not-a-secret-of-anyone"

_WEED: Final = Path(sys.executable).with_name("weed")
_COPIES_AT_ONCE: Final = 16
_PORTS: Final = range(20_000, 32_000)
#: Servers inside the one process; each has a port for HTTP and one for gRPC.
_INNER: Final = ("master", "volume", "filer", "s3")


class _Folders:
    """Objects as files, to be copied: a folder for each bucket."""

    def __init__(self, root: Path) -> None:
        self._root = root

    def put(self, name: ObjectName, data: bytes) -> None:
        """Put a small object whole."""
        path = self._root / name.bucket / name.key
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)

    def copy(self, source: ObjectName, target: ObjectName) -> None:
        """Give `target` the bytes of `source`."""
        self.put(target, (self._root / source.bucket / source.key).read_bytes())


@contextmanager
def filled_s3(folder: Path, jobs: int) -> Iterator[tuple[str, MinioStore]]:
    """Run a server in `folder` that holds finished jobs, numbered from 0; yields its `host:port` and a client."""
    ports = dict(zip((*_INNER, *(f"{name}.grpc" for name in _INNER)), _free_ports(), strict=False))
    data = folder / "weed"
    data.mkdir()
    command = [
        *(str(_WEED), "-logtostderr=true", "server", f"-dir={data}", "-ip=127.0.0.1", "-ip.bind=127.0.0.1"),
        *("-s3", "-s3.iam=false", "-s3.port.iceberg=0", "-s3.port.lance=0", "-s3.autoCreateBucket=false"),
        *("-master.volumeSizeLimitMB=256", "-volume.max=0", "-master.telemetry=false"),
        *(f"-{inner}.port={ports[inner]}" for inner in _INNER),
        *(f"-{inner}.port.grpc={ports[f'{inner}.grpc']}" for inner in _INNER),
    ]
    keys = {"AWS_ACCESS_KEY_ID": ACCESS_KEY, "AWS_SECRET_ACCESS_KEY": SECRET_KEY}
    endpoint = f"127.0.0.1:{ports['s3']}"
    store = MinioStore(endpoint, access_key=ACCESS_KEY, secret_key=SECRET_KEY, secure=False)
    with started(command, folder / "weed.log", keys):
        wait_until(lambda: _is_ready(store), "the S3 server answers")
        if jobs:
            _fill(folder / "objects", f"http://127.0.0.1:{ports['filer']}.{ports['filer.grpc']}/buckets/", jobs)
        yield endpoint, store


def _free_ports() -> Iterator[int]:
    """Yield ports that nobody listens on, below those that the system gives to connections: its own would take them."""
    for port in random.sample(_PORTS, len(_PORTS)):
        with suppress(OSError):
            socket.create_server(("127.0.0.1", port)).close()
            yield port


def _fill(objects: Path, buckets: str, jobs: int) -> None:
    for number in range(jobs):
        past.put_finished(_Folders(objects), number)
    copied = [str(objects / bucket) for bucket in (QUEUE_BUCKET, OUTPUT_BUCKET)]
    command = [str(_WEED), "filer.copy", "-c", str(_COPIES_AT_ONCE), *copied, buckets]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    shutil.rmtree(objects)


def _is_ready(store: MinioStore) -> bool:
    try:
        store.prepare()
    except StoreError:
        return False
    return True
