"""Names: the identity of a song and of a job, and what their objects are called. No I/O but `hash_file`'s.

A song is identified by its bytes, a job by the song and the options that differ from the defaults. Every pattern
that guards a path, a key or an object name stands here, so that nothing unchecked reaches a store.
"""

import hashlib
import re
import secrets
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

QUEUE_BUCKET: Final = "queue"
OUTPUT_BUCKET: Final = "output"

#: The peaks of an attempt's stems, which have no copy under the contract's names.
PEAKS_FILE: Final = "peaks.json"

#: What the key of every open mark begins with.
OPEN_PREFIX: Final = "open/"

#: What the key of everything begins with that is sent before it is a song.
UPLOADS_PREFIX: Final = "uploads/"

#: What the key of everything begins with that decides who may do what.
ACCESS_PREFIX: Final = "access/"

#: What the key of the document of every key of a client begins with.
KEYS_PREFIX: Final = f"{ACCESS_PREFIX}keys/"

#: The tenant of whoever names none; the ids of its songs are the hashes of their bytes.
MAIN_TENANT: Final = "main"
#: In the place of a tenant's name where nobody knows it.
UNKNOWN_TENANT: Final = ""

_JOB_ID: Final = re.compile(r"(?P<song_hash>[0-9a-f]{64})(?:\.[0-9a-f]{8})?")
_OWNER: Final = re.compile(r"(?P<job_id>[0-9a-f]{64}(?:\.[0-9a-f]{8})?)(?:\.mp3(?:\.retired\.[0-9]+)?|\.json|/.+|-.+)")
#: When it ends, in seconds since the epoch, so that keys sort by it; and what nobody can guess.
_UPLOAD_ID: Final = re.compile(r"(?P<ends_at>[0-9]{10})-[0-9a-f]{32}(?:-[0-9a-f]{16})?")
_PIECE: Final = re.compile(r"(?P<start>[0-9]{15})-(?P<total>[0-9]{1,15})\.[0-9a-f]{16}")
_STEM: Final = re.compile(r"[a-z][a-z0-9_]{0,31}")
#: In lower case only: some file systems know no difference.
_TENANT: Final = re.compile(r"[a-z0-9][a-z0-9_-]{0,62}")
#: Goes into the mark of a tenant's songs.
_MARKED: Final = b"of a tenant:"
#: What files of songs end with, without the dot; in a folder only these are taken for songs. What is in one its bytes
#: tell. The page has them too (`static/files.js`).
SONG_EXTENSIONS: Final = (
    *("aac", "ac3", "aif", "aifc", "aiff", "au", "avi", "caf", "eac3", "flac", "flv", "m4a", "m4b", "mka", "mkv"),
    *("mov", "mp2", "mp3", "mp4", "mpeg", "mpg", "oga", "ogg", "opus", "tta", "w64", "wav", "webm", "wma", "wmv"),
    "wv",
)
_SONG_EXTENSION: Final = re.compile(rf"\.({'|'.join(SONG_EXTENSIONS)})$", re.IGNORECASE)
#: What no file can have in its name on some system, and what makes a name look like another one: control characters,
#: and those that turn the direction of writing.
_UNFIT_FOR_FILES: Final = re.compile(r'[\x00-\x1f\x7f-\x9f/\\:*?"<>|\u200e\u200f\u202a-\u202e\u2066-\u2069\ufeff]')
#: Bytes of a song's name in a file's name, which has at most 255 on most systems.
_MAX_TITLE_BYTES: Final = 200

#: Characters of a song hash.
SONG_HASH_LENGTH: Final = 64
#: How many of them are the mark of a tenant's song.
_MARK_LENGTH: Final = 16
#: Stems that every client of the contract may ask for, whatever a model's sources are.
CONTRACT_STEMS: Final = ("vocals", "drums", "bass", "other")
VOCALS: Final = "vocals"
#: The song less its vocals, as everybody calls it. The song less another source is called `no_` and that source.
INSTRUMENTAL: Final = "instrumental"
_LESS: Final = "no_"
#: The small model in our package, the licence of its weights, and what is said wherever it is used.
DEMO_MODEL: Final = "demo"
DEMO_LICENCE: Final = "MIT"
DEMO_LABEL: Final = (
    "demo model: small, trained on synthetic songs only; it shows that everything works, not what htdemucs can do"
)
#: `base` is a typo in the contract's oldest text that clients copied.
_STEM_ALIASES: Final = {"base": "bass", "no_base": "no_bass", "no_vocals": INSTRUMENTAL}


@dataclass(frozen=True, slots=True)
class ObjectName:
    """Where one object lies: `bucket` and `key`, both checked by whoever makes the name."""

    bucket: str
    key: str

    def __str__(self) -> str:
        return f"{self.bucket}/{self.key}"


#: What is written to see whether writing works.
PROBE: Final = ObjectName(QUEUE_BUCKET, ".probe/readyz")


def hash_song(data: bytes) -> str:
    """Return the song hash of `data`: its SHA-256 as 64 hex digits."""
    return hashlib.sha256(data).hexdigest()


