"""How songs go: told as it happens, also without a stream, after a reload and a restart; what people do with them."""

from collections.abc import Callable

import psutil
import requests
from playwright.sync_api import Page, Route, expect

from local_mode import LocalMode
from page_support import LONG_SECONDS, card, choose, job_of, song, wait_until_ready
from support import command_line


def test_a_reload_in_the_middle_keeps_the_song_and_goes_on(page: Page) -> None:
    choose(page, song("Reloaded.wav", 200, seconds=LONG_SECONDS))
    expect(card(page, "Reloaded").locator(".state")).to_contain_text("Separating")
    page.reload()
    expect(card(page, "Reloaded")).to_be_visible()
    wait_until_ready(page, "Reloaded")
    assert "is ready" in page.locator("#said").inner_text()


def test_without_a_stream_of_events_jobs_are_asked_for(page: Page) -> None:
    page.route("**/apiv1/events?*", lambda route: route.abort())
    choose(page, song("Polled.wav", 201))
    wait_until_ready(page, "Polled")


def test_a_server_that_dies_and_comes_back_is_waited_for(page: Page, local: LocalMode) -> None:
    choose(page, song("Survivor.wav", 202, seconds=LONG_SECONDS))
    expect(card(page, "Survivor").locator(".state")).to_contain_text("Separating")
    (rest,) = [pid for pid in local.descendants() if "unmix_rest" in command_line(psutil.Process(pid))]
    psutil.Process(rest).kill()
    choose(page, song("Sent meanwhile.wav", 203))
    expect(card(page, "Sent meanwhile").locator(".state")).to_contain_text("Next try in")
    wait_until_ready(page, "Survivor")
    wait_until_ready(page, "Sent meanwhile")
    expect(page.locator("#offline")).to_be_hidden()


def test_a_song_is_called_what_people_want(page: Page) -> None:
    choose(page, song("track01.wav", 210), song("Other one.wav", 211))
    found = wait_until_ready(page, "track01")
    found.get_by_role("button", name="Rename").click()
    field = found.get_by_label("New name")
    expect(field).to_be_focused()
    field.fill("Thé <b>evening</b> song")
    field.press("Enter")
    expect(card(page, "Thé <b>evening</b> song")).to_be_visible()
    page.reload()
    wait_until_ready(page, "Thé <b>evening</b> song")


def test_songs_are_found_by_their_name(page: Page) -> None:
    choose(page, song("Für Elise.wav", 212), song("Moonlight.wav", 213))
    wait_until_ready(page, "Moonlight")
    page.reload()  # nothing is listened to any more, which would stay in sight
    expect(card(page, "Moonlight")).to_be_visible()
    page.get_by_label("Search your songs").fill("FUR")
    expect(card(page, "Moonlight")).to_have_count(0)
    expect(card(page, "Für Elise")).to_be_visible()
    page.get_by_label("Search your songs").fill("nothing")
    expect(page.get_by_text("None of your songs is called like this.")).to_be_visible()


def test_a_song_that_is_cancelled_can_be_tried_again_and_deleted(page: Page, local: LocalMode) -> None:
    choose(page, song("Changed mind.wav", 214, seconds=LONG_SECONDS))
    found = card(page, "Changed mind")
    expect(found.locator(".state")).to_contain_text("Separating")
    found.get_by_role("button", name="Cancel").click()
    expect(found.locator(".state")).to_have_text("Cancelled")
    found.get_by_role("button", name="Try again").click()
    wait_until_ready(page, "Changed mind")
    job = f"{local.url}/apiv1/jobs/{job_of(page, 'Changed mind')}"
    found.get_by_role("button", name="Delete").click()
    assert requests.get(job, timeout=30).status_code == 200
    found.get_by_role("button", name="Really delete?").click()
    expect(found).to_have_count(0)
    assert requests.get(job, timeout=30).status_code == 404
    page.reload()
    expect(page.get_by_text("No songs yet.")).to_be_visible()


