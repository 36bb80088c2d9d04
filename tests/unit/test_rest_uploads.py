"""`/apiv1/uploads`: a song in pieces, or at once, before there is a job of it; and what strangers may try."""

import time
from io import BytesIO
from pathlib import Path
from typing import Any
from unittest.mock import Mock

import pytest

from rest_support import DEMO_CARD, SONG, Answer, Rest
from support import make_song
from unmix import names
from unmix.errors import ObjectMissingError, StoreError
from unmix.ledger.ledger import Ledger
from unmix.ledger.uploads import MAX_PIECES
from unmix.names import hash_song

JOB_ID = hash_song(SONG)
TOTAL = len(SONG)
PIECE = 100_000


def begin(rest: Rest, **fields: Any) -> str:
    """Ask for a ticket, and return the URL that it has."""
    answer = rest.client.post("/apiv1/uploads", **({"json": fields} if fields else {}))
    assert answer.status_code == 201, answer.json
    return str(answer.json["url"])


def put(rest: Rest, url: str, data: bytes, content_range: str | None = None, **headers: str) -> Answer:
    if content_range is not None:
        headers["Content-Range"] = content_range
    return rest.client.open(url, method="PUT", data=data, headers=headers)


def piece(rest: Rest, url: str, start: int, *, size: int = PIECE, song: bytes = SONG) -> Answer:
    """Send a piece of the song."""
    data = song[start : start + size]
    return put(rest, url, data, f"bytes {start}-{start + len(data) - 1}/{len(song)}")


def send_all(rest: Rest, url: str) -> None:
    for start in range(0, TOTAL, PIECE):
        assert piece(rest, url, start).status_code == 200


def submit(rest: Rest, url: str, **fields: Any) -> Answer:
    return rest.client.post("/apiv1/jobs", json={"upload": url.rpartition("/")[2], **fields})


def refused(answer: Answer, status: int, code: str) -> None:
    assert (answer.status_code, answer.json["code"]) == (status, code), answer.json


def accepted(answer: Answer, job_id: str = JOB_ID) -> None:
    assert (answer.status_code, answer.json["hash"]) == (202, job_id), answer.json


def bytes_kept(rest: Rest) -> list[str]:
    """What the store has of uploads, but for their tickets."""
    prefix = f"queue/{names.UPLOADS_PREFIX}"
    return [name for name in rest.stored() if name.startswith(prefix) and not name.endswith("/ticket")]


def test_a_ticket_says_where_and_how_to_send_the_song(rest: Rest) -> None:
    answer = rest.client.post("/apiv1/uploads", json={"size_bytes": TOTAL})
    ticket = answer.json
    assert answer.status_code == 201
    assert ticket["url"] == f"/apiv1/uploads/{ticket['upload_id']}" == answer.headers["Location"]
    assert (ticket["method"], ticket["headers"], ticket["resumable"]) == ("PUT", {}, True)
    assert (ticket["offset"], ticket["size_bytes"], ticket["complete"]) == (0, TOTAL, False)
    assert ticket["piece_bytes"] == 8 << 20
    assert ticket["expires_at"].endswith("+00:00")


def test_a_size_may_be_written_with_a_point(rest: Rest) -> None:
    assert rest.client.post("/apiv1/uploads", data=b'{"size_bytes": 20.0}').json["size_bytes"] == 20


def test_tickets_are_all_different(rest: Rest) -> None:
    assert len({begin(rest) for _ in range(20)}) == 20


def test_a_song_that_came_in_pieces_becomes_a_job(rest: Rest) -> None:
    url = begin(rest)
    send_all(rest, url)
    answer = submit(rest, url, name="My song", labels=["choir"])
    assert answer.status_code == 202
    assert answer.headers["Location"] == f"/apiv1/jobs/{JOB_ID}"
    assert (answer.json["hash"], answer.json["status"], answer.json["name"]) == (JOB_ID, "queued", "My song")
    assert answer.json["warnings"] == []
    assert rest.store.get(names.song_object(JOB_ID))[0] == SONG
    assert bytes_kept(rest) == []


