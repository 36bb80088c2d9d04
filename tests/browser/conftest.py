"""A real browser on the page of a running `unmix local`. What goes wrong in the page unseen fails the test too.

The browser is the machine's own, Debian's Chromium or a relative of it; Playwright brings only what drives it.
"""

import os
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from playwright.sync_api import Browser, ConsoleMessage, Page, expect, sync_playwright

from local_mode import LocalMode
from programs import program
from support import PATIENCE_SECONDS

BROWSERS = ("chromium", "chromium-browser", "google-chrome")
#: The sandbox needs rights that containers lack; what is played may begin without a click, as nobody is there.
ARGUMENTS = ["--no-sandbox", "--autoplay-policy=no-user-gesture-required"]
#: In the place of the player, which has tests of its own: shows and keeps what it is told.
PLAYER = """
window.heard = [];
export function mountPlayer(element, job, {api, texts}) {
  const button = Object.assign(document.createElement("button"), {textContent: "Play it"});
  const told = Object.assign(document.createElement("p"), {className: "told"});
  const update = (view) => {
    told.textContent = `${view.status} ${view.parts?.there ?? 0}/${view.parts?.count ?? 0}`;
    heard.push(told.textContent);
  };
  element.append(button, told);
  update(job);
  return {update, destroy() { element.dataset.destroyed = "yes"; }};
}
"""
#: Keeps what the policy has forbidden, and each text of the states that songs went through.
NOTES = """
window.violations = [];
addEventListener("securitypolicyviolation", ({violatedDirective, blockedURI}) => {
  violations.push(`${violatedDirective} ${blockedURI}`);
});
window.states = [];
new MutationObserver(() => {
  for (const {textContent} of document.querySelectorAll(".state")) {
    if (states.at(-1) !== textContent) states.push(textContent);
  }
}).observe(document, {subtree: true, childList: true, characterData: true});
"""

expect.set_options(timeout=PATIENCE_SECONDS * 1000)


@pytest.fixture(scope="session")
def browser() -> Iterator[Browser]:
    """A browser without a window."""
    path = program(*BROWSERS, package="chromium")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=path, args=ARGUMENTS, env={**os.environ})
        yield browser
        browser.close()


@pytest.fixture(scope="session")
def local(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalMode]:
    """One running service for all tests of the page; each sends songs of its own."""
    service = LocalMode(tmp_path_factory.mktemp("browser"))
    service.start(UNMIX_MAX_UPLOAD_MB="6", UNMIX_PARTS_LEAST_SECONDS="12")
    yield service
    service.stop()


@pytest.fixture
def open_page(browser: Browser, local: LocalMode) -> Iterator[Callable[..., Page]]:
    """Open the page as somebody who was never there, with the player or without; options are of a browser's context."""
    pages: list[Page] = []
    wrong: list[str] = []

    def note(message: ConsoleMessage) -> None:
        # What the service refuses is told here too.
        if message.type == "error" and not message.text.startswith("Failed to load resource"):
            wrong.append(message.text)

    def open_it(*, has_player: bool = False, **options: Any) -> Page:
        page = browser.new_context(
            **{"locale": "en-US", "viewport": {"width": 1100, "height": 900}, **options}
        ).new_page()
        pages.append(page)
        page.set_default_timeout(PATIENCE_SECONDS * 1000)
        page.on("console", note)
        page.on("pageerror", lambda error: wrong.append(str(error)))
        page.add_init_script(NOTES)
        if not has_player:
            put_in_place_of_player(page)
        page.goto(local.url)
        return page

    yield open_it
    for page in pages:
        wrong += page.evaluate("violations")
        page.unroute_all(behavior="ignoreErrors")  # what a route still does would fail in the next test
        page.context.close()
    assert wrong == []


def put_in_place_of_player(page: Page) -> None:
    """Have the page load what only shows what a player is told."""
    script, style = "text/javascript", "text/css"
    page.route("**/player/player.js", lambda route: route.fulfill(body=PLAYER, content_type=script))
    page.route("**/player/player.css", lambda route: route.fulfill(body="", content_type=style))
    page.route("**/texts/player.*.js", lambda route: route.fulfill(body="export default {}", content_type=script))


@pytest.fixture
def page(open_page: Callable[..., Page]) -> Page:
    return open_page()
