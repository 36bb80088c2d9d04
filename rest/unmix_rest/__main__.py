"""`python -m unmix_rest`: the REST service as a process."""

import sys
from functools import partial

import structlog

from unmix.access.exposure import check_exposure
from unmix.confinement import in_force
from unmix.errors import UnmixError
from unmix.runtime.configured import read_settings
from unmix.runtime.connect import connect_queue, connect_store, wait_for_services
from unmix.runtime.logs import configure_logs
from unmix.runtime.traces import configure_traces
from unmix_rest.app import create_app
from unmix_rest.http.cors import Cors
from unmix_rest.http.server import serve
from unmix_rest.http.temporary import sweep_leftovers
from unmix_rest.http.upload_room import UploadRoom
from unmix_rest.live import Live
from unmix_rest.memory import give_back_what_is_free
from unmix_rest.routes.table import lanes_of


def main() -> int:
    """Serve until SIGTERM or SIGINT; the exit status is 1 if a setting is wrong or a service stays away."""
    give_back_what_is_free()
    try:
        settings = read_settings()
        walls = in_force(settings.decoder_sandbox)
        check_exposure(
            settings.host,
            behind_proxy=bool(settings.trusted_proxy),
            needs_key=settings.auth == "keys",
            is_open=settings.open,
        )
        configure_traces("rest", settings)
        queue, store = connect_queue(settings), connect_store(settings)
    except UnmixError as error:
        print(error, file=sys.stderr)
        return 1
    configure_logs("rest", settings, queue)
    log = structlog.get_logger()
    sweep_leftovers()
    try:
        wait_for_services(queue, store)
    except UnmixError as error:
        log.error("a service stays away", code=error.code, error=error.message)
        return 1
    if settings.open and settings.auth != "keys":
        log.warning("rest lets everybody in: whoever reaches it may fetch and remove all songs", host=settings.host)
    log.info(
        "rest ready",
        host=settings.host,
        port=settings.port,
        models=list(settings.allowed_models),
        decoder_sandbox=walls,
    )
    log.info("retention", kept=settings.retention)
    live = Live(queue)
    room = UploadRoom(most_bytes=settings.upload_room_mb << 20, min_free_gb=settings.min_free_gb)
    app = create_app(settings, queue, store, live, room=room, decoder_sandbox=walls)
    serve(
        app,
        lanes_of=partial(lanes_of, app.url_map),
        cors=Cors(settings.allowed_origins),
        host=settings.host,
        port=settings.port,
        trusted_proxy=settings.trusted_proxy,
        admin=None if settings.admin_port is None else (settings.admin_host or settings.host, settings.admin_port),
        threads=settings.rest_threads,
        streams=settings.rest_streams,
        max_upload_mb=settings.max_upload_mb,
        room=room,
        shutdown_seconds=settings.rest_shutdown_seconds,
        on_stop=live.stop,
    )
    log.info("rest stopped")
    return 0


if __name__ == "__main__":
    sys.exit(main())
