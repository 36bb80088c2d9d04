"""The keys of the queue in Redis. `docs/redis-keys.md` tells what stands in each, kept complete by a test."""

from typing import Final

TO_WORKER: Final = "toWorker"
TAKEN: Final = "unmix:taken"
LEASES: Final = "unmix:leases"
OPEN: Final = "unmix:open"
DELAYED: Final = "unmix:delayed"
MARKS: Final = "unmix:marks"
FAILED: Final = "unmix:failed"
MODELS: Final = "unmix:models"
JOB_PREFIX: Final = "unmix:job:"
COMMIT_PREFIX: Final = "unmix:commit:"
DAMAGED: Final = "unmix:damaged"
OUTBOX: Final = "unmix:outbox"
OUTBOX_TRIES: Final = "unmix:outbox:tries"
LOGGING: Final = "logging"
