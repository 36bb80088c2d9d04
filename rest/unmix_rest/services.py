"""What the endpoints work with, put together once by the factory and handed to each of them."""

from dataclasses import dataclass

from unmix.job_queue import JobQueue
from unmix.ledger import Ledger
from unmix.probe import Probe
from unmix.settings import Settings
from unmix.store import ObjectStore
from unmix_rest.metrics import Metrics


@dataclass(frozen=True, slots=True)
class Services:
    """The parts of one REST process."""

    settings: Settings
    queue: JobQueue
    store: ObjectStore
    ledger: Ledger
    probe: Probe
    metrics: Metrics