def test_a_song_that_came_at_once_becomes_a_job(rest: Rest) -> None:
    url = begin(rest, size_bytes=TOTAL)
    assert put(rest, url, SONG).json["complete"] is True
    accepted(submit(rest, url))


def test_the_same_song_by_an_upload_joins_its_job(rest: Rest) -> None:
    rest.client.post("/apiv1/jobs", data=SONG, content_type="audio/wav")
    for _ in range(2):
        url = begin(rest)
        put(rest, url, SONG)
        accepted(submit(rest, url))
    assert rest.queue.views.waiting(limit=9)[1] == 1


def test_options_go_with_an_upload(rest: Rest) -> None:
    rest.queue.models.announce(DEMO_CARD)
    url = begin(rest)
    put(rest, url, SONG)
    answer = submit(rest, url, format="flac", stems=["vocals"])
    assert (answer.json["options"]["format"], answer.json["options"]["stems"]) == ("flac", ["vocals"])


@pytest.mark.parametrize("method", ["HEAD", "GET"])
def test_an_upload_tells_how_far_it_is(rest: Rest, method: str) -> None:
    url = begin(rest)
    assert rest.client.open(url, method=method).headers["Upload-Offset"] == "0"
    piece(rest, url, 0)
    answer = rest.client.open(url, method=method)
    assert (answer.status_code, answer.headers["Upload-Offset"]) == (200, str(PIECE))
    if method == "GET":
        assert (answer.json["offset"], answer.json["size_bytes"], answer.json["complete"]) == (PIECE, TOTAL, False)


def test_another_process_goes_on_with_an_upload(rest: Rest, tmp_path: Path, redis_url: str) -> None:
    other = Rest(tmp_path, redis_url)
    url = begin(rest)
    for number, start in enumerate(range(0, TOTAL, PIECE)):
        assert piece((rest, other)[number % 2], url, start).status_code == 200
    assert other.client.get(url).json["complete"] is True
    accepted(submit(other, url))


@pytest.mark.parametrize("start", [0, PIECE - 1, PIECE + 1, 2 * PIECE])
def test_a_piece_that_overlaps_or_leaves_a_gap_is_told_where_to_go_on(rest: Rest, start: int) -> None:
    url = begin(rest)
    piece(rest, url, 0)
    answer = piece(rest, url, start)
    refused(answer, 409, "wrong_offset")
    assert answer.json["offset"] == PIECE
    assert piece(rest, url, PIECE).json["offset"] == 2 * PIECE


