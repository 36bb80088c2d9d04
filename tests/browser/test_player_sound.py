"""What is heard, sample by sample: as it comes out of the running AudioContext of a real browser."""

import numpy as np

from made_jobs import MadeJob, noise
from player_pages import Heard, OpenPlayer, Studio, open_player, place_of, sounding, studio
from support import eventually
from unmix.audio.samples import SAMPLE_RATE
from unmix.job import JobStatus

__all__ = ["open_player", "studio"]

PLACE = "Number(document.querySelector('.player-wave').ariaValueNow)"
IS_PLAYING = "!document.querySelector('.is-waiting')"
STEMS = {name: noise(8.3, seed) for seed, name in enumerate(("vocals", "drums", "bass", "other"))}


def mix_of(job: MadeJob) -> Heard:
    """All stems together."""
    total: Heard = np.sum(list(job.stems.values()), axis=0, dtype=np.int32)
    return total


def assert_goes_on(heard: Heard, song: Heard) -> None:
    """The last second is a second of the song; there may be a silence before, where nothing was there to be heard."""
    end = heard[-SAMPLE_RATE:]
    at = place_of(end, song)
    assert np.array_equal(end, song[at : at + SAMPLE_RATE])


def test_soloed_drums_are_the_drums_sample_by_sample_across_parts(open_player: OpenPlayer) -> None:
    drums = noise(8.3, 9, least=-32768, most=32767)
    job = MadeJob({**STEMS, "drums": drums}, part_samples=50_000).finish()
    player = open_player(job)
    player.press("Solo Drums")
    player.press("Play")
    heard = sounding(player.listen(5))
    assert len(heard) > 3 * job.part_samples
    assert np.array_equal(heard, drums[: len(heard)])


