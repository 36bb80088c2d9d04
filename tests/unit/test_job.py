"""Jobs: ids, effective options, and the two documents."""

import json
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from unmix import names
from unmix.job import Callback, JobRequest, JobStatus, SeparationOptions, SongLevel
from unmix.names import ObjectName, hash_song, is_job_id, is_stem, owner_of, song_hash_of
from unmix.outcome import Delivery, Outcome, Ran, StemFile

DEFAULTS = SeparationOptions(model="htdemucs")
#: As REST has them: with what workers do of themselves.
USUAL = replace(DEFAULTS, bitrate_kbps=256, precision="fast")
SONG = hash_song(b"a song")

options = st.builds(
    SeparationOptions,
    model=st.sampled_from(["htdemucs", "demo"]),
    stems=st.lists(st.sampled_from(["vocals", "instrumental"]), unique=True).map(tuple),
    format=st.sampled_from(["mp3", "wav", "flac", "m4a", "opus", "ogg"]),
    bits=st.sampled_from([16, 24]),
    start=st.sampled_from([0.0, 1.5]),
    end=st.sampled_from([None, 1.75]),
    mixture_consistency=st.booleans(),
    bitrate_kbps=st.sampled_from([192, 256]),
    precision=st.sampled_from(["exact", "fast"]),
    overlap=st.sampled_from([0.25, 0.5]),
    shifts=st.sampled_from([0, 1]),
    song_rate=st.booleans(),
)


def test_a_job_with_default_options_is_named_by_its_song_alone() -> None:
    assert DEFAULTS.job_id(SONG, DEFAULTS) == SONG


@pytest.mark.parametrize(
    ("chosen", "variant"),
    [
        ({"model": "demo"}, "92b1c3ca"),
        ({"stems": ("vocals",)}, "46e239f0"),
        ({"stems": ("vocals", "drums"), "format": "flac"}, "06ac1411"),
        ({"format": "wav"}, "3e60afc9"),
        ({"start": 12.5}, "03e44482"),
        ({"format": "wav", "bits": 24}, "811d5319"),
        # as they were before there were more options
        ({"mixture_consistency": True}, "54740ae5"),
        ({"end": 30.0}, "44e255c5"),
        ({"start": 1.5, "end": 2.0, "stems": ("vocals",)}, "f3da2384"),
        ({"format": "flac", "bits": 24}, "1c2f56ca"),
        (
            {
                **{"model": "demo", "stems": ("vocals", "instrumental"), "format": "wav", "bits": 32},
                **{"mixture_consistency": True, "start": 0.5, "end": 9.25},
            },
            "a2554f8a",
        ),
        # of the version that had these first
        ({"bitrate_kbps": 192}, "792ca087"),
        ({"precision": "exact"}, "305fdd57"),
        ({"overlap": 0.5}, "bd680773"),
        ({"shifts": 1}, "4b6ff282"),
        ({"format": "wav", "song_rate": True}, "7dcb7c1b"),
    ],
)
def test_jobs_keep_the_ids_under_which_clients_know_them(chosen: dict[str, Any], variant: str) -> None:
    assert replace(DEFAULTS, **chosen).job_id(SONG, USUAL) == f"{SONG}.{variant}"


def test_what_workers_do_of_themselves_is_no_other_job_when_it_is_named() -> None:
    assert replace(DEFAULTS, bitrate_kbps=256).job_id(SONG, USUAL) == SONG
    assert replace(DEFAULTS, precision="fast", stems=("vocals",)).job_id(SONG, USUAL) == f"{SONG}.46e239f0"
    assert USUAL.same_result_as(DEFAULTS)
    assert DEFAULTS.same_result_as(USUAL)
    assert not replace(USUAL, bitrate_kbps=192).same_result_as(USUAL)
    assert not replace(USUAL, end=3.0).same_result_as(USUAL)


@given(options, options)
def test_two_jobs_of_a_song_share_an_id_exactly_if_they_give_the_same_stems(
    one: SeparationOptions, other: SeparationOptions
) -> None:
    assert (one.job_id(SONG, USUAL) == other.job_id(SONG, USUAL)) == one.same_result_as(other)


@given(options)
def test_every_job_id_is_one_by_pattern_and_names_its_song(chosen: SeparationOptions) -> None:
    job_id = chosen.job_id(SONG, DEFAULTS)
    assert is_job_id(job_id)
    assert song_hash_of(job_id) == SONG


def test_stems_of_the_demo_model_are_never_taken_for_those_of_htdemucs() -> None:
    assert not SeparationOptions(model="demo").same_result_as(SeparationOptions(model="htdemucs"))


def test_other_weights_of_the_same_model_give_other_stems() -> None:
    old, new = replace(DEFAULTS, weights_sha256="aa"), replace(DEFAULTS, weights_sha256="bb")
    assert not old.same_result_as(new)
    assert old.same_result_as(DEFAULTS)  # nobody announced the weights yet


