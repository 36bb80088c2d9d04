"""Songs come in: chosen, dropped, in folders, many at once; what is no song is refused so that anybody understands."""

import json
from collections.abc import Callable
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import pytest
import soundfile
from playwright.sync_api import FilePayload, Page, Request, Route, expect

from audio_files import music, wav
from page_support import LONG_SECONDS, card, choose, drop, song, wait_until_ready
from support import eventually, make_song

HOSTILE = "<script>window.taken=1<script><img src=x onerror=window.taken=1>"


def posts_of(page: Page) -> list[Request]:
    """Return a list that each song sent is added to."""
    sent: list[Request] = []
    page.on("request", lambda request: sent.append(request) if _is_song(request) else None)
    return sent


def _is_song(request: Request) -> bool:
    return request.method == "POST" and "/apiv1/jobs" in request.url


def test_a_chosen_song_goes_all_the_way_to_its_links(page: Page) -> None:
    choose(page, song("Evening.wav", 100, seconds=LONG_SECONDS))
    done = wait_until_ready(page, "Evening")
    states: list[str] = page.evaluate("states")
    shares = [int(state.split()[1]) for state in states if state.startswith("Separating")]
    assert len(set(shares)) > 2
    assert shares == sorted(shares)
    assert done.locator(".downloads a").all_inner_texts() == ["Vocals", "Drums", "Bass", "Other", "All as zip"]
    for link, name in (
        (done.get_by_role("link", name="Vocals"), "vocals.mp3"),
        (done.get_by_role("link", name="zip"), "stems.zip"),
    ):
        with page.expect_download() as download:
            link.click()
        assert download.value.suggested_filename == f"Evening - {name}"


def test_songs_that_are_dropped_are_all_taken_and_stand_in_their_order(page: Page) -> None:
    expect(page.locator("#no-jobs")).to_be_visible()
    names = ["One", "Two", "Three", "Four"]
    drop(page, *(song(f"{name}.wav", 110 + number) for number, name in enumerate(names)))
    for name in names:
        wait_until_ready(page, name)
    assert page.locator(".card").locator("h3").all_inner_texts() == names
    page.reload()
    for name in names:
        wait_until_ready(page, name)
    assert page.locator(".card").locator("h3").all_inner_texts() == names


def test_two_songs_are_sent_at_a_time_and_the_others_wait(page: Page) -> None:
    held: list[Route] = []
    page.route("**/apiv1/jobs?*", lambda route: held.append(route))
    choose(page, *(song(f"Held {number}.wav", 120 + number) for number in range(4)))
    expect(page.get_by_text("Waits to be sent")).to_have_count(2)
    eventually(lambda: len(held) == 2, "two are on their way", meanwhile=lambda: page.wait_for_timeout(20))
    held.sort(key=lambda route: parse_qs(urlsplit(route.request.url).query)["name"])  # either may be the first to go
    held[0].continue_()
    wait_until_ready(page, "Held 0")
    expect(page.get_by_text("Waits to be sent")).to_have_count(1)
    card(page, "Held 3").get_by_role("button", name="Cancel").click()
    expect(card(page, "Held 3")).to_have_count(0)
    page.unroute("**/apiv1/jobs?*")
    for route in held[1:]:
        route.continue_()
    wait_until_ready(page, "Held 1")
    wait_until_ready(page, "Held 2")
    assert len(held) == 3


def test_of_a_folder_the_songs_are_taken_and_the_rest_is_counted(page: Page, tmp_path: Path) -> None:
    (tmp_path / "album" / "more").mkdir(parents=True)
    (tmp_path / "album" / "a.wav").write_bytes(make_song(2, 130))
    (tmp_path / "album" / "more" / "b.wav").write_bytes(make_song(2, 131))
    (tmp_path / "album" / "cover.jpg").write_bytes(b"no song")
    with page.expect_file_chooser() as chooser:
        page.get_by_role("button", name="Choose a folder").click()
    chooser.value.set_files(tmp_path / "album")
    wait_until_ready(page, "a")
    wait_until_ready(page, "b")
    expect(page.locator("#upload-note")).to_have_text("Left out, as they are no songs: 1.")


