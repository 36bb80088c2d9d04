"""What a process that decodes strangers' songs may try once a song has taken it over, and kernels that have less."""

import json
import os
import subprocess
import sys
from collections.abc import Collection

#: Python that defines `attack()`, which tries it all and returns what was possible; everything that it needs is loaded
#: before. The listener's port and a file of somebody else's come in the environment.
ATTACK = """
import encodings.idna, json, os, signal, socket, subprocess, threading

def attack(port=int(os.environ["PORT"]), file=os.environ["VICTIM"]):
    def connect(kind):
        socket.socket(socket.AF_INET, kind).connect(("127.0.0.1", port))
    def execute():
        try:
            subprocess.run(["/bin/true"], check=True)
        except OSError:
            os.execv("/bin/true", ["true"])
    tries = {
        "read": lambda: open(file).read(),
        "write": lambda: open(file, "w"),
        "create": lambda: open(file + ".new", "w"),
        "remove": lambda: os.unlink(file),
        "list": lambda: os.listdir(os.path.dirname(file)),
        "environment": lambda: open("/proc/self/environ").read(),
        "tcp": lambda: connect(socket.SOCK_STREAM),
        "udp": lambda: connect(socket.SOCK_DGRAM),
        "unix": lambda: socket.socketpair(),
        "execute": execute,
        "fork": lambda: os.fork() or os._exit(0),
        "signal": lambda: os.kill(os.getppid(), 0),
    }
    possible = []
    for name, attempt in tries.items():
        try:
            attempt()
        except OSError:
            continue
        possible.append(name)
    return possible
"""

#: Everything that `attack` tries.
ALL = [
    *("read", "write", "create", "remove", "list", "environment", "tcp", "udp", "unix", "execute", "fork", "signal"),
]

#: Runs the rest of the command line on a kernel that does not know the system calls of the first argument.
WITHOUT = """
import ctypes, json, os, struct, sys
calls = json.loads(sys.argv[1])
program = b"".join(struct.pack("=HBBI", *each) for each in [
    (0x20, 0, 0, 0),
    *((0x15, len(calls) - index, 0, call) for index, call in enumerate(calls)),
    (0x06, 0, 0, 0x7FFF0000),
    (0x06, 0, 0, 0x00050000 | 38),
])
class Program(ctypes.Structure):
    _fields_ = (("length", ctypes.c_ushort), ("instructions", ctypes.c_char_p))
libc = ctypes.CDLL(None, use_errno=True)
assert libc.prctl(38, 1, 0, 0, 0) == 0
assert libc.prctl(22, 2, ctypes.byref(Program(len(program) // 8, program)), 0, 0) == 0
os.execv(sys.executable, [sys.executable, *sys.argv[2:]])
"""
LANDLOCK = 444
SECCOMP = {"x86_64": 317, "aarch64": 277}.get(os.uname().machine, 0)


def python_without(calls: Collection[int]) -> list[str]:
    """Return the command that is Python on such a kernel."""
    return [sys.executable, "-c", WITHOUT, json.dumps([*calls])] if calls else [sys.executable]


def kernel_has(sandbox: str) -> bool:
    """Tell whether this machine's kernel can shut a process in with `landlock` or `seccomp`."""
    run = subprocess.run(
        [sys.executable, "-m", "unmix.confinement", "auto"], capture_output=True, text=True, check=True
    )
    return any(line.startswith(sandbox) for line in run.stdout.splitlines())
