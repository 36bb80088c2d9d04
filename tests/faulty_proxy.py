"""A proxy before a real server that does to single requests what networks and busy servers do."""

import http.client
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Literal


@dataclass(frozen=True)
class Request:
    """What a fault may choose by."""

    method: str
    path: str  # with the query
    headers: dict[str, str]  # names in lower case


@dataclass
class Fault:
    """What happens to the next `times` requests that `matches` accepts.

    `answer`: the proxy answers by itself with `status` and `body`. `drop`: it hangs up, and nothing reaches the server.
    `lose`: the server does the work and its answer is lost. `cut`: half of the answer's body arrives.
    `strip`: the header named in `body` does not reach the server. `pass`: nothing but what runs `meanwhile`.
    """

    kind: Literal["answer", "drop", "lose", "cut", "strip", "pass"]
    matches: Callable[[Request], bool]
    times: int = 1
    status: int = 200
    body: bytes = b""
    meanwhile: Callable[[], None] = lambda: None  # runs as the fault happens


class FaultyProxy(ThreadingHTTPServer):
    """Hands requests on to 127.0.0.1:`target_port`, one connection each, and remembers them."""

    daemon_threads = True

    def __init__(self, target_port: int) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.target_port = target_port
        self.faults: list[Fault] = []
        self.requests: list[Request] = []
        self._lock = threading.Lock()

    @property
    def endpoint(self) -> str:
        return f"127.0.0.1:{self.server_port}"

    def fault_for(self, request: Request) -> Fault | None:
        """Remember a request, and return and use up the fault that is meant for it."""
        with self._lock:
            self.requests.append(request)
            for fault in self.faults:
                if fault.times > 0 and fault.matches(request):
                    fault.times -= 1
                    return fault
        return None


@contextmanager
def faulty_proxy(target_port: int) -> Iterator[FaultyProxy]:
    """Run a proxy for as long as the block runs."""
    with FaultyProxy(target_port) as proxy:
        thread = threading.Thread(target=proxy.serve_forever, kwargs={"poll_interval": 0.02})
        thread.start()
        try:
            yield proxy
        finally:
            proxy.shutdown()
            thread.join()


class _Handler(BaseHTTPRequestHandler):
    server: FaultyProxy

    def _handle(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        headers = {name.lower(): value for name, value in self.headers.items()}
        fault = self.server.fault_for(Request(self.command, self.path, headers))
        kind = fault.kind if fault else None
        if fault is not None:
            fault.meanwhile()
            if kind == "drop":
                return
            if kind == "answer":
                self._answer(fault.status, {"Content-Type": "application/xml"}, fault.body)
                return
            if kind == "strip":
                headers.pop(fault.body.decode())
        status, answer_headers, answer = self._ask(headers, body)
        if kind != "lose":
            self._answer(status, answer_headers, answer, cut=kind == "cut")

    do_GET = do_HEAD = do_PUT = do_POST = do_DELETE = _handle

    def _ask(self, headers: dict[str, str], body: bytes) -> tuple[int, dict[str, str], bytes]:
        connection = http.client.HTTPConnection("127.0.0.1", self.server.target_port)
        try:
            connection.request(self.command, self.path, body, {**headers, "connection": "close"})
            answer = connection.getresponse()
            return answer.status, dict(answer.getheaders()), answer.read()
        finally:
            connection.close()

    def _answer(self, status: int, headers: dict[str, str], body: bytes, *, cut: bool = False) -> None:
        self.send_response(status)
        for name, value in headers.items():
            if name.lower() not in ("transfer-encoding", "content-length", "connection", "server", "date"):
                self.send_header(name, value)
        length = next((v for n, v in headers.items() if n.lower() == "content-length"), None)
        self.send_header("Content-Length", length if self.command == "HEAD" and length else str(len(body)))
        self.end_headers()
        self.wfile.write(body[: len(body) // 2] if cut else body)

    def log_message(self, format: str, *args: object) -> None:
        pass
