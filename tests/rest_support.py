"""What the REST tests share: the application over a real queue and a real store, and songs of many kinds."""

import base64
import struct
from io import BytesIO
from pathlib import Path
from typing import Any

import av
import numpy as np
from flask.testing import FlaskClient
from werkzeug.test import TestResponse

from described_answers import check
from support import make_song
from unmix import names
from unmix.job import JobStatus
from unmix.ledger.ledger import Ledger, utc_now
from unmix.outcome import Outcome, Ran, StemFile
from unmix.queue.job_queue import JobQueue
from unmix.queue.records import ModelCard
from unmix.settings import Settings
from unmix.store.file import FileStore
from unmix_rest.app import create_app

DEMO_CARD = ModelCard("demo", "ab" * 32, ("drums", "bass", "other", "vocals"), 44_100)


class Answer(TestResponse):
    """What the API answers: whoever reads its JSON knows that there is some."""

    @property
    def json(self) -> Any:
        return self.get_json()


class Client(FlaskClient):
    """Flask's test client, which here ends each answer as a server does: a file left open is then ours.

    Whatever is answered has to be what the API says of itself; `met` are the operations and statuses that were.
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.response_wrapper = Answer
        self.met: set[tuple[str, int]] = set()

    def open(self, *args: Any, **kwargs: Any) -> Answer:
        answer = super().open(*args, **{"buffered": True, **kwargs})
        assert isinstance(answer, Answer)
        if met := check(self.application, answer):
            self.met.add(met)
        return answer

    def get(self, *args: Any, **kwargs: Any) -> Answer:
        return self.open(*args, **kwargs, method="GET")

    def post(self, *args: Any, **kwargs: Any) -> Answer:
        return self.open(*args, **kwargs, method="POST")

    def delete(self, *args: Any, **kwargs: Any) -> Answer:
        return self.open(*args, **kwargs, method="DELETE")


class Rest:
    """The application as a client and an operator see it."""

    def __init__(self, folder: Path, redis_url: str, **settings: Any) -> None:
        self.settings = Settings(**{"model": "demo", "models": "htdemucs", "max_song_seconds": 60, **settings})
        self.queue = JobQueue(redis_url)
        self.store = FileStore(folder / "store")
        self.store.prepare()
        self.ledger = Ledger(self.store)
        app = create_app(self.settings, self.queue, self.store)
        self.client = Client(app)

    def post_json(self, data: bytes, **fields: Any) -> Answer:
        """Send a song in the way of the old clients."""
        return self.client.post("/apiv1/separate", json={"mp3": base64.b64encode(data).decode(), **fields})

    def post_form(self, data: bytes, *, field: str = "file", name: str = "song.mp3", **fields: str) -> Answer:
        return self.client.post("/apiv1/separate", data={field: (BytesIO(data), name), **fields})

    def stored(self) -> list[str]:
        """Every object of both buckets, but for the marks, which the janitor takes away."""
        listed = [info.name for bucket in ("queue", "output") for info in self.store.list(bucket)]
        return [str(name) for name in listed if not name.key.startswith(names.OPEN_PREFIX)]

    def finish(self, job_id: str, stems: dict[str, bytes] | None = None, **changes: Any) -> Outcome:
        """End a job as a worker would: files under attempt-unique names, then the outcome, then Redis."""
        element = self.queue.take(block_seconds=1)
        assert element == job_id
        return self._end(element, stems, **changes)

    def finish_next(self, stems: dict[str, bytes] | None = None, **changes: Any) -> str | None:
        """End the next job as a worker would, and return its id; None if there is none."""
        element = self.queue.take(block_seconds=0.1)
        return None if element is None else self._end(element, stems, **changes).job_id

    def _end(self, job_id: str, stems: dict[str, bytes] | None, **changes: Any) -> Outcome:
        claim = self.queue.claim(job_id, job_id, "worker-1")
        request = self.ledger.request(job_id)
        assert claim is not None
        assert request is not None
        files = {}
        for stem, data in (stems or {}).items():
            name = names.attempt_object(job_id, claim.token, stem, request.options.format)
            self.store.put(name, data)
            files[stem] = StemFile(name.key, len(data), names.hash_song(data))
        fields: dict[str, Any] = {
            "status": JobStatus.DONE,
            "stems": files,
            "ran": Ran("demo", DEMO_CARD.weights_sha256, "cpu", 44_100, 2.0, 0.5),
            "finished_at": utc_now(),
            **changes,
        }
        outcome = self.ledger.commit(
            Outcome(
                job_id=job_id,
                generation=request.generation,
                token=claim.token,
                attempt=claim.attempt,
                format=request.options.format,
                **fields,
            )
        )
        self.queue.finish(claim, outcome.status, error_code=outcome.error_code, callbacks=len(request.callbacks))
        self.ledger.publish(outcome)
        return outcome


def encoded(seconds: float, container: str, codec: str, *, rate: int = 44_100, layout: str = "stereo") -> bytes:
    """Return a soft tone in any format that FFmpeg writes."""
    buffer = BytesIO()
    with av.open(buffer, "w", format=container) as output:
        stream = output.add_stream(codec, rate=rate, layout=layout)
        assert isinstance(stream, av.AudioStream)
        channels = stream.channels
        time = np.arange(round(seconds * rate)) / rate
        tone = np.tile((0.2 * np.sin(2 * np.pi * 440 * time)).astype(np.float32), (channels, 1))
        frame = av.AudioFrame.from_ndarray(tone, format="fltp", layout=layout)
        frame.sample_rate = rate
        resampler = av.AudioResampler(format=stream.format, layout=layout, rate=rate, frame_size=stream.frame_size)
        for piece in [*resampler.resample(frame), *resampler.resample(None)]:
            output.mux(stream.encode(piece))
        output.mux(stream.encode(None))
    return buffer.getvalue()


def wav_header(*, rate: int, channels: int, format_tag: int = 1, bits: int = 16, data_bytes: int) -> bytes:
    """Return a WAV header that may say anything."""
    frame_bytes = channels * bits // 8
    form = struct.pack(
        "<HHIIHH", format_tag, channels, rate, rate * frame_bytes & 0xFFFFFFFF, frame_bytes & 0xFFFF, bits
    )
    return (
        b"RIFF" + struct.pack("<I", 36 + data_bytes) + b"WAVEfmt " + struct.pack("<I", 16) + form
        + b"data" + struct.pack("<I", data_bytes)
    )  # fmt: skip


SONG = make_song(2, 1)
