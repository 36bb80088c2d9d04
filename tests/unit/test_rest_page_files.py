"""The page's files: who gets them and how, that nothing comes from elsewhere, and that every text is there."""

import gzip
import json
import re
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest

from rest_support import Rest
from unmix.names import SONG_EXTENSIONS
from unmix_rest.routes.ops import HELLO
from unmix_rest.routes.page import CONTENT_SECURITY_POLICY, FILES, TYPES

STATIC = Path(__file__).parents[2] / "rest" / "unmix_rest" / "static"
BROWSER = "text/html,application/xhtml+xml,application/xml;q=0.9,image/avif,*/*;q=0.8"
#: Bytes that one browser may fetch before somebody listens, and in all; each file as browsers get it.
MOST_BEFORE, MOST_IN_ALL = 100_000, 300_000
LANGUAGES = sorted(path.stem for path in (STATIC / "texts").glob("??.js"))


def texts(name: str) -> dict[str, str]:
    """Return the texts of a file of them: each is one line, a key and a string as JSON has them."""
    lines = (STATIC / "texts" / f"{name}.js").read_text().splitlines()
    found: dict[str, str] = {}
    for line in lines:
        if line.startswith("  "):
            ((key, text),) = json.loads("{" + line.strip().removesuffix(",") + "}").items()
            assert key not in found, key
            found[key] = text
    return found