def new_song_hash() -> str:
    """Draw what takes the place of a song hash where the song is not there yet: nobody knows its bytes."""
    return secrets.token_hex(32)


def hash_file(path: Path) -> str:
    """Return the SHA-256 of a file of any size, in the form of a song hash."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def marked(digits: str) -> str:
    """Return the 48 digits of a tenant's song with 16 more by which everybody can tell that it is of one.

    Of the hashes of songs one in 2⁶⁴ ends like that.
    """
    return digits + hashlib.sha256(_MARKED + digits.encode()).hexdigest()[:_MARK_LENGTH]


def is_marked(job_id: str) -> bool:
    """Tell whether a job is of a tenant whose ids are not the hashes of songs; which one, `unmix.access.tenants` knows.

    Raises:
        ValueError: `job_id` has not the form of one.
    """
    song_hash = song_hash_of(job_id)
    return marked(song_hash[:-_MARK_LENGTH]) == song_hash


def presumed_tenant(job_id: str) -> str:
    """Return whose a job is of which no request tells it."""
    return UNKNOWN_TENANT if is_marked(job_id) else MAIN_TENANT


def is_tenant(text: str) -> bool:
    """Tell whether a tenant may be called `text`."""
    return _TENANT.fullmatch(text) is not None


def is_job_id(text: str) -> bool:
    """Tell whether `text` has the form of a job id: a song hash, or `songhash.variant`."""
    return _JOB_ID.fullmatch(text) is not None


def is_stem(text: str) -> bool:
    """Tell whether `text` could be the name of a stem."""
    return _STEM.fullmatch(text) is not None


def file_name(song_name: str | None, stem: str, extension: str) -> str:
    """Return what the file of a stem is called where people meet it, such as `Song - vocals.mp3`."""
    title = _UNFIT_FOR_FILES.sub("_", _SONG_EXTENSION.sub("", song_name or ""))
    title = title.encode()[:_MAX_TITLE_BYTES].decode(errors="ignore").strip(" .")
    return f"{title} - {stem}.{extension}" if title else f"{stem}.{extension}"


def stem_named(name: str, stems: Collection[str] = ()) -> str:
    """Return the one name of the stem that somebody calls `name`; what is among `stems` is called as it is there."""
    return name if name in stems else _STEM_ALIASES.get(name, name)


def less_one(sources: Sequence[str]) -> dict[str, str]:
    """Return the stems that are the song less one of these sources, and which one each lacks.

    A source that is called like one of them is itself.
    """
    less = {INSTRUMENTAL if source == VOCALS else _LESS + source: source for source in sources}
    return {stem: source for stem, source in less.items() if stem not in sources and is_stem(stem)}


def stems_of(sources: Sequence[str]) -> tuple[str, ...]:
    """Return the stems that clients may ask for of a model with these sources; without asking they get the sources."""
    return (*sources, *less_one(sources))


def song_hash_of(job_id: str) -> str:
    """Return the song hash inside `job_id`.

    Raises:
        ValueError: `job_id` has not the form of one.
    """
    match = _JOB_ID.fullmatch(job_id)
    if match is None:
        raise ValueError("not a job id")
    return match["song_hash"]


def owner_of(name: ObjectName) -> str | None:
    """Return the id of the job that an object belongs to, the song hash for a song; None if it is none of ours."""
    match = _OWNER.fullmatch(name.key)
    return match["job_id"] if match else None


def song_object(song_hash: str) -> ObjectName:
    """Name the uploaded song. `.mp3` is the contract, whatever the format of the bytes."""
    return ObjectName(QUEUE_BUCKET, f"{song_hash}.mp3")


def retired_object(song_hash: str, since_ns: int) -> ObjectName:
    """Name the song while it is being removed by whoever began at `since_ns`, until it is certain that no job needs it.

    Each removal has its own: one that sleeps over another must find what it set aside.
    """
    return ObjectName(QUEUE_BUCKET, f"{retired_prefix(song_hash)}{since_ns}")


def retired_prefix(song_hash: str) -> str:
    """Return what the key of the song begins with while it is being removed."""
    return f"{song_hash}.mp3.retired."


def retired_since_ns(name: ObjectName) -> int:
    """Return when the removal began that set this song aside, in ns since the epoch."""
    return int(name.key.rpartition(".")[2])


def request_object(job_id: str) -> ObjectName:
    """Name the request document: what was asked, by whom to call back, when."""
    return ObjectName(QUEUE_BUCKET, f"{job_id}.json")


def outcome_object(job_id: str) -> ObjectName:
    """Name the outcome document: once it exists for the request's generation, the job is over."""
    return ObjectName(OUTPUT_BUCKET, f"{job_id}.json")


def open_mark(job_id: str) -> ObjectName:
    """Name the mark of a job that may need something from the janitor; its body does not matter."""
    return ObjectName(QUEUE_BUCKET, OPEN_PREFIX + job_id)


