"""Keys: what is kept of them and where, when they count, and what is believed of them for how long."""

import json
from dataclasses import replace
from pathlib import Path

import pytest

from unmix import names
from unmix.access.keyring import Keyring
from unmix.access.keys import Key, hash_of, is_key, new_key
from unmix.access.known_keys import KNOWN_SECONDS, MOST_KNOWN, KnownKeys
from unmix.access.seals import Seals, Session
from unmix.document import seconds_of
from unmix.errors import InputError, NotFoundError, StoreError
from unmix.names import ObjectName
from unmix.store.file import FileStore


class Clock:
    """A clock that a test sets."""

    def __init__(self) -> None:
        self.now = seconds_of("2026-11-29T12:00:00+00:00")

    def __call__(self) -> float:
        return self.now


class CountingStore(FileStore):
    """Knows how often it was asked for an object, and can be away."""

    def __init__(self, root: Path) -> None:
        super().__init__(root)
        self.reads = 0
        self.is_away = False

    def get(self, name: ObjectName) -> tuple[bytes, str]:
        self.reads += 1
        if self.is_away:
            raise StoreError("away")
        return super().get(name)


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def store(tmp_path: Path) -> CountingStore:
    store = CountingStore(tmp_path / "store")
    store.prepare()
    return store


@pytest.fixture
def keyring(store: FileStore, clock: Clock) -> Keyring:
    return Keyring(store, clock=clock)


def make(keyring: Keyring, name: str = "anna", *, expires_at: float | None = None) -> tuple[Key, str]:
    return keyring.create(name, scopes=("read", "submit"), tenant="main", expires_at=expires_at)


def test_a_key_has_256_random_bits_and_can_stand_in_a_url() -> None:
    keys = {new_key() for _ in range(100)}
    assert len(keys) == 100
    for key in keys:
        assert is_key(key)
        assert len(key.removeprefix("unmix_")) == 43  # of 6 bits each
    key = keys.pop()
    for other in ("", "unmix_", key[:-1], f"{key}x", key.replace("unmix_", "unmix-"), f"{key}\n"):
        assert not is_key(other)


def test_the_store_has_the_hash_of_a_key_and_never_the_key(keyring: Keyring, store: FileStore) -> None:
    key, text = make(keyring)
    (listed,) = store.list(names.QUEUE_BUCKET)
    data, _ = store.get(listed.name)
    assert listed.name.key == f"access/keys/{hash_of(text)}"
    assert text not in data.decode()
    assert keyring.find(hash_of(text)) == key


def test_a_key_is_found_without_a_walk(keyring: Keyring, store: CountingStore, monkeypatch: pytest.MonkeyPatch) -> None:
    made = [make(keyring, f"key {number}") for number in range(20)]
    store.reads = 0
    monkeypatch.setattr(FileStore, "list", None)
    assert keyring.find(hash_of(made[7][1])) == made[7][0]
    assert store.reads == 1


def test_names_of_keys_that_count_are_different(keyring: Keyring) -> None:
    make(keyring)
    with pytest.raises(InputError) as caught:
        make(keyring)
    assert caught.value.code == "key_name_taken"
    keyring.revoke("anna")
    make(keyring)
    assert [key.name for key in keyring.all()] == ["anna", "anna"]


@pytest.mark.parametrize("name", ["", " anna", "an\nna", "\x1b[2J"])
def test_a_key_has_a_name_that_can_be_printed(keyring: Keyring, name: str) -> None:
    with pytest.raises(InputError) as caught:
        make(keyring, name)
    assert caught.value.code == "bad_key_name"


def test_a_revoked_key_counts_no_more_whatever_is_noted_of_it(keyring: Keyring, clock: Clock) -> None:
    key, text = make(keyring)
    make(keyring, "ben")
    assert [revoked.name for revoked in keyring.revoke(key.key_id)] == ["anna"]
    keyring.note_use(key, "2026-11-29")  # by whoever had read it before
    found = keyring.find(hash_of(text))
    assert found is not None
    assert (found.used_on, found.is_live(clock.now)) == ("2026-11-29", False)
    with pytest.raises(NotFoundError, match=r"no valid key is called .*unmix keys list"):
        keyring.revoke("anna")


def test_revoking_a_name_ends_all_keys_of_it(keyring: Keyring, clock: Clock) -> None:
    make(keyring)
    keyring.rotate("anna", keep_seconds=60)
    assert len(keyring.revoke("anna")) == 2
    assert not [key for key in keyring.all() if key.is_live(clock.now)]


def test_a_key_expires(keyring: Keyring, clock: Clock) -> None:
    key, _ = make(keyring, expires_at=clock.now + 60)
    assert key.is_live(clock.now + 59)
    assert not key.is_live(clock.now + 60)
    assert not replace(key, expires_at="tomorrow").is_live(clock.now)  # nobody knows when that is


