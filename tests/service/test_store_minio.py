"""The S3 home among wrong keys, servers that are away or busy, and networks that lose or cut answers."""

import socket
import threading
import time
import traceback
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import urllib3
from structlog.testing import capture_logs

from faulty_proxy import Fault, FaultyProxy, Request, faulty_proxy
from s3_servers import ACCESS_KEY, SECRET_KEY, S3Server
from unmix.errors import ObjectChangedError, ObjectMissingError, StoreError
from unmix.names import ObjectName
from unmix.store import s3_http
from unmix.store.s3 import MinioStore

MIB = 1 << 20
SONG = ObjectName("queue", "song.mp3")
OUTCOME = ObjectName("output", "job.json")


@pytest.fixture(autouse=True)
def no_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(s3_http, "RETRIES", s3_http.RETRIES.new(backoff_factor=0))


@pytest.fixture
def proxy(moto: S3Server) -> Iterator[FaultyProxy]:
    with faulty_proxy(moto.port) as proxy:
        yield proxy


@pytest.fixture
def store(proxy: FaultyProxy) -> MinioStore:
    """A prepared store behind `proxy`."""
    store = store_at(proxy.endpoint)
    store.prepare()
    proxy.requests.clear()
    return store


def store_at(endpoint: str, *, bucket_prefix: str = "") -> MinioStore:
    return MinioStore(endpoint, access_key=ACCESS_KEY, secret_key=SECRET_KEY, secure=False, bucket_prefix=bucket_prefix)


def puts(request: Request) -> bool:
    return request.method == "PUT"


def gets(request: Request) -> bool:
    return request.method == "GET"


def conditional(request: Request) -> bool:
    return "if-none-match" in request.headers or "if-match" in request.headers


def any_request(_: Request) -> bool:
    return True


def s3_error(code: str) -> bytes:
    return f"<?xml version='1.0'?><Error><Code>{code}</Code><Message>no</Message></Error>".encode()


def test_buckets_with_a_prefix_are_others_on_the_server_and_the_same_for_us(moto: S3Server) -> None:
    plain, prefixed = store_at(moto.endpoint), store_at(moto.endpoint, bucket_prefix="ours-")
    for store in (plain, prefixed):
        store.prepare()
    prefixed.put(SONG, b"la")
    copy = ObjectName("output", "copy.mp3")
    prefixed.copy(SONG, copy)
    prefixed.put_if(OUTCOME, b"{}", etag=None)
    found = prefixed.stat(SONG)
    assert found is not None
    assert [info.name for info in prefixed.list("queue")] == [found.name] == [SONG]
    assert prefixed.get(copy)[0] == prefixed.open(SONG).read() == b"la"
    assert (list(plain.list("queue")), list(plain.list("output"))) == ([], [])
    theirs = {bucket.name for bucket in plain._client.list_buckets()}
    assert theirs == {"queue", "output", "ours-queue", "ours-output"}
    prefixed.remove(SONG)
    assert prefixed.stat(SONG) is None


def test_a_server_that_ignores_conditions_is_found_out_and_said(rclone: S3Server) -> None:
    store = rclone.store()
    with capture_logs() as logs:
        store.prepare()
    assert not store.conditional_puts
    assert logs == [{"event": "the store ignores conditional puts", "host": rclone.endpoint, "log_level": "warning"}]


def test_a_server_that_honours_conditions_is_believed_without_a_word(moto: S3Server) -> None:
    store = moto.store()
    with capture_logs() as logs:
        store.prepare()
    assert store.conditional_puts
    assert logs == []


@pytest.mark.parametrize("header", ["if-match", "if-none-match"])
def test_a_server_that_honours_one_condition_of_two_is_not_relied_on(proxy: FaultyProxy, header: str) -> None:
    proxy.faults.append(Fault("strip", lambda request: header in request.headers, times=9, body=header.encode()))
    store = store_at(proxy.endpoint)
    store.prepare()
    assert not store.conditional_puts


@pytest.mark.parametrize(("status", "code"), [(501, "NotImplemented"), (400, "InvalidArgument")])
def test_a_server_that_refuses_conditions_as_such_still_serves(proxy: FaultyProxy, status: int, code: str) -> None:
    proxy.faults.append(Fault("answer", conditional, times=9, status=status, body=s3_error(code)))
    store = store_at(proxy.endpoint)
    store.prepare()
    assert not store.conditional_puts
    store.put_if(OUTCOME, b"first", etag=None)
    with pytest.raises(ObjectChangedError):
        store.put_if(OUTCOME, b"second", etag=None)
    assert store.get(OUTCOME)[0] == b"first"


