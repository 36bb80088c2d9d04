"""The page with its player, on songs of the real service: what assistive programs need, and everything by keyboard."""

from collections.abc import Callable

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Page, expect

from page_support import LONG_SECONDS, card, choose, song, wait_until_ready

DESKTOP = {"width": 1100, "height": 900}
PHONE = {"width": 375, "height": 700}


def open_done(open_page: Callable[..., Page], seed: int, **options: object) -> Page:
    """Open the page with a song that is done, and its player with all that can be shown."""
    page = open_page(has_player=True, **options)
    choose(page, song("Evening song.wav", seed))
    wait_until_ready(page, "Evening song")
    page.get_by_role("button", name="Karaoke", exact=True).wait_for()
    page.locator(".player-more summary").click()
    return page


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("viewport", [DESKTOP, PHONE], ids=["desktop", "phone"])
def test_axe_finds_nothing_in_a_song_that_is_played(
    open_page: Callable[..., Page], scheme: str, viewport: dict[str, int]
) -> None:
    page = open_done(open_page, 400, color_scheme=scheme, viewport=viewport)
    page.get_by_role("button", name="Karaoke", exact=True).click()
    page.get_by_role("button", name="Loop", exact=True).click()
    found = Axe().run(page)
    assert found.violations_count == 0, found.generate_report()
    page.get_by_role("button", name="Keys", exact=True).click()
    found = Axe().run(page)
    assert found.violations_count == 0, found.generate_report()


def test_a_phone_shows_the_player_without_scrolling_sideways(open_page: Callable[..., Page]) -> None:
    page = open_done(open_page, 401, viewport=PHONE, has_touch=True)
    assert page.evaluate("document.documentElement.scrollWidth") == PHONE["width"]
    for control in page.locator(".player button:visible, .player summary, .player input:visible").all():
        box = control.bounding_box()
        assert box
        assert box["x"] >= 0
        assert box["x"] + box["width"] <= PHONE["width"]
        assert box["height"] >= 40 or control.get_attribute("type") == "checkbox"


def test_from_a_song_to_karaoke_a_loop_and_a_file_by_keyboard_only(open_page: Callable[..., Page]) -> None:
    page = open_page(has_player=True)

    def tab_to(name: str) -> None:
        for _ in range(60):
            page.keyboard.press("Tab")
            said = page.evaluate("document.activeElement.ariaLabel ?? document.activeElement.textContent")
            if said.startswith(name):
                assert page.evaluate("getComputedStyle(document.activeElement).outlineStyle") == "solid"
                return
        raise AssertionError(f"Tab does not lead to {name}")

    with page.expect_file_chooser() as chooser:
        tab_to("Choose songs")
        page.keyboard.press("Enter")
    chooser.value.set_files([song("By hand.wav", 402, seconds=8)])
    wait_until_ready(page, "By hand")
    tab_to("Karaoke")
    page.keyboard.press("Enter")
    expect(page.get_by_role("button", name="Mute Vocals")).to_have_attribute("aria-pressed", "true")
    expect(page.get_by_role("button", name="Pause", exact=True)).to_be_visible()
    page.keyboard.press("l")
    expect(page.get_by_role("button", name="Loop", exact=True)).to_have_attribute("aria-pressed", "true")
    tab_to("Speed and pitch")
    page.keyboard.press("Enter")
    tab_to("Save the mix as flac")
    with page.expect_download() as download:
        page.keyboard.press("Enter")
    assert download.value.suggested_filename == "By hand - mix.flac"
    expect(card(page, "By hand").get_by_role("button", name="Save the mix as flac")).to_be_focused()


def test_the_player_stays_where_it_is_when_its_song_is_done(open_page: Callable[..., Page]) -> None:
    page = open_page(has_player=True)
    choose(page, song("Growing.wav", 403, seconds=LONG_SECONDS))
    wave = page.get_by_role("slider", name="Place in the song")
    expect(wave).to_be_visible()
    top = "document.querySelector('.player-wave').offsetTop"
    places = {page.evaluate(top)}
    assert card(page, "Growing").locator(".state").inner_text() != "Ready"
    wait_until_ready(page, "Growing")
    expect(card(page, "Growing").locator(".downloads a").first).to_be_visible()
    places.add(page.evaluate(top))
    assert len(places) == 1


def test_on_a_phone_what_is_pressed_first_comes_into_sight_by_itself(open_page: Callable[..., Page]) -> None:
    page = open_page(has_player=True, viewport=PHONE, has_touch=True, is_mobile=True)
    page.locator("#files").set_input_files([song("In sight.wav", 404)])
    expect(page.get_by_role("button", name="Play", exact=True)).to_be_in_viewport()
    expect(page.get_by_role("button", name="Karaoke", exact=True)).to_be_in_viewport()
    expect(page.get_by_text("Drop songs or folders here")).to_be_hidden()