def test_a_folder_can_be_dropped(page: Page, tmp_path: Path) -> None:
    (tmp_path / "dropped" / "below").mkdir(parents=True)
    (tmp_path / "dropped" / "below" / "deep.wav").write_bytes(make_song(2, 132))
    (tmp_path / "dropped" / "notes.txt").write_text("no song")
    (tmp_path / "beside.wav").write_bytes(make_song(2, 133))
    files = [str(tmp_path / "dropped"), str(tmp_path / "beside.wav")]
    browser = page.context.new_cdp_session(page)
    place = {"x": 300, "y": 300, "data": {"items": [], "files": files, "dragOperationsMask": 1}}

    def hold_over() -> None:  # as a hand does, again and again: the first may come before the page listens
        for event in ("dragEnter", "dragOver"):
            browser.send("Input.dispatchDragEvent", {"type": event, **place})

    eventually(lambda: page.locator("body.dropping").count() == 1, "it says that it takes them", meanwhile=hold_over)
    browser.send("Input.dispatchDragEvent", {"type": "drop", **place})
    wait_until_ready(page, "deep")
    wait_until_ready(page, "beside")
    assert page.locator(".card").count() == 2


@pytest.mark.parametrize(
    ("file", "why"),
    [
        (
            {"name": "notes.txt", "mimeType": "text/plain", "buffer": b"this is no music " * 50},
            "This is no sound file.",
        ),
        (
            {"name": "data.json", "mimeType": "application/json", "buffer": b'{"file": "AAAA"}'},
            "This is no sound file.",
        ),
        ({"name": "empty.mp3", "mimeType": "audio/mpeg", "buffer": b""}, "The file is empty."),
        ({"name": "blip.wav", "mimeType": "audio/wav", "buffer": make_song(0.05, 1)}, "This is too short"),
        (
            {"name": "huge.wav", "mimeType": "audio/wav", "buffer": bytes(10 << 20)},
            "The file is larger than this server",
        ),
    ],
    ids=["text", "json", "empty", "short", "large"],
)
def test_what_is_no_song_is_refused_with_why_and_what_to_do(page: Page, file: FilePayload, why: str) -> None:
    choose(page, file)
    refused = card(page, file["name"].partition(".")[0])
    expect(refused.locator(".state")).to_have_text("Not taken")
    expect(refused.locator(".why")).to_contain_text(why)
    expect(refused.get_by_role("button", name="Try again")).to_be_visible()
    expect(page.locator("#said")).to_contain_text(why)
    refused.get_by_role("button", name="Remove from list").click()
    expect(refused).to_have_count(0)


def test_a_file_that_is_refused_does_not_hold_the_next_one(page: Page) -> None:
    text: FilePayload = {"name": "text.mp3", "mimeType": "audio/mpeg", "buffer": b"no song " * 100}
    choose(page, text, song("After.wav", 140))
    wait_until_ready(page, "After")
    expect(card(page, "text").locator(".state")).to_have_text("Not taken")


def test_names_are_text_whatever_is_in_them(page: Page) -> None:
    choose(page, song(f"{HOSTILE}.wav", 141))
    wait_until_ready(page, HOSTILE)
    page.reload()
    wait_until_ready(page, HOSTILE)
    assert page.evaluate("window.taken") is None
    assert page.locator("li script, li img").count() == 0


def test_a_song_that_is_sent_twice_is_one(page: Page) -> None:
    choose(page, song("First name.wav", 142))
    wait_until_ready(page, "First name")
    choose(page, song("Second name.wav", 142))
    expect(page.locator("#said")).to_contain_text("Second name is sent.")
    wait_until_ready(page, "First name")
    assert page.locator(".card").count() == 1


def test_options_are_sent_and_kept(page: Page) -> None:
    sent = posts_of(page)
    page.locator("#options summary").click()
    page.get_by_label("Files").select_option("flac")
    for stem in ("Bass", "Other"):
        page.get_by_label(stem, exact=True).uncheck()
    expect(page.locator("#options-summary")).to_contain_text("Vocals, Drums as FLAC")
    page.get_by_label("Without drums").check()
    page.reload()
    expect(page.locator("#options-summary")).to_contain_text("Vocals, Drums, Without drums as FLAC")
    choose(page, song("Two stems.wav", 143))
    done = wait_until_ready(page, "Two stems")
    assert done.locator(".downloads a").all_inner_texts() == ["Vocals", "Drums", "Without drums", "All as zip"]
    assert ("format=flac" in sent[0].url, "stems=" in sent[0].url) == (True, True)
    expect(page.locator("#options-summary")).to_contain_text("for a song of 4 minutes on this server")


