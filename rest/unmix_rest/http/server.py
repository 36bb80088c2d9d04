"""The application behind a real port, by waitress.

Waitress reads bodies into temporary files without holding a thread, so that slow uploads cost nothing. What is added
here: uploads have threads of their own, so that many songs being checked leave the rest answering; clients that trickle
are cut off; and waitress' own refusals have the form that all errors have.
"""

import logging
import signal
from types import FrameType
from typing import Any, Final

from flask import Flask
from waitress.channel import HTTPChannel
from waitress.server import BaseWSGIServer, create_server
from waitress.task import ErrorTask, ThreadedTaskDispatcher

from unmix_rest.http.problems import http_problem_json
from unmix_rest.http.uploads import body_limit_bytes

#: A connection on which nothing moves is closed after so many seconds.
IDLE_SECONDS: Final = 60
#: A request that comes slower than this, counted from its first byte, counts as nothing moving.
SLOWEST_BYTES_PER_SECOND: Final = 256
CONNECTIONS: Final = 500


class _ProblemTask(ErrorTask):
    """Answers what waitress refuses: bodies too large, headers that are none."""

    def execute(self) -> None:
        request: Any = self.request
        body = http_problem_json(request.error.code)
        self.status = f"{request.error.code} {request.error.reason}"
        self.response_headers = [("Content-Type", "application/problem+json")]
        self.set_close_on_finish()
        self.content_length = len(body)
        self.write(body)


class _Channel(HTTPChannel):
    """One connection."""

    error_task_class = _ProblemTask
    _began_at: float | None = None  # when the first byte of the request came that is being read

    def handle_read(self) -> None:
        """Read what came; waitress closes a connection whose `last_activity` is too long ago."""
        before = self.last_activity
        super().handle_read()
        request = self.request
        if request is None:
            self._began_at = None
            return
        self._began_at = self._began_at or self.last_activity
        received = request.header_bytes_received + request.body_bytes_received
        if received < (self.last_activity - self._began_at) * SLOWEST_BYTES_PER_SECOND:
            self.last_activity = before

    def send_continue(self) -> None:
        """Invite the body, unless the headers alone were refused: waitress would read all of it first."""
        if self.request is not None and self.request.error is None:
            super().send_continue()


class _Lanes(ThreadedTaskDispatcher):
    """Two groups of threads: one for uploads, and this one for everything else."""

    def __init__(self, threads: int) -> None:
        super().__init__()
        self._uploads = ThreadedTaskDispatcher()
        self._uploads.set_thread_count(max(1, threads // 2))
        self.set_thread_count(max(1, threads - threads // 2))

    def add_task(self, task: Any) -> None:
        request = task.requests[0]
        if request.error is None and request.command == "POST" and request.path.startswith("/apiv1/"):
            self._uploads.add_task(task)
        else:
            super().add_task(task)

    def shutdown(self, cancel_pending: bool = True, timeout: int = 5) -> bool:
        self._uploads.shutdown(cancel_pending, timeout)
        return super().shutdown(cancel_pending, timeout)


def serve(app: Flask, *, host: str, port: int, threads: int, max_upload_mb: int) -> None:
    """Answer requests until SIGTERM or SIGINT; requests under way then have a few seconds to end."""
    logging.getLogger("waitress.queue").setLevel(logging.ERROR)  # that uploads wait for each other is meant
    sockets: dict[int, Any] = {}
    server = create_server(
        app,
        map=sockets,
        _dispatcher=_Lanes(threads),
        host=host,
        port=port,
        max_request_body_size=body_limit_bytes(max_upload_mb << 20) + 1,
        channel_timeout=IDLE_SECONDS,
        cleanup_interval=5,
        connection_limit=CONNECTIONS,
        recv_bytes=64 * 1024,
        outbuf_high_watermark=1 << 30,  # stems wait on disk for slow clients, not in threads
        asyncore_use_poll=True,
        ident="",
        clear_untrusted_proxy_headers=True,
    )
    for socket in sockets.values():
        if isinstance(socket, BaseWSGIServer):
            socket.channel_class = _Channel
    signal.signal(signal.SIGTERM, _stop)
    server.run()


def _stop(number: int, frame: FrameType | None) -> None:
    raise SystemExit(0)
