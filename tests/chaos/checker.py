"""The verdict on a run: by the history, the bytes in the store and the lengths of Redis' keys, read at its end.

It uses no code of the product, so that an error there cannot hide itself. What is promised: every accepted job is over
and its stems are those of the attempt that its outcome names; nothing is left in Redis; a submission ends once.
"""

import hashlib
import json
import os
import re
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import boto3  # type: ignore[import-untyped]
import redis

from chaos.history import Event

#: All objects of both buckets, as `bucket/key`.
Objects = Mapping[str, bytes]

#: The folder of a song in a file store, which is no part of its objects' keys.
_SONG_FOLDER: Final = re.compile(r"^(queue/|output/)[0-9a-f]{2}/[0-9a-f]{64}/")

_LENGTHS: Final = {
    "toWorker": "llen",
    "unmix:taken": "llen",
    "unmix:leases": "zcard",
    "unmix:open": "zcard",
    "unmix:delayed": "zcard",
    "unmix:outbox": "zcard",
    "unmix:marks": "hlen",
}


@dataclass
class Verdict:
    """What was found; each text names a job and what is wrong with it."""

    accepted: int = 0  # jobs that somebody was told are accepted
    lost: list[str] = field(default_factory=list)
    mixed: list[str] = field(default_factory=list)
    ended_twice: list[str] = field(default_factory=list)
    unpublished: list[str] = field(default_factory=list)  # a copy under the contract's name is missing
    not_called_back: list[str] = field(default_factory=list)
    orphans: list[str] = field(default_factory=list)  # files that nothing names
    broken: list[str] = field(default_factory=list)  # processes that ended though nobody ended them
    still_marked: list[str] = field(default_factory=list)  # as open, though all is over
    left_in_redis: dict[str, int] = field(default_factory=dict)
    runs: int = 0  # separations that were begun
    repeated: int = 0  # those beyond the first of each submission
    events: Counter[str] = field(default_factory=Counter)

    @property
    def repeated_share(self) -> str:
        """The share of repeated separations in those that had to be."""
        return f"{100 * self.repeated / max(1, self.runs - self.repeated):.1f} %"

    @property
    def wrong(self) -> list[str]:
        """All that breaks a promise."""
        return [*self.mixed, *self.ended_twice, *self.broken, *self.unfinished]

    @property
    def unfinished(self) -> list[str]:
        """What of it may still come right."""
        left = [f"{count} left in {key}" for key, count in self.left_in_redis.items()]
        return [*self.lost, *self.unpublished, *self.not_called_back, *self.orphans, *self.still_marked, *left]


@dataclass
class _Job:
    """What a client knows of its job."""

    owed: bool = False
    removal_asked: bool = False
    cancel_asked: bool = False
    poison: bool = False
    wants_call: bool = False


def check(events: Iterable[Event], objects: Objects, left_in_redis: dict[str, int]) -> Verdict:
    """Judge a run."""
    verdict = Verdict(left_in_redis=left_in_redis)
    jobs: defaultdict[str, _Job] = defaultdict(_Job)
    begun: Counter[tuple[str, str]] = Counter()
    ended: Counter[tuple[str, str]] = Counter()
    winners: defaultdict[tuple[str, str], set[str]] = defaultdict(set)
    called: set[str] = set()
    for event in events:
        verdict.events[event["event"]] += 1
        match event:
            case {"event": "asked", "verb": verb, "job": job}:
                jobs[job].removal_asked |= verb == "remove"
                jobs[job].cancel_asked |= verb == "cancel"
            case {"event": "accepted", "job": job, "orders": orders, "callback": callback}:
                jobs[job] = _Job(owed=True, poison=orders.get("poison", False), wants_call=callback)
            case {"event": "removed", "job": job}:
                jobs[job] = _Job()
            case {"event": "separating", "job": job, "generation": generation}:
                begun[job, generation] += 1
            case {"event": "finished", "job": job, "generation": generation}:
                ended[job, generation] += 1
            case {"event": "committed", "job": job, "generation": generation, "winner": winner}:
                winners[job, generation].add(winner)
            case {"event": "called", "job": job}:
                called.add(job)
    verdict.accepted = sum(job.owed for job in jobs.values())
    verdict.runs, verdict.repeated = begun.total(), begun.total() - len(begun)
    verdict.ended_twice = [f"{job}: {count} finishes accepted" for (job, _), count in ended.items() if count > 1]
    for (job_id, generation), tokens in winners.items():
        # Of a submission that was removed a late attempt may be committed too: it counts for nothing.
        if len(tokens) > 1 and generation == _generation(job_id, objects):
            verdict.ended_twice.append(f"{job_id}: commits of {tokens}")
    for job_id, job in jobs.items():
        if job.owed and (reason := _why_lost(job_id, job, objects)):
            verdict.lost.append(f"{job_id}: {reason}")
        if job.owed and job.wants_call and not job.removal_asked and job_id not in called:
            verdict.not_called_back.append(f"{job_id}: nobody was called back")
    for job_id in owed_jobs(objects):
        if not jobs[job_id].owed:  # never acknowledged, but its request stands
            verdict.lost.append(f"{job_id}: owed for ever")
    for key in filter(_is_outcome, objects):
        _check_stems(key, objects, verdict)
    verdict.orphans = _orphans(objects)
    verdict.still_marked = [f"{key}: still marked as open" for key in objects if key.startswith("queue/open/")]
    return verdict


def owed_jobs(objects: Objects) -> list[str]:
    """Return the jobs that have a request and no outcome of its generation."""
    requests = [key for key in objects if key.startswith("queue/") and key.endswith(".json")]
    job_ids = [key.removeprefix("queue/").removesuffix(".json") for key in requests]
    return [job_id for job_id in job_ids if _outcome(job_id, objects) is None]


