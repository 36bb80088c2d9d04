"""Which servers clients may make this service ask, by the looks of a URL: for callbacks, and for songs."""

import pytest

from unmix.errors import InputError
from unmix.outbound.address import Guard, host_of


@pytest.mark.parametrize(
    "url",
    [
        "http://169.254.169.254/latest/meta-data/",
        "http://localhost:5000",
        "localhost:5000",
        "http://LOCALHOST./",
        "http://127.0.0.1/",
        "http://127.1:80/",
        "http://2130706433/",
        "http://0x7f.1/",
        "http://017700000001/",
        "http://0/",
        "http://0.0.0.0/",
        "http://10.0.0.1/",
        "http://172.16.5.5/",
        "http://192.168.1.1/",
        "http://100.64.0.1/",
        "http://192.0.0.192/",
        "http://168.63.129.16/?comp=versions",
        "http://[::ffff:192.0.0.192]/",
        "http://[v1.a]/",
        "http://example.com:0/",
        "http://224.0.0.1/",
        "http://255.255.255.255/",
        "http://[::1]/",
        "http://[::]/",
        "http://[fc00::1]/",
        "http://[fe80::1]/",
        "http://[fe80::1%25eth0]/",
        "http://[::ffff:127.0.0.1]/",
        "http://[::ffff:7f00:1]/",
        "http://[::127.0.0.1]/",
        "http://[64:ff9b::7f00:1]/",
        "http://[2002:7f00:1::]/",
        "http://①②⑦.⓪.⓪.①/",
        "http://redis:6379/",
        "http://rest-service/",
        "http://rest.default.svc/",
        "http://redis.track-unmix.svc.cluster.local:6379/",
        "http://metadata.google.internal/",
        "http://printer.local/",
        "http://user:secret@example.com/",
        "http://example.com@127.0.0.1/",
        "http://example.com/\r\nX-Evil: 1",
        "http://example.com/ GET",
        "http://example.com\\@127.0.0.1/",
        "http://example.com:99999/",
        "http:///path",
        "http://",
        "",
        "http://example.com/" + "a" * 3000,
    ],
    ids=lambda url: url[:40],
)
def test_places_where_nobody_is_called(url: str) -> None:
    with pytest.raises(InputError) as caught:
        Guard("callback", "").check(url)
    assert caught.value.code == "callback_forbidden"


@pytest.mark.parametrize(
    "url", ["gopher://example.com/", "file:///etc/passwd", "ftp://example.com/", "gopher:x", "javascript:alert(1)"]
)
def test_schemes_that_are_not_spoken(url: str) -> None:
    with pytest.raises(InputError) as caught:
        Guard("callback", "").check(url)
    assert caught.value.code == "callback_scheme"


@pytest.mark.parametrize(
    ("url", "called"),
    [
        ("http://example.com/done?a=b", "http://example.com/done?a=b"),
        ("https://example.com:8443", "https://example.com:8443"),
        ("example.com/done", "http://example.com/done"),
        ("example.com:8080/done", "http://example.com:8080/done"),
        ("http://93.184.215.14/", "http://93.184.215.14/"),
        ("http://[::ffff:93.184.215.14]/", "http://[::ffff:93.184.215.14]/"),
        ("http://[2606:2800:21f:cb07::1]:80/", "http://[2606:2800:21f:cb07::1]:80/"),
    ],
)
def test_places_in_the_open_internet(url: str, called: str) -> None:
    assert Guard("callback", "").check(url) == called


@pytest.mark.parametrize(
    ("allow", "url"),
    [
        ("127.0.0.1", "http://127.0.0.1:5000/"),
        ("10.0.0.0/8, hooks.svc", "http://10.9.8.7/"),
        ("10.0.0.0/8, hooks.svc", "http://hooks.svc/"),
        ("LOCALHOST", "http://localhost:5000/"),
        ("fd00::/8", "http://[fd00::5]/"),
    ],
)
def test_an_operator_may_name_private_places(allow: str, url: str) -> None:
    assert Guard("callback", allow).check(url)
    with pytest.raises(InputError):
        Guard("callback", allow).check("http://192.168.0.1/")


@pytest.mark.parametrize(
    ("host", "urls"),
    [
        (
            "example.com",
            ["example.com", "http://EXAMPLE.com./a?b", "https://example.com:8443/", "http://example.com./"],
        ),
        ("93.184.215.14", ["http://93.184.215.14:1/", "http://1572394766/", "http://[::ffff:93.184.215.14]/"]),
        ("2606:2800::1", ["http://[2606:2800::1]/", "http://[2606:2800:0:0::0001]:80/"]),
        ("", ["http://", "gopher://example.com/", "http://a b/"]),
    ],
)
def test_however_a_host_is_spelled_it_is_counted_as_one(host: str, urls: list[str]) -> None:
    assert {host_of(url) for url in urls} == {host}
