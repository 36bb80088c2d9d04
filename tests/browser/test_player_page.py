"""The player as people use it: by mouse, by keyboard, on a phone, in another language."""

from typing import Any

import pytest
from playwright.sync_api import expect

from made_jobs import MadeJob, noise
from player_pages import OpenPlayer, PlayerPage, open_player, place_of, sounding, studio
from support import eventually
from unmix.audio.samples import SAMPLE_RATE

__all__ = ["open_player", "studio"]

STEMS = {name: noise(30.2, seed) for seed, name in enumerate(("vocals", "drums", "bass", "other"))}


def whole(**facts: Any) -> MadeJob:
    return MadeJob(STEMS, part_samples=200_000, **facts).finish()


def place(player: PlayerPage) -> float:
    """The second of the song that the page says is heard."""
    return float(player.page.get_by_role("slider", name="Place in the song").get_attribute("aria-valuenow") or 0)


def pressed(player: PlayerPage, name: str) -> bool:
    button = player.page.get_by_role("button", name=name, exact=True)
    return bool(button.get_attribute("aria-pressed") == "true")


def muted(player: PlayerPage) -> list[str]:
    return [stem for stem in ("Vocals", "Drums", "Bass", "Other") if pressed(player, f"Mute {stem}")]


def columns_drawn(player: PlayerPage) -> float:
    """How many columns of the first lane show more than the line in the middle."""
    script = """() => {
      const canvas = document.querySelector(".player-canvas");
      const {data, width, height} = canvas.getContext("2d").getImageData(0, 0, canvas.width, canvas.height);
      let drawn = 0;
      for (let x = 0; x < width; x += 1) if (data[4 * (Math.round(height / 8 + 2) * width + x) + 3] > 0) drawn += 1;
      return drawn / width;
    }"""
    return float(player.page.evaluate(script))


def test_karaoke_is_one_click_and_plays_without_the_voice(open_player: OpenPlayer) -> None:
    player = open_player(whole())
    player.press("Karaoke")
    heard = sounding(player.listen(1.5))
    song = STEMS["drums"] + STEMS["bass"] + STEMS["other"]
    assert (heard == song[: len(heard)]).all()
    assert pressed(player, "Mute Vocals")


def test_every_preset_does_what_it_says(open_player: OpenPlayer) -> None:
    player = open_player(whole())
    player.press("A cappella")
    assert [pressed(player, f"Mute {stem}") for stem in ("Vocals", "Drums", "Bass", "Other")] == [
        False,
        True,
        True,
        True,
    ]
    player.press("Drums off")
    assert [pressed(player, f"Mute {stem}") for stem in ("Vocals", "Drums", "Bass", "Other")] == [
        False,
        True,
        False,
        False,
    ]
    player.press("Practice")
    assert pressed(player, "Loop")
    expect(player.page.get_by_text("75 %", exact=True)).to_have_count(1)
    player.press("Everything")
    expect(player.page.get_by_text("100 %", exact=True)).to_have_count(1)


def test_the_preset_that_is_heard_is_shown_as_long_as_it_is(open_player: OpenPlayer) -> None:
    player = open_player(whole())
    presets = ("Everything", "Karaoke", "A cappella", "Drums off", "Practice")

    def shown() -> list[str]:
        return [name for name in presets if pressed(player, name)]

    assert shown() == ["Everything"]
    for name in presets[1:]:
        player.press(name)
        assert shown() == [name]
    player.press("Everything")
    player.press("Mute Vocals")
    assert shown() == ["Karaoke"]
    player.press("Mute Bass")
    assert shown() == []


def test_what_the_waveform_does_is_said_and_what_is_repeated(open_player: OpenPlayer) -> None:
    player = open_player(whole())
    hint = player.page.get_by_text("drag over it to repeat a stretch")
    expect(hint).to_be_visible()
    player.page.get_by_role("button", name="Loop", exact=True).click()
    expect(player.page.get_by_text("From 0:00 to 0:08, again and again.")).to_be_visible()
    player.press("Loop")
    expect(hint).to_be_visible()


def test_all_of_it_can_be_done_with_the_keyboard(open_player: OpenPlayer) -> None:
    player = open_player(whole())
    player.page.get_by_role("button", name="Play", exact=True).wait_for()
    key = player.page.keyboard.press
    key("Space")
    player.listen(0.3)
    key("ArrowRight")
    key("ArrowRight")
    assert place(player) >= 10
    key("ArrowLeft")
    assert place(player) < 10
    key("Space")
    assert player.page.get_by_role("button", name="Play", exact=True).is_visible()
    key("Home")
    assert place(player) == 0
    key("2")
    assert pressed(player, "Mute Drums")
    key("Shift+3")
    assert pressed(player, "Solo Bass")
    player.page.get_by_role("slider", name="Volume of Other").focus()
    key("m")
    assert pressed(player, "Mute Other")
    key("ArrowLeft")
    assert player.page.get_by_role("slider", name="Volume of Other").input_value() == "0.99"
    player.page.get_by_role("slider", name="Place in the song").focus()
    key("l")
    assert pressed(player, "Loop")
    key("l")
    assert not pressed(player, "Loop")
    key("Shift+?")
    assert player.page.get_by_role("dialog").is_visible()
    key("Escape")
    assert not player.page.get_by_role("dialog").is_visible()
    key("k")
    assert pressed(player, "Mute Vocals")