def new_upload_id(ends_at: int) -> str:
    """Return a fresh id that nobody can guess, of an upload whose time is over at `ends_at`, in s since the epoch."""
    return f"{ends_at:010}-{secrets.token_hex(16)}"


def is_upload_id(text: str) -> bool:
    """Tell whether `text` has the form of an upload's id."""
    return _UPLOAD_ID.fullmatch(text) is not None


def proof_of_upload(upload_id: str) -> str:
    """Return the end of an upload's id that proves which tenant's it is, empty for the main one's."""
    return "".join(upload_id.split("-")[2:])


def upload_ends_at(upload_id: str) -> int:
    """Return when the time of an upload is over, in seconds since the epoch."""
    return int(upload_id.partition("-")[0])


def upload_of(name: ObjectName) -> str | None:
    """Return the id of the upload that an object belongs to; None if it is of none."""
    upload_id = name.key.removeprefix(UPLOADS_PREFIX).partition("/")[0]
    return upload_id if name.key.startswith(UPLOADS_PREFIX) and is_upload_id(upload_id) else None


def upload_prefix(upload_id: str) -> str:
    """Return what every key of an upload in the bucket `queue` begins with."""
    return f"{UPLOADS_PREFIX}{upload_id}/"


def upload_ticket(upload_id: str) -> ObjectName:
    """Name the ticket of an upload: there is an upload as long as it exists. Only requests end with `.json` here."""
    return ObjectName(QUEUE_BUCKET, f"{upload_prefix(upload_id)}ticket")


def upload_whole(upload_id: str) -> ObjectName:
    """Name what a client puts straight into the store, the whole song at once."""
    return ObjectName(QUEUE_BUCKET, f"{upload_prefix(upload_id)}whole")


def upload_piece(upload_id: str, start: int, total: int) -> ObjectName:
    """Name a piece that begins at byte `start` of `total`, as no other piece is called: none writes over another."""
    key = f"{upload_prefix(upload_id)}{start:015}-{total}.{secrets.token_hex(8)}"
    return ObjectName(QUEUE_BUCKET, key)


def start_and_total_of(piece: ObjectName) -> tuple[int, int] | None:
    """Return where a piece of an upload begins, and how long the upload is; None if it is no piece."""
    match = _PIECE.fullmatch(piece.key.rpartition("/")[2])
    return (int(match["start"]), int(match["total"])) if match else None


def key_object(key_hash: str) -> ObjectName:
    """Name what is kept of a client's key."""
    return ObjectName(QUEUE_BUCKET, f"{KEYS_PREFIX}{key_hash}")


def tenant_secret(tenant: str) -> ObjectName:
    """Name the secret that the ids of a tenant's songs are made with."""
    return ObjectName(QUEUE_BUCKET, f"{ACCESS_PREFIX}tenants/{tenant}")


def access_secret() -> ObjectName:
    """Name the secret that signs what clients get who have a key."""
    return ObjectName(QUEUE_BUCKET, f"{ACCESS_PREFIX}secret")


def attempt_prefix(job_id: str) -> str:
    """Return what every key of this job's attempts in the bucket `output` begins with."""
    return f"{job_id}/"


def attempt_object(job_id: str, token: str, stem: str, extension: str) -> ObjectName:
    """Name a stem of one attempt; the token makes it unique, so that no two attempts share a name."""
    return ObjectName(OUTPUT_BUCKET, f"{attempt_prefix(job_id)}{token}/{stem}.{extension}")


def peaks_object(job_id: str, token: str) -> ObjectName:
    """Name the peaks of the stems of one attempt."""
    return ObjectName(OUTPUT_BUCKET, f"{attempt_prefix(job_id)}{token}/{PEAKS_FILE}")


def parts_prefix(job_id: str) -> str:
    """Return what every key of this job's parts in the bucket `output` begins with; no token of an attempt does."""
    return f"{attempt_prefix(job_id)}parts."


def part_folder(job_id: str, generation: str, kind: str) -> str:
    """Return what the keys of those parts begin with that may be joined: of one submission, made in one way."""
    return f"{parts_prefix(job_id)}{generation}.{kind}/"


def part_object(folder: str, index: int) -> ObjectName:
    """Name the document of part number `index` in a `part_folder`: once it exists, the part is there."""
    return ObjectName(OUTPUT_BUCKET, f"{folder}{index:05}.json")


def part_file_object(folder: str, index: int, token: str, stem: str) -> ObjectName:
    """Name a stem of a part; the token makes it unique: of two who make it neither writes over the other."""
    return ObjectName(OUTPUT_BUCKET, f"{folder}{index:05}.{token}.{stem}.flac")


def generation_of_part(name: ObjectName) -> str:
    """Return the generation of the submission that a part's file or document belongs to."""
    return name.key.partition("/parts.")[2].partition(".")[0]


def stem_object(job_id: str, stem: str, extension: str) -> ObjectName:
    """Name the copy of a stem that clients of the contract look for."""
    return ObjectName(OUTPUT_BUCKET, f"{job_id}-{stem}.{extension}")
