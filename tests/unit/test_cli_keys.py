"""`unmix keys`: made, listed, rotated and revoked in the store that the settings name."""

from pathlib import Path

import pytest

from command_line import unmix
from unmix.access.keyring import Keyring
from unmix.access.keys import hash_of, is_key
from unmix.store.file import FileStore


@pytest.fixture
def keyring(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Keyring:
    monkeypatch.setenv("UNMIX_STORE_URL", f"file://{tmp_path}/store")
    return Keyring(FileStore(tmp_path / "store"))


def made(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    """Run a command that makes a key, and return the key: all that it prints on standard output."""
    assert unmix("keys", *arguments) == 0
    key = capsys.readouterr().out.strip()
    assert is_key(key)
    return key


def test_a_key_is_shown_when_it_is_made_and_never_again(keyring: Keyring, capsys: pytest.CaptureFixture[str]) -> None:
    key = made(capsys, "create", "anna", "--tenant", "choir", "--days", "2")
    found = keyring.find(hash_of(key))
    assert found is not None
    assert (found.name, found.tenant, found.scopes) == ("anna", "choir", ("submit", "read", "delete"))
    assert found.expires_at is not None
    assert unmix("keys", "list") == 0
    listed = capsys.readouterr().out
    assert key not in listed
    assert f"{found.key_id}  anna  tenant choir  submit,read,delete  counts" in listed
    assert "never used" in listed


def test_a_key_has_the_scopes_that_are_named(keyring: Keyring, capsys: pytest.CaptureFixture[str]) -> None:
    found = keyring.find(hash_of(made(capsys, "create", "prometheus", "--scopes", "admin, admin")))
    assert found is not None
    assert found.scopes == ("admin",)
    for wrong in ("conduct", "read,public", "", ","):
        assert unmix("keys", "create", "ben", "--scopes", wrong) == 1
        assert "(unknown_scope)" in capsys.readouterr().err
    assert len(keyring.all()) == 1


def test_a_key_is_rotated_and_revoked_by_its_name_or_id(keyring: Keyring, capsys: pytest.CaptureFixture[str]) -> None:
    old = made(capsys, "create", "anna")
    new = made(capsys, "rotate", hash_of(old)[:12], "--keep-hours", "0")
    assert unmix("keys", "list") == 0
    states = {line.split()[0]: line for line in capsys.readouterr().out.splitlines()}
    assert "  expired  " in states[hash_of(old)[:12]]
    assert "  counts  " in states[hash_of(new)[:12]]
    assert unmix("keys", "revoke", "anna") == 0
    assert "  revoked  " in capsys.readouterr().out
    assert unmix("keys", "revoke", "anna") == 1
    assert "(no_such_key)" in capsys.readouterr().err
    assert unmix("keys", "rotate", "anna") == 1


def test_two_keys_of_one_name_are_not_made(keyring: Keyring, capsys: pytest.CaptureFixture[str]) -> None:
    made(capsys, "create", "anna")
    assert unmix("keys", "create", "anna") == 1
    assert "(key_name_taken)" in capsys.readouterr().err
