"""Fixtures of the service tests: S3 servers, REST, the reconciler; the Redis server is that of `tests/conftest.py`."""

from reconciling import reconciler
from rest_process import start
from s3_servers import moto, rclone, shared_moto, shared_rclone
from small_disk import small_disk

__all__ = ["moto", "rclone", "reconciler", "shared_moto", "shared_rclone", "small_disk", "start"]
