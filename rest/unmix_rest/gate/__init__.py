"""The gate: nginx before REST, for all that a server which strangers reach has to do and REST had better not.

Here is its configuration, made of the template `nginx.conf` and of settings, so that the limits of both fit together.
What it answers itself has the form of `unmix_rest.http.problems`. nginx is not started from here.
"""

import json
from collections.abc import Iterator, Mapping
from http import HTTPStatus
from importlib.resources import files
from pathlib import Path
from string import Template
from typing import Final

from unmix.settings import Settings
from unmix_rest.http.cors import ANY, EXPOSED_HEADERS
from unmix_rest.http.problems import RETRY_AFTER_SECONDS, STATUS, problem_json
from unmix_rest.http.uploads import body_limit_bytes

#: Bodies of requests that bring no song, such as what old callbacks POST to the root.
SMALL_BODY_BYTES: Final = 1 << 20
#: How much of one answer is kept on the disk for a client that is slower than REST: an mp3 of four minutes. Others wait
#: while nginx writes it, so it must not be much.
KEPT_ANSWER_BYTES: Final = 8 << 20
#: Who reads slowly keeps a place: of the places for answers one address gets one in so many.
ANSWER_SHARES: Final = 8
#: How many requests may come at once, in seconds' worth of them.
BURST_SECONDS: Final = 4

#: What nginx finds wrong, by its own numbers, and the code that it is told as.
_CODES: Final[Mapping[int, str]] = {
    400: "bad_request",
    405: "method_not_allowed",
    413: "payload_too_large",
    414: "headers_too_large",
    429: "too_many_requests",
    494: "headers_too_large",
    495: "bad_request",
    496: "bad_request",
    497: "bad_request",
    500: "no_room",  # the disk is full: nothing else of ours can fail in it
    501: "not_implemented",
    502: "rest_unavailable",
    503: "rest_unavailable",
    504: "rest_timeout",
    505: "bad_request",
}
#: Of these, what can be wrong with the first line. Then nginx knows no path, and cannot go to a place without one.
_EARLY: Final = (400, 414, 505)
#: Whoever asks for this is answered as if what came was none.
_EARLY_PATH: Final = "/malformed"
_DETAILS: Final[Mapping[str, str]] = {
    "bad_request": "the request is not well-formed HTTP",
    "method_not_allowed": "this method is known nowhere here",
    "payload_too_large": "the body is larger than this service accepts; of songs UNMIX_MAX_UPLOAD_MB says how large",
    "headers_too_large": "the headers are larger than this service accepts",
    "too_many_requests": "you ask for more at once than one client may; try again",
    "no_room": "there is no room for what you send at the moment; try again",
    "not_implemented": "this transfer encoding is not known here",
    "rest_unavailable": "the service is not there at the moment; try again",
    "rest_timeout": "the service did not answer in time; ask how the job is doing before you send the song again",
}


class _Template(Template):
    """A template whose own variables nginx cannot take for its."""

    delimiter = "%"


def render(settings: Settings, folder: Path) -> str:
    """Return the configuration of a gate whose files are in `folder`: an absolute path of a folder that is there."""
    room_bytes = settings.upload_room_mb << 20
    body_bytes = body_limit_bytes(settings.max_upload_mb << 20)
    answers = max(1, room_bytes // KEPT_ANSWER_BYTES)
    values = {
        "folder": folder,
        "rest": _address(settings.host, settings.port),
        "listen": _address(settings.gate_host, settings.gate_port) + (" ssl" if settings.gate_certificate else ""),
        "shutdown_seconds": round(settings.rest_shutdown_seconds) or 1,
        "connections": settings.gate_connections,
        "uploads_each": settings.gate_uploads,
        "downloads_each": max(1, answers // ANSWER_SHARES),
        "downloads_all": answers,
        "requests_per_second": settings.gate_requests_per_second,
        "requests_burst": BURST_SECONDS * settings.gate_requests_per_second,
        "bytes_per_second": f"{settings.gate_mb_per_second}m" if settings.gate_mb_per_second else "0",
        "small_body_bytes": min(SMALL_BODY_BYTES, body_bytes),
        "body_bytes": body_bytes,
        "kept_answer_bytes": KEPT_ANSWER_BYTES,
        "origins": _indented(8, _origins(settings.allowed_origins)),
        "tls": _indented(8, _tls(settings)),
        "error_pages": _indented(8, _error_pages()),
        "problems": _indented(8, _problems(settings)),
    }
    return _Template(files(__package__).joinpath("nginx.conf").read_text()).substitute(values)


def _address(host: str, port: int) -> str:
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def _indented(spaces: int, lines: Iterator[str]) -> str:
    return "\n".join(" " * spaces + line for line in lines)


def _origins(origins: frozenset[str]) -> Iterator[str]:
    if ANY in origins:
        yield '"~." "*";'
        return
    yield from (f'"{origin}" $http_origin;' for origin in sorted(origins))


def _tls(settings: Settings) -> Iterator[str]:
    if settings.gate_certificate is None or settings.gate_certificate_key is None:
        return
    yield f'ssl_certificate "{settings.gate_certificate}";'
    yield f'ssl_certificate_key "{settings.gate_certificate_key}";'
    yield "ssl_protocols TLSv1.2 TLSv1.3;"
    yield "ssl_session_cache shared:tls:8m;"
    yield "ssl_session_tickets off;"
    yield _STRICT_TRANSPORT


_STRICT_TRANSPORT: Final = 'add_header Strict-Transport-Security "max-age=31536000" always;'


def _error_pages() -> Iterator[str]:
    for number, code in _CODES.items():
        place = f"{_EARLY_PATH}/{code}" if number in _EARLY else f"@{code}"
        yield f"error_page {number} ={STATUS[code]} {place};"


def _problems(settings: Settings) -> Iterator[str]:
    """Yield the places where an error is answered."""
    early = [(f"= {_EARLY_PATH}/{code}", code) for code in dict.fromkeys(_CODES[number] for number in _EARLY)]
    for place, code in [*early, *((f"@{code}", code) for code in dict.fromkeys(_CODES.values()))]:
        status = STATUS[code]
        body = problem_json(code, _DETAILS[code], status=status, request_id="$problem_id").decode()
        yield f"location {place} {{"
        yield "    default_type application/problem+json;"
        yield "    add_header X-Content-Type-Options nosniff always;"
        if settings.gate_certificate:
            yield f"    {_STRICT_TRANSPORT}"
        if status in (HTTPStatus.TOO_MANY_REQUESTS, HTTPStatus.SERVICE_UNAVAILABLE):
            yield f"    add_header Retry-After {RETRY_AFTER_SECONDS} always;"
        if settings.allowed_origins:
            yield "    add_header Access-Control-Allow-Origin $allowed_origin always;"
            yield f'    add_header Access-Control-Expose-Headers "{EXPOSED_HEADERS}" always;'
            yield "    add_header Vary Origin always;"
        yield f"    set $problem_code {code};"
        yield f"    return {status} {json.dumps(body)};"
        yield "}"
