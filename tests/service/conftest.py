"""Fixtures of the service tests: the S3 servers and REST, beside the Redis server of `tests/conftest.py`."""

from rest_process import start
from s3_servers import moto, rclone, shared_moto, shared_rclone

__all__ = ["moto", "rclone", "shared_moto", "shared_rclone", "start"]
