"""Starts a worker: `python -m unmix_worker`. Settings come from the environment."""

import os
import platform
import secrets
import sys

import structlog

from unmix.confinement import in_force
from unmix.errors import UnmixError
from unmix.runtime.configured import read_settings
from unmix.runtime.connect import connect_queue, connect_store, wait_for_services
from unmix.runtime.heartbeat import Heartbeat
from unmix.runtime.last_words import last_words
from unmix.runtime.logs import configure_logs
from unmix.runtime.metrics import serve_metrics
from unmix.runtime.shutdown import Shutdown
from unmix.runtime.traces import configure_traces
from unmix_worker.presence import Presence
from unmix_worker.scratch import Scratch
from unmix_worker.separation import SeparationProcess
from unmix_worker.worker import Worker

log = structlog.get_logger()


def main() -> int:
    """Serve the queue until SIGTERM; the exit status is not 0 if a setting, a service, the model or the device fails.

    It is `last_words.NEVER` if the next worker would fail in the same way, as where there is no such model.
    """
    try:
        settings = read_settings()
    except UnmixError as error:
        return last_words(error)
    queue = connect_queue(settings)
    configure_logs("worker", settings, queue)
    heartbeat = Heartbeat(settings.worker_heartbeat)
    heartbeat.end()  # of a worker that was killed here before
    process = SeparationProcess(settings)
    host = platform.node()
    worker_id = f"{host}-{os.getpid()}-{secrets.token_hex(2)}"
    presence = Presence(queue.attendance, worker_id, host, lambda: process.state)
    try:
        log.info("decoders are shut in as far as they can", decoder_sandbox=in_force(settings.decoder_sandbox))
        configure_traces("worker", settings)
        store = connect_store(settings)
        wait_for_services(queue, store)
        with presence, Scratch(settings.scratch_dir) as scratch:
            shutdown = Shutdown(settings.shutdown_seconds)
            shutdown.listen()  # only now: before there is work, a signal may end the process at once
            worker = Worker(settings, queue, store, process, scratch, worker_id=worker_id)
            serve_metrics(worker.metrics.registry, settings)
            worker.run(shutdown)
    except UnmixError as error:
        log.error("worker stops", code=error.code, error=error.message)
        return last_words(error)
    finally:
        process.close()
        heartbeat.end()
    log.info("worker stopped")
    return 0


if __name__ == "__main__":
    sys.exit(main())
