"""Traces that are off cost nothing, and those that cannot be made are refused."""

import subprocess
import sys

import pytest
from pydantic import ValidationError

from unmix.errors import InputError
from unmix.runtime import traces
from unmix.runtime.traces import configure_traces
from unmix.settings import Settings


@pytest.mark.parametrize("module", ["unmix_rest.app", "unmix.janitor.janitor", "unmix_worker.worker"])
def test_nothing_is_loaded_for_traces_that_are_off(module: str) -> None:
    code = (
        f"import sys, {module}; from unmix.settings import Settings; from unmix.runtime import traces;"
        "traces.configure_traces('rest', Settings());"
        "print(traces.are_on(), traces.current(), 'unmix.runtime.spans' in sys.modules)"
    )
    told = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert told.split() == ["False", "None", "False"]


def test_traces_that_are_asked_for_and_not_installed_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(sys.modules, "unmix.runtime.spans", raising=False)
    monkeypatch.setitem(sys.modules, "opentelemetry", None)
    with pytest.raises(InputError) as caught:
        configure_traces("rest", Settings(traces="http://127.0.0.1:4318"))
    assert caught.value.code == "traces_not_installed"
    assert "UNMIX_TRACES" in caught.value.message
    assert not traces.are_on()


def test_a_function_that_is_traced_does_what_it_did_while_traces_are_off() -> None:
    @traces.traced("twice")
    def twice(number: int) -> int:
        """Return twice as much."""
        return 2 * number

    assert (twice(4), twice.__doc__) == (8, "Return twice as much.")


def test_a_receiver_is_an_address() -> None:
    with pytest.raises(ValidationError, match="traces"):
        Settings(traces="collector:4318")
