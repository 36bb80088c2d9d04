"""The REST service as a WSGI application.

`create_app` only puts together: the routes of `unmix_rest.routes.table`, the errors' form, and what is true of every
answer. The flow of a song begins in `unmix_rest.routes.separate`.
"""

import time

from flask import Flask, Response, g

from unmix.audio.probe import Probe
from unmix.audio.turns import Turns
from unmix.ledger.ledger import Ledger
from unmix.queue.job_queue import JobQueue
from unmix.settings import Settings
from unmix.store.protocol import ObjectStore
from unmix_rest import access, rate_limit
from unmix_rest.admission import Admission
from unmix_rest.http import access_log, cors, operators, problems, tracing
from unmix_rest.http.lanes import UPLOADS_OF_A_CLIENT, readers
from unmix_rest.http.route import asked_route
from unmix_rest.http.temporary import Temporary
from unmix_rest.http.upload_room import UploadRoom
from unmix_rest.http.uploads import body_limit_bytes
from unmix_rest.live import Live
from unmix_rest.metrics import Metrics
from unmix_rest.openapi import Description
from unmix_rest.quotas import Quotas
from unmix_rest.routes import ops, table
from unmix_rest.services import Services


def create_app(
    settings: Settings,
    queue: JobQueue,
    store: ObjectStore,
    live: Live | None = None,
    *,
    room: UploadRoom | None = None,
    decoder_sandbox: tuple[str, ...] = (),
) -> Flask:
    """Return the service over a queue and a store, whose buckets are there already.

    Whoever wants to end the streams of events before the process ends brings what tells them, and whoever keeps bodies
    on the disk the `room` that songs share with them. `decoder_sandbox` is what was found to shut the check of songs
    in.
    """
    probe = Probe(
        min_seconds=settings.min_song_seconds,
        max_seconds=settings.max_song_seconds,
        limit_seconds=settings.probe_seconds,
        cpu_seconds=settings.probe_cpu_seconds,
        memory_mb=settings.probe_memory_mb,
        sandbox=settings.decoder_sandbox,
    )
    live = live or Live(queue)
    services = Services(
        settings,
        queue,
        store,
        Ledger(store, guard=queue.guard),
        probe,
        Metrics(live.promises.kept),
        live,
        Description(table.ROUTES, ops.VERSION, needs_key=settings.auth == "keys"),
        access.Access(settings, store),
        Temporary(room or UploadRoom(most_bytes=settings.upload_room_mb << 20, min_free_gb=settings.min_free_gb)),
        Admission(settings, queue, store),
        Quotas(settings, queue),
        Turns(readers(settings.rest_threads), each=UPLOADS_OF_A_CLIENT),
        decoder_sandbox,
    )
    app = Flask(__name__, static_folder=None)
    app.url_map.strict_slashes = False
    app.config["MAX_CONTENT_LENGTH"] = body_limit_bytes(settings.max_upload_mb << 20)

    @app.before_request
    def begin() -> None:
        g.began = time.monotonic()

    table.register(app, services)
    access_log.register(app, table.ROUTES)
    tracing.register(app)
    access.register(app, services.access, table.ROUTES)
    rate_limit.register(app, services.quotas, table.ROUTES)
    problems.register(app, services.metrics, table.ROUTES)
    if settings.admin_port is not None:
        operators.register(app, table.ROUTES)
    cors.register(app, cors.Cors(settings.allowed_origins))

    @app.after_request
    def finish(response: Response) -> Response:
        response.headers.setdefault("Content-Security-Policy", "default-src 'self'")
        response.headers["X-Content-Type-Options"] = "nosniff"
        seconds = time.monotonic() - g.began
        services.metrics.answered(route=asked_route(), status=response.status_code, seconds=seconds)
        return response

    return app
