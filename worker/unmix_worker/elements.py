"""Reads what stands in `toWorker`: our own job ids, and what foreign producers of the contract push.

A foreign element is a bare song hash, or JSON such as `{"hash": …, "model": …, "callback": …}`. Everything else is
refused here, by its form alone, before any store or key is touched. JSON is read as strictly as REST reads it.
"""

import re
from dataclasses import dataclass, replace
from typing import Any, Final

from unmix import names
from unmix.callbacks.events import read_events
from unmix.errors import InputError
from unmix.job import Callback, SeparationOptions
from unmix.outbound.address import Guard
from unmix.settings import Settings
from unmix.strict_json import parse_object

#: No element of the contract is longer; one with audio inside is.
MAX_ELEMENT_CHARACTERS: Final = 16_384
#: What a model can be called.
_MODEL: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,63}")


@dataclass(frozen=True, slots=True)
class PushedJob:
    """The job that an element asks for. The options count only where the store has no request yet."""

    job_id: str
    options: SeparationOptions
    callbacks: tuple[Callback, ...] = ()
    warnings: tuple[str, ...] = ()
    is_of_unknown_model: bool = False  # it can only fail; whoever asks for it is to be told


def parse_element(element: str, settings: Settings) -> PushedJob:
    """Return the job that `element` asks for.

    Raises:
        InputError: it names no job (`bad_hash`), carries audio (`audio_in_element`), or names as its model what can be
            the name of none (`unknown_model`).
    """
    if names.is_job_id(element):
        return PushedJob(element, settings.default_options)
    fields = _json_fields(element)
    song_hash = fields.get("hash", fields.get("songhash"))
    if not isinstance(song_hash, str) or not names.is_job_id(song_hash):
        raise InputError("an element must be a song hash or JSON with one", code="bad_hash")
    if "mp3" in fields:
        raise InputError("an element must not carry audio: put the song into the store", code="audio_in_element")

    options = settings.default_options
    if model := fields.get("model"):
        if not isinstance(model, str) or not _MODEL.fullmatch(model):
            raise InputError("the element names as its model what can be none", code="unknown_model")
        options = replace(options, model=model)
    callbacks, warnings = _callbacks(fields.get("callback"), settings)
    job_id = options.job_id(names.song_hash_of(song_hash), settings.default_options)
    return PushedJob(job_id, options, callbacks, warnings, options.model not in settings.allowed_models)


def _json_fields(element: str) -> dict[str, Any]:
    reason = "it is too long"
    if len(element) <= MAX_ELEMENT_CHARACTERS:
        try:
            return parse_object(element.encode())
        except UnicodeEncodeError:
            reason = "it is no text"
        except InputError as error:
            reason = error.message
    raise InputError(f"an element must be a song hash or JSON with one: {reason}", code="bad_hash")


def _callbacks(given: Any, settings: Settings) -> tuple[tuple[Callback, ...], tuple[str, ...]]:
    """Return the callback if it may be called, else a warning that says why not: it never stops the job."""
    if not isinstance(given, dict) or not isinstance(given.get("url"), str):
        return (), ()
    data = given.get("data")
    try:
        callback = Callback(given["url"], data if isinstance(data, dict) else {}, read_events(given.get("events")))
        Guard("callback", settings.callback_allow).check(callback.url)
    except InputError as error:
        return (), (f"{error.code}: {error.message}",)
    return (callback,), ()
