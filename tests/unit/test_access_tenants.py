"""Whose an id is: told by the id alone, by whoever has the tenant's secret, and by nobody else."""

import re

import pytest

from support import song_hash_number
from unmix import names
from unmix.access.keyring import Keyring
from unmix.access.tenants import MainIds, SecretIds, TenantIds, Tenants
from unmix.errors import InputError
from unmix.store.file import FileStore

SONG = song_hash_number(1)
MAIN, CHOIR, BAND = MainIds(), SecretIds(b"1" * 64), SecretIds(b"2" * 64)
ALL: list[TenantIds] = [MAIN, CHOIR, BAND]


def test_the_main_tenants_songs_are_called_by_their_hash() -> None:
    assert MAIN.of_song(SONG) == SONG


def test_every_tenant_has_an_id_of_its_own_for_a_song_and_always_the_same() -> None:
    assert len({ids.of_song(SONG) for ids in ALL}) == len(ALL)
    assert CHOIR.of_song(SONG) == SecretIds(b"1" * 64).of_song(SONG)
    assert CHOIR.of_song(SONG) != CHOIR.of_song(song_hash_number(2))


@pytest.mark.parametrize("ids", ALL)
def test_a_tenant_knows_its_own_ids_and_no_others(ids: TenantIds) -> None:
    for maker in ALL:
        for made in (maker.of_song(SONG), maker.drawn()):
            assert names.is_job_id(made)
            assert ids.have(made) == ids.have(f"{made}.0123abcd") == (ids is maker)
        upload_id = maker.new_upload(1_800_000_000)
        assert names.is_upload_id(upload_id)
        assert names.upload_ends_at(upload_id) == 1_800_000_000
        assert ids.have_upload(upload_id) == (ids is maker)


def test_an_id_that_was_changed_in_any_place_is_not_the_tenants() -> None:
    made, upload_id = CHOIR.of_song(SONG), CHOIR.new_upload(1_800_000_000)
    for place in range(len(made)):
        assert not CHOIR.have(made[:place] + ("1" if made[place] == "0" else "0") + made[place + 1 :])
    for place in (place for place, digit in enumerate(upload_id) if digit != "-"):
        changed = upload_id[:place] + ("1" if upload_id[place] == "0" else "0") + upload_id[place + 1 :]
        assert not CHOIR.have_upload(changed)
    assert not CHOIR.have_upload(upload_id[:43])


def test_whose_a_job_is_can_be_presumed_of_the_main_tenants_only() -> None:
    assert names.presumed_tenant(MAIN.of_song(SONG)) == names.MAIN_TENANT
    assert names.presumed_tenant(CHOIR.of_song(SONG)) == names.UNKNOWN_TENANT
    assert not names.is_tenant(names.UNKNOWN_TENANT)


def test_a_secret_is_made_with_the_first_key_and_stays(store: FileStore) -> None:
    keyring = Keyring(store)
    keyring.create("anna", scopes=("read",), tenant="choir")
    secret = store.get(names.tenant_secret("choir"))[0]
    assert re.fullmatch(rb"[0-9a-f]{64}", secret)
    keyring.create("ben", scopes=("read",), tenant="choir")
    keyring.rotate("anna", keep_seconds=0)
    assert store.get(names.tenant_secret("choir"))[0] == secret
    assert Tenants(store).ids("choir").of_song(SONG) == Tenants(store).ids("choir").of_song(SONG)
    assert Tenants(store).ids("band").of_song(SONG) != Tenants(store).ids("choir").of_song(SONG)
    assert secret.decode() not in repr(Tenants(store).ids("choir"))


def test_the_main_tenant_needs_no_secret(store: FileStore) -> None:
    Keyring(store).create("anna", scopes=("read",), tenant="main")
    assert Tenants(store).ids("main").of_song(SONG) == SONG
    assert list(store.list(names.QUEUE_BUCKET, "access/tenants/")) == []


@pytest.mark.parametrize("tenant", ["", "Choir", "a/b", "..", "a b", "-a", "a" * 64, "ä", "a\n", "a:b"])
def test_what_no_tenant_can_be_called_is_refused(store: FileStore, tenant: str) -> None:
    with pytest.raises(InputError) as caught:
        Keyring(store).create("anna", scopes=("read",), tenant=tenant)
    assert caught.value.code == "bad_tenant"
    assert list(store.list(names.QUEUE_BUCKET)) == []
