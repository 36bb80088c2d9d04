"""Every field and parameter of the routes for jobs, and every value that somebody could put there.

A value is either taken, and told again as it was sent, or refused with a code and nothing kept of it. Which values a
field takes stands in the tables; what is not there is refused.
"""

import base64
import json
from io import BytesIO
from pathlib import Path
from typing import Any, Final
from urllib.parse import quote, unquote_to_bytes

import pytest

from rest_support import DEMO_CARD, Answer, Rest
from support import make_song
from unmix.names import hash_song

SONG: Final = make_song(0.5, 1)
JOB_ID: Final = hash_song(SONG)
SONG_TEXT: Final = base64.b64encode(SONG).decode()

#: As JSON spells them.
VALUES: Final = {
    "null": "null",
    "true": "true",
    "zero": "0",
    "minus zero": "-0.0",
    "minus one": "-1",
    "one and a half": "1.5",
    "tiny": "1e-300",
    "huge": "1e300",
    "huge integer": "9" * 400,
    "empty": '""',
    "blank": '" "',
    "long": json.dumps("x" * 10_000),
    "NUL": '"a\\u0000b"',
    "right to left": json.dumps("\u202eabc\u200f"),
    "emoji": json.dumps("💃🏽"),
    "lines": '"a\\r\\nb: c"',
    "path": '"../../etc/passwd"',
    "number as text": '"1"',
    "not a number as text": '"NaN"',
    "exponent as text": '"1e3"',
    "other digits": '"١"',
    "null as text": '"null"',
    "upper case": '"TRUE"',
    "object": "{}",
    "object with more": '{"a": {"b": 1}}',
    "list": "[]",
    "list of null": "[null]",
    "list of lists": "[[]]",
    "list of texts": '["a", "b"]',
    "deep": "[" * 25 + "]" * 25,
}
#: What no JSON may have, wherever it stands.
BROKEN: Final = {
    "NaN": "NaN",
    "Infinity": "-Infinity",
    "too large for a number": "1e400",
    "lone surrogate": '"\\ud800"',
    "too deep": "[" * 1000 + "]" * 1000,
    "number without end": "9" * 5000,
    "two names that are the same": '{"a": 1, "a": 2}',
    "bare word": "None",
    "open": '"',
}
TEXTS: Final = {
    *("blank", "NUL", "right to left", "emoji", "lines", "path", "number as text", "not a number as text"),
    *("exponent as text", "other digits", "null as text", "upper case"),
}
NOTHING: Final = {"null", "empty"}

#: Of each field of a job the values that it takes, and with which codes it refuses the others.
FIELDS: Final[dict[str, tuple[set[str], set[str]]]] = {
    "name": (TEXTS | NOTHING, {"invalid_field"}),
    "batch": (TEXTS | NOTHING, {"invalid_field"}),
    "labels": (TEXTS | NOTHING | {"list", "list of texts"}, {"invalid_field"}),
    "model": (NOTHING, {"invalid_field", "unknown_model"}),
    "stems": (NOTHING | {"list"}, {"invalid_field", "unknown_stem"}),
    "format": (NOTHING, {"invalid_field", "unknown_format"}),
    "bits": ({"null"}, {"invalid_field", "unknown_bits"}),
    "bitrate_kbps": ({"null"}, {"invalid_field", "unknown_bitrate"}),
    "precision": ({"null"}, {"invalid_field", "unknown_precision"}),
    "overlap": ({"null"}, {"invalid_field", "out_of_range"}),
    "shifts": ({"null", "zero", "minus zero", "number as text"}, {"invalid_field", "out_of_range"}),
    "mixture_consistency": ({"null", "true", "upper case"}, {"invalid_field"}),
    "song_rate": ({"null"}, {"invalid_field", "unknown_rate"}),
    "start": ({"null", "zero", "minus zero", "tiny"}, {"invalid_field", "bad_region"}),
    "end": ({"null"}, {"invalid_field", "bad_region"}),
    "callback": ({"null"}, {"invalid_field"}),
    "segment": ({"null"}, {"out_of_range"}),
    "sample_rate": ({"null"}, {"out_of_range"}),
    "unheard of": (set(VALUES), set()),
}