class _Page(HTMLParser):
    """The tags of a page, with what they have."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))


def test_a_browser_gets_the_page(rest: Rest) -> None:
    answer = rest.client.get("/", headers={"Accept": BROWSER})
    assert (answer.status_code, answer.mimetype) == (200, "text/html")
    assert answer.data == (STATIC / "index.html").read_bytes()


@pytest.mark.parametrize(
    "accept", [None, "*/*", "", "text/*", "application/json", "text/html;q=0", "text/html;q=x", "\xff,,;"]
)
def test_whoever_does_not_ask_for_html_by_name_gets_the_hello(rest: Rest, accept: str | None) -> None:
    answer = rest.client.get("/", headers={} if accept is None else {"Accept": accept})
    assert (answer.status_code, answer.mimetype, answer.text) == (200, "text/html", HELLO)
    assert "Accept" in answer.vary


def test_a_callback_that_comes_to_the_root_gets_the_hello(rest: Rest) -> None:
    assert rest.client.post("/", json={"hash": "0"}, headers={"Accept": BROWSER}).text == HELLO


def test_caches_keep_the_page_apart_from_the_hello(rest: Rest) -> None:
    assert "Accept" in rest.client.get("/", headers={"Accept": BROWSER}).vary


def test_everybody_gets_the_page_at_ui(rest: Rest) -> None:
    assert rest.client.get("/ui").data == (STATIC / "index.html").read_bytes()


def test_every_file_is_served_as_what_it_is_and_only_as_that(rest: Rest) -> None:
    paths = [path for path in STATIC.rglob("*") if path.is_file() and path.suffix not in (".md", ".txt")]
    assert {path.relative_to(STATIC).as_posix() for path in paths} == FILES.keys()
    for path in paths:
        answer = rest.client.get(f"/static/{path.relative_to(STATIC).as_posix()}")
        assert answer.status_code == 200
        assert answer.data == path.read_bytes()
        assert answer.mimetype == TYPES[path.suffix.removeprefix(".")]
        assert answer.headers["X-Content-Type-Options"] == "nosniff"
        assert answer.headers["Content-Security-Policy"] == CONTENT_SECURITY_POLICY
        assert answer.headers["Referrer-Policy"] == "no-referrer"


@pytest.mark.parametrize(
    "path", ["", "../app.py", "%2e%2e/app.py", "..%2fapp.py", "etc/passwd", "texts", "app.js%00", "APP.JS", "\xff"]
)
def test_nothing_else_is_served(rest: Rest, path: str) -> None:
    answer = rest.client.get(f"/static/{path}")
    assert (answer.status_code, answer.json["code"]) == (404, "not_found")


def test_a_client_that_has_a_file_is_told_so_and_asks_each_time(rest: Rest) -> None:
    first = rest.client.get("/static/app.js")
    assert first.headers["Cache-Control"] == "no-cache"
    for known in (first.headers["ETag"], f'W/"other", {first.headers["ETag"]}', "*"):
        answer = rest.client.get("/static/app.js", headers={"If-None-Match": known})
        assert (answer.status_code, answer.data, answer.headers["ETag"]) == (304, b"", first.headers["ETag"])
    assert rest.client.get("/static/app.js", headers={"If-None-Match": '"another"'}).status_code == 200


def test_a_client_that_takes_gzip_gets_less_and_the_same(rest: Rest) -> None:
    for path in ("/static/app.js", "/ui"):
        plain = rest.client.get(path, headers={"Accept-Encoding": "identity, gzip;q=0"})
        small = rest.client.get(path, headers={"Accept-Encoding": "gzip, deflate, br"})
        assert "Content-Encoding" not in plain.headers
        assert small.headers["Content-Encoding"] == "gzip"
        assert gzip.decompress(small.data) == plain.data
        assert len(small.data) < len(plain.data) / 1.5
        assert small.mimetype == plain.mimetype
        assert small.headers["ETag"] != plain.headers["ETag"]
        for answer in (plain, small):
            assert "Accept-Encoding" in answer.vary
        again = {"Accept-Encoding": "gzip", "If-None-Match": small.headers["ETag"]}
        assert rest.client.get(path, headers=again).status_code == 304


def test_head_tells_what_get_would(rest: Rest) -> None:
    answer = rest.client.head("/static/app.js")
    assert (answer.status_code, answer.data) == (200, b"")
    assert answer.content_length == len(FILES["app.js"].content)


def test_the_policy_allows_nothing_inline_and_nothing_from_elsewhere() -> None:
    assert CONTENT_SECURITY_POLICY.startswith("default-src 'none'")
    assert not {"'unsafe-inline'", "'unsafe-eval'", "*"} & set(re.split("[; ]+", CONTENT_SECURITY_POLICY))
    assert "http" not in CONTENT_SECURITY_POLICY


def test_the_page_has_nothing_inline() -> None:
    for tag, attributes in _Page(FILES["index.html"].content.decode()).tags:
        assert tag != "style"
        assert tag != "script" or attributes.get("src")
        assert not [name for name in attributes if name == "style" or name.startswith("on")]


def test_what_the_page_loads_is_there() -> None:
    loaded = [
        value
        for _, attributes in _Page(FILES["index.html"].content.decode()).tags
        for name, value in attributes.items()
        if name in ("src", "href")
    ]
    assert {value for value in loaded if value and value.startswith("/static/")} <= {
        f"/static/{file}" for file in FILES
    }
    icons: list[dict[str, Any]] = json.loads(FILES["app.webmanifest"].content)["icons"]
    assert {icon["src"].removeprefix("/static/") for icon in icons} <= FILES.keys()


def test_data_never_becomes_html() -> None:
    for file, read in FILES.items():
        if file.endswith(".js"):
            assert not re.findall(rb"innerHTML|outerHTML|insertAdjacentHTML|document\.write|\beval\(", read.content), (
                file
            )


def test_the_page_is_light() -> None:
    others = tuple(f"{language}.js" for language in LANGUAGES if language != "en")
    sizes = {file: len(read.gzipped) for file, read in FILES.items() if not file.endswith(others)}
    later = ("player/", "texts/player.")  # when a song is sent
    assert sum(size for file, size in sizes.items() if not file.startswith(later)) <= MOST_BEFORE
    assert sum(sizes.values()) <= MOST_IN_ALL


def test_every_language_has_the_same_texts_with_the_same_places() -> None:
    assert len(LANGUAGES) > 1
    named = re.search(r"LANGUAGES = \[(.*?)\]", (STATIC / "texts.js").read_text())
    assert named
    assert sorted(re.findall(r'"(\w+)"', named[1])) == LANGUAGES
    for prefix in {path.stem.rpartition(".")[0] for path in (STATIC / "texts").glob("*.js")}:
        files = [f"{prefix}.{language}".removeprefix(".") for language in LANGUAGES]
        places = [{key: set(re.findall(r"\{\w+\}", text)) for key, text in texts(file).items()} for file in files]
        assert all(each == places[0] for each in places)


def test_every_text_that_the_page_names_is_there_and_none_is_left_over() -> None:
    known = texts("en")
    sources = "\n".join(path.read_text() for path in (*STATIC.glob("*.js"), STATIC / "index.html"))
    named = set(re.findall(r'(?:texts\(|data-text=|data-label=)"([\w.]+)"', sources))
    assert named <= known.keys()
    # Keys such as `error.…` are put together with what the server says.
    made = tuple(re.findall(r"`([a-z.]+)\.\$\{", sources))
    quoted = set(re.findall(r'"([a-z]+\.\w+)"', sources))
    assert not {key for key in known if key not in named | quoted and not key.startswith(made)}


def test_the_page_knows_every_name_of_a_song_that_we_know() -> None:
    (pattern,) = re.findall(r"SONG_NAMES =\s+/(.+)/i;", (STATIC / "files.js").read_text())
    assert [each for each in SONG_EXTENSIONS if not re.search(pattern, f"song.{each}")] == []
    assert not re.search(pattern, "cover.jpg")
