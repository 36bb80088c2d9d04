"""A process that decodes songs and encodes stems for another, step by step; `codec_pool` is the other end.

Each request, a message of `unmix.audio.pipes`, names what it is about by a number and gets one answer. The process ends
with its standard input.
"""

import sys
from collections.abc import Callable, Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from unmix.audio.encode import StemWriter
from unmix.audio.pipes import Message, receive, send, told
from unmix.audio.samples import Samples
from unmix.audio.song_reader import SongReader
from unmix.audio.tags import Tags
from unmix.errors import EngineError, UnmixError


class CodecProcess:
    """What is open in this process, by number, and the requests that it answers."""

    def __init__(self) -> None:
        self._readings: dict[int, tuple[SongReader, Iterator[Samples]]] = {}
        self._writers: dict[int, StemWriter] = {}
        self._requests: dict[str, Callable[..., tuple[Message, bytes]]] = {
            "read": self._read,
            "chunk": self._chunk,
            "write": self._write,
            "samples": self._samples,
            "close": self._close,
            "discard": self._discard,
        }

    def answer(self, request: Message, data: bytes) -> tuple[Message, bytes]:
        """Do what is asked and return the answer; what goes wrong is an answer too."""
        try:
            return self._requests[request["do"]](request["number"], data=data, **request["options"])
        except KeyError as error:
            return self._failed(EngineError(f"{error} is not open in this process", code="codec_died", retryable=True))
        except UnmixError as error:
            return self._failed(error)

    @staticmethod
    def _failed(error: UnmixError) -> tuple[Message, bytes]:
        return told(error), b""

    def _read(self, number: int, *, data: bytes, path: str, **options: Any) -> tuple[Message, bytes]:
        reader = SongReader(Path(path), **options)
        self._readings[number] = reader, iter(reader)
        return {}, b""

    def _chunk(self, number: int, *, data: bytes) -> tuple[Message, bytes]:
        reader, chunks = self._readings[number]
        chunk = next(chunks, None)
        if chunk is None:
            return {"info": asdict(reader.info)}, b""
        return {"length": chunk.shape[1]}, chunk.astype(np.float32, copy=False).tobytes()

    def _write(
        self, number: int, *, data: bytes, path: str, texts: dict[str, str], **options: Any
    ) -> tuple[Message, bytes]:
        self._writers[number] = StemWriter(Path(path), tags=Tags(texts, cover=data), **options)
        return {}, b""

    def _samples(self, number: int, *, data: bytes, type: str, clipped: int) -> tuple[Message, bytes]:
        writer, array = self._writers[number], np.frombuffer(data, type).reshape(2, -1)
        if type.startswith("int"):
            writer.write_pcm(array, clipped=clipped)
        else:
            writer.write(array)
        return {"samples": writer.samples, "clipped": writer.clipped}, b""

    def _close(self, number: int, *, data: bytes) -> tuple[Message, bytes]:
        self._readings.pop(number, None)
        if (writer := self._writers.get(number)) is None:
            return {}, b""
        writer.close()
        del self._writers[number]
        heard = writer.heard()
        return {"peaks": writer.peaks, "tones": heard.tones.tolist()}, heard.onsets.tobytes()

    def _discard(self, number: int, *, data: bytes) -> tuple[Message, bytes]:
        if writer := self._writers.pop(number, None):
            writer.discard()
        return {}, b""


def main() -> None:
    """Answer requests until there are no more."""
    process = CodecProcess()
    requests, answers = sys.stdin.buffer, sys.stdout.buffer
    while True:
        try:
            request, data = receive(requests)
        except EOFError:
            return
        send(answers, *process.answer(request, data))


if __name__ == "__main__":
    main()
