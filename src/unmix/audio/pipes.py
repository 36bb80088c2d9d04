"""How processes that decode and encode talk to who asks them: one message after the other over a pipe.

A message is a line of JSON, of which `bytes` says how many bytes of samples follow.
"""

import json
from typing import IO, Any

from unmix import errors
from unmix.audio.song_reader import AudioInfo
from unmix.errors import UnmixError

Message = dict[str, Any]


def send(stream: IO[bytes], message: Message, samples: bytes = b"") -> None:
    """Write one message."""
    stream.write(json.dumps(message | {"bytes": len(samples)}).encode() + b"\n")
    stream.write(samples)
    stream.flush()


def receive(stream: IO[bytes], *, most_bytes: int = -1) -> tuple[Message, bytes]:
    """Read one message; its line and its samples are of `most_bytes` each, where the other end is not to be trusted.

    Raises:
        EOFError: the other end is gone.
        ValueError: that is no message, or too long a one.
    """
    line = stream.readline(most_bytes)
    if not line:
        raise EOFError
    message: Message = json.loads(line)
    length = int(message["bytes"])
    if most_bytes >= 0 and not 0 <= length <= most_bytes:
        raise ValueError(f"a message of {length} bytes")
    samples = stream.read(length)
    if len(samples) < length:
        raise EOFError
    return message, samples


def told(error: UnmixError) -> Message:
    """Return the message that says `error`."""
    facts = {"message": error.message, "code": error.code, "retryable": error.retryable}
    return {"error": type(error).__name__, **facts}


def raise_told(message: Message) -> None:
    """Raise the error that a message says, if it says one."""
    if "error" in message:
        kind = getattr(errors, message["error"], None)
        if not (isinstance(kind, type) and issubclass(kind, UnmixError)):
            raise ValueError(f"no error: {message['error']}")
        raise kind(message["message"], code=message["code"], retryable=message["retryable"])


def info_of(message: Message) -> AudioInfo:
    """Return what a song turned out to be, as the message at its end says."""
    facts = message["info"]
    return AudioInfo(**facts | {name: tuple(facts[name]) for name in ("warnings", "notes")})
