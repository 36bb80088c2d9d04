"""What strangers send to the newer routes is answered as an error of theirs: never 500, and nothing is stored."""

from urllib.parse import quote

import pytest

from rest_support import SONG, Rest

#: Bodies of which none is a request: the rows of "Bad input" that concern JSON.
BODIES: tuple[bytes, ...] = (
    *(b"", b"{", b"[]", b'"text"', b"null", b"17", b'{"file": "AAAA"} {}', b'{"file": NaN}', b'{"file": 1e999}'),
    *(b'{"file": "AA\xffAA"}', b'{"file": "\\ud800"}', b'{"file": "A", "file": "B"}', b"[" * 100_000),
    *(b'{"file": ' + b"9" * 5000 + b"}", b'{"file": ' + b"[" * 20_000 + b"]" * 20_000 + b"}", b"{}"),
)
TEXTS = ("", "%00", "../..", "\u202e\u0000", "-1", "9" * 400, "1e9", "<script>", "💥" * 500, "a" * 9000, "'\"\\")
JOB = "0" * 64


@pytest.mark.parametrize("content_type", ["application/json", "audio/mpeg", "multipart/form-data; boundary=b", "x/y"])
@pytest.mark.parametrize("path", ["/apiv1/jobs", "/apiv1/separate", "/apiv1/uploads"])
def test_bodies_that_are_no_request(rest: Rest, path: str, content_type: str) -> None:
    for body in BODIES:
        answer = rest.client.post(path, data=body, content_type=content_type)
        assert 200 <= answer.status_code < 500, (body[:40], answer.text)
    assert not [name for name in rest.stored() if "uploads/" not in name]


@pytest.mark.parametrize(
    "path",
    [
        *("/apiv1/jobs?status={}", "/apiv1/jobs?limit={}", "/apiv1/jobs?label={}", "/apiv1/jobs?name={}"),
        *("/apiv1/jobs?before={}", "/apiv1/jobs?batch={}", "/apiv1/queue?offset={}", "/apiv1/failed?limit={}"),
        *("/apiv1/jobs/{}", "/apiv1/jobs/{}/events", "/apiv1/jobs/{}/stems.zip", "/apiv1/jobs/{}/peaks"),
        *(
            f"/apiv1/jobs/{JOB}?wait={{}}",
            f"/apiv1/jobs/{JOB}/parts?offset={{}}",
            f"/apiv1/jobs/{JOB}/parts/{{}}/vocals",
        ),
        *(f"/apiv1/jobs/{JOB}/parts/0/{{}}", "/apiv1/uploads/{}", "/apiv1/models?x={}"),
    ],
)
def test_urls_with_anything_in_them(rest: Rest, path: str) -> None:
    for text in TEXTS:
        for headers in ({}, {"Range": "bytes=a-", "If-None-Match": "\xff", "Prefer": "wait=\xb2", "Origin": "\xff"}):
            answer = rest.client.get(path.format(quote(text, safe="")), headers=headers)
            assert answer.status_code < 500, (text, answer.text)


@pytest.mark.parametrize("said", ["bytes */*", "bytes 0-0/9" + "9" * 400, "bytes -1-5/9", "\xff", "bytes 5-1/9", ""])
def test_ranges_of_pieces_that_are_none(rest: Rest, said: str) -> None:
    url = rest.client.post("/apiv1/uploads").json["url"]
    answer = rest.client.open(url, method="PUT", data=SONG[:9], headers={"Content-Range": said})
    assert answer.status_code < 500
