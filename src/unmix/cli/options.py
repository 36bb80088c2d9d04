"""What several commands take: their options and arguments, the settings, and the checks of both.

What commands print is `unmix.cli.output`'s.
"""

from pathlib import Path
from typing import Annotated, Final, Literal

import typer

from unmix.errors import InputError
from unmix.settings import Settings

DEFAULT_URL: Final = "http://localhost:5000"

Songs = Annotated[list[Path], typer.Argument(metavar="FILE...", exists=True, dir_okay=False, help="Songs.")]
Output = Annotated[Path, typer.Option("--output", "-o", metavar="DIR", help="Stems go to DIR/<song>/<stem>.")]
Stems = Annotated[
    str,
    typer.Option(
        help="Stems, separated by commas: sources such as vocals, the song less one such as no_drums, or instrumental, "
        "which is no_vocals; none: all sources."
    ),
]
Format = Annotated[Literal["mp3", "wav", "flac", "m4a", "opus", "stem.mp4"], typer.Option(help="Format of the stems.")]
Bits = Annotated[
    int, typer.Option(help="Bits of a sample: 16, 24 (wav, flac), 32 (wav: floating point, nothing is clipped).")
]
Bitrate = Annotated[
    int | None,
    typer.Option(
        "--bitrate-kbps", help="Bit rate of mp3, m4a and opus, 32 to 320 kbit/s.", show_default="UNMIX_MP3_BITRATE_KBPS"
    ),
]
Precision = Annotated[Literal["exact", "fast"] | None, typer.Option(help="How precisely.", show_default="fast")]
Overlap = Annotated[
    float, typer.Option(help="How far windows overlap, 0.1 to 0.75: more takes longer, and may sound better.")
]
Shifts = Annotated[
    int, typer.Option(help="Average so many estimates of the shifted song, up to 5; each takes as long as all does.")
]
Start = Annotated[float, typer.Option(help="Where in the song the stems begin, in seconds.")]
End = Annotated[float | None, typer.Option(help="Where in the song the stems end, in seconds.", show_default="its end")]
Consistency = Annotated[
    bool, typer.Option("--mixture-consistency", help="Make the stems add up to the song; estimates every source.")
]
Url = Annotated[str, typer.Option(help="The server.")]
Jobs = Annotated[list[str], typer.Argument(metavar="JOB...", help="Job ids.")]
Model = Annotated[str | None, typer.Option(help="Model to separate with.", show_default="the configured one")]
Device = Annotated[
    str | None, typer.Option(help="Where to compute: cpu, cuda, cuda:1, mps.", show_default="UNMIX_DEVICE or cpu")
]


def read_settings() -> Settings:
    """Return the settings of this process.

    Raises:
        InputError: `bad_setting`; the message names each wrong setting.
    """
    try:
        return Settings()
    except ValueError as error:  # pydantic's message names each setting and what is wrong with it
        raise InputError(str(error), code="bad_setting") from error


def names_in(stems: str) -> list[str]:
    """Return the names of stems that an option lists."""
    return [name.strip() for name in stems.split(",") if name.strip()]


def check_names(songs: list[Path]) -> None:
    """Refuse songs whose stems would overwrite each other's.

    Raises:
        InputError: `same_name`: two songs would share one folder.
    """
    seen: dict[str, Path] = {}
    for song in songs:
        if song.stem in seen:
            raise InputError(f"{seen[song.stem]} and {song} would share one folder of stems", code="same_name")
        seen[song.stem] = song
