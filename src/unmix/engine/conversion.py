"""Converting a model for OpenVINO, in a process of its own: what that takes of memory goes when the process ends.

The model is handed over, and the network handed back, as files in a temporary folder. The process is this module, run
as a program. Where converted networks are kept, and whether they are right, is `openvino_backend`'s.
"""

import ctypes
import signal
import subprocess
import sys
import tempfile
import warnings
from pathlib import Path
from typing import Any, Final

import torch
from torch import Tensor

from unmix.engine.faults import fault_of
from unmix.engine.hybrid import HybridNetwork
from unmix.errors import EngineError

_MODEL: Final = "model.pt"
_NETWORK: Final = "network.xml"
_PR_SET_PDEATHSIG: Final = 1  # linux/prctl.h


def converted_apart(model: Any, inputs: tuple[Tensor, Tensor]) -> Any:
    """Convert the network of `model`, a hybrid transformer, and return it as an `openvino.Model`.

    `inputs` are like those that the network will get: a normalised spectrum and a normalised window.

    Raises:
        OutOfMemoryError: there was too little memory.
        EngineError: the process failed or was killed (`conversion_failed`).
        OSError: the temporary folder cannot be written.
    """
    import openvino

    with tempfile.TemporaryDirectory(prefix="unmix-conversion-") as name:
        folder = Path(name)
        try:
            torch.save((model, inputs), folder / _MODEL)
        except RuntimeError as error:  # so torch says that the disk is full
            raise OSError(str(error)) from error
        command = [sys.executable, "-m", "unmix.engine.conversion", name]
        run = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True)
        if run.returncode:
            raise _failure(run)
        # The file is mapped: it stays for as long as the network does, whatever becomes of its name.
        return openvino.Core().read_model(folder / _NETWORK)


def _failure(run: "subprocess.CompletedProcess[str]") -> EngineError:
    said = next((line for line in reversed(run.stderr.splitlines()) if line), f"status {run.returncode}")
    if run.returncode < 0:
        said = f"ended by {signal.Signals(-run.returncode).name}; perhaps there is too little memory"
    elif fault := fault_of(MemoryError() if said.startswith("MemoryError") else RuntimeError(said)):
        return fault
    return EngineError(
        f"the conversion for OpenVINO failed: {said}; UNMIX_BACKEND=torch does without", code="conversion_failed"
    )


def main() -> None:
    """Convert the model in the folder that the argument names."""
    if sys.platform == "linux":  # nobody else would end it when nobody waits for it any more
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    import unmix.engine.backends  # noqa: F401  (keeps OpenVINO, when it is imported, from reporting its use)

    folder = Path(sys.argv[1])
    model, inputs = torch.load(folder / _MODEL, weights_only=False, mmap=True)  # our parent has just written it
    import openvino

    openvino.save_model(converted(model, inputs), folder / _NETWORK, compress_to_fp16=False)


@torch.no_grad()
def converted(model: Any, inputs: tuple[Tensor, Tensor]) -> Any:
    """Convert as `converted_apart` does, in this process."""
    import openvino

    # Exported, which computes nothing, rather than traced: a third of the memory and half of the time.
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch's, of its own insides
        graph = openvino.convert_model(torch.export.export(HybridNetwork(model), inputs))
    graph.reshape({index: openvino.PartialShape(list(value.shape)) for index, value in enumerate(inputs)})
    return graph


if __name__ == "__main__":
    main()
