"""Uploads on every home of the store, on a real S3 server by a URL that clients have, and behind a real port."""

import time
import tracemalloc
from collections.abc import Callable
from pathlib import Path
from urllib.parse import urljoin

import pytest
import requests

from rest_process import SONG, RestProcess
from s3_servers import ACCESS_KEY, SECRET_KEY, S3Server, opened_store
from unmix import names
from unmix.errors import NotFoundError, StoreError, UnmixError
from unmix.janitor.audit import Audit
from unmix.janitor.retention import Retention
from unmix.ledger.ledger import Ledger
from unmix.ledger.uploads import LEFT_ALONE_SECONDS, Progress, Uploads
from unmix.queue.job_queue import JobQueue
from unmix.store.file import FileStore
from unmix.store.opening import open_store
from unmix.store.protocol import ObjectStore
from unmix.store.s3 import MinioStore

HOUR = 3600
MIB = 1 << 20


@pytest.fixture(params=["file", "moto", "rclone"])
def any_store(request: pytest.FixtureRequest, tmp_path: Path) -> ObjectStore:
    return opened_store(request.param, request, tmp_path)


@pytest.fixture
def uploads(any_store: ObjectStore) -> Uploads:
    return Uploads(any_store)


def soon() -> int:
    return int(time.time()) + HOUR


def add(uploads: Uploads, folder: Path, upload_id: str, data: bytes, *, start: int, total: int) -> Progress:
    path = folder / "piece"
    path.write_bytes(data)
    return uploads.add(uploads.look(upload_id), path, start=start, total=total)


def kept(store: ObjectStore) -> list[str]:
    return [info.name.key for info in store.list(names.QUEUE_BUCKET) if names.upload_of(info.name)]


def public_store(server: S3Server) -> MinioStore:
    """A store that clients reach by another name than we do."""
    store = open_store(
        server.url, access_key=ACCESS_KEY, secret_key=SECRET_KEY, public_url=f"http://localhost:{server.port}"
    )
    assert isinstance(store, MinioStore)
    store.prepare()
    return store


def test_pieces_come_back_in_order(uploads: Uploads, any_store: ObjectStore, tmp_path: Path) -> None:
    upload_id = uploads.begin(names.new_upload_id(soon())).ticket.upload_id
    for start in range(0, 110, 10):
        add(uploads, tmp_path, upload_id, bytes([start]) * 10, start=start, total=110)
    progress = Uploads(any_store).complete(upload_id)
    assert b"".join(uploads.read(progress)) == b"".join(bytes([start]) * 10 for start in range(0, 110, 10))


def test_an_upload_that_is_closed_leaves_only_its_note(
    uploads: Uploads, any_store: ObjectStore, tmp_path: Path
) -> None:
    upload_id = uploads.begin(names.new_upload_id(soon())).ticket.upload_id
    progress = add(uploads, tmp_path, upload_id, b"song", start=0, total=4)
    uploads.close(progress, "a job")
    assert kept(any_store) == [names.upload_ticket(upload_id).key]
    with pytest.raises(UnmixError) as refused:
        uploads.look(upload_id)
    assert (refused.value.code, refused.value.facts) == ("upload_used", {"hash": "a job"})


def test_uploads_are_no_songs_to_the_inventory(any_store: ObjectStore, uploads: Uploads, tmp_path: Path) -> None:
    upload_id = uploads.begin(names.new_upload_id(soon())).ticket.upload_id
    add(uploads, tmp_path, upload_id, b"song", start=0, total=4)
    assert list(Ledger(any_store).inventory.songs()) == []
    assert list(Ledger(any_store).inventory.open_marks()) == []


