"""The page of a service that wants keys: it asks for one, goes on with what was refused, and forgets it again."""

from collections.abc import Callable, Iterator

import pytest
import requests
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Page, expect

from local_mode import LocalMode
from page_support import choose, song, wait_until_ready
from support import PATIENCE_SECONDS
from unmix.access.keyring import Keyring
from unmix.access.keys import USUAL
from unmix.store.file import FileStore


@pytest.fixture(scope="module")
def local(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalMode]:
    service = LocalMode(tmp_path_factory.mktemp("keys"))
    service.start(UNMIX_AUTH="keys")
    yield service
    service.stop()


@pytest.fixture
def key(local: LocalMode, request: pytest.FixtureRequest) -> str:
    """A key that is called as the test is."""
    keyring = Keyring(FileStore(local.data_dir / "store"))
    return keyring.create(request.node.name, scopes=USUAL, tenant="main")[1]


def sign_in(page: Page, key: str) -> None:
    page.get_by_label("Your key").fill(key)
    page.get_by_role("button", name="Sign in").click()


def test_the_page_asks_for_a_key_and_then_does_what_it_always_does(
    page: Page, key: str, request: pytest.FixtureRequest
) -> None:
    expect(page.get_by_role("heading", name="Sign in")).to_be_visible()
    expect(page.get_by_role("button", name="Choose songs")).to_be_hidden()
    sign_in(page, key)
    expect(page.get_by_text(f"Signed in as {request.node.name}.")).to_be_visible()
    choose(page, song("With a key.wav", 900))
    wait_until_ready(page, "With a key")
    page.reload()
    wait_until_ready(page, "With a key")
    expect(page.get_by_role("heading", name="Sign in")).to_be_hidden()
    assert key not in page.evaluate("document.cookie + JSON.stringify(localStorage)")
    page.get_by_role("button", name="Sign out").click()
    expect(page.get_by_role("heading", name="Sign in")).to_be_visible()


def test_a_wrong_key_is_refused_in_words(page: Page) -> None:
    sign_in(page, "unmix_wrong")
    expect(page.get_by_role("alert").filter(has_text="no key of this server")).to_be_visible()
    expect(page.get_by_role("button", name="Sign in")).to_be_visible()


def test_a_song_that_was_refused_goes_when_somebody_signs_in_again(page: Page, key: str) -> None:
    sign_in(page, key)
    expect(page.get_by_role("button", name="Choose songs")).to_be_visible()
    page.context.clear_cookies()
    choose(page, song("Late.wav", 901))
    expect(page.get_by_role("heading", name="Sign in")).to_be_visible()
    sign_in(page, key)
    wait_until_ready(page, "Late")


def test_a_song_is_shared_with_somebody_who_has_no_key(open_page: Callable[..., Page], key: str) -> None:
    page = open_page()
    sign_in(page, key)
    choose(page, song("Shared.wav", 902))
    wait_until_ready(page, "Shared")
    page.get_by_role("button", name="Share: Shared").click()
    link = page.get_by_label("Link to all downloads of Shared")
    expect(link).to_be_focused()
    url = link.input_value()
    downloaded = requests.get(url, timeout=PATIENCE_SECONDS)
    assert (downloaded.status_code, downloaded.content[:2]) == (200, b"PK")
    assert requests.get(url.partition("?")[0], timeout=PATIENCE_SECONDS).status_code == 401
    found = Axe().run(page)
    assert found.violations_count == 0, found.generate_report()


def test_axe_finds_nothing_where_a_key_is_asked_for(open_page: Callable[..., Page], key: str) -> None:
    page = open_page(locale="de-DE")
    expect(page.get_by_role("heading", name="Anmelden")).to_be_visible()
    found = Axe().run(page)
    assert found.violations_count == 0, found.generate_report()