def test_a_rotated_key_counts_for_a_while_and_never_longer_than_it_would(keyring: Keyring, clock: Clock) -> None:
    old, old_text = make(keyring)
    new, new_text = keyring.rotate("anna", keep_seconds=3600)
    assert new_text != old_text
    assert (new.scopes, new.tenant, new.name) == (old.scopes, old.tenant, old.name)
    found = keyring.find(old.key_hash)
    assert found is not None
    assert found.is_live(clock.now + 3599)
    assert not found.is_live(clock.now + 3600)
    short, _ = make(keyring, "short", expires_at=clock.now + 10)
    newer, _ = keyring.rotate("short", keep_seconds=3600)
    again = keyring.find(short.key_hash)
    assert again is not None
    assert (again.expires_at, newer.expires_at) == (short.expires_at, short.expires_at)


@pytest.mark.parametrize("damage", [b"", b"{", b"[]", b"{}", b'{"key_hash": 1}', b"\xff"])
def test_a_damaged_document_is_no_key(keyring: Keyring, store: FileStore, damage: bytes) -> None:
    key, _ = make(keyring)
    store.put(names.key_object(key.key_hash), damage)
    assert keyring.find(key.key_hash) is None
    assert keyring.all() == []


def test_a_document_under_another_name_is_no_key(keyring: Keyring, store: FileStore) -> None:
    key, _ = make(keyring)
    store.put(names.key_object("0" * 64), key.to_json())
    assert keyring.find("0" * 64) is None


def test_fields_of_a_later_version_are_kept(keyring: Keyring, store: FileStore) -> None:
    key, _ = make(keyring)
    fields = {**json.loads(key.to_json()), "quota": {"songs": 7}, "scopes": ["read", "conduct"]}
    store.put(names.key_object(key.key_hash), json.dumps(fields).encode())
    keyring.note_use(key, "2026-11-29")
    data, _ = store.get(names.key_object(key.key_hash))
    assert json.loads(data) == {**fields, "used_on": "2026-11-29"}


def test_a_key_that_was_seen_costs_no_read_for_a_while(keyring: Keyring, store: CountingStore, clock: Clock) -> None:
    key, _ = make(keyring)
    keyring.note_use(key, "2026-11-29")
    known = KnownKeys(keyring, clock=clock)
    store.reads = 0
    for _ in range(100):
        assert known.live(key.key_hash) is not None
        assert known.live("0" * 64) is None
    assert store.reads == 2
    keyring.revoke("anna")
    assert known.live(key.key_hash) is not None
    clock.now += KNOWN_SECONDS
    assert known.live(key.key_hash) is None


def test_a_key_expires_while_it_is_remembered(keyring: Keyring, clock: Clock) -> None:
    key, _ = make(keyring, expires_at=clock.now + 2)
    known = KnownKeys(keyring, clock=clock)
    assert known.live(key.key_hash) is not None
    clock.now += 2
    assert known.live(key.key_hash) is None


def test_the_day_of_the_last_use_is_noted_once(keyring: Keyring, store: CountingStore, clock: Clock) -> None:
    key, _ = make(keyring)
    known = KnownKeys(keyring, clock=clock)
    etags = set()
    for _ in range(5):
        known.live(key.key_hash)
        clock.now += KNOWN_SECONDS
        etags.add(store.get(names.key_object(key.key_hash))[1])
    assert len(etags) == 1
    clock.now += 86_400
    known.live(key.key_hash)
    found = keyring.find(key.key_hash)
    assert found is not None
    assert found.used_on == "2026-11-30"


def test_a_store_that_is_away_makes_nobody_of_nobody(keyring: Keyring, store: CountingStore, clock: Clock) -> None:
    key, _ = make(keyring)
    known = KnownKeys(keyring, clock=clock)
    known.live(key.key_hash)
    store.is_away = True
    assert known.live(key.key_hash) is not None
    with pytest.raises(StoreError):
        known.live("0" * 64)
    store.is_away = False
    assert known.live("0" * 64) is None


def test_what_strangers_try_takes_bounded_memory(
    keyring: Keyring, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(keyring, "find", lambda key_hash: None)
    known = KnownKeys(keyring, clock=clock)
    for number in range(MOST_KNOWN + 100):
        known.live(str(number))
    assert len(vars(known)["_known"]) == MOST_KNOWN


def test_a_session_is_what_was_sealed_until_its_time_is_over(store: FileStore) -> None:
    session = Session("a" * 64, 1000)
    text = Seals(store).of_session(session)
    other_process = Seals(store)
    assert other_process.session(text, now=999) == session
    assert other_process.session(text, now=1000) is None
    for forged in (text[:-1], f"{text}x", text.replace(".", ""), "", "x", "é"):
        assert other_process.session(forged, now=0) is None


def test_another_secret_ends_all_sessions(store: FileStore) -> None:
    text = Seals(store).of_session(Session("a" * 64, 1000))
    store.remove(names.access_secret())
    assert Seals(store).session(text, now=0) is None