def test_stems_for_a_studio_have_24_bits_and_the_rate_of_the_song(page: Page, tmp_path: Path) -> None:
    page.locator("#options summary").click()
    for_studio = page.get_by_label("For music and video programs")
    expect(for_studio).to_be_hidden()  # an mp3 has neither
    page.get_by_label("Files").select_option("wav")
    for_studio.check()
    expect(page.locator("#options-summary")).to_contain_text("all parts as WAV for music and video programs")
    page.reload()
    expect(page.locator("#options-summary")).to_contain_text("as WAV for music and video programs")
    choose(page, {"name": "Scene.wav", "mimeType": "audio/wav", "buffer": wav(music(96_000), sample_rate=48_000)})
    done = wait_until_ready(page, "Scene")
    with page.expect_download() as download:
        done.get_by_role("link", name="Drums").click()
    download.value.save_as(tmp_path / "drums.wav")
    drums = soundfile.info(tmp_path / "drums.wav")
    assert (drums.samplerate, drums.frames, drums.subtype) == (48_000, 96_000, "PCM_24")


def test_what_is_usual_is_not_named_so_that_the_job_is_the_one_of_other_clients(page: Page) -> None:
    sent = posts_of(page)
    choose(page, song("Usual.wav", 144))
    wait_until_ready(page, "Usual")
    assert not [name for name in ("model=", "stems=", "format=", "bits=", "song_rate=") if name in sent[0].url]


def test_what_fails_for_the_moment_is_sent_again_by_itself(page: Page) -> None:
    answers = iter([503, 502])

    def sometimes(route: Route) -> None:
        status = next(answers, None)
        route.continue_() if status is None else route.fulfill(status=status, body="away")

    page.route("**/apiv1/jobs?*", sometimes)
    choose(page, song("Patient.wav", 145))
    expect(card(page, "Patient").locator(".state")).to_contain_text("Next try in")
    wait_until_ready(page, "Patient")


def test_a_song_beyond_a_quota_says_why_and_is_sent_again_when_there_is_enough(page: Page) -> None:
    problem = {"code": "quota_exceeded", "quota": "jobs", "error": "you have 2 jobs that are not over"}
    answers = iter([problem])

    def refuse(route: Route) -> None:
        told = next(answers, None)
        route.continue_() if told is None else route.fulfill(
            status=429, headers={"Retry-After": "2"}, content_type="application/problem+json", body=json.dumps(told)
        )

    page.route("**/apiv1/jobs?*", refuse)
    choose(page, song("Too many.wav", 146))
    expect(card(page, "Too many")).to_contain_text("Not taken yet. Next try in")
    expect(card(page, "Too many")).to_contain_text("2 jobs that are not over")
    wait_until_ready(page, "Too many")


@pytest.mark.parametrize("allowed", [True, False])
def test_links_can_be_pasted_where_the_operator_allows_it(open_page: Callable[..., Page], allowed: bool) -> None:
    page = open_page()
    sent: list[str] = []

    def models(route: Route) -> None:
        answer = route.fetch()
        route.fulfill(response=answer, body=json.dumps({**answer.json(), "song_urls": allowed}))

    def take(route: Route) -> None:
        sent.append(route.request.post_data or "")
        route.fulfill(status=422, body=json.dumps({"code": "invalid_field", "error": "there is no song"}))

    page.route("**/apiv1/models", models)
    page.route("**/apiv1/jobs", take)
    with page.expect_response("**/apiv1/models"):
        page.reload()
    if not allowed:
        expect(page.get_by_label("Link to a song")).to_be_hidden()
        return
    page.get_by_label("Link to a song").fill("https://example.com/a/My%20song.mp3?x=1")
    page.get_by_role("button", name="Get it").click()
    expect(card(page, "My song").locator(".why")).to_have_text("The server says: there is no song")
    told = json.loads(sent[0])
    assert (told["url"], told["name"]) == ("https://example.com/a/My%20song.mp3?x=1", "My song")
