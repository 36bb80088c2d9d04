"""The REST application behind a port within the test's own process, which may go away and come back."""

import threading
from typing import Self

from werkzeug.serving import BaseWSGIServer, WSGIRequestHandler, make_server

from rest_support import Rest


class _Quiet(WSGIRequestHandler):
    def log_request(self, code: object = "-", size: object = "-") -> None:
        pass


class RestServer:
    """Serves `rest` as a context; `stop` and `start` are a restart, at the same address."""

    def __init__(self, rest: Rest) -> None:
        self._app = rest.client.application
        self._server: BaseWSGIServer | None = None
        self._port = 0

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._port}"

    def start(self) -> None:
        server = make_server("127.0.0.1", self._port, self._app, threaded=True, request_handler=_Quiet)
        self._server, self._port = server, server.server_port
        self._thread = threading.Thread(target=server.serve_forever, args=[0.01])  # ends at once
        self._thread.start()

    def stop(self) -> None:
        if self._server is not None:
            self._server.shutdown()
            self._thread.join()
            self._server.server_close()
            self._server = None

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()
