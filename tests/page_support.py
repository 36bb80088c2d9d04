"""What tests of the page do as people do: send songs, look at their cards."""

import base64
from typing import Any

from playwright.sync_api import FilePayload, Locator, Page, expect

from support import make_song

#: Long enough to be separated in parts, and to be watched on the way.
LONG_SECONDS = 18
READY = "Ready"


def song(name: str, seed: int, *, seconds: float = 2) -> FilePayload:
    """Return a file as a browser is given it, another song for each seed."""
    return {"name": name, "mimeType": "audio/wav", "buffer": make_song(seconds, seed)}


def choose(page: Page, *files: FilePayload) -> None:
    """Choose files as people do, by the button."""
    with page.expect_file_chooser() as chooser:
        page.get_by_role("button", name="Choose songs").click()
    chooser.value.set_files(list(files))


def drop(page: Page, *files: FilePayload) -> None:
    """Drop files on the page."""
    told = [{**file, "buffer": base64.b64encode(file["buffer"]).decode()} for file in files]
    transfer: Any = page.evaluate_handle(
        """(files) => {
            const transfer = new DataTransfer();
            for (const {name, mimeType, buffer} of files) {
                const bytes = Uint8Array.from(atob(buffer), (each) => each.charCodeAt(0));
                transfer.items.add(new File([bytes], name, {type: mimeType}));
            }
            return transfer;
        }""",
        told,
    )
    for event in ("dragenter", "dragover", "drop"):
        page.dispatch_event("body", event, {"dataTransfer": transfer})


def card(page: Page, name: str) -> Locator:
    """Return the card of the song that is called so."""
    return page.get_by_role("listitem", name=name, exact=True)


def wait_until_ready(page: Page, name: str) -> Locator:
    """Return the card of a song when it is ready."""
    found = card(page, name)
    expect(found.locator(".state")).to_have_text(READY)
    return found


def job_of(page: Page, name: str) -> str:
    """Return the job of a song, as this browser remembers it."""
    songs: list[dict[str, Any]] = page.evaluate("JSON.parse(localStorage.getItem('unmix.songs'))")
    (job_id,) = [song["id"] for song in songs if song["name"] == name]
    return str(job_id)
