"""docs/redis-keys.md lists every key and every field that the code uses, and no other."""

import re
from pathlib import Path

from unmix.queue import job_queue, log_list, outbox

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "redis-keys.md").read_text()


def rows(section: str) -> set[str]:
    return set(re.findall(r"^\| `([^`]+)` \|", section, re.MULTILINE))


def test_every_key_is_documented() -> None:
    keys = {
        value
        for module in (job_queue, outbox, log_list)
        for name, value in vars(module).items()
        if name.isupper() and isinstance(value, str) and not name.endswith("_PREFIX")
    }
    keys |= {job_queue.JOB_PREFIX + "<job_id>", job_queue.COMMIT_PREFIX + "<job_id>:<generation>"}
    assert rows(PAGE.partition("## The record")[0]) == keys


def test_every_field_of_a_job_record_is_documented() -> None:
    scripts = "\n".join(path.read_text() for path in (ROOT / "src" / "unmix" / "queue" / "scripts").glob("*.lua"))
    commands = re.findall(r"call\('H(?:SET|GET|MGET|SETNX|INCRBY|DEL)', ([^\n]*(?:\n {15,}[^\n]*)?)", scripts)
    words = {word for command in commands for word in re.findall(r"'([a-z_]+)'", command)}
    fields = words - {"lease", "taken", "queued", "running", "done", "failed", "cancelled"}
    # The counter that `fail` is told to raise comes as an argument.
    assert rows(PAGE.partition("## The record")[2]) == fields | {"failures", "crashes"}
