"""What samples are, everywhere in this project: float32 (2 channels, time) at 44.1 kHz, full scale ±1."""

from typing import Final

import numpy as np
from numpy.typing import NDArray

#: Hz; every song is decoded to it and every stem is delivered in it.
SAMPLE_RATE: Final = 44_100

Samples = NDArray[np.float32]