def test_keys_leave_fields_and_buttons_alone(open_player: OpenPlayer) -> None:
    player = open_player(whole())
    player.page.evaluate("document.body.append(document.createElement('input'))")
    player.page.locator("body > input").focus()
    player.page.keyboard.type("klm 1")
    assert player.page.locator("body > input").input_value() == "klm 1"
    assert not pressed(player, "Mute Vocals")
    player.page.get_by_role("button", name="Solo Bass", exact=True).focus()
    player.page.keyboard.press("Space")
    assert pressed(player, "Solo Bass")
    assert player.page.get_by_role("button", name="Play", exact=True).is_visible()


def test_the_waveform_grows_with_the_parts(open_player: OpenPlayer) -> None:
    job = MadeJob(STEMS, part_samples=200_000, made={0})
    player = open_player(job)
    one = job.part_samples / job.length

    def wait_until_drawn(share: float) -> None:
        eventually(lambda: abs(columns_drawn(player) - share) < 0.02, f"{share:.2f} of the song is drawn")

    player.wait("document.querySelector('.player-canvas')?.width > 300", "it is drawn")
    wait_until_drawn(one)
    job.made |= {1, 4}
    player.page.evaluate("tell()")
    wait_until_drawn(3 * one)
    job.finish()
    player.page.evaluate("tell()")
    wait_until_drawn(1)


def test_a_loop_snaps_to_beats_where_they_are_known(open_player: OpenPlayer) -> None:
    beats = tuple(0.25 + 0.5 * number for number in range(59))
    player = open_player(whole(beats=beats))
    player.press("Solo Bass")
    wave = player.page.get_by_role("slider", name="Place in the song")
    box = wave.bounding_box()
    assert box is not None
    player.page.mouse.move(box["x"] + 0.2 * box["width"], box["y"] + 20)
    player.page.mouse.down()
    player.page.mouse.move(box["x"] + 0.25 * box["width"], box["y"] + 20, steps=4)
    player.page.mouse.up()
    player.press("Play")
    heard = sounding(player.listen(3))
    start = place_of(heard, STEMS["bass"])
    period = next(at for at in range(64, len(heard)) if (heard[at : at + 64] == heard[:64]).all())
    assert start / SAMPLE_RATE in beats
    assert period % (SAMPLE_RATE // 2) == 0


def test_it_counts_in_where_beats_are_known(open_player: OpenPlayer) -> None:
    player = open_player(whole(beats=tuple(0.5 * number for number in range(60))))
    player.open_more()
    player.page.get_by_label("Count in").check()
    player.press("Solo Bass")
    player.press("Play")
    heard = sounding(player.listen(3.5))
    song = STEMS["bass"]
    at = next(at for at in range(len(heard)) if (heard[at : at + 64] == song[:64]).all())
    assert abs(at - 2 * SAMPLE_RATE) < 200  # a click begins softly


def test_a_stem_that_is_all_others_together_is_not_heard_twice(open_player: OpenPlayer) -> None:
    together = dict.fromkeys(("instrumental", "no_drums"), STEMS["bass"])
    player = open_player(MadeJob({**STEMS, **together}, part_samples=200_000).finish())
    assert pressed(player, "Mute Instrumental")
    assert pressed(player, "Mute Without drums")
    assert not pressed(player, "Mute Bass")


def test_of_stems_that_are_all_others_together_one_is_heard(open_player: OpenPlayer) -> None:
    stems = dict.fromkeys(("no_bass", "no_drums"), STEMS["bass"])
    player = open_player(MadeJob(stems, part_samples=200_000).finish())
    assert not pressed(player, "Mute Without drums")
    assert pressed(player, "Mute Without bass")


@pytest.mark.parametrize("format", ["m4a", "opus", "ogg"])
def test_of_finished_stems_that_it_does_not_play_it_says_what_to_do(format: str, open_player: OpenPlayer) -> None:
    player = open_player(MadeJob({"vocals": STEMS["vocals"]}, format=format, has_parts=False).finish())
    expect(player.page.get_by_role("status")).to_contain_text("Download them")


def test_it_fits_a_phone_and_a_finger(open_player: OpenPlayer) -> None:
    player = open_player(whole(), viewport={"width": 375, "height": 800}, has_touch=True, is_mobile=True)
    player.open_more()
    assert player.page.evaluate("document.documentElement.scrollWidth") == 375
    sizes = player.page.evaluate(
        "[...document.querySelectorAll('.player button:not([hidden]), .player input[type=range], .player summary')]"
        ".filter((each) => each.checkVisibility()).map((each) => each.getBoundingClientRect().height)"
    )
    assert min(sizes) >= 40
    player.page.get_by_role("button", name="Karaoke").tap()
    assert len(sounding(player.listen(1)))


def test_it_speaks_german(open_player: OpenPlayer) -> None:
    player = open_player(whole(), query="&language=de")
    player.press("Gesang stumm")
    assert pressed(player, "Gesang stumm")


def test_a_name_is_only_ever_text(open_player: OpenPlayer) -> None:
    stem = "<img src=x onerror=alert(1)>"
    player = open_player(MadeJob({stem: STEMS["bass"], "vocals": STEMS["vocals"]}, name=stem).finish())
    expect(player.page.get_by_text(stem)).to_be_visible()