@pytest.fixture
def rest(tmp_path: Path, redis_url: str) -> Rest:
    """As elsewhere, but for smaller songs."""
    rest = Rest(tmp_path, redis_url, max_upload_mb=1)
    rest.queue.models.announce(DEMO_CARD)
    return rest


def refused(rest: Rest, answer: Answer, codes: set[str], status: int = 422) -> None:
    """Check that an answer refuses, in the form of all errors, and that nothing was kept."""
    assert (answer.status_code, answer.content_type) == (status, "application/problem+json"), answer.text
    assert answer.json["code"] in codes
    assert rest.stored() == []
    assert rest.queue.views.waiting(limit=9) == ([], 0)
    assert rest.queue.job_list.members() == {}


def send_json(rest: Rest, fields: str, path: str = "/apiv1/jobs") -> Answer:
    return rest.client.post(path, data=f"{{{fields}}}", content_type="application/json")


def told(job: dict[str, Any], field: str) -> Any:
    """What a job tells of what was sent as `field`."""
    of_job = {"name": job["name"], "batch": job["batches"], "labels": job["labels"]}
    return of_job[field] if field in of_job else job["options"].get(field)


def meant(rest: Rest, field: str, value: Any) -> Any:
    """What a job is to tell where `value` was sent and taken."""
    if field == "name":
        return value or None
    if field == "batch":
        return [value] if value else []
    if field == "labels":
        given = value.split(",") if isinstance(value, str) else value or []
        return [label.strip() for label in given if label.strip()]
    if value in (None, "", []):
        usual = {"stems": [], "mixture_consistency": False, "song_rate": False, "start": 0.0, "shifts": 0}
        return usual.get(field, getattr(rest.settings.default_options, field, None))
    if field == "mixture_consistency":
        return str(value).lower() == "true"
    return float(value) if field in FIELDS and field != "unheard of" else None


@pytest.mark.parametrize("field", FIELDS)
def test_a_field_in_json_is_taken_as_it_is_or_refused(rest: Rest, field: str) -> None:
    taken, codes = FIELDS[field]
    for which, value in VALUES.items():
        answer = send_json(rest, f'"file": "{SONG_TEXT}", {json.dumps(field)}: {value}')
        if which in taken:
            assert answer.status_code == 202, (which, answer.text)
            job = answer.json
            assert told(job, field) == meant(rest, field, json.loads(value)), which
            assert told(rest.client.get(answer.headers["Location"]).json, field) == told(job, field)
            assert rest.client.delete(answer.headers["Location"]).status_code == 204
        else:
            refused(rest, answer, codes)
    for value in BROKEN.values():
        answer = send_json(rest, f'"file": "{SONG_TEXT}", "{field}": {value}')
        refused(rest, answer, {"invalid_json", "duplicate_key"}, 400)


@pytest.mark.parametrize("field", FIELDS)
def test_a_field_in_the_url_or_a_form_is_taken_as_it_is_or_refused(rest: Rest, field: str) -> None:
    taken, codes = FIELDS[field]
    texts = {which: json.loads(value) for which, value in VALUES.items() if value.startswith('"')}
    for which, text in texts.items():
        for body in (SONG, {"file": (BytesIO(SONG), "/"), field: text}):
            query = {field: text} if body is SONG else {}
            answer = rest.client.post("/apiv1/jobs", data=body, query_string=query)
            if which in taken or text == "":  # which is nothing: forms send it where nobody has filled them in
                assert answer.status_code == 202, (which, answer.text)
                assert told(answer.json, field) == meant(rest, field, text)
                assert rest.client.delete(answer.headers["Location"]).status_code == 204
            elif field == "callback":
                refused(rest, answer, {"invalid_json", "invalid_json_shape"}, 400)
            else:
                refused(rest, answer, codes)


@pytest.mark.parametrize("which", [*VALUES, *BROKEN])
def test_what_is_no_song_is_refused_wherever_it_stands(rest: Rest, which: str) -> None:
    value = {**VALUES, **BROKEN}[which]
    statuses = {
        **dict.fromkeys(("missing_field", "invalid_field", "invalid_base64", "empty_audio"), 422),
        **{"unknown_upload": 404, "not_audio": 415},
        **(dict.fromkeys(("invalid_json", "duplicate_key"), 400) if which in BROKEN else {}),
    }
    for field in ("file", "upload"):
        answer = send_json(rest, f'"{field}": {value}')
        refused(rest, answer, set(statuses), statuses[answer.json["code"]])


