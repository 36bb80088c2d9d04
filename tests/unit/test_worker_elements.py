"""What may stand in `toWorker`."""

import json
from typing import Any

import pytest

from unmix.errors import InputError
from unmix.job import Callback
from unmix.names import hash_song
from unmix.settings import Settings
from unmix_worker.elements import parse_element

SETTINGS = Settings(model="demo", models="htdemucs")
SONG = hash_song(b"a song")


def pushed(callback: str) -> str:
    """Return an element with a callback in JSON of one's own."""
    return f'{{"hash": "{SONG}", "callback": {callback}}}'


def test_a_plain_hash_asks_for_the_default_options() -> None:
    push = parse_element(SONG, SETTINGS)
    assert (push.job_id, push.options) == (SONG, SETTINGS.default_options)


@pytest.mark.parametrize("key", ["hash", "songhash"])
def test_json_of_the_old_contract_is_understood(key: str) -> None:
    push = parse_element(json.dumps({key: SONG, "model": None, "callback": None}), SETTINGS)
    assert (push.job_id, push.options, push.callbacks) == (SONG, SETTINGS.default_options, ())


def test_a_public_callback_is_kept_and_a_private_one_becomes_a_warning() -> None:
    public: dict[str, Any] = {"url": "http://93.184.215.14/done", "data": {"ticket": 1}}
    push = parse_element(json.dumps({"hash": SONG, "callback": public}), SETTINGS)
    assert push.callbacks == (Callback(public["url"], {"ticket": 1}),)
    private = parse_element(json.dumps({"hash": SONG, "callback": {"url": "http://127.0.0.1/"}}), SETTINGS)
    assert private.callbacks == ()
    assert private.warnings[0].startswith("callback_forbidden")


def test_a_callback_chooses_its_ends_and_a_wrong_choice_becomes_a_warning() -> None:
    url = "http://93.184.215.14/done"
    push = parse_element(json.dumps({"hash": SONG, "callback": {"url": url, "events": ["failed"]}}), SETTINGS)
    assert push.callbacks == (Callback(url, {}, ("failed",)),)
    wrong = parse_element(json.dumps({"hash": SONG, "callback": {"url": url, "events": ["never"]}}), SETTINGS)
    assert wrong.callbacks == ()
    assert wrong.warnings[0].startswith("invalid_field")


def test_another_allowed_model_is_another_job() -> None:
    push = parse_element(json.dumps({"hash": SONG, "model": "htdemucs"}), SETTINGS)
    assert push.options.model == "htdemucs"
    assert push.job_id != SONG


def test_a_model_that_is_not_allowed_here_is_a_job_of_its_own_that_can_only_fail() -> None:
    push = parse_element(json.dumps({"hash": SONG, "model": "spleeter"}), SETTINGS)
    assert (push.options.model, push.is_of_unknown_model) == ("spleeter", True)
    assert push.job_id.startswith(f"{SONG}.")
    assert not parse_element(json.dumps({"hash": SONG, "model": "htdemucs"}), SETTINGS).is_of_unknown_model


def test_what_can_be_no_model_is_refused() -> None:
    with pytest.raises(InputError) as caught:
        parse_element(json.dumps({"hash": SONG, "model": "/etc/passwd"}), SETTINGS)
    assert caught.value.code == "unknown_model"


def test_audio_inside_an_element_is_refused() -> None:
    with pytest.raises(InputError) as caught:
        parse_element(json.dumps({"hash": SONG, "mp3": "QUJD"}), SETTINGS)
    assert caught.value.code == "audio_in_element"


@pytest.mark.parametrize(
    "element",
    ["", "x", SONG.upper(), "../" + SONG, "[]", "{}", '{"hash": 5}', '{"hash": "../x"}', "[" * 10_000, "x" * 10_000_000,
     json.dumps({"hash": SONG, "data": "x" * 20_000}), "\udcff\udcfe",
     pushed('{"url": "http://93.184.215.14/", "data": ' + 900 * '{"a":' + "1" + 901 * "}"),
     pushed(900 * "[" + 900 * "]"), pushed("NaN"), pushed("1e999"), pushed("1" * 5_000), pushed('"\\ud800"'),
     f'{{"hash": "{SONG}", "hash": "{SONG}"}}', f'{{"hash": "{SONG}"}}x'],
    ids=lambda element: element[:12].encode(errors="replace").decode(),
)  # fmt: skip
def test_everything_else_is_refused_by_its_form(element: str) -> None:
    with pytest.raises(InputError) as caught:
        parse_element(element, SETTINGS)
    assert caught.value.code == "bad_hash"


#: What is no callback in one way or another.
ODD: tuple[Any, ...] = (
    *(True, 1.5, [], [[]], {}, {"url": []}, {"url": ""}, {"url": "http://[v1.a]/"}, {"url": "x", "events": [{}]}),
    {"url": "http://93.184.215.14/", "data": [1], "events": {}},
    {"url": "http://93.184.215.14:99999/"},
)


@pytest.mark.parametrize("odd", ODD, ids=str)
def test_whatever_else_stands_in_an_element_no_other_error_comes_of_it(odd: Any) -> None:
    for field in ("callback", "data"):
        assert parse_element(json.dumps({"hash": SONG, field: odd}), SETTINGS).job_id == SONG
    if odd:
        with pytest.raises(InputError) as caught:
            parse_element(json.dumps({"hash": SONG, "model": odd}), SETTINGS)
        assert caught.value.code == "unknown_model"
