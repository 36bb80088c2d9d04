"""What requests may say: the parameters, bodies and variables of the routes, as JSON Schemas that the table names.

They describe what `unmix_rest.routes` and `unmix_rest.http` read, for `unmix_rest.openapi`; nothing is checked by them.
Where a rule cannot be said in a schema (which stems a model has), the text says it.
"""

import re
from collections.abc import Mapping
from dataclasses import replace
from typing import Any, Final

from unmix.audio.formats import BITRATES_KBPS, LOSSY, MEDIA_TYPES
from unmix.audio.passes import MOST_SHIFTS, OVERLAPS
from unmix.callbacks.events import ENDS
from unmix.job import MAX_LABELS, PRECISIONS, JobStatus
from unmix.outbound.address import MAX_URL_CHARACTERS
from unmix_rest.http.route import JSON, Body, Parameter
from unmix_rest.http.uploads import MAX_NAME_CHARACTERS

FORM: Final = "multipart/form-data"

_TEXT: Final = {"type": "string"}
_DECIMAL: Final = r"^\+?[0-9]{1,12}(\.[0-9]{1,12})?$"  # how forms and URLs spell numbers
_OFFSET: Final = {"type": "integer", "minimum": 0, "maximum": 999_999_999}
_LIMIT: Final = {**_OFFSET, "minimum": 1}

#: The variables of rules.
VARIABLES: Final[Mapping[str, tuple[Mapping[str, Any], str]]] = {
    "job_id": (
        {"type": "string", "pattern": r"^[0-9a-f]{64}(\.[0-9a-f]{8})?$"},
        "`hash` of a job: the SHA-256 of the song (for tenants other than `main` what stands for it; random, if it was "
        "given by a URL), and eight digits more where its options are not the default ones",
    ),
    "upload_id": ({"type": "string", "pattern": "^[0-9]{10}-[0-9a-f]{32}(-[0-9a-f]{16})?$"}, "`upload_id` of a ticket"),
    "track": (
        {"type": "string", "pattern": rf"^[a-z][a-z0-9_]{{0,31}}(\.({'|'.join(map(re.escape, MEDIA_TYPES))}))?$"},
        "a stem, such as `vocals` or `vocals.mp3`",
    ),
    "stem": (
        {"type": "string", "pattern": r"^[a-z][a-z0-9_]{0,31}(\.flac)?$"},
        "a stem, such as `vocals` or `vocals.flac`",
    ),
    "index": ({"type": "integer", "minimum": 0}, "the number, from 0"),
    "file": ({"type": "string", "pattern": r"^[a-z0-9][a-z0-9._/-]{0,99}$"}, "a file of the page, such as `app.js`"),
}


WAIT: Final = Parameter(
    "wait",
    {"type": "integer", "minimum": 0, "maximum": 99_999_999},
    "hold the answer until the job is over, at most this many seconds, of which 60 count",
)
PREFER: Final = Parameter("Prefer", _TEXT, "`wait=30` is as the query's `wait`", is_header=True)
LAST_EVENT_ID: Final = Parameter(
    "Last-Event-ID", _TEXT, "what the client knew last, and is not told again", is_header=True
)
CONTENT_RANGE: Final = Parameter(
    "Content-Range",
    {"type": "string", "pattern": "^bytes [0-9]{1,15}-[0-9]{1,15}/[0-9]{1,15}$"},
    "which piece of the song the body is: the first byte, the last, how many the song has; without it, all of it",
    is_header=True,
)
BATCH: Final = Parameter("batch", {"type": "string", "minLength": 1}, "the jobs of this batch", is_required=True)
OFFSET: Final = Parameter("offset", _OFFSET, "begin after so many")
LIMIT: Final = Parameter("limit", _LIMIT, "at most so many; the service has a bound of its own")