def test_wrong_keys_are_refused_at_once_and_never_shown(rclone: S3Server) -> None:
    store = rclone.store(secret_key="wrong-secret")
    with pytest.raises(StoreError, match=rclone.endpoint) as caught:
        store.prepare()
    assert (caught.value.code, caught.value.retryable) == ("store_denied", False)
    assert "keys" in caught.value.message
    assert "wrong-secret" not in "".join(traceback.format_exception(caught.value)) + repr(store)


def test_keys_in_the_url_are_refused_and_not_repeated() -> None:
    with pytest.raises(StoreError) as caught:
        store_at("user:pass-word@host:9000")
    assert caught.value.code == "unknown_store"
    assert "pass-word" not in caught.value.message


def test_a_server_that_is_away_is_given_up_with_its_name(unused_port: int) -> None:
    store = store_at(f"127.0.0.1:{unused_port}")
    for call in (store.prepare, lambda: store.get(SONG), lambda: list(store.list("queue"))):
        with pytest.raises(StoreError, match=f"127.0.0.1:{unused_port}") as caught:
            call()
        assert (caught.value.code, caught.value.retryable) == ("store_unavailable", True)


def test_a_server_that_hangs_up_is_tried_a_few_times_only(proxy: FaultyProxy, store: MinioStore) -> None:
    proxy.faults.append(Fault("drop", any_request, times=99))
    with pytest.raises(StoreError) as caught:
        store.put(SONG, b"la la")
    assert (caught.value.code, caught.value.retryable) == ("store_unavailable", True)
    assert len(proxy.requests) == 3


def test_a_server_that_is_busy_for_a_moment_is_asked_again(proxy: FaultyProxy, store: MinioStore) -> None:
    proxy.faults.append(Fault("answer", puts, times=2, status=503, body=s3_error("SlowDown")))
    store.put(SONG, b"la la")
    assert store.get(SONG)[0] == b"la la"


def test_a_server_that_stays_busy_is_quoted(proxy: FaultyProxy, store: MinioStore) -> None:
    proxy.faults.append(Fault("answer", puts, times=99, status=503, body=s3_error("SlowDown")))
    with pytest.raises(StoreError, match="SlowDown") as caught:
        store.put(SONG, b"la la")
    assert caught.value.retryable


@pytest.mark.parametrize(
    ("status", "code", "ours", "retryable"),
    [
        (403, "AccessDenied", "store_denied", False),
        (507, "XMinioStorageFull", "store_full", True),
        (400, "XMinioAdminBucketQuotaExceeded", "store_full", True),
        (403, "QuotaExceeded", "store_full", True),
        (404, "NoSuchBucket", "bucket_missing", True),
        (400, "EntityTooLarge", "store_refused", True),
        (409, "OperationAborted", "store_refused", True),
    ],
)
def test_a_refusal_has_a_code_of_ours_and_the_servers_own_words(
    proxy: FaultyProxy, store: MinioStore, status: int, code: str, ours: str, retryable: bool
) -> None:
    proxy.faults.append(Fault("answer", puts, status=status, body=s3_error(code)))
    with pytest.raises(StoreError, match=code) as caught:
        store.put(SONG, b"la la")
    assert (caught.value.code, caught.value.retryable) == (ours, retryable)


def test_an_answer_that_is_no_xml_is_a_store_error(proxy: FaultyProxy, store: MinioStore) -> None:
    for body in (b"<html>Bad gateway", b"\xff\xfe", b""):
        proxy.faults.append(Fault("answer", puts, status=404, body=body))
        with pytest.raises(StoreError):
            store.put(SONG, b"la la")


def test_a_download_cut_short_is_an_error_and_leaves_nothing(
    proxy: FaultyProxy, store: MinioStore, tmp_path: Path
) -> None:
    store.put(SONG, b"x" * MIB)
    calls: list[Callable[[], object]] = [
        lambda: store.get(SONG),
        lambda: store.get_file(SONG, tmp_path / "song"),
        lambda: store.open(SONG).read(),
    ]
    for call in calls:
        proxy.faults.append(Fault("cut", gets))
        with pytest.raises(StoreError) as caught:
            call()
        assert (caught.value.code, caught.value.retryable) == ("store_unavailable", True)
    assert list(tmp_path.iterdir()) == []


def test_an_upload_in_parts_that_fails_at_its_very_end_is_an_error(
    proxy: FaultyProxy, store: MinioStore, tmp_path: Path
) -> None:
    (tmp_path / "song").write_bytes(b"x" * 6 * MIB)
    ends = Fault("answer", lambda request: request.method == "POST" and "uploadId" in request.path)
    ends.body = s3_error("InternalError")  # with status 200, as S3 may
    proxy.faults.append(ends)
    with pytest.raises(StoreError) as caught:
        store.put_file(SONG, tmp_path / "song")
    assert caught.value.retryable
    assert store.stat(SONG) is None


