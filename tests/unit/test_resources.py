"""What a process may use of its machine, read from folders that look like the /proc and /sys of several machines."""

import math
import os
import sys
from pathlib import Path

import pytest

from unmix.resources import memory_kills_of, memory_limit, processors_of, usable_memory, usable_processors

GIB = 1 << 30


class Machine:
    """A folder with what Linux says of a process."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.mounts = ["22 27 0:21 / /proc rw,relatime - proc proc rw"]
        self.memberships: list[str] = []

    def cores(self, *siblings: str) -> None:
        """Let each core have these hyper-threads, as in `0,4` or `0-1`."""
        for core in siblings:
            first, _, last = core.replace("-", ",").partition(",")
            for number in {first, last or first}:
                self._write(f"sys/devices/system/cpu/cpu{number}/topology/thread_siblings_list", core)

    def cgroup(self, path: str, **files: str) -> None:
        """Make a cgroup below `/sys/fs/cgroup`; `cpu_max` is its file `cpu.max`."""
        for name, text in files.items():
            controller, _, rest = name.partition("_")
            self._write(f"sys/fs/cgroup/{path}/{controller}.{rest}", text)

    def version_2(self, membership: str, *, shown: str = "/") -> None:
        """Put the process into the cgroup `membership`; `shown` is what of all cgroups its container sees."""
        self.memberships.append(f"0::{membership}")
        self.mounts.append(f"41 31 0:38 {shown} /sys/fs/cgroup rw,nosuid shared:9 - cgroup2 cgroup2 rw,nsdelegate")
        self._describe()

    def version_1(self, controllers: str, membership: str, *, shown: str = "/") -> None:
        self.memberships.append(f"4:{controllers}:{membership}")
        self.mounts.append(f"32 31 0:29 {shown} /sys/fs/cgroup/{controllers} rw - cgroup cgroup rw,{controllers}")
        self._describe()

    def _describe(self) -> None:
        self._write("proc/self/cgroup", *self.memberships)
        self._write("proc/self/mountinfo", *self.mounts)

    def _write(self, path: str, *lines: str) -> None:
        file = self.root / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text("\n".join(lines) + "\n")


@pytest.fixture
def machine(tmp_path: Path) -> Machine:
    return Machine(tmp_path)


def test_without_limits_every_allowed_processor_counts(machine: Machine) -> None:
    machine.cores("0", "1", "2", "3")
    machine.version_2("/user.slice")
    assert processors_of(range(4), machine.root) == 4
    assert processors_of({1, 3}, machine.root) == 2


def test_where_nothing_is_known_every_allowed_processor_counts(machine: Machine) -> None:
    assert processors_of(range(3), machine.root) == 3
    assert memory_limit(machine.root) == math.inf


@pytest.mark.parametrize("cores", [("0,2", "1,3"), ("0-1", "2-3")], ids=["apart", "side by side"])
def test_the_hyper_threads_of_a_core_count_once(machine: Machine, cores: tuple[str, ...]) -> None:
    machine.cores(*cores)
    assert processors_of(range(4), machine.root) == 2


def test_a_core_counts_if_only_one_of_its_hyper_threads_is_allowed(machine: Machine) -> None:
    machine.cores("0,2", "1,3")
    assert processors_of({0, 3}, machine.root) == 2
    assert processors_of({0, 2}, machine.root) == 1


@pytest.mark.parametrize(
    ("quota", "processors"),
    [("max 100000", 8), ("200000 100000", 2), ("150000 100000", 2), ("140000 100000", 1), ("20000 100000", 1)],
)
def test_the_quota_of_version_2_limits_and_is_rounded(machine: Machine, quota: str, processors: int) -> None:
    machine.version_2("/")
    machine.cgroup("", cpu_max=quota)
    assert processors_of(range(8), machine.root) == processors


@pytest.mark.parametrize(("quota", "processors"), [("-1", 8), ("300000", 3)])
@pytest.mark.parametrize("controllers", ["cpu", "cpu,cpuacct"])
def test_the_quota_of_version_1_limits(machine: Machine, controllers: str, quota: str, processors: int) -> None:
    machine.version_1(controllers, "/a")
    machine.cgroup(f"{controllers}/a", cpu_cfs_quota_us=quota, cpu_cfs_period_us="100000")
    assert processors_of(range(8), machine.root) == processors


def test_a_quota_above_the_allowed_processors_does_not_add_any(machine: Machine) -> None:
    machine.version_2("/")
    machine.cgroup("", cpu_max="800000 100000")
    assert processors_of({0, 1}, machine.root) == 2


@pytest.mark.parametrize("tightest", ["", "pods", "pods/pod", "pods/pod/container"])
def test_the_least_quota_of_all_cgroups_around_the_process_counts(machine: Machine, tightest: str) -> None:
    machine.version_2("/pods/pod/container")
    for path in ("", "pods", "pods/pod", "pods/pod/container"):
        machine.cgroup(path, cpu_max="200000 100000" if path == tightest else "600000 100000")
    machine.cgroup("pods/pod/container/below", cpu_max="100000 100000")  # not around it
    machine.cgroup("pods/another", cpu_max="100000 100000")
    assert processors_of(range(8), machine.root) == 2


@pytest.mark.parametrize("membership", ["/pods/pod", "/pods/pod/inner", "/../../elsewhere"])
def test_a_container_that_sees_its_own_cgroup_alone_looks_there(machine: Machine, membership: str) -> None:
    machine.version_1("cpu", membership, shown="/pods/pod")
    machine.cgroup("cpu", cpu_cfs_quota_us="250000", cpu_cfs_period_us="50000")
    assert processors_of(range(8), machine.root) == 5


def test_version_1_counts_where_version_2_is_there_without_a_controller(machine: Machine) -> None:
    machine.version_1("cpu", "/a")
    machine.version_2("/")
    machine.cgroup("cpu/a", cpu_cfs_quota_us="200000", cpu_cfs_period_us="100000")
    assert processors_of(range(8), machine.root) == 2


def test_memory_is_limited_by_either_version(machine: Machine, tmp_path: Path) -> None:
    machine.version_2("/pod/container")
    machine.cgroup("pod", memory_max=str(4 * GIB))
    machine.cgroup("pod/container", memory_max="max")
    assert memory_limit(machine.root) == 4 * GIB
    older = Machine(tmp_path / "older")
    older.version_1("memory", "/pod")
    older.cgroup("memory/pod", memory_limit_in_bytes=str(2 * GIB))
    assert memory_limit(older.root) == 2 * GIB


def test_this_machine_has_something_to_use() -> None:
    assert 1 <= usable_processors() <= (os.cpu_count() or 1)
    assert usable_memory() > 0


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere a process cannot be bound to a processor")
def test_a_process_that_is_bound_to_one_processor_may_use_one() -> None:
    allowed = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {min(allowed)})
    try:
        assert usable_processors() == 1
    finally:
        os.sched_setaffinity(0, allowed)


def test_elsewhere_the_processors_of_the_machine_count(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "platform", "darwin")
    monkeypatch.setattr(os, "cpu_count", lambda: 10)
    assert usable_processors() == 10


def test_kills_for_memory_are_counted_by_either_version(machine: Machine, tmp_path: Path) -> None:
    assert memory_kills_of(machine.root) is None
    machine.version_2("/pod/container")
    machine.cgroup("pod", memory_events="oom_kill 7")
    machine.cgroup("pod/container", memory_events="low 0\nhigh 0\nmax 31\noom 4\noom_kill 2\noom_group_kill 0")
    assert memory_kills_of(machine.root) == 2
    older = Machine(tmp_path / "older")
    older.version_1("memory", "/pod")
    older.version_2("/")  # without controllers
    older.cgroup("memory/pod", memory_oom_control="oom_kill_disable 0\nunder_oom 0\noom_kill 3", memory_failcnt="99")
    assert memory_kills_of(older.root) == 3


def test_where_no_kill_is_counted_nobody_says_that_there_was_none(machine: Machine) -> None:
    machine.version_1("memory", "/pod")
    machine.cgroup("memory/pod", memory_oom_control="oom_kill_disable 0\nunder_oom 0")  # before Linux 4.13
    assert memory_kills_of(machine.root) is None
