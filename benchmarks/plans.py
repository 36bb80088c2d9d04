"""What is measured in which run: contestants, models, lengths of songs, rounds."""

from dataclasses import dataclass
from typing import Final

from benchmarks.contestants import CommandLine, Contestant, Warm
from benchmarks.models import DEMO, FULL
from benchmarks.programs import AudioSeparator, Cold, DemucsInfer, DemucsOnnx, Unmix

#: mp3 as demucs' command line writes it by default: same encoder, same quality, same bit rate.
_MP3_OF_DEMUCS: Final = {"format": "mp3", "bitrate_kbps": 320, "mp3_quality": 2}
_MP3_DEFAULT: Final = {"format": "mp3"}

_FAST: Final = {"precision": "fast"}
_EXACT: Final = {"precision": "exact"}
_TORCH_EXACT: Final = {"backend": "torch", "precision": "exact"}

CLI_MP3: Final = CommandLine("demucs --mp3", ("--mp3",))
CLI_FLAC: Final = CommandLine("demucs --flac", ("--flac",))
REFERENCE: Final = Warm("apply_model, no codec", None)
FAST: Final = Warm("fast, mp3 as demucs", _FAST, _MP3_OF_DEMUCS)
FAST_DEFAULT: Final = Warm("fast, default mp3", _FAST, _MP3_DEFAULT)
FAST_SAMPLES: Final = Warm("fast, no codec", _FAST)
EXACT: Final = Warm("exact, mp3 as demucs", _EXACT, _MP3_OF_DEMUCS)
EXACT_SAMPLES: Final = Warm("exact, no codec", _EXACT)
TORCH_EXACT: Final = Warm("exact by torch, mp3 as demucs", _TORCH_EXACT, _MP3_OF_DEMUCS)
UNMIX_FAST: Final = Cold("unmix separate", Unmix("fast"))
UNMIX_EXACT: Final = Cold("unmix separate, exact", Unmix("exact"))
#: Others do this too: the same work and the same format as demucs' at its defaults.
DEMUCS_INFER: Final = Cold("demucs-infer --mp3", DemucsInfer())
AUDIO_SEPARATOR: Final = Cold("audio-separator, 1 shift", AudioSeparator(shifts=1))
DEMUCS_ONNX: Final = Cold("demucs-onnx --mp3 --bitrate 320k", DemucsOnnx())
#: As its users have it, which is twice the work.
AUDIO_SEPARATOR_DEFAULT: Final = Cold("audio-separator, its 2 shifts", AudioSeparator(shifts=2))


@dataclass(frozen=True, slots=True)
class Entry:
    """One contestant with one model and the songs that it gets in every round."""

    model: str
    contestant: Contestant
    song_seconds: tuple[float, ...]
    once: bool = False  # only in the first round


@dataclass(frozen=True, slots=True)
class Plan:
    """One run of the benchmarks."""

    name: str
    rounds: int
    entries: tuple[Entry, ...]  # for each model its reference first: the others are compared with it
    compared_seconds: float | None  # of the song that estimates are compared on; None: they are not
    gemm_size: int | None  # of the matrices whose product gives the peak of the CPU; None: it is not measured


BENCH: Final = Plan(
    name="bench",
    rounds=3,
    entries=(
        Entry(FULL, REFERENCE, (60,)),
        Entry(FULL, CLI_MP3, (60, 180)),
        Entry(FULL, UNMIX_FAST, (180,)),
        Entry(FULL, UNMIX_EXACT, (180,)),
        Entry(FULL, FAST, (60, 180)),
        Entry(FULL, FAST_DEFAULT, (180,)),
        Entry(FULL, EXACT, (60, 180)),
        Entry(FULL, CLI_FLAC, (60,), once=True),
        Entry(FULL, TORCH_EXACT, (60,), once=True),
        Entry(FULL, DEMUCS_INFER, (180,), once=True),
        Entry(FULL, AUDIO_SEPARATOR, (180,), once=True),
        Entry(FULL, AUDIO_SEPARATOR_DEFAULT, (60,), once=True),
        Entry(FULL, DEMUCS_ONNX, (180,), once=True),
        Entry(FULL, FAST_SAMPLES, (60,)),
        Entry(FULL, EXACT_SAMPLES, (60,)),
        Entry(DEMO, REFERENCE, (60,)),
        Entry(DEMO, CLI_MP3, (60, 180)),
        Entry(DEMO, UNMIX_FAST, (180,)),
        Entry(DEMO, FAST, (60, 180)),
        Entry(DEMO, FAST_DEFAULT, (180,)),
        Entry(DEMO, EXACT, (180,)),
        Entry(DEMO, DEMUCS_INFER, (180,), once=True),
        Entry(DEMO, AUDIO_SEPARATOR, (180,), once=True),
        Entry(DEMO, FAST_SAMPLES, (60,)),
    ),
    compared_seconds=20,
    gemm_size=4096,
)

LONG: Final = Plan(
    name="bench-long",
    rounds=1,
    entries=(
        Entry(FULL, CLI_MP3, (1200,)),
        Entry(FULL, FAST, (1200,)),
        Entry(FULL, EXACT, (1200,)),
        Entry(DEMO, CLI_MP3, (60, 300, 600, 1200)),
        Entry(DEMO, FAST_DEFAULT, (60, 300, 600, 1200, 3600)),
    ),
    compared_seconds=None,
    gemm_size=None,
)

QUICK: Final = Plan(
    name="quick",
    rounds=1,
    entries=(
        Entry(DEMO, REFERENCE, (4,)),
        Entry(DEMO, CLI_MP3, (4,)),
        Entry(DEMO, UNMIX_FAST, (4,)),
        Entry(DEMO, FAST, (4,)),
        Entry(DEMO, FAST_SAMPLES, (4,)),
    ),
    compared_seconds=4,
    gemm_size=512,
)

#: Whether the programs beside demucs work.
QUICK_PEERS: Final = Plan(
    name="quick",
    rounds=1,
    entries=(
        Entry(DEMO, REFERENCE, (4,)),
        Entry(DEMO, CLI_MP3, (4,)),
        Entry(DEMO, DEMUCS_INFER, (4,)),
        Entry(DEMO, AUDIO_SEPARATOR, (4,)),
        Entry(FULL, REFERENCE, (9,)),
        Entry(FULL, CLI_MP3, (9,)),
        Entry(FULL, DEMUCS_ONNX, (9,)),
    ),
    compared_seconds=9,
    gemm_size=512,
)
