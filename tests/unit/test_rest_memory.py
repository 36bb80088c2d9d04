"""What REST has used goes back to the system."""

import platform
import subprocess
import sys

import pytest

#: Buffers as they come and go with clients, with small things between them that stay. Prints how many MB are kept.
CODE = """
import os
from unmix_rest.memory import give_back_what_is_free
give_back_what_is_free()
def rss_mb():
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE") >> 20
before = rss_mb()
bytearray(30 << 20)
buffers, small = [], []
for number in range(200):
    buffers.append(bytearray(b"x" * 500_000))
    small.append(bytearray(b"x" * 600))
del buffers
print(rss_mb() - before)
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="another C library is left as it is")
def test_buffers_that_are_gone_take_no_memory_whatever_lies_between_them() -> None:
    assert int(subprocess.check_output([sys.executable, "-c", CODE])) < 10