def test_a_song_that_others_removed_is_said_to_be_gone(page: Page, local: LocalMode) -> None:
    choose(page, song("Gone.wav", 215))
    wait_until_ready(page, "Gone")
    requests.delete(f"{local.url}/apiv1/jobs/{job_of(page, 'Gone')}", timeout=30)
    page.reload()
    expect(card(page, "Gone").locator(".state")).to_contain_text("no longer on the server")
    card(page, "Gone").get_by_role("button", name="Remove from list").click()
    expect(page.get_by_text("No songs yet.")).to_be_visible()


def test_another_tab_shows_the_same_songs(page: Page, local: LocalMode) -> None:
    other = page.context.new_page()
    other.goto(local.url)
    choose(page, song("In both.wav", 216))
    wait_until_ready(other, "In both")
    other.close()


def test_another_browser_shows_its_own_songs_only(page: Page, open_page: Callable[..., Page]) -> None:
    choose(page, song("Mine.wav", 217))
    wait_until_ready(page, "Mine")
    expect(open_page().get_by_text("No songs yet.")).to_be_visible()


def test_many_songs_are_shown_some_at_a_time(page: Page) -> None:
    names = [f"Song {number}" for number in range(45)]
    page.evaluate(
        "(songs) => localStorage.setItem('unmix.songs', JSON.stringify(songs))",
        [{"id": f"{number:064x}", "name": name, "at": 1000 - number} for number, name in enumerate(names)],
    )
    page.reload()
    expect(page.locator(".card")).to_have_count(20)
    page.get_by_role("button", name="Show more").click()
    expect(page.locator(".card")).to_have_count(40)
    page.get_by_role("button", name="Show more").click()
    assert page.locator(".card").locator("h3").all_inner_texts() == names
    expect(page.get_by_role("button", name="Show more")).to_be_hidden()


def test_the_player_opens_by_itself_with_the_first_parts_and_is_told_what_changes(page: Page) -> None:
    choose(page, song("Listened.wav", 220, seconds=LONG_SECONDS))
    told = card(page, "Listened").locator(".told")
    expect(told).to_contain_text("done")
    heard: list[str] = page.evaluate("heard")
    status, there, count = heard[0].replace("/", " ").split()
    assert status == "running"
    assert 0 < int(there) < int(count)  # a page on a busy machine is told of two at once
    assert heard[-1] == f"done {count}/{count}"
    close = card(page, "Listened").get_by_role("button", name="Close player")
    expect(close).to_have_attribute("aria-expanded", "true")
    close.click()
    expect(told).to_have_count(0)


def test_one_player_is_open_at_a_time(page: Page) -> None:
    choose(page, song("Left.wav", 221), song("Right.wav", 222))
    wait_until_ready(page, "Left")
    wait_until_ready(page, "Right")
    expect(page.get_by_role("button", name="Play it")).to_have_count(1)
    page.reload()
    wait_until_ready(page, "Left")
    expect(page.get_by_role("button", name="Play it")).to_have_count(0)
    for name in ("Left", "Right"):
        card(page, name).get_by_role("button", name="Listen").click()
        expect(card(page, name).get_by_role("button", name="Play it")).to_be_visible()
        expect(page.get_by_role("button", name="Play it")).to_have_count(1)


def test_a_player_that_does_not_load_is_said_and_the_links_stay(page: Page) -> None:
    page.route("**/player/player.js", lambda route: route.abort())
    choose(page, song("Unheard.wav", 223))
    found = wait_until_ready(page, "Unheard")
    expect(found.get_by_role("alert")).to_contain_text("The player could not be loaded.")
    expect(found.get_by_role("link", name="Vocals")).to_be_visible()


def test_key_and_tempo_are_shown_where_they_are_known(page: Page) -> None:
    choose(page, song("Known.wav", 224))
    wait_until_ready(page, "Known")

    def with_music(route: Route) -> None:
        answer = route.fetch()
        route.fulfill(response=answer, json={**answer.json(), "music": {"key": "A minor", "tempo_bpm": 119.6}})

    page.route("**/apiv1/jobs/*", with_music)
    page.reload()
    expect(card(page, "Known").locator(".facts")).to_have_text("0:02 · Key A minor · 120 BPM · MP3")
