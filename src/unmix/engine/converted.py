"""What the conversion of a model leaves, and how it is kept: the network, and the window by which it is checked.

`openvino_backend` converts, checks and runs. A folder holds all of a conversion or is not
there, whatever dies meanwhile.
"""

import hashlib
import os
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Self

import openvino

from unmix.engine import hybrid, known_window
from unmix.engine.known_window import KnownWindow

#: What lies in a folder, beside the numbers that OpenVINO writes.
_NETWORK: Final = "network.xml"
_WINDOW: Final = "window.safetensors"


@dataclass(frozen=True, slots=True)
class Kept:
    """A conversion as files."""

    graph: Path
    window: Path

    @classmethod
    def at(cls, folder: Path) -> Self:
        """Return what `folder` holds or will hold."""
        return cls(folder / _NETWORK, folder / _WINDOW)

    @property
    def is_whole(self) -> bool:
        """Whether the files are there."""
        return self.graph.exists() and self.window.exists()


@dataclass(frozen=True, slots=True)
class Converted:
    """A conversion in memory."""

    graph: openvino.Model
    window: KnownWindow

    def save(self, folder: Path) -> None:
        """Write `folder` so that it is there with everything in it, or not at all; nobody else may write it.

        Raises:
            OSError: it cannot be written.
        """
        part = folder.with_suffix(".part")
        shutil.rmtree(part, ignore_errors=True)  # of a process that was killed
        part.mkdir()
        try:
            openvino.save_model(self.graph, part / _NETWORK, compress_to_fp16=False)
            self.window.save(part / _WINDOW)
            for written in part.iterdir():
                with written.open("rb") as contents:
                    os.fsync(contents.fileno())  # the name must not outlive a power cut that the contents do not
            shutil.rmtree(folder, ignore_errors=True)  # what is left of a damaged one
            part.rename(folder)
        except RuntimeError as error:  # so OpenVINO says that the disk is full
            raise OSError(str(error)) from error
        finally:
            shutil.rmtree(part, ignore_errors=True)


def revision() -> str:
    """Return a digest of the code that arranges the network and chooses the window.

    What other code has left is not read.
    """
    code = b"".join(Path(str(module.__file__)).read_bytes() for module in (hybrid, known_window))
    return hashlib.sha256(code).hexdigest()[:8]
