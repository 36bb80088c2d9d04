"""What decodes strangers' songs is shut in: nothing to open, nobody to talk to, nothing to start.

Each test is the real process but for the decoding, in the place of which it tries to get out.
"""

import json
import os
import socket
import struct
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from unmix.confinement import in_force, seccomp
from unmix.errors import UnmixError
from unmix.runtime.last_words import NEVER
from walls import ALL, ATTACK, LANDLOCK, SECCOMP, kernel_has, python_without

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="elsewhere there is nothing to shut a process in with")

#: The check of an upload, and the decoder of a worker, with an attack in the place of the decoding.
CHECK = """
import sys, unmix.audio.song_reader, unmix.audio.probe
from unmix.errors import AudioError
def spy(*_, **__):
    raise AudioError(json.dumps(attack()))
unmix.audio.song_reader.measure = spy
sys.argv = ["probe", os.environ["SONG"], "30", "0.1", "60", "1024", os.environ["SANDBOX"]]
unmix.audio.probe.main()
"""
DECODER = """
import sys, unmix.audio.decoder
from unmix.errors import AudioError
def spy(*_, **__):
    raise AudioError(json.dumps(attack()))
unmix.audio.decoder.SongReader = spy
sys.argv = ["decoder", "0.1", "60", os.environ["SANDBOX"]]
unmix.audio.decoder.main()
"""
Attack = Callable[..., "list[str] | str"]


@pytest.fixture
def attack(tmp_path: Path) -> Iterator[Attack]:
    """Return a function that tells what was possible in a process, or what it said of itself instead."""
    victim, song = tmp_path / "victim", tmp_path / "song"
    song.write_bytes(b"song")
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def run(process: str, sandbox: str = "auto", *without: int) -> "list[str] | str":
            victim.write_text("secret")
            environment = {
                **os.environ,
                "PORT": str(listener.getsockname()[1]),
                "VICTIM": str(victim),
                "SONG": str(song),
                "SANDBOX": sandbox,
                "OPENBLAS_NUM_THREADS": "1",
            }
            command = [*python_without(without), "-c", ATTACK + process]
            with song.open("rb") as file:
                run = subprocess.run(command, stdin=file, env=environment, capture_output=True, text=True, timeout=60)
            last = json.loads((run.stdout.splitlines() or ["{}"])[-1])
            if last.get("code") != "undecodable":
                return run.stdout + run.stderr
            return list(json.loads(last["message"]))

        yield run


@pytest.mark.parametrize("process", [CHECK, DECODER], ids=["check", "decoder"])
def test_whoever_takes_it_over_gets_nowhere(process: str, attack: Attack, tmp_path: Path) -> None:
    assert attack(process) == []
    assert (tmp_path / "victim").read_text() == "secret"


@pytest.mark.parametrize("process", [CHECK, DECODER], ids=["check", "decoder"])
def test_a_kernel_without_landlock_has_another_wall(process: str, attack: Attack) -> None:
    assert attack(process, "auto", LANDLOCK) == []
    assert attack(process, "require", LANDLOCK) == []


@pytest.mark.skipif(not kernel_has("landlock"), reason="this kernel has no Landlock")
@pytest.mark.parametrize("process", [CHECK, DECODER], ids=["check", "decoder"])
def test_an_architecture_without_the_list_of_calls_has_files_and_programs_shut(process: str, attack: Attack) -> None:
    possible = attack(process, "auto", SECCOMP)
    assert not {"read", "write", "create", "remove", "list", "environment", "execute"} & set(possible)
    if in_force("auto")[0].removeprefix("landlock ") >= "4":
        assert "tcp" not in possible


@pytest.mark.parametrize("process", [CHECK, DECODER], ids=["check", "decoder"])
def test_without_either_only_limits_remain_unless_more_is_required(process: str, attack: Attack) -> None:
    # Limits let nobody write, but what is there can be read, reached and started.
    open_doors = set(attack(process, "auto", LANDLOCK, SECCOMP))
    assert {"read", "tcp", "execute", "fork"} <= open_doors
    refusal = attack(process, "require", LANDLOCK, SECCOMP)
    assert isinstance(refusal, str)
    assert "UNMIX_DECODER_SANDBOX=require, but this kernel has nothing" in refusal


