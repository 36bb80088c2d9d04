"""The form of the page: its weight in words, phone width, keyboard, languages, and what assistive programs need."""

from collections.abc import Callable

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import FilePayload, Page, expect

from page_support import card, choose, song, wait_until_ready

PHONE = {"width": 375, "height": 700}
TEXT: FilePayload = {"name": "A text.txt", "mimeType": "text/plain", "buffer": b"no music " * 100}


def fill(page: Page, seed: int) -> None:
    """Show one card of each kind that looks different."""
    choose(page, song(f"{'Averyveryverylongname' * 6}.wav", seed), TEXT)
    expect(page.locator(".downloads a").first).to_be_visible()
    expect(page.locator("[data-tone=bad]")).to_be_visible()
    page.locator("#options summary").click()


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_axe_finds_nothing(open_page: Callable[..., Page], scheme: str) -> None:
    page = open_page(color_scheme=scheme)
    fill(page, 300)
    found = Axe().run(page)
    assert found.violations_count == 0, found.generate_report()


def test_a_phone_shows_everything_without_scrolling_sideways(open_page: Callable[..., Page]) -> None:
    page = open_page(viewport=PHONE, has_touch=True)
    fill(page, 301)
    assert page.evaluate("document.documentElement.scrollWidth") == PHONE["width"]
    boxes = [
        each.bounding_box() for each in page.locator("button:visible, a:visible, input:visible, select:visible").all()
    ]
    assert all(box and box["x"] >= 0 and box["x"] + box["width"] <= PHONE["width"] for box in boxes)


def test_buttons_are_large_enough_for_fingers(open_page: Callable[..., Page]) -> None:
    page = open_page(viewport=PHONE)
    fill(page, 302)
    for button in page.locator("button:visible, .downloads a, select:visible").all():
        box = button.bounding_box()
        assert box
        assert box["height"] >= 40


def test_everything_can_be_done_by_keyboard(page: Page) -> None:
    def tab_to(name: str) -> None:
        for _ in range(40):
            page.keyboard.press("Tab")
            if page.evaluate("document.activeElement.ariaLabel ?? document.activeElement.textContent").startswith(name):
                return
        raise AssertionError(f"Tab does not lead to {name}")

    with page.expect_file_chooser() as chooser:  # it takes a moment until the browser knows that one is expected
        tab_to("Choose songs")
        assert page.evaluate("getComputedStyle(document.activeElement).outlineStyle") == "solid"
        page.keyboard.press("Enter")
    chooser.value.set_files([song("By hand.wav", 303)])
    wait_until_ready(page, "By hand")
    tab_to("Close player")
    page.keyboard.press("Enter")
    page.keyboard.press("Enter")
    expect(page.get_by_role("button", name="Play it")).to_be_visible()
    tab_to("Rename")
    page.keyboard.press("Enter")
    page.keyboard.type("By keys")
    page.keyboard.press("Enter")
    expect(card(page, "By keys").get_by_role("button", name="Rename")).to_be_focused()
    tab_to("Delete")
    page.keyboard.press("Enter")
    page.keyboard.press("Enter")
    expect(card(page, "By keys")).to_have_count(0)
    expect(page.get_by_role("heading", name="Your songs")).to_be_focused()


def test_progress_is_told_politely_and_not_each_per_cent(page: Page) -> None:
    choose(page, song("Told.wav", 304))
    wait_until_ready(page, "Told")
    said = page.locator("#said")
    expect(said).to_have_attribute("aria-live", "polite")
    assert "%" not in said.inner_text()
    assert "Told is ready." in said.inner_text()


def test_the_page_speaks_the_language_of_whoever_looks(open_page: Callable[..., Page]) -> None:
    page = open_page(locale="de-AT")
    expect(page.get_by_role("button", name="Lieder wählen")).to_be_visible()
    assert page.evaluate("document.documentElement.lang") == "de"
    page.locator("#files").set_input_files([song("Lied.wav", 305)])
    expect(card(page, "Lied").locator(".state")).to_have_text("Fertig")
    assert card(page, "Lied").locator(".downloads a").all_inner_texts()[0] == "Gesang"


def test_who_reads_another_language_gets_english(open_page: Callable[..., Page]) -> None:
    expect(open_page(locale="fr-FR").get_by_role("button", name="Choose songs")).to_be_visible()


def test_nothing_is_asked_of_others(open_page: Callable[..., Page]) -> None:
    page = open_page()
    asked: list[str] = []
    page.on("request", lambda request: asked.append(request.url))
    page.reload()
    expect(page.locator("#options-summary")).not_to_be_empty()
    assert asked
    assert {url.split("/")[2] for url in asked} == {page.url.split("/")[2]}


def test_the_page_works_where_nothing_may_be_kept(open_page: Callable[..., Page]) -> None:
    page = open_page()
    page.add_init_script("Object.defineProperty(window, 'localStorage', {get() { throw new Error('no'); }})")
    page.reload()
    choose(page, song("Forgotten.wav", 306))
    wait_until_ready(page, "Forgotten")


def test_what_is_kept_may_be_damaged(open_page: Callable[..., Page]) -> None:
    page = open_page()
    for kept in ('{"a": 1}', "[null, 3, {}]", "no json", '"text"'):
        page.evaluate(
            "(kept) => ['songs', 'batch', 'choice'].forEach((name) => localStorage.setItem(`unmix.${name}`, kept))",
            kept,
        )
        page.reload()
        expect(page.get_by_text("No songs yet.")).to_be_visible()
