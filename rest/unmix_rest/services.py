"""What the endpoints work with, put together once by the factory and handed to each of them."""

from dataclasses import dataclass

from unmix.audio.probe import Probe
from unmix.audio.turns import Turns
from unmix.ledger.ledger import Ledger
from unmix.queue.job_queue import JobQueue
from unmix.settings import Settings
from unmix.store.protocol import ObjectStore
from unmix_rest.access import Access
from unmix_rest.admission import Admission
from unmix_rest.http.temporary import Temporary
from unmix_rest.live import Live
from unmix_rest.metrics import Metrics
from unmix_rest.openapi import Description
from unmix_rest.quotas import Quotas


@dataclass(frozen=True, slots=True)
class Services:
    """The parts of one REST process."""

    settings: Settings
    queue: JobQueue
    store: ObjectStore
    ledger: Ledger
    probe: Probe
    metrics: Metrics
    live: Live
    description: Description
    access: Access
    temporary: Temporary
    admission: Admission
    quotas: Quotas
    intake: Turns  # one is held by whoever reads a song, on whatever thread
    decoder_sandbox: tuple[str, ...]  # what shuts the check of songs in