def test_a_creation_whose_answer_was_lost_is_not_mistaken_for_anothers(proxy: FaultyProxy, store: MinioStore) -> None:
    proxy.faults.append(Fault("lose", conditional))
    store.put_if(OUTCOME, b"mine", etag=None)
    assert store.get(OUTCOME)[0] == b"mine"


def test_a_replacement_whose_answer_was_lost_is_not_mistaken_for_anothers(
    proxy: FaultyProxy, store: MinioStore
) -> None:
    store.put(OUTCOME, b"first")
    _, etag = store.get(OUTCOME)
    proxy.faults.append(Fault("lose", conditional))
    store.put_if(OUTCOME, b"mine", etag=etag)
    assert store.get(OUTCOME)[0] == b"mine"


def test_a_creation_that_another_overtakes_while_it_is_sent_again_is_refused(
    proxy: FaultyProxy, store: MinioStore, moto: S3Server
) -> None:
    proxy.faults.append(Fault("drop", conditional, meanwhile=lambda: moto.store().put(OUTCOME, b"another's")))
    with pytest.raises(ObjectChangedError):
        store.put_if(OUTCOME, b"mine", etag=None)
    assert store.get(OUTCOME)[0] == b"another's"


def test_a_conflict_of_two_conditional_puts_at_the_server_is_a_change(proxy: FaultyProxy, store: MinioStore) -> None:
    proxy.faults.append(Fault("answer", conditional, status=409, body=s3_error("ConditionalRequestConflict")))
    with pytest.raises(ObjectChangedError):
        store.put_if(OUTCOME, b"mine", etag=None)


def test_buckets_that_exist_are_not_made_again(proxy: FaultyProxy, store: MinioStore) -> None:
    store.prepare()  # the fixture's was the first
    assert not any(puts(request) and request.path in ("/queue", "/output") for request in proxy.requests)


def test_buckets_that_may_not_be_made_are_a_clear_error(proxy: FaultyProxy) -> None:
    proxy.faults.append(Fault("answer", puts, times=9, status=403, body=s3_error("AccessDenied")))
    with pytest.raises(StoreError, match="make the bucket queue") as caught:
        store_at(proxy.endpoint).prepare()
    assert caught.value.code == "store_denied"


def test_a_bucket_that_another_pod_makes_first_will_do(rclone: S3Server) -> None:
    with faulty_proxy(rclone.port) as proxy:
        # It is not there when we look, and there when we make it, which rclone answers with 409.
        proxy.faults.append(Fault("answer", any_request, status=404, body=s3_error("NoSuchBucket")))
        store_at(proxy.endpoint).prepare()
        assert next(request.path for request in proxy.requests if puts(request)) == "/queue"


def test_several_pods_may_prepare_one_store(moto: S3Server) -> None:
    with ThreadPoolExecutor(6) as threads:
        stores = [moto.store() for _ in range(6)]
        list(threads.map(MinioStore.prepare, stores))
    assert all(store.conditional_puts for store in stores)
    assert list(stores[0].list("queue")) == []


def test_a_store_that_forgot_its_buckets_does_not_look_like_one_without_songs(moto: S3Server) -> None:
    calls: list[Callable[[MinioStore], object]] = [
        lambda store: store.get(SONG),
        lambda store: store.stat(SONG),
        lambda store: list(store.list("queue")),
    ]
    for call in calls:
        with pytest.raises(StoreError) as caught:
            call(moto.store())
        assert not isinstance(caught.value, ObjectMissingError)
        assert caught.value.code == "bucket_missing"


def test_a_body_may_take_longer_than_connecting_may(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(s3_http, "TIMEOUT_SECONDS", urllib3.Timeout(connect=0.3, read=30))
    body = b"x" * (2 * MIB)
    with socket.socket() as server:
        server.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 65536)
        server.bind(("127.0.0.1", 0))
        server.listen()
        receiver = threading.Thread(target=_receive_slowly, args=(server, len(body)))
        receiver.start()
        connections = s3_http.Connections()
        connections.connection_pool_kw["socket_options"] = [(socket.SOL_SOCKET, socket.SO_SNDBUF, 65536)]
        url = f"http://127.0.0.1:{server.getsockname()[1]}/song"
        answer = connections.urlopen("PUT", url, body=body, headers={"Content-Length": str(len(body))}, retries=False)
        receiver.join()
        connections.clear()
    assert answer.status == 200


def _receive_slowly(server: socket.socket, size: int) -> None:
    connection, _ = server.accept()
    with connection, connection.makefile("rb") as stream:
        while stream.readline() != b"\r\n":
            pass
        for _ in range(size // 32768):
            stream.read(32768)
            time.sleep(0.015)
        connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")
