"""Makes what a process inherits the same wherever tests run: variables, home, locale, time zone, umask, signals.

A shell that starts `make test &` in a script ignores SIGINT, for example, and whatever it starts does too; and whoever
works on a deployment has its `UNMIX_…` and `REDIS_…` set. Neither may decide how a test ends, or where it writes.
"""

import atexit
import locale
import os
import shutil
import signal
import tempfile
import time
from typing import Final

#: What stays of the variables: where programs, modules and libraries are, where temporary files go, on which device to
#: compute, who runs this, at what terminal.
KEPT: Final = {
    "PATH",
    "PYTHONPATH",
    "TMPDIR",
    "CUDA_VISIBLE_DEVICES",
    "USER",
    "LOGNAME",
    "TERM",
    "TESTS_NEED_PROGRAMS",  # whether a machine without one fails: tests/programs.py
    "TESTS_MACHINE_RUNS",  # how long the queue's state machine is tried: tests/service/test_queue_machine.py
}
KEPT_PREFIXES: Final = ("PYTEST_", "LD_", "DYLD_", "NIX_")
#: A worker of pytest-xdist has the home of the process that started it.
XDIST_WORKER: Final = "PYTEST_XDIST_WORKER"
UMASK: Final = 0o022
LOCALES: Final = ("C.UTF-8", "en_US.UTF-8")  # macOS may lack the first
#: A parent that ignores these lets all that it starts ignore them. SIGHUP is not among them: nohup means it.
SIGNALS: Final = (signal.SIGINT, signal.SIGQUIT, signal.SIGTERM, signal.SIGCHLD)


def settle() -> None:
    """Change this process, and so all that it starts. To be called once, from the main thread."""
    os.umask(UMASK)
    inherited = dict(os.environ)
    os.environ.clear()
    os.environ.update(
        {name: value for name, value in inherited.items() if name in KEPT or name.startswith(KEPT_PREFIXES)},
        HOME=inherited["HOME"] if XDIST_WORKER in inherited else _new_home(),
        LC_ALL=_settle_locale(),
        TZ="UTC",
    )
    time.tzset()
    for number in SIGNALS:
        if signal.getsignal(number) is signal.SIG_IGN:
            signal.signal(number, signal.default_int_handler if number is signal.SIGINT else signal.SIG_DFL)
    signal.pthread_sigmask(signal.SIG_SETMASK, ())


def _new_home() -> str:
    """Make an empty home, which goes with this process."""
    home = tempfile.mkdtemp(prefix="unmix-tests-home-")
    atexit.register(shutil.rmtree, home, ignore_errors=True)
    return home


def _settle_locale() -> str:
    for name in LOCALES:
        try:
            return locale.setlocale(locale.LC_ALL, name)
        except locale.Error:
            pass
    return locale.setlocale(locale.LC_ALL, "C")
