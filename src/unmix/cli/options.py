"""What several commands take: their options and arguments.

What commands print is `unmix.cli.output`'s.
"""

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated, Any, Final, Literal

import typer

from unmix.cli.naming import USUAL_TEMPLATE

DEFAULT_URL: Final = "http://localhost:5000"

Songs = Annotated[
    list[Path], typer.Argument(metavar="SONG", exists=True, help="Songs, and folders with songs in them.")
]
Output = Annotated[Path, typer.Option("--output", "-o", metavar="DIR", help="Folder for the stems.")]
NameTemplate = Annotated[
    str,
    typer.Option(
        metavar="TEMPLATE",
        help="Where the stems of a song go below DIR, made of {folder}, {name}, {stem}, {artist}, {album}, {title} and "
        "{track}.",
        show_default=USUAL_TEMPLATE,
    ),
]
Again = Annotated[bool, typer.Option("--again", help="Make the stems again that are there already.")]
FetchAgain = Annotated[bool, typer.Option("--again", help="Fetch the stems again that are there already.")]
Json = Annotated[bool, typer.Option("--json", help="Print a line of JSON for each, for scripts.")]
Stems = Annotated[
    str,
    typer.Option(
        help="Which stems, separated by commas: sources such as vocals; the song less one of them, such as no_drums; "
        "instrumental, which is no_vocals. All sources if none is named."
    ),
]
Format = Annotated[
    Literal["mp3", "wav", "flac", "m4a", "opus", "ogg", "stem.mp4"],
    typer.Option(help="Format of the stems; ogg is Vorbis."),
]
Bits = Annotated[
    int, typer.Option(help="Bits of a sample: 16, 24 (wav, flac), or 32 (wav, in floating point: nothing is clipped).")
]
SongRate = Annotated[
    bool, typer.Option("--song-rate", help="Stems in the sample rate of the song (wav, flac), and not at 44.1 kHz.")
]
Bitrate = Annotated[
    int | None,
    typer.Option(
        "--bitrate-kbps",
        help="Bit rate of mp3, m4a, opus and ogg, 32 to 320 kbit/s.",
        show_default="UNMIX_MP3_BITRATE_KBPS",
    ),
]
Precision = Annotated[
    Literal["exact", "fast"] | None,
    typer.Option(
        help="How to compute: exact is float32, fast is bfloat16 where the hardware has it.", show_default="fast"
    ),
]
Overlap = Annotated[
    float, typer.Option(help="How far windows overlap, 0.1 to 0.75: more takes longer, and may sound better.")
]
Shifts = Annotated[
    int,
    typer.Option(
        help="Average so many estimates, up to 5, each of the song shifted in time; each after the first takes as long "
        "again."
    ),
]
Start = Annotated[float, typer.Option(help="Where in the song the stems begin, in seconds.")]
End = Annotated[float | None, typer.Option(help="Where in the song the stems end, in seconds.", show_default="its end")]
Consistency = Annotated[
    bool, typer.Option("--mixture-consistency", help="Make the stems add up to the song; estimates every source.")
]
Url = Annotated[str, typer.Option(help="The server.")]
Jobs = Annotated[list[str], typer.Argument(metavar="JOB", help="Job ids.")]
Model = Annotated[str | None, typer.Option(help="Model to separate with.", show_default="the configured one")]
Device = Annotated[
    str | None, typer.Option(help="Where to compute: cpu, cuda, cuda:1, mps.", show_default="UNMIX_DEVICE or cpu")
]


@dataclass(frozen=True, slots=True)
class Wish:
    """What is to be made of songs, as the options of a command say."""

    model: str | None
    stems: tuple[str, ...]
    format: str
    bits: int
    song_rate: bool
    bitrate_kbps: int | None
    precision: str | None
    overlap: float
    shifts: int
    mixture_consistency: bool
    start: float
    end: float | None

    def noted(self) -> dict[str, Any]:
        """Return all of it, as JSON has it; of what earlier versions did not know only what is not usual."""
        noted = {**asdict(self), "stems": [*self.stems]}
        if not self.song_rate:
            del noted["song_rate"]
        return noted

    def chosen(self) -> dict[str, Any]:
        """Return what is not as it is anyway: a server of an earlier version need not know the rest."""
        usual = {"bits": 16, "overlap": 0.25, "shifts": 0, "start": 0.0}
        usual |= {"mixture_consistency": False, "song_rate": False}
        return {name: value for name, value in asdict(self).items() if value != usual.get(name)}


def names_in(stems: str) -> tuple[str, ...]:
    """Return the names of stems that an option lists."""
    return tuple(name.strip() for name in stems.split(",") if name.strip())