#: What finds jobs on the list.
SEARCH: Final = (
    Parameter("status", {"type": "string", "enum": [*JobStatus, ""]}, "jobs in this state"),
    Parameter("label", _TEXT, "jobs with exactly this label"),
    Parameter("batch", _TEXT, "jobs of exactly this batch"),
    Parameter("name", _TEXT, "jobs with this in their name, in upper or lower case"),
    Parameter(
        "after",
        {"type": "string", "pattern": r"^$|^-?[0-9]{1,15}-[0-9a-f]{64}(\.[0-9a-f]{8})?$"},
        "where to go on, as `next` says",
    ),
    LIMIT,
    OFFSET,
)

#: What a download may say.
DOWNLOAD: Final = (
    Parameter("sha256", _TEXT, "the beginning of the file's SHA-256, as URLs have it that always mean the same bytes"),
    Parameter(
        "Range", {"type": "string", "pattern": "^bytes=([0-9]+-[0-9]*|-[0-9]+)$"}, "one range of bytes", is_header=True
    ),
    Parameter("If-None-Match", _TEXT, "the `ETag` of what is there already", is_header=True),
    Parameter("If-Match", _TEXT, "the `ETag` of what it has to be", is_header=True),
)
#: What the download of all stems may say.
ARCHIVE: Final = (Parameter("If-None-Match", _TEXT, "the `ETag` of what is there already", is_header=True),)
#: Other spellings of older clients, `file_id` and `component`, are read too.
STEM_IN_QUERY: Final = (
    Parameter("hash", VARIABLES["job_id"][0], VARIABLES["job_id"][1] + "; or as `file_id`", is_required=True),
    Parameter("track", VARIABLES["track"][0], VARIABLES["track"][1] + "; or as `component`", is_required=True),
)
REMOVED_IN_QUERY: Final = (STEM_IN_QUERY[0], replace(STEM_IN_QUERY[1], is_required=False))

_URL: Final = {"type": "string", "format": "uri", "maxLength": MAX_URL_CHARACTERS}
_CALLBACK: Final = {
    "type": "object",
    "description": "POSTed when the job is over; it has to be a public address",
    "properties": {
        "url": _URL,
        "data": {"type": ["object", "null"], "description": "sent along"},
        "events": {
            "type": ["array", "null"],
            "items": {"type": "string", "enum": list(ENDS)},
            "minItems": 1,
            "description": "which ends are told; all where there is none",
        },
    },
    "required": ["url"],
}
_STEMS_TEXT: Final = (
    "which stems: sources of the model, `no_drums` and the like for the song less one of them, and `instrumental`, "
    "which is `no_vocals`; all sources where there are none"
)
_LABELS_TEXT: Final = f"what to find the job by: up to {MAX_LABELS} of 100 characters"


def _number(kind: str, text: str, **bounds: Any) -> dict[str, Any]:
    """Return the schema of a number in JSON, which may be spelled as in a form."""
    return {"type": [kind, "string", "null"], "pattern": _DECIMAL, "description": text, **bounds}


def _flag(text: str) -> dict[str, Any]:
    return {
        "type": ["boolean", "string", "null"],
        "pattern": "^([Tt][Rr][Uu][Ee]|[Ff][Aa][Ll][Ss][Ee])$",
        "description": text,
    }


def _list(text: str) -> dict[str, Any]:
    return {
        "type": ["array", "string", "null"],
        "items": _TEXT,
        "description": f"{text}; a list, or with commas",
    }