def test_what_is_over_goes_and_the_rest_stays(uploads: Uploads, any_store: ObjectStore, tmp_path: Path) -> None:
    now = int(time.time())
    for ends_at in (now - 2 * LEFT_ALONE_SECONDS, now - LEFT_ALONE_SECONDS // 2, now + HOUR):
        progress = uploads.begin(names.new_upload_id(ends_at))
        path = tmp_path / "piece"
        path.write_bytes(b"piece")
        for start in (0, 5):
            progress = uploads.add(progress, path, start=start, total=20)
    before = kept(any_store)
    assert uploads.remove_over() == 3
    assert kept(any_store) == before[3:]
    assert uploads.remove_over() == 0


def test_what_is_no_upload_is_left_alone(uploads: Uploads, any_store: ObjectStore) -> None:
    strange = names.ObjectName(names.QUEUE_BUCKET, f"{names.UPLOADS_PREFIX}0/of-somebody-else")
    any_store.put(strange, b"mine")
    assert uploads.remove_over() == 0
    assert any_store.stat(strange) is not None


def test_the_audit_removes_uploads_without_reading_one(
    queue: JobQueue, store: FileStore, ledger: Ledger, monkeypatch: pytest.MonkeyPatch
) -> None:
    over = ledger.uploads.begin(names.new_upload_id(int(time.time()) - 2 * LEFT_ALONE_SECONDS)).ticket
    store.put(names.upload_whole(over.upload_id), b"song")
    open_still = ledger.uploads.begin(names.new_upload_id(soon())).ticket
    monkeypatch.setattr(store, "get", None)
    monkeypatch.setattr(store, "open", None)
    assert Audit(queue, ledger, Retention(queue, ledger, 0, 0)).run().uploads == 2
    assert kept(store) == [names.upload_ticket(open_still.upload_id).key]


def test_an_audit_lists_no_upload_that_has_time(
    ledger: Ledger, store: FileStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """However many there are: what is over comes first."""
    ids = sorted(ledger.uploads.begin(names.new_upload_id(soon() + number)).ticket.upload_id for number in range(5))
    listed = []
    list_all = store.list

    def watched(bucket: str, prefix: str = "") -> object:
        for info in list_all(bucket, prefix):
            listed.append(names.upload_of(info.name))
            yield info

    monkeypatch.setattr(store, "list", watched)
    ledger.uploads.remove_over()
    assert listed == ids[:1]


def test_a_large_upload_is_read_in_constant_memory(uploads: Uploads, any_store: ObjectStore, tmp_path: Path) -> None:
    path = tmp_path / "large"
    path.write_bytes(bytes(20 * MIB))
    progress = uploads.add(uploads.begin(names.new_upload_id(soon())), path, start=0, total=40 * MIB)
    uploads.add(progress, path, start=20 * MIB, total=40 * MIB)
    progress = uploads.complete(progress.ticket.upload_id)
    tracemalloc.start()
    size_bytes = sum(map(len, uploads.read(progress)))
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert size_bytes == 40 * MIB
    assert peak < 10 * MIB


def test_a_folder_has_no_address_for_clients(ledger: Ledger) -> None:
    assert ledger.uploads.direct_url(ledger.uploads.begin(names.new_upload_id(soon())).ticket) is None


def test_a_store_without_an_address_for_clients_gives_none(rclone: S3Server) -> None:
    uploads = Uploads(rclone.store())
    assert uploads.direct_url(uploads.begin(names.new_upload_id(soon())).ticket) is None


@pytest.mark.parametrize("server", ["moto", "rclone"])
def test_a_song_is_put_straight_into_the_store(request: pytest.FixtureRequest, server: str) -> None:
    uploads = Uploads(public_store(request.getfixturevalue(server)))
    ticket = uploads.begin(names.new_upload_id(soon())).ticket
    url = uploads.direct_url(ticket)
    assert url is not None
    assert url.startswith("http://localhost:")
    assert uploads.look(ticket.upload_id).offset == 0
    assert requests.put(url, data=SONG, timeout=30).status_code == 200
    progress = uploads.complete(ticket.upload_id)
    assert (progress.offset, progress.size_bytes) == (len(SONG), len(SONG))
    assert b"".join(uploads.read(progress)) == SONG


def test_the_store_takes_only_what_the_url_was_signed_for(rclone: S3Server) -> None:
    store = public_store(rclone)
    uploads = Uploads(store)
    ticket, other = (uploads.begin(names.new_upload_id(soon())).ticket for _ in range(2))
    url = uploads.direct_url(ticket) or ""
    changed = [
        url.replace(ticket.upload_id, other.upload_id),
        url.replace("/whole", "/ticket"),
        url.replace("localhost", "127.0.0.1"),
        url.replace("Expires=", "Expires=9"),
        url.partition("?")[0],
    ]
    before = kept(store)
    for each in changed:
        assert each != url
        assert requests.put(each, data=b"not wanted", timeout=30).status_code in (400, 403)
    assert requests.get(url, timeout=30).status_code == 403
    assert kept(store) == before


def test_the_store_takes_nothing_by_a_url_whose_time_is_over(rclone: S3Server) -> None:
    store = public_store(rclone)
    url = store.presigned_put(names.upload_whole("9999999999-" + "0" * 32), seconds=1) or ""
    time.sleep(2.1)
    assert requests.put(url, data=b"late", timeout=30).status_code in (400, 403)
    assert kept(store) == []


def test_a_song_that_is_not_as_large_as_was_said_is_not_complete(moto: S3Server) -> None:
    uploads = Uploads(public_store(moto))
    ticket = uploads.begin(names.new_upload_id(soon()), size_bytes=10).ticket
    requests.put(uploads.direct_url(ticket) or "", data=b"four", timeout=30)
    with pytest.raises(UnmixError) as refused:
        uploads.complete(ticket.upload_id)
    assert (refused.value.code, refused.value.facts) == ("upload_incomplete", {"offset": 4})


@pytest.mark.parametrize(
    "address", ["files.example.com", "ftp://files.example.com", "https://a@b", "https://a/b", "https://", "https://a b"]
)
def test_an_address_for_clients_that_is_none_is_told_at_the_start(address: str) -> None:
    with pytest.raises(StoreError) as refused:
        open_store("s3://127.0.0.1:1", access_key="a", secret_key="b", public_url=address)
    assert refused.value.code == "unknown_store"


def test_a_ticket_of_an_earlier_or_later_version_is_read(ledger: Ledger, store: FileStore) -> None:
    ticket = ledger.uploads.begin(names.new_upload_id(soon()), size_bytes=4).ticket
    name = names.upload_ticket(ticket.upload_id)
    store.put(name, b'{"upload_id": "%s"}' % ticket.upload_id.encode())
    assert ledger.uploads.look(ticket.upload_id).size_bytes is None
    store.put(name, b'{"upload_id": "%s", "schema": 9, "tenant": "t"}' % ticket.upload_id.encode())
    ledger.uploads.close(ledger.uploads.look(ticket.upload_id), "a job")
    assert b'"tenant": "t"' in store.get(name)[0]


def test_an_upload_whose_time_ran_out_is_unknown(ledger: Ledger, monkeypatch: pytest.MonkeyPatch) -> None:
    ticket = ledger.uploads.begin(names.new_upload_id(soon())).ticket
    monkeypatch.setattr("unmix.ledger.uploads.time.time", lambda: ticket.ends_at)
    with pytest.raises(NotFoundError):
        ledger.uploads.look(ticket.upload_id)


def test_a_song_comes_in_pieces_behind_a_real_port(start: Callable[..., RestProcess]) -> None:
    """And of a piece that breaks off nothing counts."""
    rest = start()
    ticket = requests.post(f"{rest.url}/apiv1/uploads", timeout=30).json()
    url = urljoin(rest.url, ticket["url"])
    half = len(SONG) // 2
    with rest.connect() as peer:
        head = f"PUT {ticket['url']} HTTP/1.1\r\nHost: localhost\r\nContent-Length: {len(SONG)}\r\n\r\n"
        peer.sendall(head.encode() + SONG[:half])
    for begin, end in ((0, half), (half, len(SONG))):
        assert requests.head(url, timeout=30).headers["Upload-Offset"] == str(begin)
        said = {"Content-Range": f"bytes {begin}-{end - 1}/{len(SONG)}"}
        assert requests.put(url, data=SONG[begin:end], headers=said, timeout=30).json()["offset"] == end
    answer = requests.post(f"{rest.url}/apiv1/jobs", json={"upload": ticket["upload_id"]}, timeout=30)
    assert (answer.status_code, answer.json()["hash"]) == (202, names.hash_song(SONG))


@pytest.mark.parametrize("is_public", [True, False])
def test_a_ticket_leads_to_the_store_where_clients_reach_it(
    start: Callable[..., RestProcess], moto: S3Server, is_public: bool
) -> None:
    rest = start(
        UNMIX_STORE_URL=moto.url,
        UNMIX_STORE_ACCESS_KEY=ACCESS_KEY,
        UNMIX_STORE_SECRET_KEY=SECRET_KEY,
        UNMIX_STORE_PUBLIC_URL=f"http://localhost:{moto.port}" if is_public else "",
    )
    ticket = requests.post(f"{rest.url}/apiv1/uploads", json={"size_bytes": len(SONG)}, timeout=30).json()
    assert ticket["resumable"] is not is_public
    assert ticket["url"].startswith(f"http://localhost:{moto.port}/" if is_public else "/apiv1/uploads/")
    url = urljoin(rest.url, ticket["url"])
    assert requests.put(url, data=SONG, headers=ticket["headers"], timeout=30).status_code == 200
    progress = requests.get(f"{rest.url}/apiv1/uploads/{ticket['upload_id']}", timeout=30).json()
    assert (progress["offset"], progress["complete"]) == (len(SONG), True)
    answer = requests.post(f"{rest.url}/apiv1/jobs", json={"upload": ticket["upload_id"]}, timeout=30)
    assert (answer.status_code, answer.json()["hash"]) == (202, names.hash_song(SONG))
    assert "X-Amz-Signature" not in rest.log.read_text()
