"""The player on a job of the real service: what is heard before the job is done is what its stems are in the end."""

import os
import signal
from io import BytesIO
from pathlib import Path

import numpy as np
import soundfile

from player_pages import OpenPlayer, Studio, open_player, sounding, studio
from stack import Stack
from support import make_song

__all__ = ["open_player", "studio"]


def test_drums_are_heard_before_the_job_is_done_and_are_those_of_the_finished_stem(
    open_player: OpenPlayer, studio: Studio, redis_url: str, tmp_path: Path
) -> None:
    stack = Stack(tmp_path, redis_url, UNMIX_PARTS_LEAST_SECONDS="12", UNMIX_STALL_SECONDS="300")
    studio.rest_url = stack.url
    try:
        _, child, job_id = stack.start_half_way(make_song(60, seed=3))
        stack.wait_for(lambda: (stack.job(job_id)["parts"] or {}).get("there"), "the first part is there")
        os.kill(child, signal.SIGSTOP)  # so that the job is not done too soon, on however fast a machine
        player = open_player(job_id)
        player.press("Solo Drums")
        player.press("Play")
        heard = sounding(player.listen(1.5))
        assert stack.job(job_id)["status"] == "running"
        os.kill(child, signal.SIGCONT)
        stack.wait_until_over(job_id)
        drums, _ = soundfile.read(BytesIO(stack.stem(job_id, "drums")), dtype="int16")
        song = sounding(drums.astype(np.int32))
        assert np.array_equal(heard, song[: len(heard)])
    finally:
        studio.rest_url = None
        stack.stop()
