"""An S3 server that holds finished jobs: `python -m benchmarks.filled_s3 PORT JOBS` fills moto and then serves it.

Reading and writing an object take moto the same time at any number of objects, as on a real server; listing does not:
it looks at every key of the bucket. A million PUTs would take an hour and a half, so moto is filled from within.
"""

import gc
import sys

from moto.core.models import DEFAULT_ACCOUNT_ID
from moto.s3.models import s3_backends
from moto.server import main as serve

from benchmarks.past import put_finished
from unmix.names import OUTPUT_BUCKET, QUEUE_BUCKET, ObjectName


class _Inside:
    """The objects of the moto in this process."""

    def __init__(self) -> None:
        self._backend = s3_backends[DEFAULT_ACCOUNT_ID]["aws"]
        for bucket in (QUEUE_BUCKET, OUTPUT_BUCKET):
            self._backend.create_bucket(bucket, "us-east-1")

    def put(self, name: ObjectName, data: bytes) -> None:
        """Put a small object whole."""
        self._backend.put_object(name.bucket, name.key, data)

    def copy(self, source: ObjectName, target: ObjectName) -> None:
        """Give `target` the bytes of `source`."""
        found = self._backend.get_object(source.bucket, source.key)
        assert found
        self.put(target, found.value)


def main() -> None:
    """Fill and serve."""
    port, jobs = sys.argv[1:]
    store = _Inside()
    gc.disable()
    for number in range(int(jobs)):
        put_finished(store, number)
    gc.freeze()  # else each full collection would look at millions of objects, in the middle of a request
    gc.enable()
    serve(["-H", "127.0.0.1", "-p", port])


if __name__ == "__main__":
    main()