def test_stems_are_in_step_to_the_sample_after_seeks(open_player: OpenPlayer) -> None:
    job = MadeJob(STEMS, part_samples=50_000).finish()
    player = open_player(job)
    mix = mix_of(job)
    player.press("Play")
    wave = player.page.get_by_role("slider", name="Place in the song")
    box = wave.bounding_box()
    assert box is not None
    for share in (0.7, 0.2, 0.45):
        wave.click(position={"x": box["width"] * share, "y": 30})
        second = int(share * job.length / SAMPLE_RATE)
        player.wait(f"[0, 1].includes({PLACE} - {second}) && {IS_PLAYING}", "that place is heard")
        player.forget()
        heard = player.listen(1.1)[-SAMPLE_RATE // 2 :]
        at = place_of(heard, mix)
        assert 0 <= at - share * job.length < 3 * SAMPLE_RATE
        assert np.array_equal(heard, mix[at : at + len(heard)])


def test_a_loop_repeats_to_the_sample(open_player: OpenPlayer) -> None:
    job = MadeJob(STEMS, part_samples=50_000).finish()
    player = open_player(job)
    player.press("Solo Bass")
    wave = player.page.get_by_role("slider", name="Place in the song")
    box = wave.bounding_box()
    assert box is not None
    mouse = player.page.mouse
    mouse.move(box["x"] + 0.12 * box["width"], box["y"] + 20)
    mouse.down()
    mouse.move(box["x"] + 0.19 * box["width"], box["y"] + 20, steps=4)
    mouse.up()
    player.press("Play")
    heard = sounding(player.listen(4))
    song = STEMS["bass"]
    start = place_of(heard, song)
    # It goes on as in the song up to the loop's end, and from there again and again.
    period = next(at for at in range(64, len(heard)) if np.array_equal(heard[at : at + 64], heard[:64]))
    assert abs(period - 0.07 * job.length) < 0.01 * job.length
    repeated = np.concatenate([song[start : start + period]] * 12)
    assert np.array_equal(heard, repeated[: len(heard)])


def test_the_song_waits_for_what_is_being_made_says_so_and_goes_on_by_itself(open_player: OpenPlayer) -> None:
    job = MadeJob(STEMS, part_samples=50_000, made={0})
    player = open_player(job)
    player.press("Play")
    player.page.get_by_text("This is being made.").wait_for()
    # What was played comes to those who listen a little later.
    eventually(lambda: len(sounding(player.listen(1))) >= job.part_samples, "the first part was heard")
    first = sounding(player.listen(1))
    player.forget()
    job.made |= {1, 2, 3}
    player.page.evaluate("tell()")
    heard = sounding(player.listen(2.5))[:SAMPLE_RATE]
    mix = mix_of(job)
    (sound,) = np.nonzero(first.any(axis=1))
    assert np.array_equal(first[: sound[-1] + 1], mix[: job.part_samples])
    assert len(heard)
    assert np.array_equal(heard, mix[job.part_samples :][: len(heard)])


def test_nothing_jumps_when_the_finished_stems_come(open_player: OpenPlayer) -> None:
    job = MadeJob(STEMS, part_samples=50_000, made={0, 1, 2, 3})
    player = open_player(job)
    player.press("Play")
    player.listen(1)
    job.finish()
    player.page.evaluate("tell()")
    heard = sounding(player.listen(6))
    assert len(heard) > 4 * job.part_samples
    assert np.array_equal(heard, mix_of(job)[: len(heard)])


def test_parts_that_come_out_of_order_are_found(open_player: OpenPlayer) -> None:
    job = MadeJob(STEMS, part_samples=50_000, made={4, 5})
    player = open_player(job)
    player.press("Play")
    player.page.get_by_text("This is being made.").wait_for()
    job.made |= {0, 1}
    player.page.evaluate("tell()")
    heard = sounding(player.listen(2))[:SAMPLE_RATE]
    assert len(heard)
    assert np.array_equal(heard, mix_of(job)[: len(heard)])


def test_what_a_job_tells_of_its_progress_costs_no_request_but_for_a_part(
    open_player: OpenPlayer, studio: Studio
) -> None:
    job = MadeJob(STEMS, part_samples=50_000, made={0})
    player = open_player(job)
    player.press("Play")
    player.page.get_by_text("This is being made.").wait_for()
    listing = f"/apiv1/jobs/{job.hash}/parts"
    for _ in range(5):
        player.page.evaluate("tell()")
    assert studio.asked.count(listing) == 1
    job.made.add(1)
    player.page.evaluate("tell()")
    player.wait(IS_PLAYING, "it goes on")
    assert studio.asked.count(listing) == 2


def test_a_part_that_does_not_come_is_said_and_tried_again(open_player: OpenPlayer, studio: Studio) -> None:
    job = MadeJob(STEMS, part_samples=50_000).finish()
    path = f"/apiv1/jobs/{job.hash}/parts/1/bass.flac"
    job.broken[path] = (1, 503)
    player = open_player(job, expects_failures=True)
    player.press("Play")
    player.page.get_by_text("The sound does not come (answer 503)").wait_for()
    player.press("Try now")
    heard = sounding(player.listen(3))
    assert player.page.get_by_text("The sound does not come").count() == 0
    assert_goes_on(heard, mix_of(job))
    assert studio.asked.count(path) == 2


def test_parts_that_are_gone_are_followed_by_the_finished_stems(open_player: OpenPlayer) -> None:
    job = MadeJob(STEMS, part_samples=50_000).finish()
    player = open_player(job, expects_failures=True)
    player.wait("document.querySelector('.player-play')", "the player is there")
    job.has_parts = False
    player.press("Play")
    heard = sounding(player.listen(7))
    assert len(heard) > 4.5 * SAMPLE_RATE
    assert_goes_on(heard, mix_of(job))


def test_a_short_song_is_played_from_its_stems(open_player: OpenPlayer) -> None:
    job = MadeJob(STEMS, has_parts=False, status=JobStatus.RUNNING)
    player = open_player(job)
    player.page.get_by_text("The player opens as soon as there is something to hear.").wait_for()
    job.finish()
    player.page.evaluate("tell()")
    player.press("Play")
    heard = sounding(player.listen(2))
    assert np.array_equal(heard, mix_of(job)[: len(heard)])


def test_who_has_closed_the_player_hears_and_asks_nothing_more(open_player: OpenPlayer) -> None:
    player = open_player(MadeJob(STEMS, part_samples=50_000).finish())
    player.press("Play")
    player.listen(0.5)
    player.page.evaluate("destroy()")
    assert player.page.evaluate("context.state") == "closed"
    assert player.page.locator("main").inner_text() == ""
