"""A known window: a piece of music and what torch makes of it, kept beside a converted network.

By it every start can tell whether the network gives what demucs gives, on this machine and in the precision that runs
here: it may have been converted elsewhere, for other instructions, and its file may have been damaged since. Music
and not noise: of noise the demo model gives the same to 64 dB in bfloat16, of songs to 50 dB.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import Any, Final, Self

import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.torch import load, save
from torch import Tensor

from unmix.audio.samples import SAMPLE_RATE
from unmix.audio.song_reader import SongReader
from unmix.engine.sdr import sdr_db

#: The song that comes with the package; all its sources are heard from this second on.
_SONG: Final = Path(str(resources.files("unmix") / "local" / "demo_song" / "demo-song.mp3"))
_START_SECONDS: Final = 5


@dataclass(frozen=True, slots=True)
class KnownWindow:
    """One window, and its estimates by torch in float32."""

    mixture: Tensor  # (1, channels, time), normalised
    estimates: Tensor  # (1, sources, channels, time)

    @classmethod
    def of(cls, model: Any, samples: int) -> Self:
        """Let `model`, one model of demucs with its weights, estimate a window of so many samples."""
        mixture = _piece(samples)[None]
        with torch.no_grad():
            return cls(mixture, model(mixture))

    @classmethod
    def load(cls, file: Path) -> Self:
        """Read a window back.

        Raises:
            OSError, ValueError: the file cannot be read, or holds no such window.
        """
        try:
            tensors = load(file.read_bytes())
            return cls(tensors["mixture"], tensors["estimates"])
        except (SafetensorError, KeyError) as error:
            raise ValueError(f"{file.name} holds no window: {error}") from error

    def save(self, file: Path) -> None:
        """Write the window to `file`."""
        file.write_bytes(save({"mixture": self.mixture, "estimates": self.estimates.contiguous()}))

    def snr_db(self, estimate: Callable[[Tensor, Sequence[int]], Tensor]) -> float:
        """Return how close an estimator comes to the known estimates, over all sources, in dB."""
        estimates = estimate(self.mixture, range(self.estimates.shape[1]))
        return sdr_db(self.estimates.flatten(0, 2).numpy(), estimates.flatten(0, 2).numpy())


def _piece(samples: int) -> Tensor:
    """Return so many samples of the song, (2, time), from the beginning again where it ends, and normalised."""
    song = np.concatenate(list(SongReader(_SONG)), axis=1)[:, _START_SECONDS * SAMPLE_RATE :]
    piece = torch.from_numpy(song).repeat(1, -(-samples // song.shape[1]))[:, :samples]
    return (piece - piece.mean()) / piece.std()