def objects_in_folder(folder: Path) -> Objects:
    """Read a file store. What vanishes meanwhile is left out."""
    found = {}
    for bucket in ("queue", "output"):
        for parent, _, names in os.walk(folder / bucket):
            for name in names:
                path = Path(parent, name)
                key = _SONG_FOLDER.sub(r"\1", str(path.relative_to(folder)))
                with suppress(FileNotFoundError):
                    found[key] = path.read_bytes()
    return found


def objects_on_s3(endpoint_url: str, access_key: str, secret_key: str) -> Objects:
    """Read the two buckets of an S3 server. What vanishes meanwhile is left out."""
    client = boto3.client(
        "s3",
        endpoint_url=endpoint_url,
        aws_access_key_id=access_key,
        aws_secret_access_key=secret_key,
        region_name="us-east-1",
    )
    found = {}
    for bucket in ("queue", "output"):
        for page in client.get_paginator("list_objects_v2").paginate(Bucket=bucket):
            for entry in page.get("Contents", ()):
                with suppress(client.exceptions.NoSuchKey):
                    body = client.get_object(Bucket=bucket, Key=entry["Key"])["Body"]
                    found[f"{bucket}/{entry['Key']}"] = body.read()
    return found


def left_in_redis(url: str) -> dict[str, int]:
    """Return the keys that should be empty and are not, with their lengths."""
    with redis.Redis.from_url(url) as client:
        lengths = {key: getattr(client, command)(key) for key, command in _LENGTHS.items()}
    return {key: length for key, length in lengths.items() if length}


def _why_lost(job_id: str, job: _Job, objects: Objects) -> str | None:
    if f"queue/{job_id}.json" not in objects:
        return None if job.removal_asked else "its request is gone"
    outcome = _outcome(job_id, objects)
    if outcome is None:
        return "owed for ever"
    status, code = outcome["status"], outcome["error_code"]
    if job.poison:
        return None if (status, code) == ("failed", "poison") or job.cancel_asked else f"poison, but {status} ({code})"
    if status == "cancelled":
        return None if job.cancel_asked else "cancelled by nobody"
    if status != "done":
        return f"{status} ({code}: {outcome['error']})"
    gone = [file["key"] for file in outcome["stems"].values() if f"output/{file['key']}" not in objects]
    return f"{len(gone)} of its stems are gone" if gone and not job.removal_asked else None


def _check_stems(key: str, objects: Objects, verdict: Verdict) -> None:
    """Look whether what an outcome names, and the contract's copies of it, is of the attempt that won."""
    job_id = key.removeprefix("output/").removesuffix(".json")
    outcome = _outcome(job_id, objects)
    if outcome is None or outcome["status"] != "done":
        return
    for stem, file in outcome["stems"].items():
        copy = f"output/{job_id}-{stem}.{outcome['format']}"
        if copy not in objects:
            verdict.unpublished.append(f"{copy}: missing")
        for name in {f"output/{file['key']}", copy} & objects.keys():
            data = objects[name]
            made = json.loads(data)
            if made != {"token": outcome["token"], "stem": stem, "song": job_id[:64], **_made_of(outcome, objects)}:
                verdict.mixed.append(f"{name}: of {made}, not of {outcome['token']}")
            elif (len(data), hashlib.sha256(data).hexdigest()) != (file["size_bytes"], file["sha256"]):
                verdict.mixed.append(f"{name}: not the bytes that the outcome names")


def _made_of(outcome: dict[str, Any], objects: Objects) -> dict[str, Any]:
    """Return what the stems of a song in parts have to be made of: its own parts, of this submission, in order."""
    song = outcome["job_id"][:64]
    try:
        says = json.loads(objects.get(f"queue/{song}.mp3", b"{}"))
    except ValueError:  # a song with sound, not orders to the stand-in
        return {}
    if "parts" not in says:
        return {}
    generation = outcome["generation"]
    return {"parts": [{"song": song, "generation": generation, "part": part} for part in range(says["parts"])]}


def _outcome(job_id: str, objects: Objects) -> dict[str, Any] | None:
    """Return the outcome of a job's present submission."""
    data = objects.get(f"output/{job_id}.json")
    outcome: dict[str, Any] = json.loads(data) if data else {}
    return outcome if outcome and outcome["generation"] == _generation(job_id, objects) else None


def _generation(job_id: str, objects: Objects) -> str | None:
    request = objects.get(f"queue/{job_id}.json")
    return json.loads(request)["generation"] if request else None


def _orphans(objects: Objects) -> list[str]:
    """Return what lies in `output` and belongs to no request, or to an attempt that did not win."""
    outcomes = [json.loads(data) for key, data in objects.items() if _is_outcome(key)]
    named = {f"output/{file['key']}" for outcome in outcomes for file in outcome["stems"].values()}
    named |= {f"output/{outcome['peaks']['key']}" for outcome in outcomes if outcome.get("peaks")}
    # Parts of a done job stay for a while, those of dead helpers that nobody finished among them.
    heard = tuple(f"output/{each['job_id']}/parts.{each['generation']}." for each in outcomes if each["stems"])
    orphans = []
    for key in objects:
        if key.startswith("output/"):
            owner = re.split(r"\.json$|-|/", key.removeprefix("output/"))[0]
            if f"queue/{owner}.json" not in objects:
                orphans.append(f"{key}: its job has no request")
            elif key.count("/") > 1 and key not in named and not key.startswith(heard):
                orphans.append(f"{key}: of an attempt that did not win")
    return orphans


def _is_outcome(key: str) -> bool:
    return key.startswith("output/") and key.endswith(".json") and key.count("/") == 1
