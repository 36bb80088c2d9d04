"""A song inside JSON, read chunk by chunk: wherever the chunks end, the result is the same."""

import base64
import json
import random
import tracemalloc
from typing import Any

import pytest

from unmix.errors import InputError
from unmix_rest.http.strict_json import MAX_REST_BYTES, JsonWithSong

SONG = bytes(range(256)) * 2
TEXT = base64.b64encode(SONG).decode()


def read(body: bytes, chunk_bytes: int) -> tuple[dict[str, Any], bytes]:
    song = bytearray()
    reader = JsonWithSong("mp3", song.extend)
    for start in range(0, len(body), chunk_bytes):
        reader.feed(body[start : start + chunk_bytes])
    return reader.finish(), bytes(song)


def unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    if len(dict(pairs)) < len(pairs):
        raise ValueError("a name stands twice")
    return dict(pairs)


BODIES = {
    "plain": json.dumps({"mp3": TEXT}),
    "last": json.dumps({"model": "demo", "callback": {"url": "h", "data": {"mp3": "a", "b": [1, "]}"]}}, "mp3": TEXT}),
    "first": json.dumps({"mp3": TEXT, "model": 'a "quoted" \\ name', "x": {"mp3": TEXT[:40]}}),
    "blanks": '\n {\t"mp3"\r\n :\n "' + TEXT + '"  } \n',
    "data URL": json.dumps({"mp3": "data:audio/mpeg;base64," + TEXT}),
    "line breaks": json.dumps({"mp3": base64.encodebytes(SONG).decode().replace("\n", "\r\n")}),
    "escaped slashes": json.dumps({"mp3": TEXT}).replace("/", "\\/"),
    "escaped pluses": json.dumps({"mp3": TEXT}).replace("+", "\\u002b"),
    "escaped name": json.dumps({"mp3": TEXT}).replace('"mp3"', '"m\\u00703"'),
    "other text": json.dumps({"title": "ü🎵\u202e", "mp3": TEXT}, ensure_ascii=False),
}  # fmt: skip


@pytest.mark.parametrize("chunk_bytes", [1, 2, 3, 5, 7, 64, 100_000])
@pytest.mark.parametrize("body", BODIES.values(), ids=BODIES.keys())
def test_wherever_the_chunks_end_the_song_and_the_rest_come_out(body: str, chunk_bytes: int) -> None:
    expected = json.loads(body)
    del expected["mp3"]
    assert read(body.encode(), chunk_bytes) == (expected, SONG)


@pytest.mark.parametrize("chunk_bytes", [1, 3, 100_000])
def test_damaged_bodies_are_refused_wherever_the_chunks_end(chunk_bytes: int) -> None:
    dice = random.Random(1)
    body = BODIES["last"].encode()
    for _ in range(1000):
        at = dice.randrange(len(body))
        damaged = body[:at] + bytes([dice.randrange(256)]) + body[at + 1 :]
        try:
            expected = json.loads(damaged.decode(), object_pairs_hook=unique)
            song = base64.b64decode(expected.pop("mp3"), validate=True)
        except (ValueError, KeyError):
            with pytest.raises(InputError):
                read(damaged, chunk_bytes)
        else:
            assert read(damaged, chunk_bytes) == (expected, song)


def test_text_after_the_padding_is_refused_also_in_a_later_chunk() -> None:
    for chunk_bytes in (1, 8, 100_000):
        with pytest.raises(InputError) as caught:
            read(json.dumps({"mp3": "A" * 200 + "QQ==" + TEXT}).encode(), chunk_bytes)
        assert caught.value.code == "invalid_base64"


def test_memory_stays_constant_whatever_the_size_of_the_song() -> None:
    chunk = base64.b64encode(bytes(48 * 1024))
    tracemalloc.start()
    try:
        reader = JsonWithSong("mp3", lambda data: None)
        reader.feed(b'{"mp3": "')
        for _ in range(400):
            reader.feed(chunk)
        reader.feed(b'"}')
        assert reader.finish() == {}
        assert tracemalloc.get_traced_memory()[1] < 1 << 20
    finally:
        tracemalloc.stop()


def test_what_is_beside_the_song_is_bounded() -> None:
    reader = JsonWithSong("mp3", lambda data: None)
    with pytest.raises(InputError) as caught:
        reader.feed(b'{"title": "' + b"a" * (MAX_REST_BYTES + 1))
    assert caught.value.code == "payload_too_large"
