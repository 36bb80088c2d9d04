"""What make would run: which torch is installed, and what the service is told. Nothing is installed."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
FILES = ("Makefile", "pyproject.toml", "constraints.txt")


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """A folder in which make finds nothing installed."""
    for name in FILES:
        shutil.copy(ROOT / name, tmp_path)
    return tmp_path


def commands(checkout: Path, *arguments: str, **environment: str) -> list[str]:
    done = subprocess.run(
        ["make", "--dry-run", *arguments],
        cwd=checkout,
        env=os.environ | environment,
        capture_output=True,
        text=True,
        check=True,
    )
    return done.stdout.replace("\\\n", " ").splitlines()


def install(checkout: Path, stamp: str) -> None:
    """Leave what an installation leaves."""
    (checkout / ".venv" / "bin").mkdir(parents=True, exist_ok=True)
    (checkout / ".venv" / "bin" / "python").touch()
    (checkout / ".venv" / stamp).touch()


def torch_of(lines: list[str]) -> list[str]:
    """Return what pip is asked for where torch is installed."""
    return [line.split("--retries 1 ")[1] for line in lines if "torch==" in line]


def test_setup_installs_torch_for_the_cpu(checkout: Path) -> None:
    (asked,) = torch_of(commands(checkout, "setup"))
    assert asked.endswith(" --extra-index-url https://download.pytorch.org/whl/cpu")
    assert "+" not in asked


def test_setup_says_how_much_disk_it_takes_and_only_when_it_installs(checkout: Path) -> None:
    assert any("2.5 GB of disk" in line for line in commands(checkout, "demo"))
    install(checkout, ".installed")
    assert not any("GB of disk" in line for line in commands(checkout, "demo"))


def test_setup_with_a_cuda_installs_that_build_of_the_same_torch_or_none(checkout: Path) -> None:
    (plain,) = torch_of(commands(checkout, "setup"))
    (asked,) = torch_of(commands(checkout, "setup", "CUDA=cu130"))
    assert asked == plain.replace('" ', '+cu130" ').replace("/cpu", "/cu130")


def test_another_cuda_is_installed_where_something_is_and_kept_by_who_names_none(checkout: Path) -> None:
    install(checkout, ".installed")
    assert not torch_of(commands(checkout, "setup"))
    assert torch_of(commands(checkout, "setup", "CUDA=cu130"))
    install(checkout, ".installed-cu130")
    for variables in ((), ("CUDA=cu130",)):
        assert not torch_of(commands(checkout, "setup", *variables))
    assert torch_of(commands(checkout, "setup", "CUDA=cu128"))


def test_nobody_is_warned_of_the_cuda_that_was_asked_for(checkout: Path) -> None:
    def warns(*variables: str) -> bool:
        return any("WARN_OF_CUDA" in line for line in commands(checkout, "setup", *variables))

    assert warns()
    assert not warns("CUDA=cu130")
    install(checkout, ".installed-cu130")  # and now the versions change
    assert not warns()


def test_a_cuda_in_the_environment_is_the_path_of_somebody_else(checkout: Path) -> None:
    assert commands(checkout, "setup", CUDA="/usr/local/cuda") == commands(checkout, "setup")


@pytest.mark.parametrize("target", ["run", "demo"])
def test_who_ends_make_ends_the_service(target: str, checkout: Path) -> None:
    install(checkout, ".installed")
    (checkout / ".venv" / "bin" / "unmix").symlink_to(sys.executable)
    # Python takes the command's name for that of a program.
    (checkout / {"run": "local", "demo": "demo"}[target]).write_text(
        "import signal, sys\nsignal.signal(signal.SIGTERM, lambda *_: sys.exit(print('stopped')))\n"
        "signal.alarm(100)\nprint('serves', flush=True)\nsignal.pause()\n"
    )
    with subprocess.Popen(["make", target], cwd=checkout, stdout=subprocess.PIPE, text=True) as make:
        assert make.stdout is not None
        assert make.stdout.readline() == "serves\n"
        make.terminate()
        assert "stopped" in make.stdout.read()


@pytest.mark.parametrize("target", ["run", "demo"])
def test_the_service_is_told_the_device_that_is_named_and_no_other(target: str, checkout: Path) -> None:
    assert "--device" not in commands(checkout, target)[-1]
    assert "--device mps" in commands(checkout, target, "DEVICE=mps")[-1]


def test_where_the_service_listens_is_said_on_the_command_line_and_not_by_the_shell(checkout: Path) -> None:
    assert "--host" not in commands(checkout, "run", HOST="my-machine", THREADS="9")[-1]
    assert "--threads 2" in (told := commands(checkout, "run", "HOST=0.0.0.0", "THREADS=2")[-1])
    assert "--host 0.0.0.0" in told


def test_the_number_of_workers_is_the_services_to_choose_unless_it_is_named(checkout: Path) -> None:
    assert "--workers" not in commands(checkout, "run")[-1]
    assert "--workers 3" in commands(checkout, "run", "WORKERS=3")[-1]
