"""What samples are, everywhere in this project: float32 (2 channels, time) at 44.1 kHz, full scale ±1."""

import numpy as np
from numpy.typing import NDArray

from unmix.audio.formats import SAMPLE_RATE as SAMPLE_RATE  # there, REST finds it without numpy

Samples = NDArray[np.float32]
