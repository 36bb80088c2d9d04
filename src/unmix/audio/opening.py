"""A song's file opened with FFmpeg: exactly the demuxer that its first bytes ask for, and none but audio's decoders.

Owns what FFmpeg may do with a stranger's file, and the checks of what it found. `unmix.audio.sniff` knows what first
bytes say, `unmix.audio.decoding` reads on.
"""

from dataclasses import dataclass
from typing import Any, BinaryIO, Final, cast

import av
import av.error
import av.subtitles.stream  # PyAV would do so over the first song, and a process that is shut in cannot then

from unmix.audio.mpeg import frames_end, id3_size
from unmix.audio.ogg import links
from unmix.audio.sniff import HEAD_BYTES, has_external_reference, is_refused_media, read_wav_header, sniff
from unmix.audio.window import Window
from unmix.errors import AudioError

_DEMUXERS: Final = {"mp4": "mov", "matroska": "matroska"}  # the others have the name of their container
#: Containers that are nothing but frames, one after the other.
BARE_FRAMES: Final = ("mp3", "aac", "ac3", "eac3")
#: Of audio; films have more of words, and fonts besides.
_MAX_STREAMS: Final = 16
#: 7.1, the most that songs come in. What has more, or a higher rate, can cost far more to decode than to send.
_MAX_CHANNELS: Final = 8
#: Music was never stored at less; a header of 1 Hz would make an hour of separation out of 4 kB.
_MIN_SAMPLE_RATE: Final = 4_000
_MAX_SAMPLE_RATE: Final = 192_000
#: Of WAV, whose samples cost as many bytes as they are.
_MAX_WAV_SAMPLE_RATE: Final = 384_000

#: Zeros before the first frame that are passed over: FFmpeg looks no further than 64 KiB. No file begins with so many.
_FEWEST_ZEROS: Final = 256
_MOST_ZEROS: Final = 60_000

_PCM: Final = (
    *("u8", "s8", "alaw", "mulaw", "bluray", "dvd"),
    *(f"{kind}{order}" for kind in ("s16", "s24", "s32", "s64", "f32", "f64") for order in ("le", "be")),
)
#: The decoders that may run, by FFmpeg's names: none of pictures or words, and of audio's those of songs.
CODECS: Final = frozenset(
    {
        *(f"pcm_{form}" for form in _PCM),
        *("mp1", "mp1float", "mp2", "mp2float", "mp3", "mp3float", "aac", "aac_latm", "vorbis", "opus", "libopus"),
        *("flac", "alac", "wavpack", "tta", "mlp", "truehd", "ac3", "eac3", "dca", "wmav1", "wmav2"),
        *("adpcm_ms", "adpcm_ima_wav", "adpcm_ima_qt", "speex", "gsm", "gsm_ms", "amrnb", "amrwb"),
    }
)


@dataclass(frozen=True, slots=True)
class Opened:
    """One song that FFmpeg reads, or one link of a chain."""

    container: Any  # PyAV's
    stream: Any  # the first of audio

    def close(self) -> None:
        """Free what FFmpeg holds."""
        self.container.close()


def container_of(file: BinaryIO) -> str:
    """Return what kind of file this is, a demuxer's or one of `_DEMUXERS`, as its first bytes say.

    Raises:
        AudioError: it is none that is read (`unsupported_container`, `not_audio`).
    """
    file.seek(0)
    head = file.read(HEAD_BYTES)
    tag_size = id3_size(head)
    if tag_size:  # pictures make tags of megabytes: look behind
        file.seek(tag_size)
        container = sniff(file.read(HEAD_BYTES)) or "mp3"
    else:
        container = sniff(head) or _behind_zeros(head, file) or ""
    if not container and is_refused_media(head):
        text = "this kind of media file or playlist is not read here; save the song as mp3, wav or flac, and send that"
        raise AudioError(text, code="unsupported_container")
    if not container:
        raise AudioError("the bytes are not audio of any kind that is read here", code="not_audio")
    return container


def parts_of(file: BinaryIO, container: str) -> list[Window]:
    """Return what of `file` FFmpeg gets to see, one part after the other.

    Raises:
        AudioError: there are too many (`too_many_streams`).
    """
    file.seek(0)
    tag_bytes = id3_size(file.read(10))
    size_bytes = file.seek(0, 2)
    if container == "ogg":
        return [Window(file, *link) for link in links(file, min(tag_bytes, size_bytes))]
    # Elsewhere a demuxer knows where its frames end, or has to see the tags.
    end = frames_end(file) if container in BARE_FRAMES else size_bytes
    return [Window(file, 0, end)]