@pytest.mark.parametrize(
    "text",
    [
        "",
        "x",
        SONG.upper(),
        SONG[:-1],
        SONG + "0",
        SONG + ".",
        SONG + ".12345",
        SONG + "/..",
        "../" + SONG,
        SONG + "\n",
    ],
)
def test_what_is_no_job_id_is_refused_by_pattern(text: str) -> None:
    assert not is_job_id(text)
    with pytest.raises(ValueError, match="not a job id"):
        song_hash_of(text)


@pytest.mark.parametrize("text", ["", "../x", "Vocals", "vocals.mp3", "a" * 33, "vo cals", "vocals\n"])
def test_what_is_no_stem_is_refused_by_pattern(text: str) -> None:
    assert not is_stem(text)


def test_a_request_reads_back_as_it_was_written() -> None:
    request = JobRequest(
        job_id=SONG,
        options=replace(USUAL, stems=("vocals",), weights_sha256="ab", mixture_consistency=True, overlap=0.5, shifts=2),
        submitted_at="2026-01-01T00:00:00.000+00:00",
        callbacks=(Callback("http://example.org/done", {"deep": [1, {"ü": None}]}),),
        duration_seconds=12.5,
        warnings=("cut",),
        notes=("mixed down",),
        level=SongLevel(551_250, -1.2345678901234567e-05, 0.1 + 0.2, "ab", 48_000, 600_000),
    )
    assert JobRequest.from_json(request.to_json()) == request


def test_a_request_from_before_an_option_existed_has_its_default() -> None:
    document = json.loads(JobRequest(SONG, DEFAULTS, "now").to_json())
    del document["options"]["mixture_consistency"]
    for later in ("bits", "start", "end", "bitrate_kbps", "precision", "overlap", "shifts", "song_rate"):
        del document["options"][later]
    assert JobRequest.from_json(json.dumps(document).encode()).options == DEFAULTS


def test_a_request_from_before_levels_were_kept_has_none() -> None:
    document = json.loads(JobRequest(SONG, DEFAULTS, "now").to_json())
    del document["level"]
    assert JobRequest.from_json(json.dumps(document).encode()).level is None


def test_an_outcome_reads_back_as_it_was_written() -> None:
    outcome = Outcome(
        job_id=SONG,
        generation="g",
        status=JobStatus.DONE,
        finished_at="2026-01-01T00:00:00.000+00:00",
        token="t",
        stems={"vocals": StemFile(f"{SONG}/t/vocals.mp3", 10, "ab")},
        ran=Ran("demo", "cd", "cpu", 44100, 12.5, 1.5),
        warnings=("clipped",),
        notes=("resampled",),
        deliveries={
            "0": Delivery(True, "2026-01-01T00:00:01.000+00:00", 1),
            "12": Delivery(False, "2026-01-02T06:00:00.000+00:00", 9, "the callback's server answered 500"),
        },
    )
    assert Outcome.from_json(outcome.to_json()) == outcome


def test_an_outcome_from_before_deliveries_were_noted_has_none() -> None:
    document = json.loads(Outcome(SONG, "g", JobStatus.DONE, "2026-01-01T00:00:00.000+00:00").to_json())
    del document["deliveries"]
    assert Outcome.from_json(json.dumps(document).encode()).deliveries == {}


def test_a_job_that_is_submitted_again_is_the_same_but_for_its_generation_and_time() -> None:
    first = JobRequest(SONG, replace(DEFAULTS, format="flac"), "then", (Callback("http://example.org/done"),))
    second = first.again("now")
    assert second.generation != first.generation
    assert replace(second, generation=first.generation, submitted_at="then") == first


@pytest.mark.parametrize("job_id", [SONG, SONG + ".0123abcd"])
def test_every_object_of_a_job_names_its_owner(job_id: str) -> None:
    for name in (
        names.request_object(job_id),
        names.outcome_object(job_id),
        names.attempt_object(job_id, "0123456789abcdef", "vocals", "mp3"),
        names.stem_object(job_id, "vocals", "mp3"),
    ):
        assert owner_of(name) == job_id


def test_a_song_is_its_own_owner_also_while_it_is_being_removed() -> None:
    assert owner_of(names.song_object(SONG)) == owner_of(names.retired_object(SONG, 1)) == SONG


@pytest.mark.parametrize(
    "key",
    ["notes.txt", SONG, SONG + ".wav", SONG.upper() + ".mp3", SONG + "0.mp3", SONG + ".mp3.bak", "a/" + SONG + ".json"],
)
def test_what_others_keep_in_our_buckets_has_no_owner(key: str) -> None:
    assert owner_of(ObjectName("queue", key)) is None


def test_each_submission_is_a_generation_of_its_own() -> None:
    first, second = (JobRequest(SONG, DEFAULTS, "now") for _ in range(2))
    assert first.generation != second.generation


def test_what_a_damaged_document_asks_for_has_no_cost_that_anybody_knows() -> None:
    request = JobRequest("0" * 64, SeparationOptions("demo", overlap=1.0), "2026-01-01", duration_seconds=9)
    assert request.computed_seconds is None
    assert replace(request, options=SeparationOptions("demo", start=3, shifts=2)).computed_seconds == 12
