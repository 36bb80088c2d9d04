"""The options of a job: what makes another one of the same song, and what is refused."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from rest_support import DEMO_CARD, SONG, Rest
from unmix.names import hash_song
from unmix.outcome import Ran

FAST = {"precision": "fast"}


def test_other_options_make_another_job_of_the_same_song(rest: Rest) -> None:
    default = rest.post_form(SONG).json["hash"]
    other = rest.post_form(SONG, model="htdemucs", stems="vocals,base", format="flac").json["hash"]
    assert default == hash_song(SONG)
    assert other.startswith(f"{default}.")
    request = rest.ledger.request(other)
    assert request is not None
    assert (request.options.model, request.options.stems, request.options.format) == (
        "htdemucs",
        ("vocals", "bass"),
        "flac",
    )


def test_karaoke_is_a_job_of_its_own(rest: Rest) -> None:
    rest.queue.models.announce(DEMO_CARD)
    job_id = rest.post_form(SONG, stems="vocals,instrumental").json["hash"]
    assert rest.post_json(SONG, stems=["instrumental", "vocals"]).json["hash"] == job_id
    others = {rest.post_form(SONG, stems=stems).json["hash"] for stems in ("", "vocals", "instrumental")}
    assert len({job_id, *others}) == 4
    request = rest.ledger.request(job_id)
    assert request is not None
    assert request.options.stems == ("vocals", "instrumental")


@pytest.mark.parametrize("is_announced", [False, True])
def test_the_song_less_one_stem_is_a_job_by_whichever_name_it_is_asked_for(rest: Rest, is_announced: bool) -> None:
    if is_announced:
        rest.queue.models.announce(DEMO_CARD)
    karaoke = rest.post_form(SONG, stems="instrumental").json["hash"]
    assert rest.post_form(SONG, stems="No_Vocals").json["hash"] == karaoke
    assert rest.post_json(SONG, stems=["no_vocals", "instrumental"]).json["hash"] == karaoke
    bassless = rest.post_form(SONG, stems="no_base").json["hash"]
    assert rest.client.get(f"/apiv1/jobs/{bassless}").json["options"]["stems"] == ["no_bass"]


def test_a_model_has_the_song_less_each_source_of_its_own(rest: Rest) -> None:
    rest.queue.models.announce(replace(DEMO_CARD, sources=("drums", "no_vocals", "vocals")))
    assert rest.post_form(SONG, stems="no_guitar").json["code"] == "unknown_stem"
    job_id = rest.post_form(SONG, stems="no_drums,no_vocals").json["hash"]
    assert rest.client.get(f"/apiv1/jobs/{job_id}").json["options"]["stems"] == ["no_drums", "no_vocals"]


def test_mixture_consistency_makes_another_job_and_leaving_it_out_is_to_say_false(rest: Rest) -> None:
    consistent = rest.post_json(SONG, mixture_consistency=True).json["hash"]
    assert rest.post_form(SONG, mixture_consistency="true").json["hash"] == consistent
    assert rest.client.get(f"/apiv1/jobs/{consistent}").json["options"]["mixture_consistency"] is True
    assert consistent != hash_song(SONG)
    assert rest.post_json(SONG, mixture_consistency=False).json["hash"] == hash_song(SONG)
    assert rest.post_form(SONG, mixture_consistency="False").json["hash"] == hash_song(SONG)


def test_stems_in_the_rate_of_the_song_are_another_job_and_leaving_it_out_is_to_say_false(rest: Rest) -> None:
    fitting = rest.post_json(SONG, format="wav", song_rate=True).json["hash"]
    assert rest.post_form(SONG, format="wav", song_rate="true").json["hash"] == fitting
    assert rest.client.get(f"/apiv1/jobs/{fitting}").json["options"]["song_rate"] is True
    plain = rest.post_json(SONG, format="wav", song_rate=False).json["hash"]
    assert rest.post_json(SONG, format="wav").json["hash"] == plain != fitting
    assert rest.post_json(SONG, song_rate=False).json["hash"] == hash_song(SONG)
    assert "ask for wav or flac" in rest.post_json(SONG, format="mp3", song_rate=True).json["detail"]


def test_stems_of_24_bits_are_another_job_and_16_are_what_one_gets(rest: Rest) -> None:
    fine = rest.post_json(SONG, format="flac", bits=24).json["hash"]
    assert rest.post_form(SONG, format="flac", bits="24").json["hash"] == fine
    assert rest.client.get(f"/apiv1/jobs/{fine}").json["options"]["bits"] == 24
    plain = rest.post_form(SONG, format="flac", bits="16").json["hash"]
    assert rest.post_json(SONG, format="flac").json["hash"] == plain != fine
    assert rest.post_json(SONG, bits=16).json["hash"] == hash_song(SONG)
    assert rest.post_json(SONG, format="wav", bits=32).status_code == 200


@pytest.mark.parametrize(
    ("fields", "code"),
    [
        ({"bits": 24}, "unknown_bits"),
        ({"bits": 24, "format": "mp3"}, "unknown_bits"),
        ({"bits": 32, "format": "flac"}, "unknown_bits"),
        ({"bits": 8, "format": "wav"}, "unknown_bits"),
        ({"bits": -1, "format": "wav"}, "unknown_bits"),
        ({"bits": 24.5, "format": "wav"}, "invalid_field"),
        ({"bits": True, "format": "wav"}, "invalid_field"),
        ({"bits": "many", "format": "wav"}, "invalid_field"),
        ({"bits": [24], "format": "wav"}, "invalid_field"),
        ({"bits": 10**400, "format": "wav"}, "invalid_field"),
    ],
)
def test_bits_that_a_format_does_not_have_are_refused_and_nothing_is_stored(
    rest: Rest, fields: dict[str, Any], code: str
) -> None:
    assert rest.post_json(SONG, **fields).json["code"] == code
    if not isinstance(fields["bits"], list):
        assert rest.post_form(SONG, **{name: str(value) for name, value in fields.items()}).json["code"] == code
    assert rest.stored() == []


@pytest.mark.parametrize(
    ("usual", "other"),
    [
        ({"bitrate_kbps": 256}, {"bitrate_kbps": 320}),
        ({"precision": "fast"}, {"precision": "exact"}),
        ({"overlap": 0.25}, {"overlap": 0.75}),
        ({"shifts": 0}, {"shifts": 5}),
    ],
    ids=lambda fields: str(*fields),
)
def test_how_it_is_computed_and_encoded_makes_another_job_where_it_is_not_as_usual(
    rest: Rest, usual: dict[str, Any], other: dict[str, Any]
) -> None:
    plain = rest.post_form(SONG).json["hash"]
    for fields in (usual, dict.fromkeys(usual)):
        assert rest.post_json(SONG, **fields).json["hash"] == plain
    assert rest.post_form(SONG, **{name: str(value) for name, value in usual.items()}).json["hash"] == plain
    different = rest.post_json(SONG, **other).json["hash"]
    assert different != plain
    assert rest.post_form(SONG, **{name: str(value) for name, value in other.items()}).json["hash"] == different
    options = rest.client.get(f"/apiv1/jobs/{different}").json["options"]
    assert {name: options[name] for name in other} == other


def test_usual_is_what_the_operator_says(tmp_path: Path, redis_url: str) -> None:
    rest = Rest(tmp_path, redis_url, mp3_bitrate_kbps=192, precision="exact")
    assert rest.post_json(SONG, bitrate_kbps=192, precision="exact").json["hash"] == hash_song(SONG)
    assert len({rest.post_json(SONG, **fields).json["hash"] for fields in ({"bitrate_kbps": 256}, {}, FAST)}) == 3
    request = rest.ledger.request(hash_song(SONG))
    assert request is not None
    assert (request.options.bitrate_kbps, request.options.precision) == (192, "exact")


def test_stems_that_were_made_in_another_way_than_is_named_now_are_not_served_again(rest: Rest) -> None:
    job_id = rest.post_form(SONG).json["hash"]
    ran = Ran("demo", "ab" * 32, "cpu", 44_100, 2.0, 0.5, precision="fast", bitrate_kbps=192)
    rest.finish(job_id, {"vocals": b"v"}, ran=ran)
    assert rest.post_json(SONG).json["status"] == "done"
    assert rest.post_json(SONG, precision="fast").json["status"] == "done"
    assert rest.post_json(SONG, bitrate_kbps=256).json["status"] == "queued"  # the usual one was another then
    assert rest.queue.views.waiting(limit=9)[0] == [job_id]


@pytest.mark.parametrize(
    ("fields", "code"),
    [
        ({"bitrate_kbps": 192, "format": "flac"}, "unknown_bitrate"),
        ({"bitrate_kbps": 256, "format": "wav"}, "unknown_bitrate"),
        ({"bitrate_kbps": 193}, "unknown_bitrate"),
        ({"bitrate_kbps": 0}, "unknown_bitrate"),
        ({"bitrate_kbps": -192}, "unknown_bitrate"),
        ({"bitrate_kbps": 192.5}, "invalid_field"),
        ({"precision": "FAST"}, "unknown_precision"),
        ({"precision": "float64"}, "unknown_precision"),
        ({"precision": 32}, "invalid_field"),
        ({"overlap": 0.09}, "out_of_range"),
        ({"overlap": 0.7500001}, "out_of_range"),
        ({"overlap": 0}, "out_of_range"),
        ({"overlap": -0.25}, "out_of_range"),
        ({"overlap": True}, "invalid_field"),
        ({"overlap": "nan"}, "invalid_field"),
        ({"shifts": 6}, "out_of_range"),
        ({"shifts": -1}, "out_of_range"),
        ({"shifts": 10**9}, "out_of_range"),
        ({"shifts": 10**400}, "invalid_field"),
        ({"shifts": 0.5}, "invalid_field"),
        ({"shifts": [1]}, "invalid_field"),
        ({"song_rate": True}, "unknown_rate"),
        ({"song_rate": "true", "format": "opus"}, "unknown_rate"),
        ({"song_rate": "true", "format": "stem.mp4"}, "unknown_rate"),
        ({"song_rate": 48_000, "format": "wav"}, "invalid_field"),
    ],
)
def test_ways_that_there_are_not_are_refused_and_nothing_is_stored(
    rest: Rest, fields: dict[str, Any], code: str
) -> None:
    assert rest.post_json(SONG, **fields).json["code"] == code
    if all(isinstance(value, str | float) for value in fields.values()):
        answer = rest.post_form(SONG, **{name: str(value) for name, value in fields.items()})
        assert (answer.status_code, answer.json["code"]) == (422, code)
    assert rest.stored() == []


def test_the_refusal_of_a_bit_rate_says_which_format_has_one(rest: Rest) -> None:
    assert "only mp3, m4a, opus, ogg" in rest.post_json(SONG, format="flac", bitrate_kbps=192).json["detail"]
    assert "320" in rest.post_json(SONG, format="opus", bitrate_kbps=321).json["detail"]


def test_stems_as_m4a_opus_and_ogg_are_jobs_of_their_own(rest: Rest) -> None:
    jobs = {rest.post_form(SONG, format=format).json["hash"] for format in ("m4a", "opus", "ogg", "mp3")}
    jobs |= {rest.post_form(SONG, format=format, bitrate_kbps="128").json["hash"] for format in ("m4a", "opus", "ogg")}
    assert len(jobs) == 7
    assert rest.post_json(SONG, format="m4a", bitrate_kbps=256).json["hash"] in jobs  # the usual one
    assert rest.post_json(SONG, format="ogg", bits=24).json["code"] == "unknown_bits"
    assert rest.post_json(SONG, format="m4a", bits=24).json["code"] == "unknown_bits"


def test_whoever_asks_for_an_unknown_format_is_told_what_there_is(rest: Rest) -> None:
    answer = rest.client.post("/apiv1/jobs", data=SONG, query_string={"format": "oga"})
    assert (answer.status_code, answer.json["code"]) == (422, "unknown_format")
    assert "opus, ogg" in answer.json["detail"]


def test_a_file_of_all_stems_is_a_job_of_a_model_with_four_or_of_four_that_are_named(rest: Rest) -> None:
    rest.queue.models.announce(DEMO_CARD)
    rest.queue.models.announce(
        replace(DEMO_CARD, name="htdemucs", sources=("drums", "bass", "other", "vocals", "piano"))
    )
    assert rest.post_form(SONG, format="stem.mp4").json["hash"] != hash_song(SONG)
    four = {"stems": "no_drums,drums,no_bass,bass", "format": "stem.mp4", "model": "htdemucs"}
    assert rest.post_form(SONG, **four).status_code == 200
    for fields in ({"stems": "vocals,instrumental"}, {"model": "htdemucs"}, {"stems": "vocals,vocals,drums,bass"}):
        answer = rest.post_form(SONG, format="stem.mp4", **fields)
        assert (answer.status_code, answer.json["code"]) == (422, "unknown_format")
        assert "4 stems" in answer.json["detail"]
    assert rest.post_form(SONG, format="stem.mp4", bitrate_kbps="256").json["code"] == "unknown_bitrate"


def test_a_region_is_another_job_of_the_song(rest: Rest) -> None:
    job_id = rest.post_json(SONG, start=0.5, end=1).json["hash"]
    assert rest.post_form(SONG, start="0.50", end="1.0").json["hash"] == job_id != hash_song(SONG)
    assert rest.post_form(SONG, start="0.5").json["hash"] not in (job_id, hash_song(SONG))
    job = rest.client.get(f"/apiv1/jobs/{job_id}").json
    assert (job["options"]["start"], job["options"]["end"], job["duration_seconds"]) == (0.5, 1.0, 2.0)
    assert rest.post_json(SONG, start=0, end=None).json["hash"] == hash_song(SONG)
    assert rest.post_json(SONG, start=0, end=2).status_code == 200


@pytest.mark.parametrize(
    ("fields", "code"),
    [
        ({"start": "2"}, "bad_region"),
        ({"start": "3", "end": "4"}, "bad_region"),
        ({"end": "2.1"}, "bad_region"),
        ({"start": "1", "end": "1"}, "bad_region"),
        ({"start": "1", "end": "0.5"}, "bad_region"),
        ({"start": "-1"}, "bad_region"),
        ({"end": "0"}, "bad_region"),
        ({"start": "nan"}, "invalid_field"),
        ({"end": "inf"}, "invalid_field"),
        ({"end": "1e999"}, "invalid_field"),
        ({"start": "0:30"}, "invalid_field"),
    ],
)
def test_a_region_that_the_song_does_not_have_is_refused_and_nothing_is_stored(
    rest: Rest, fields: dict[str, str], code: str
) -> None:
    answer = rest.post_form(SONG, **fields)
    assert (answer.status_code, answer.json["code"]) == (422, code)
    in_json: dict[str, Any] = {}
    for name, value in fields.items():
        in_json[name] = float(value) if code == "bad_region" else [value]
    assert rest.post_json(SONG, **in_json).json["code"] == code
    assert rest.stored() == []
