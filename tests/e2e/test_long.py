"""Longer proofs, for `make test-all`: a long song, and many songs under many kills."""

import random
from collections.abc import Callable
from pathlib import Path

import pytest

from chaos.scenarios.engine import kill_while_working
from stack import Stack
from support import make_song
from unmix.audio.formats import SAMPLE_RATE
from unmix.audio.song_reader import measure
from unmix.names import hash_song

MakeStack = Callable[..., Stack]

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]


def test_a_song_of_ten_minutes_comes_back_whole(make_stack: MakeStack, tmp_path: Path) -> None:
    stack = make_stack().start()
    job_id = stack.post(make_song(600, seed=1))
    assert stack.wait_until_over(job_id, patience_seconds=600)["status"] == "done"
    for stem in stack.outcome(job_id)["stems"]:
        delivered = tmp_path / stem
        delivered.write_bytes(stack.stem(job_id, stem))
        assert measure(delivered).samples == 600 * SAMPLE_RATE


def test_twenty_songs_under_random_kills_are_all_separated_into_the_bytes_of_an_undisturbed_run(
    make_stack: MakeStack,
) -> None:
    seed = random.randrange(1 << 32)
    print(f"seed {seed}")
    rng = random.Random(seed)
    stack = make_stack(UNMIX_MAX_CRASHES="100", UNMIX_MAX_LAPSES="100").start(workers=2)
    songs = [make_song(10, seed=number) for number in range(20)]
    job_ids = [stack.post(song) for song in songs]
    kills = kill_while_working(stack, rng, 20)
    disturbed = {}
    for job_id in job_ids:
        assert stack.wait_until_over(job_id, patience_seconds=300)["status"] == "done"
        disturbed[job_id] = {name: file["sha256"] for name, file in stack.outcome(job_id)["stems"].items()}
        for name, sha256 in disturbed[job_id].items():
            assert hash_song(stack.stem(job_id, name)) == sha256
    assert kills >= 10
    for job_id, song in list(zip(job_ids, songs, strict=True))[:5]:
        stack.remove(job_id)
        assert stack.post(song) == job_id
        stack.wait_until_over(job_id)
        again = {name: file["sha256"] for name, file in stack.outcome(job_id)["stems"].items()}
        assert again == disturbed[job_id]
