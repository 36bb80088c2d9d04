"""docs/redis-keys.md lists every key and every field that the code uses, and no other."""

import re
from pathlib import Path

from unmix.queue import keys as redis_keys

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "redis-keys.md").read_text()


#: Fields and values of the records of runs, which the table of keys describes.
OF_RUNS = {"kind", "parts", "length", "level", "there"}


def rows(section: str) -> set[str]:
    return set(re.findall(r"^\| `([^`]+)` \|", section, re.MULTILINE))


def test_every_key_is_documented() -> None:
    keys = {
        value
        for name, value in vars(redis_keys).items()
        if name.isupper() and isinstance(value, str) and not name.endswith("_PREFIX")
    }
    keys |= {
        redis_keys.JOB_PREFIX + "<job_id>",
        redis_keys.RUNS_PREFIX + "<job_id>",
        redis_keys.ROUNDS_OF_PREFIX + "<share>",
        redis_keys.JOBS_BY_PREFIX + "<term>",
        redis_keys.SPEED_PREFIX + "<model>",
        redis_keys.COMMIT_PREFIX + "<job_id>:<generation>",
        redis_keys.CALLS_PREFIX + "<what>",
        redis_keys.QUOTA_PREFIX + "<quota>:<holder>",
    }
    assert rows(PAGE.partition("## The record")[0]) == keys


def test_every_field_of_a_job_record_is_documented() -> None:
    scripts = "\n".join(path.read_text() for path in (ROOT / "src" / "unmix" / "queue" / "scripts").glob("*.lua"))
    commands = re.findall(r"call\('H(?:SET|GET|MGET|SETNX|INCRBY|DEL)', ([^\n]*(?:\n {15,}[^\n]*)?)", scripts)
    words = {word for command in commands for word in re.findall(r"'([a-z_]+)'", command)}
    fields = words - {"lease", "taken", "queued", "running", "done", "failed", "cancelled"} - OF_RUNS
    # The counter that `fail` is told to raise comes as an argument.
    assert rows(PAGE.partition("## The record")[2]) == fields | {"failures", "crashes"}