def open_part(part: Window, container: str) -> Opened:
    """Open a part of a song which is in `container` as far as its first bytes tell.

    Raises:
        AudioError: it cannot be opened, or is something that no song is; the code says why.
    """
    _check_header(part, container)
    demuxer = _DEMUXERS.get(container, container)
    part.seek(0)
    try:
        # The demuxer is forced and nothing else may be opened: no probing, no playlist, no protocol, no picture.
        options = {
            "protocol_whitelist": "none",
            "format_whitelist": demuxer,
            "codec_whitelist": ",".join(sorted(CODECS)),
        }
        opened = av.open(cast(Any, part), format=demuxer, options=options, metadata_errors="replace")
    except av.error.MemoryError:
        raise
    except (av.error.FFmpegError, ValueError) as error:
        code = "no_audio_frames" if container in BARE_FRAMES else "undecodable"
        text = f"the {container} file cannot be opened; it may be damaged or incomplete"
        raise AudioError(text, code=code) from error
    try:
        return Opened(opened, _checked_stream(opened, container))
    except AudioError:
        opened.close()
        raise


def _checked_stream(opened: Any, container: str) -> Any:
    if len(opened.streams.audio) > _MAX_STREAMS:
        text = f"the file has {len(opened.streams.audio)} streams of audio; save the song as a file of its own"
        raise AudioError(text, code="too_many_streams")
    if not opened.streams.audio:
        raise AudioError("the file has no audio", code="no_audio_frames")
    stream = opened.streams.audio[0]
    codec = stream.codec_context
    if codec is None or codec.name not in CODECS:
        text = "the file's audio codec is not one of those that are read; save the song as mp3, wav or flac"
        raise AudioError(text, code="undecodable")
    if not codec.sample_rate:  # no frame was found that would tell it
        raise AudioError("the file holds no audio frames", code="no_audio_frames")
    check_sample_rate(codec.sample_rate, container)
    _settle_channels(codec)
    return stream


def check_sample_rate(hertz: int, container: str) -> None:
    """Refuse a rate that no music has; a file's frames may have another one than its header.

    Raises:
        AudioError: it is such a rate (`bad_sample_rate`).
    """
    most = _MAX_WAV_SAMPLE_RATE if container == "wav" else _MAX_SAMPLE_RATE
    if not _MIN_SAMPLE_RATE <= hertz <= most:
        text = f"the file has a sample rate of {hertz} Hz; songs have {_MIN_SAMPLE_RATE} to {most} Hz"
        raise AudioError(text, code="bad_sample_rate")


def check_channels(count: int) -> None:
    """Refuse a number of channels that no song has; here too frames may differ from their header.

    Raises:
        AudioError: it is such a number (`bad_channels`).
    """
    if not 0 < count <= _MAX_CHANNELS:
        text = f"the file has {count or 'an impossible number of'} channels; songs have 1 to {_MAX_CHANNELS}"
        raise AudioError(text, code="bad_channels")


def _settle_channels(codec: Any) -> None:
    """Take two channels for left and right, whatever the file says, and refuse more in an order of the file's own.

    Such an order is a piece of memory, which PyAV frees as often as it was asked for it, once with every frame. So it
    is asked once, and the decoder gets an order that needs no memory.
    """
    layout = codec.layout
    count = layout.nb_channels
    check_channels(count)
    name = {1: "mono", 2: "stereo"}.get(count, layout.name)
    is_own_order = " channels (" in name
    codec.layout = "mono" if is_own_order else name
    if is_own_order:
        text = f"the file has {name}: this order of channels is not read; save the song in stereo"
        raise AudioError(text, code="bad_channels")


def _check_header(part: Window, container: str) -> None:
    """Refuse what FFmpeg would open, or refuse without saying why."""
    file = cast(BinaryIO, part)
    if container == "mp4" and has_external_reference(file):
        text = "the sound of this file lies in another file; send one that holds the sound itself"
        raise AudioError(text, code="external_reference")
    wav = read_wav_header(file) if container == "wav" else None
    if wav:
        check_sample_rate(wav.sample_rate, container)


def _behind_zeros(head: bytes, file: BinaryIO) -> str | None:
    """Tell whether frames follow zeros that the file begins with, as many as their demuxer passes over."""
    if not head.startswith(bytes(_FEWEST_ZEROS)):
        return None
    behind = (head + file.read(_MOST_ZEROS - len(head))).lstrip(b"\0")
    container = sniff(behind[:HEAD_BYTES])
    return container if container in BARE_FRAMES else None