def test_a_piece_that_came_twice_at_the_same_time_counts_once(rest: Rest, monkeypatch: pytest.MonkeyPatch) -> None:
    """A client that tries again too early: the shorter one must take nothing away that the longer one brought."""
    url = begin(rest)
    put_file = rest.store.put_file

    def meanwhile(name: names.ObjectName, path: Path) -> None:
        monkeypatch.setattr(rest.store, "put_file", put_file)
        assert piece(rest, url, 0).json["offset"] == PIECE
        put_file(name, path)

    monkeypatch.setattr(rest.store, "put_file", meanwhile)
    piece(rest, url, 0, size=PIECE // 2)
    assert rest.client.get(url).json["offset"] == PIECE
    for start in range(PIECE, TOTAL, PIECE):
        assert piece(rest, url, start).status_code == 200
    accepted(submit(rest, url))


@pytest.mark.parametrize(
    "said",
    [
        *("", "bytes", "bytes */352844", "bytes 0-99999/*", "bytes 0-", "items 0-99999/352844", "bytes 0-99999"),
        *("bytes -5-99999/352844", "bytes 0--1/352844", "bytes 5-4/352844", "bytes 0-352844/352844", "bytes 0-0/0"),
        *(
            "bytes 0-99999/352844, 1-2/352844",
            "bytes 0x0-0x10/352844",
            "bytes 0-99999/１２３４５６",
            "bytes 0-1e9/352844",
        ),
        *("bytes 0-99998/352844", "bytes 0-100000/352844", f"bytes 0-99999/{'9' * 5000}", f"bytes {'0' * 16}-1/20"),
    ],
)
def test_a_range_that_is_none_or_not_that_of_the_body_is_refused(rest: Rest, said: str) -> None:
    url = begin(rest)
    refused(put(rest, url, SONG[:100_000], said.encode().decode("latin-1")), 400, "bad_content_range")
    assert bytes_kept(rest) == []


def test_a_body_that_breaks_off_changes_nothing(rest: Rest) -> None:
    url = begin(rest)
    piece(rest, url, 0)
    answer = rest.client.open(
        url,
        method="PUT",
        input_stream=BytesIO(SONG[PIECE : PIECE + 500]),
        environ_overrides={"CONTENT_LENGTH": str(PIECE)},
        headers={"Content-Range": f"bytes {PIECE}-{2 * PIECE - 1}/{TOTAL}"},
    )
    refused(answer, 400, "incomplete_body")
    assert rest.client.get(url).json["offset"] == PIECE


@pytest.mark.parametrize("declared", [True, False])
def test_the_size_of_a_song_cannot_change(rest: Rest, declared: bool) -> None:
    url = begin(rest, size_bytes=TOTAL) if declared else begin(rest)
    piece(rest, url, 0)
    data = SONG[PIECE : 2 * PIECE]
    answer = put(rest, url, data, f"bytes {PIECE}-{2 * PIECE - 1}/{TOTAL + 1}")
    refused(answer, 400, "bad_content_range")
    assert rest.client.get(url).json["offset"] == PIECE


def test_what_is_larger_than_songs_may_be_is_refused_beforehand(tmp_path: Path, redis_url: str) -> None:
    rest = Rest(tmp_path, redis_url, max_upload_mb=1)
    too_many = (1 << 20) + 1
    refused(rest.client.post("/apiv1/uploads", json={"size_bytes": too_many}), 413, "payload_too_large")
    url = begin(rest)
    refused(put(rest, url, b"x", f"bytes 0-0/{too_many}"), 413, "payload_too_large")
    refused(put(rest, url, b"x", f"bytes 0-0/{'9' * 15}"), 413, "payload_too_large")
    refused(put(rest, url, bytes(too_many)), 413, "payload_too_large")
    assert bytes_kept(rest) == []


def test_what_was_put_into_the_store_is_refused_if_it_is_too_large(tmp_path: Path, redis_url: str) -> None:
    """There nobody looks at how large it is."""
    rest = Rest(tmp_path, redis_url, max_upload_mb=1)
    url = begin(rest)
    rest.store.put(names.upload_whole(url.rpartition("/")[2]), bytes((1 << 20) + 1))
    refused(submit(rest, url), 413, "payload_too_large")


def test_ten_thousand_pieces_are_refused_by_the_first(rest: Rest) -> None:
    url = begin(rest)
    total = 10_000 * 20
    answer = put(rest, url, bytes(20), f"bytes 0-19/{total}")
    refused(answer, 422, "piece_too_small")
    assert str(total // MAX_PIECES) in answer.json["detail"]


def test_many_pieces_are_put_together_in_order(rest: Rest) -> None:
    song = make_song(0.2, 3)
    size = -(-len(song) // 400)
    url = begin(rest)
    for start in range(0, len(song), size):
        assert piece(rest, url, start, size=size, song=song).status_code == 200
    accepted(submit(rest, url), hash_song(song))


def test_a_piece_of_nothing_is_refused(rest: Rest) -> None:
    refused(put(rest, begin(rest), b""), 422, "empty_audio")


def test_a_compressed_piece_is_refused(rest: Rest) -> None:
    refused(put(rest, begin(rest), SONG, **{"Content-Encoding": "gzip"}), 415, "unsupported_encoding")


@pytest.mark.parametrize(
    "upload_id",
    [
        *(
            "..",
            "%2e%2e",
            "..%2f..%2foutput",
            "x" * 5000,
            "9999999999-" + "0" * 32,
            "9999999999-" + "A" * 32,
            "%00",
            "%F0",
        ),
        *("open", "ticket", JOB_ID, "9999999999-" + "0" * 31, "-1", "９" * 10 + "-" + "0" * 32),
    ],
)
def test_an_upload_that_is_none_is_unknown(rest: Rest, upload_id: str) -> None:
    before = rest.stored()
    url = f"/apiv1/uploads/{upload_id}"
    for answer in (rest.client.get(url), put(rest, url, SONG)):
        assert answer.status_code == 404
        assert answer.json["code"] in ("unknown_upload", "not_found")  # with a slash in it, it is another route
    refused(rest.client.post("/apiv1/jobs", json={"upload": upload_id}), 404, "unknown_upload")
    assert rest.stored() == before


def test_an_upload_whose_time_is_over_is_unknown(rest: Rest, monkeypatch: pytest.MonkeyPatch) -> None:
    url = begin(rest)
    put(rest, url, SONG)
    later = time.time() + 24 * 3600 + 1
    monkeypatch.setattr("unmix.ledger.uploads.time.time", lambda: later)
    for answer in (rest.client.get(url), put(rest, url, SONG), submit(rest, url)):
        refused(answer, 404, "unknown_upload")


def test_an_upload_that_is_not_complete_makes_no_job(rest: Rest) -> None:
    url = begin(rest)
    answer = submit(rest, url)
    refused(answer, 409, "upload_incomplete")
    assert answer.json["offset"] == 0
    piece(rest, url, 0)
    answer = submit(rest, url)
    refused(answer, 409, "upload_incomplete")
    assert answer.json["offset"] == PIECE
    assert rest.queue.views.waiting(limit=9)[1] == 0


def test_a_used_upload_names_its_job(rest: Rest) -> None:
    url = begin(rest)
    put(rest, url, SONG)
    submit(rest, url)
    for answer in (submit(rest, url), submit(rest, url, format="wav"), rest.client.get(url), put(rest, url, SONG)):
        refused(answer, 409, "upload_used")
        assert answer.json["hash"] == JOB_ID
    assert rest.queue.views.waiting(limit=9)[1] == 1


def test_a_song_that_is_refused_may_be_tried_with_other_options(rest: Rest) -> None:
    url = begin(rest)
    put(rest, url, SONG)
    refused(submit(rest, url, format="aac"), 422, "unknown_format")
    assert submit(rest, url).status_code == 202


def test_what_is_no_song_is_refused_as_it_always_is(rest: Rest) -> None:
    url = begin(rest)
    put(rest, url, b"no song")
    refused(submit(rest, url), 415, "not_audio")
    assert not any(name.endswith(".mp3") for name in rest.stored())


def test_a_whole_that_is_empty_is_refused(rest: Rest) -> None:
    url = begin(rest)
    rest.store.put(names.upload_whole(url.rpartition("/")[2]), b"")
    refused(submit(rest, url), 422, "empty_audio")


@pytest.mark.parametrize("dies_at", ["put_song", "accept"])
def test_an_upload_whose_submission_broke_off_can_be_tried_again(
    rest: Rest, monkeypatch: pytest.MonkeyPatch, dies_at: str
) -> None:
    url = begin(rest)
    send_all(rest, url)
    with monkeypatch.context() as patch:
        patch.setattr(Ledger, dies_at, Mock(side_effect=StoreError("away")))
        refused(submit(rest, url), 503, "store_unavailable")
    accepted(submit(rest, url))


def test_an_upload_whose_submission_died_before_its_answer_can_be_tried_again(
    rest: Rest, monkeypatch: pytest.MonkeyPatch
) -> None:
    url = begin(rest)
    send_all(rest, url)
    with monkeypatch.context() as patch:
        patch.setattr("unmix.ledger.uploads.Uploads.close", Mock(side_effect=KeyboardInterrupt))
        with pytest.raises(KeyboardInterrupt):
            submit(rest, url)
    accepted(submit(rest, url))
    assert rest.queue.views.waiting(limit=9)[1] == 1


def test_of_two_submissions_at_once_the_slower_one_is_told_the_job(rest: Rest, monkeypatch: pytest.MonkeyPatch) -> None:
    url = begin(rest)
    send_all(rest, url)
    opened = rest.store.open

    def meanwhile(name: names.ObjectName) -> Any:
        if names.upload_of(name) and not name.key.endswith("/ticket"):
            monkeypatch.setattr(rest.store, "open", opened)
            assert submit(rest, url).status_code == 202
            raise ObjectMissingError("gone")
        return opened(name)

    monkeypatch.setattr(rest.store, "open", meanwhile)
    answer = submit(rest, url)
    refused(answer, 409, "upload_used")
    assert answer.json["hash"] == JOB_ID


@pytest.mark.parametrize(
    ("fields", "status", "code"),
    [
        ({"upload": 7}, 422, "invalid_field"),
        ({"upload": ["a"]}, 422, "invalid_field"),
        ({"upload": None}, 422, "missing_field"),
        ({"upload": ""}, 404, "unknown_upload"),
        ({"upload": "a", "file": "aaaa"}, 422, "invalid_field"),
    ],
)
def test_an_upload_has_to_be_named_by_its_id_alone(rest: Rest, fields: Any, status: int, code: str) -> None:
    refused(rest.client.post("/apiv1/jobs", json=fields), status, code)


def test_older_clients_still_need_their_song(rest: Rest) -> None:
    url = begin(rest)
    put(rest, url, SONG)
    answer = rest.client.post("/apiv1/separate", json={"upload": url.rpartition("/")[2]})
    refused(answer, 400, "missing_field")


@pytest.mark.parametrize(
    ("body", "status", "code"),
    [
        (b"no json", 400, "invalid_json"),
        (b"null", 400, "invalid_json_shape"),
        (b'{"size_bytes": "1"}', 422, "invalid_field"),
        (b'{"size_bytes": true}', 422, "invalid_field"),
        (b'{"size_bytes": 0}', 422, "invalid_field"),
        (b'{"size_bytes": -1}', 422, "invalid_field"),
        (b'{"size_bytes": 1.5}', 422, "invalid_field"),
        (b'{"size_bytes": ' + b"9" * 4000 + b"}", 413, "payload_too_large"),
        (b'{"size_bytes": ' + b"9" * 5000 + b"}", 400, "invalid_json"),
        (b'{"a": "' + b"x" * 70_000 + b'"}', 413, "payload_too_large"),
    ],
)
def test_a_wrong_wish_gets_no_ticket(rest: Rest, body: bytes, status: int, code: str) -> None:
    refused(rest.client.post("/apiv1/uploads", data=body), status, code)
    assert rest.stored() == []


@pytest.mark.parametrize("body", [b"", b"{}", b'{"size_bytes": null}'])
def test_a_ticket_needs_no_size(rest: Rest, body: bytes) -> None:
    answer = rest.client.post("/apiv1/uploads", data=body)
    assert (answer.status_code, answer.json["size_bytes"]) == (201, None)


@pytest.mark.parametrize("damage", [b"", b"[]", b"{}", b'{"upload_id": 7}', b"\xff"])
def test_a_damaged_ticket_is_none(rest: Rest, damage: bytes) -> None:
    url = begin(rest)
    rest.store.put(names.upload_ticket(url.rpartition("/")[2]), damage)
    refused(rest.client.get(url), 404, "unknown_upload")
