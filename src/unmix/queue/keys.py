"""The keys of the queue in Redis. `docs/redis-keys.md` tells what stands in each, kept complete by a test."""

from typing import Final

from unmix import names

TO_WORKER: Final = "toWorker"
TAKEN: Final = "unmix:taken"
LEASES: Final = "unmix:leases"
OPEN: Final = "unmix:open"
DELAYED: Final = "unmix:delayed"
MARKS: Final = "unmix:marks"
FAILED: Final = "unmix:failed"
MODELS: Final = "unmix:models"
JOBS: Final = "unmix:jobs"
JOBS_CARDS: Final = "unmix:jobs:cards"
JOBS_ENDS: Final = "unmix:jobs:ends"
JOBS_BYTES: Final = "unmix:jobs:bytes"
JOBS_SINCE: Final = "unmix:jobs:since"
JOBS_WHOLE: Final = "unmix:jobs:whole"
JOBS_TENANTS: Final = "unmix:jobs:tenants"
JOBS_BY_PREFIX: Final = "unmix:jobs:by:"
ROUNDS: Final = "unmix:rounds"
ROUNDS_NOW: Final = "unmix:rounds:now"
ROUNDS_OF_PREFIX: Final = "unmix:rounds:of:"
JOB_PREFIX: Final = "unmix:job:"
HELP: Final = "unmix:help"
RUNS_PREFIX: Final = "unmix:runs:"
SPEED_PREFIX: Final = "unmix:speed:"
COMMIT_PREFIX: Final = "unmix:commit:"
DAMAGED: Final = "unmix:damaged"
OUTBOX: Final = "unmix:outbox"
OUTBOX_TRIES: Final = "unmix:outbox:tries"
CALLS_PREFIX: Final = "unmix:calls:"
QUOTA_PREFIX: Final = "unmix:quota:"
WORKERS: Final = "unmix:workers"
LAST_WORKER: Final = "unmix:workers:last"
READY: Final = "unmix:ready"
LOGGING: Final = "logging"


def jobs_of(tenant: str) -> str:
    """Return the key of all jobs of a tenant on the list of jobs."""
    return JOBS if tenant == names.MAIN_TENANT else f"{JOBS_BY_PREFIX}tenant:{tenant}"


def jobs_by(tenant: str, term: str) -> str:
    """Return the key of those that share something, such as `label:demo`."""
    return JOBS_BY_PREFIX + (term if tenant == names.MAIN_TENANT else f"tenant:{tenant}:{term}")