@pytest.mark.parametrize("process", [CHECK, DECODER], ids=["check", "decoder"])
def test_who_wants_no_walls_has_none(process: str, attack: Attack) -> None:
    assert set(ALL) - {"write", "create"} <= set(attack(process, "off")) | {"environment"}


def test_what_is_in_force_is_found_by_a_try() -> None:
    found = in_force("auto")
    assert all(each.startswith(("landlock ", "seccomp")) for each in found)
    assert kernel_has("seccomp") == ("seccomp" in found)
    assert in_force("off") == ()
    if "seccomp" in found:
        assert in_force("require") == found


@pytest.mark.parametrize("without", [[LANDLOCK, SECCOMP], [SECCOMP]], ids=["nothing", "half of it"])
def test_to_require_what_the_kernel_has_not_is_an_error_that_says_so(without: list[int]) -> None:
    code = "from unmix.confinement import in_force; in_force('require')"
    run = subprocess.run([*python_without(without), "-c", code], capture_output=True, text=True)
    assert run.returncode != 0
    assert "UNMIX_DECODER_SANDBOX=require, but this kernel has" in run.stderr


def test_a_try_that_fails_is_an_error_and_no_wall(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("unmix.confinement.sys.executable", "/bin/false")
    with pytest.raises(UnmixError) as caught:
        in_force("auto")
    assert caught.value.code == "sandbox_unavailable"


@pytest.mark.parametrize(("module", "status"), [("unmix_rest", 1), ("unmix_worker", NEVER)])
def test_a_process_whose_decoders_cannot_be_shut_in_does_not_start_if_they_have_to(
    module: str, status: int, redis_url: str
) -> None:
    settings = {"UNMIX_DECODER_SANDBOX": "require", "UNMIX_REDIS_URL": redis_url, "UNMIX_MODEL": "demo"}
    command = [*python_without([LANDLOCK, SECCOMP]), "-m", module]
    run = subprocess.run(command, env={**os.environ, **settings}, capture_output=True, text=True, timeout=60)
    assert run.returncode == status
    assert "UNMIX_DECODER_SANDBOX=require, but this kernel has nothing" in run.stdout + run.stderr


KILL, ALLOW, ENOSYS = 0x80000000, 0x7FFF0000, 0x00050026


def run_filter(program: bytes, architecture: int, call: int, first_argument: int = 0) -> int:
    """Run a filter as the kernel does, as far as ours go, and return its verdict."""
    words = {0: call, 4: architecture, 16: first_argument}
    at = accumulator = 0
    while True:
        code, on_true, on_false, value = struct.unpack_from("=HBBI", program, 8 * at)
        at += 1
        if code == 0x20:
            accumulator = words[value]
        elif code == 0x15:
            at += on_true if accumulator == value else on_false
        elif code == 0x45:
            at += on_true if accumulator & value else on_false
        else:
            assert code == 0x06
            return int(value)


@pytest.mark.parametrize(("architecture", "column", "clone"), [(0xC000003E, 0, 56), (0xC00000B7, 1, 220)])
def test_the_filter_allows_the_list_and_threads_and_nothing_else(architecture: int, column: int, clone: int) -> None:
    program = seccomp.filter_of(architecture, column)
    allowed = {numbers[column] for numbers in seccomp._ALLOWED.values()}
    for call in (*range(1_000), *(0x40000000 + call for call in range(1_000)), 0xFFFFFFFF):
        if call != clone:
            assert run_filter(program, architecture, call) == (ALLOW if call in allowed else ENOSYS), call
    thread, process = 0x3D0F00, 0x1200011  # as the C library says it
    assert run_filter(program, architecture, clone, thread) == ALLOW
    assert run_filter(program, architecture, clone, process) == ENOSYS
    assert run_filter(program, 0x40000003, 0) == KILL  # 32 bits have other numbers
