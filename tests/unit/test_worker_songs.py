"""Where a worker gets a song from, and what becomes of one whose job goes meanwhile."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from support import SongServer, make_song
from unmix import names
from unmix.access.tenants import SecretIds
from unmix.errors import EngineError, SupersededError
from unmix.job import JobRequest, SeparationOptions
from unmix.ledger.ledger import Ledger, utc_now
from unmix.settings import Settings
from unmix.store.file import FileStore
from unmix_worker.song import song_of

SONG = make_song(1, seed=81)
HASH = names.hash_song(SONG)
SETTINGS = Settings(song_urls=True, song_url_allow="127.0.0.1")


@pytest.fixture
def ledger(tmp_path: Path) -> Ledger:
    store = FileStore(tmp_path / "store")
    store.prepare()
    return Ledger(store)


def asked_for(ledger: Ledger, url: str) -> JobRequest:
    request = JobRequest(names.new_song_hash(), SeparationOptions("demo"), utc_now(), url=url)
    return ledger.accept(request)[0]


def test_a_song_is_fetched_once_and_stays_for_later_attempts(ledger: Ledger, tmp_path: Path) -> None:
    with SongServer({"/song": SONG}) as server:
        request = asked_for(ledger, f"{server.url}/song")
        for _ in range(2):
            assert song_of(request, ledger, tmp_path, SETTINGS, go_on=lambda: None).read_bytes() == SONG
        assert server.asked == ["/song"]


def test_a_song_whose_job_is_removed_while_it_is_fetched_is_not_left_behind(ledger: Ledger, tmp_path: Path) -> None:
    with SongServer({"/song": SONG}) as server:
        request = asked_for(ledger, f"{server.url}/song")
        with pytest.raises(SupersededError):
            song_of(request, ledger, tmp_path, SETTINGS, go_on=lambda: ledger.removal.remove_job(request.job_id))
    assert not ledger.has_song(request.song_hash)


def test_a_worker_that_may_not_fetch_says_so(ledger: Ledger, tmp_path: Path) -> None:
    request = asked_for(ledger, "http://127.0.0.1:9/song")
    with pytest.raises(EngineError) as caught:
        song_of(request, ledger, tmp_path, Settings(), go_on=lambda: None)
    assert (caught.value.code, caught.value.retryable) == ("song_urls_off", False)


def test_a_song_that_has_no_url_is_not_looked_for_elsewhere(ledger: Ledger, tmp_path: Path) -> None:
    request = JobRequest(names.hash_song(SONG), SeparationOptions("demo"), utc_now())
    with pytest.raises(EngineError) as caught:
        song_of(request, ledger, tmp_path, SETTINGS, go_on=lambda: None)
    assert (caught.value.code, caught.value.retryable) == ("input_missing", True)


def stored(ledger: Ledger, tmp_path: Path, **fields: Any) -> JobRequest:
    """A job whose song is stored under a name that is not its hash, as a tenant's is."""
    request = JobRequest(SecretIds(b"secret").of_song(HASH), SeparationOptions("demo"), utc_now(), **fields)
    (tmp_path / "sent").write_bytes(SONG)
    ledger.put_song(request.song_hash, tmp_path / "sent")
    return ledger.accept(request)[0]


def test_a_tenants_song_is_known_by_its_true_hash(ledger: Ledger, tmp_path: Path) -> None:
    request = stored(ledger, tmp_path, tenant="choir", song_sha256=HASH)
    assert song_of(request, ledger, tmp_path, SETTINGS, go_on=lambda: None).read_bytes() == SONG


@pytest.mark.parametrize("fields", [{"song_sha256": "0" * 64}, {}], ids=["another hash", "no hash"])
def test_a_song_that_is_another_is_refused(ledger: Ledger, tmp_path: Path, fields: dict[str, str]) -> None:
    request = stored(ledger, tmp_path, tenant="choir", **fields)
    with pytest.raises(EngineError) as caught:
        song_of(request, ledger, tmp_path, SETTINGS, go_on=lambda: None)
    assert (caught.value.code, caught.value.retryable) == ("hash_mismatch", False)


def test_a_song_whose_request_has_no_hash_is_called_by_it(ledger: Ledger, tmp_path: Path) -> None:
    """So it is in the documents of earlier versions, and in those of pushes."""
    (tmp_path / "sent").write_bytes(SONG)
    ledger.put_song(HASH, tmp_path / "sent")
    request = JobRequest(HASH, SeparationOptions("demo"), utc_now())
    assert song_of(request, ledger, tmp_path, SETTINGS, go_on=lambda: None).read_bytes() == SONG
    ledger.put_song("0" * 64, tmp_path / "sent")
    with pytest.raises(EngineError, match="do not match"):
        song_of(replace(request, job_id="0" * 64), ledger, tmp_path, SETTINGS, go_on=lambda: None)