@pytest.mark.parametrize("which", [*VALUES, *BROKEN])
def test_a_ticket_is_for_a_size_or_for_none(rest: Rest, which: str) -> None:
    answer = send_json(rest, f'"size_bytes": {({**VALUES, **BROKEN})[which]}', "/apiv1/uploads")
    if which == "null":
        assert (answer.status_code, answer.json["size_bytes"]) == (201, None)
    elif which in BROKEN:
        refused(rest, answer, {"invalid_json", "duplicate_key"}, 400)
    elif which in ("huge", "huge integer"):
        refused(rest, answer, {"payload_too_large"}, 413)
    else:
        refused(rest, answer, {"invalid_field"})


#: As URLs have them, bytes that are no text too.
IN_URLS: Final = (
    *(
        "",
        "%20",
        "null",
        "true",
        "0",
        "-0.0",
        "-1",
        "1.5",
        "1e400",
        "NaN",
        "9" * 400,
        "%00",
        "a%00b",
        "%0d%0aa:b",
        "%ff",
    ),
    *("%ed%a0%80", "%e2%80%aeabc", "%f0%9f%92%83", "x" * 10_000, "%d9%a1", "../../etc/passwd", "{}", "[[[[", "DONE"),
    *("Done", "done%20", "done,failed", "1-" + JOB_ID + "x", "999999999999999-" + JOB_ID[1:], "-" + JOB_ID),
)
#: Of each parameter of the list which of these it takes.
OF_THE_LIST: Final = {
    "status": {""},
    "after": {""},
    "label": set(IN_URLS),
    "batch": set(IN_URLS),
    "name": set(IN_URLS),
    "limit": {"1"},
    "offset": {"0"},
    "unheard of": set(IN_URLS),
}


@pytest.mark.parametrize("name", OF_THE_LIST)
def test_the_list_finds_nothing_by_nonsense(rest: Rest, name: str) -> None:
    for value in (*IN_URLS, "1"):
        answer = rest.client.get(f"/apiv1/jobs?{quote(name)}={value}")
        if value in OF_THE_LIST[name]:
            assert (answer.status_code, answer.json) == (200, {"jobs": [], "next": None}), value
        elif value != "1":
            refused(rest, answer, {"invalid_field"})


@pytest.mark.parametrize("value", IN_URLS)
def test_a_label_that_a_url_can_say_finds_its_job(rest: Rest, value: str) -> None:
    label = unquote_to_bytes(value).decode(errors="replace")
    sent = rest.client.post(f"/apiv1/jobs?labels={value}&batch={value}", data=SONG, content_type="audio/mpeg")
    if len(label) > 100:
        refused(rest, sent, {"invalid_field"})
        return
    for given in sent.json["labels"]:
        found = rest.client.get("/apiv1/jobs", query_string={"label": given}).json["jobs"]
        assert [job["hash"] for job in found] == [JOB_ID]
    if value:
        found = rest.client.get(f"/apiv1/jobs?batch={value}").json["jobs"]
        assert [(job["hash"], job["batches"]) for job in found] == [(JOB_ID, sent.json["batches"])]
        assert sent.json["batches"] == [label] or "\ufffd" in label  # which stands for what is no text


@pytest.mark.parametrize("value", [value for value in IN_URLS if value])
def test_any_batch_can_be_watched_though_there_is_none_like_it(rest: Rest, value: str) -> None:
    headers = {"Last-Event-ID": unquote_to_bytes(value).decode("latin-1").replace("\r", "").replace("\n", "")}
    answer = rest.client.get(f"/apiv1/events?batch={value}", headers=headers, buffered=False)
    assert (answer.status_code, answer.mimetype) == (200, "text/event-stream")
    answer.close()


@pytest.mark.parametrize("value", IN_URLS)
def test_what_is_preferred_is_heeded_or_not(rest: Rest, value: str) -> None:
    prefer = f"wait={unquote_to_bytes(value).decode('latin-1')}".replace("\r", "").replace("\n", "")
    answer = rest.client.get(f"/apiv1/jobs/{JOB_ID}", headers={"Prefer": prefer})
    assert (answer.status_code, answer.json["code"]) == (404, "not_found")
