"""Who is served without a key: where REST may listen, and by which names it is known."""

import pytest

from unmix.access.exposure import KnownHosts, check_exposure, is_loopback
from unmix.errors import InputError

OURS = frozenset({"studio.example.org"})


@pytest.mark.parametrize("host", ["127.0.0.1", "127.8.9.1", "::1", "localhost"])
def test_on_loopback_it_serves_whoever_comes(host: str) -> None:
    assert is_loopback(host)
    check_exposure(host, behind_proxy=False, needs_key=False, is_open=False)


@pytest.mark.parametrize(
    "host", ["0.0.0.0", "::", "192.168.1.7", "", "*", "studio.example.org", "localhost.example.org"]
)
def test_elsewhere_it_wants_keys_or_a_word(host: str) -> None:
    with pytest.raises(InputError, match=r"UNMIX_AUTH=keys .* UNMIX_OPEN=yes") as caught:
        check_exposure(host, behind_proxy=False, needs_key=False, is_open=False)
    assert caught.value.code == "exposed"
    check_exposure(host, behind_proxy=False, needs_key=True, is_open=False)
    check_exposure(host, behind_proxy=False, needs_key=False, is_open=True)


def test_a_proxy_before_it_lets_others_in_too() -> None:
    with pytest.raises(InputError, match=r"behind a proxy .* UNMIX_AUTH=keys .* UNMIX_OPEN=yes") as caught:
        check_exposure("127.0.0.1", behind_proxy=True, needs_key=False, is_open=False)
    assert caught.value.code == "exposed"
    check_exposure("127.0.0.1", behind_proxy=True, needs_key=True, is_open=False)
    check_exposure("127.0.0.1", behind_proxy=True, needs_key=False, is_open=True)


@pytest.mark.parametrize(
    "said",
    [
        *("localhost", "localhost:5000", "LOCALHOST:5000", "localhost.", "unmix.localhost:5000"),
        *("127.0.0.1", "127.0.0.1:5000", "[::1]", "[::1]:5000", "studio.example.org", "Studio.Example.Org:443"),
    ],
)
def test_it_is_known_by_names_that_are_its_own(said: str) -> None:
    assert KnownHosts(OURS, is_open=False).has(said)


@pytest.mark.parametrize(
    "said",
    [
        *("evil.example", "evil.example:5000", "localhost.evil.example", "studio.example.org.evil.example", "rest"),
        *("127.0.0.1.evil.example", "127.0.0.1, evil.example", "localhost@evil.example", "x.studio.example.org"),
        *("", " ", ":5000", "[::1", "[evil.example]", "http://localhost", "2130706433", "0x7f.1", "localhost:5000:1"),
    ],
)
@pytest.mark.parametrize("is_open", [False, True])
def test_it_is_not_known_by_what_a_page_elsewhere_can_be_called(said: str, is_open: bool) -> None:
    assert not KnownHosts(OURS, is_open=is_open).has(said)


@pytest.mark.parametrize("said", ["192.168.1.7:5000", "8.8.8.8", "0.0.0.0:5000", "[fe80::1]:5000"])
def test_an_open_service_is_known_by_addresses_too(said: str) -> None:
    assert KnownHosts(OURS, is_open=True).has(said)
    assert not KnownHosts(OURS, is_open=False).has(said)


def test_a_star_stands_for_any_name() -> None:
    assert KnownHosts({"*"}, is_open=False).has("evil.example")
