"""Which errors the routes may answer, in groups that the table names. `unmix_rest.http.problems` has their statuses."""

from typing import Final

#: What any request can be refused with, before it is looked at, or because of a mistake of ours.
ALWAYS: Final = (
    *("bad_request", "payload_too_large", "headers_too_large", "too_slow", "not_implemented", "no_room"),
    "internal_error",
    *("too_many_requests", "rest_unavailable", "rest_timeout"),  # what the gate before REST says
    *("foreign_page", "unknown_host"),
)

#: What any request can be refused with where a key is needed, which lies in the store.
KEY: Final = (
    *("key_required", "bad_key", "scope_missing"),
    *("store_unavailable", "store_denied", "store_refused", "bucket_missing"),
)

#: What any request of these can be refused with where there are quotas.
QUOTA: Final = ("quota_exceeded",)

QUEUE: Final = ("queue_unavailable", "queue_denied")
STORE: Final = ("store_unavailable", "store_denied", "store_refused", "bucket_missing")
STORE_WRITTEN: Final = (*STORE, "store_full", "store_read_only")

JSON_BODY: Final = ("invalid_json", "invalid_json_shape", "duplicate_key", "incomplete_body", "unsupported_encoding")
FIELDS: Final = ("missing_field", "invalid_field")
STEM: Final = ("not_found", "unknown_stem")
DOWNLOAD: Final = ("range_not_satisfiable", "precondition_failed", "too_many_downloads")

SONG: Final = (
    *JSON_BODY,
    *FIELDS,
    *("unsupported_media_type", "invalid_base64", "empty_audio"),
    *("unknown_model", "unknown_format", "unknown_bits", "unknown_rate", "unknown_bitrate", "unknown_precision"),
    "unknown_stem",
    *("weights_not_open", "out_of_range", "bad_region", "callback_scheme", "callback_forbidden", "too_many_callbacks"),
    *("not_audio", "unsupported_container", "undecodable", "too_costly", "no_audio_frames", "too_short", "too_long"),
    *("bad_sample_rate", "bad_channels", "bad_samples", "too_many_streams", "external_reference"),
    "probe_unavailable",
    "client_gone",
    "queue_full",
    "backlog_full",
    "no_room",
    *QUEUE,
    *STORE_WRITTEN,
)
SONG_URL: Final = ("song_urls_off", "song_url_scheme", "song_url_forbidden")
UPLOAD: Final = ("unknown_upload", "upload_used")
PIECE: Final = (
    *UPLOAD,
    *("bad_content_range", "wrong_offset", "empty_audio", "piece_too_small", "incomplete_body", "unsupported_encoding"),
    "no_room",
    *STORE_WRITTEN,
)
