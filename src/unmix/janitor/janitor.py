"""The janitor: all that is periodic, in one small always-on process beside REST.

It puts abandoned work back into the queue, delivers callbacks, makes Redis agree with the store, and removes what need
not be kept any more. In Kubernetes it may say which workers are busy. Several janitors may run: a sweep is atomic, a
callback is delivered at least once anyway, and the reconciler does nothing that could not be done twice.
"""

import os
import threading
from typing import Final

import structlog

from unmix.errors import QueueError
from unmix.janitor.audit import Audit, Audited, DueAudits
from unmix.janitor.deletion_costs import LOOK_SECONDS, DeletionCosts
from unmix.janitor.deliveries import Deliveries
from unmix.janitor.metrics import JanitorMetrics
from unmix.janitor.periodic import Periodic
from unmix.janitor.pods import Pods
from unmix.janitor.reconciler import Reconciler
from unmix.janitor.retention import Retention
from unmix.ledger.ledger import Ledger
from unmix.queue.job_queue import JobQueue
from unmix.queue.records import Sweep
from unmix.runtime.connect import connect_queue, connect_store, wait_for_services
from unmix.runtime.heartbeat import Heartbeat
from unmix.runtime.logs import configure_logs
from unmix.runtime.metrics import serve_metrics
from unmix.runtime.shutdown import Shutdown
from unmix.runtime.traces import configure_traces
from unmix.settings import Settings

log = structlog.get_logger()

#: How many lines of others stay on the log list where we write none.
MOST_FOREIGN_LINES: Final = 10_000


def run(settings: Settings) -> None:
    """Keep house until SIGTERM or SIGINT; when a part has broken or hangs, end the process with status 1.

    Raises:
        QueueError, StoreError: a service refuses us, or was not there at the start.
        InputError: the port for Prometheus is taken, or traces are asked for and cannot be had
            (`traces_not_installed`).
    """
    queue, store = connect_queue(settings), connect_store(settings)
    configure_logs("janitor", settings, queue)
    configure_traces("janitor", settings)
    wait_for_services(queue, store)
    shutdown = Shutdown()
    shutdown.listen()
    log.info("janitor ready")
    log.info("retention", kept=settings.retention)
    heartbeat = Heartbeat(settings.janitor_heartbeat)
    ledger = Ledger(store, guard=queue.guard)
    stop = threading.Event()
    deliveries = Deliveries(settings, queue, ledger)
    metrics = JanitorMetrics(queue, deliveries.tries)
    serve_metrics(metrics.registry, settings)
    audits = DueAudits(audit_of(settings, queue, ledger), queue.job_list, pause_seconds=3600 * settings.audit_hours)
    passes = metrics.passes_of(Reconciler(queue, ledger))
    rounds = [
        Periodic("pass", passes, pause_seconds=settings.reconcile_seconds, stop=stop),
        Periodic("audit", audits.run, pause_seconds=settings.reconcile_seconds, stop=stop),
    ]
    if settings.kubernetes_url:
        costs = DeletionCosts(queue.attendance, Pods(settings.kubernetes_url))
        rounds.append(Periodic("deletion costs", costs.note, pause_seconds=LOOK_SECONDS, stop=stop))
    for each in rounds:
        each.start()
    parts: list[Periodic | Deliveries] = [*rounds, deliveries]
    with deliveries:
        while not shutdown.wait(settings.sweep_seconds):
            try:
                # First: while Redis is full of lines, nothing else can be written there.
                queue.log_list.trim(
                    max_lines=settings.log_list_max or MOST_FOREIGN_LINES,
                    max_bytes=round(settings.log_list_mb * (1 << 20)),
                )
                metrics.swept(sweep(queue))
                deliveries.start_due()
            except QueueError as error:
                log.warning("queue away", error=error.message)
                metrics.failed(error.code)
            try:  # a bug: better started afresh than going on half
                for part in parts:
                    part.check()
            except RuntimeError as error:
                log.error("janitor breaks off", error=str(error))
                os._exit(1)  # an orderly exit would wait for the delivery that hangs
            heartbeat.beat()
    stop.set()


def audit(settings: Settings) -> Audited:
    """Audit the store once, beside whatever janitors run.

    Raises:
        QueueError, StoreError: a service refuses us, or is not there.
    """
    queue, store = connect_queue(settings), connect_store(settings)
    wait_for_services(queue, store)
    return audit_of(settings, queue, Ledger(store, guard=queue.guard)).run()


def audit_of(settings: Settings, queue: JobQueue, ledger: Ledger) -> Audit:
    """Return the audit that `settings` ask for."""
    retention = Retention(
        queue,
        ledger,
        songs_hours=settings.keep_songs_hours,
        stems_days=settings.keep_stems_days,
        parts_hours=settings.keep_parts_hours,
    )
    return Audit(queue, ledger, retention)


def sweep(queue: JobQueue) -> Sweep:
    """Put back what is due or abandoned, say so if there was any, and return how much it was."""
    swept = queue.sweep()
    if swept.retries or swept.lapsed or swept.unclaimed:
        log.info("swept", retries=swept.retries, lapsed=swept.lapsed, unclaimed=swept.unclaimed)
    return swept