#: What a job can be told in JSON; null is the same as nothing.
_OPTIONS: Final[Mapping[str, Mapping[str, Any]]] = {
    "model": {"type": ["string", "null"], "description": "one of `GET /apiv1/models`"},
    "stems": _list(_STEMS_TEXT),
    "format": {"enum": [*MEDIA_TYPES, "", None], "description": "of the stems"},
    "bits": _number("integer", "of a sample: 16, 24 (wav, flac) or 32 (wav)", minimum=16, maximum=32),
    "song_rate": _flag("stems in the sample rate of the song (wav, flac), and not at 44.1 kHz"),
    "bitrate_kbps": _number("integer", f"of {', '.join(LOSSY)}", enum=[*BITRATES_KBPS, *map(str, BITRATES_KBPS), None]),
    "precision": {"enum": [*PRECISIONS, None], "description": "float32, or bfloat16 where there is hardware for it"},
    "overlap": _number("number", "of the windows", minimum=OVERLAPS[0], maximum=OVERLAPS[1]),
    "shifts": _number("integer", "average so many estimates", minimum=0, maximum=MOST_SHIFTS),
    "mixture_consistency": _flag("make the sources add up to the song"),
    "start": _number("number", "second of the song", minimum=0),
    "end": _number("number", "second of the song", minimum=0),
    "callback": {**_CALLBACK, "type": ["object", "null"]},
}
_OF_JOBS: Final[Mapping[str, Mapping[str, Any]]] = {
    "name": {"type": ["string", "null"], "maxLength": MAX_NAME_CHARACTERS, "description": "of the song"},
    "labels": _list(_LABELS_TEXT),
    "batch": {"type": ["string", "null"], "maxLength": 100, "description": "what the song was sent together with"},
}


def _spelled(schema: Mapping[str, Any]) -> dict[str, Any]:
    """Return the schema of a field of JSON as forms and URLs spell it: a text, which may be empty."""
    text = {"type": "string", "description": schema["description"]}
    if "properties" in schema:
        return {**text, "contentMediaType": JSON, "contentSchema": _CALLBACK}
    if "enum" in schema:
        return {**text, "enum": [*dict.fromkeys(str(each) for each in schema["enum"] if each), ""]}
    if "pattern" in schema:
        return {**text, "pattern": f"^$|{schema['pattern']}"}
    return text | ({"maxLength": schema["maxLength"]} if "maxLength" in schema else {})


def _json(song: str, fields: Mapping[str, Any], *, may_be_elsewhere: bool = False) -> Body:
    in_base64 = {"type": "string", "minLength": 1, "contentEncoding": "base64", "contentMediaType": "audio/*"}
    schema: dict[str, Any] = {"type": "object", "properties": {song: in_base64, **fields}, "required": [song]}
    if may_be_elsewhere:
        del schema["required"]
        schema["properties"]["upload"] = {**VARIABLES["upload_id"][0], "description": "of an upload that is complete"}
        schema["properties"]["url"] = {**_URL, "description": "of a song, where the service fetches songs"}
        schema["oneOf"] = [{"required": [name]} for name in (song, "upload", "url")]
    return Body(JSON, schema)


def _form(fields: Mapping[str, Any]) -> Body:
    spelled = {name: _spelled(schema) for name, schema in fields.items()}
    properties = {"file": {"contentMediaType": "audio/*"}, **spelled}
    return Body(FORM, {"type": "object", "properties": properties, "required": ["file"]})


#: A song as older clients send it.
OLD_SONG: Final = (_json("mp3", _OPTIONS), _form(_OPTIONS))
#: A song as it is sent today; as it is, its options are in the query.
SONG: Final = (
    _json("file", {**_OPTIONS, **_OF_JOBS}, may_be_elsewhere=True),
    _form({**_OPTIONS, **_OF_JOBS}),
    Body("audio/*"),
    Body("application/octet-stream"),
)
SONG_IN_QUERY: Final = tuple(
    Parameter(name, _spelled(schema), schema["description"]) for name, schema in {**_OPTIONS, **_OF_JOBS}.items()
)
PIECE: Final = (Body("application/octet-stream"), Body("audio/*"))
KEY: Final = (Body(JSON, {"type": "object", "properties": {"key": {"type": ["string", "null"]}}}),)
HOURS: Final = (
    Body(
        JSON,
        {
            "type": "object",
            "properties": {
                "hours": {
                    "type": ["number", "null"],
                    "exclusiveMinimum": 0,
                    "maximum": 8760,
                    "description": "how long it holds; 168 if nothing is said",
                }
            },
        },
    ),
)
SIZE: Final = (
    Body(
        JSON,
        {
            "type": "object",
            "properties": {"size_bytes": {"type": ["integer", "null"], "minimum": 1, "description": "of the song"}},
        },
    ),
)
