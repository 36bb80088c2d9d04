"""One connection, as waitress has it, with what it lacks.

Clients that trickle are cut off; an answer can go as fast as its client takes it, so that it need not be kept; what
waitress itself refuses has the form that all errors have; and once the port is closed, a connection ends with its last
answer, and not before its client has got all of it.
"""

import fcntl
import sys
import termios
from socket import socket
from typing import Any, Final

from waitress.channel import ClientDisconnected, HTTPChannel
from waitress.task import ErrorTask, WSGITask

from unmix_rest.http.clients import IS_GONE, has_left
from unmix_rest.http.cors import Cors
from unmix_rest.http.lanes import MAY_STAY, WAIT_TO_SEND
from unmix_rest.http.problems import http_problem_json
from unmix_rest.http.request_head import RequestHead

#: A request that comes slower than this, counted from its first byte, counts as nothing moving; so does an answer.
SLOWEST_BYTES_PER_SECOND: Final = 256
#: How long the loop waits for a thread that sends; it must not keep other connections waiting.
_SENDING_SECONDS: Final = 0.001
#: A buffer of an answer keeps what was sent until another one is begun: after so many bytes, if most of them are sent.
_BUFFER_BYTES: Final = 1 << 20


class _AnswerTask(WSGITask):
    """Answers by the application."""

    def get_environment(self) -> dict[str, Any]:
        """Add what only the server knows: whether the request may keep its thread, and how its answer goes out."""
        environment = super().get_environment()
        environment[MAY_STAY] = getattr(self.request, "may_stay", False)
        channel: Any = self.channel
        environment[WAIT_TO_SEND] = channel.wait_to_send
        environment[IS_GONE] = channel.is_gone
        return environment

    def build_response_header(self) -> bytes:
        """Say that the connection ends with this answer, if the port is closed and no other request was read."""
        request: Any = self.request
        if not self.channel.server.accepting and len(self.channel.requests) == 1 and self.channel.request is None:
            request.headers["CONNECTION"] = "close"
        return super().build_response_header()


class _ProblemTask(ErrorTask):
    """Answers what waitress refuses: bodies too large, headers that are none."""

    def execute(self) -> None:
        request: Any = self.request
        body = http_problem_json(request.error.code)
        self.status = f"{request.error.code} {request.error.reason}"
        channel: Any = self.channel
        cors = channel.cors.headers(request.headers.get("ORIGIN"))
        self.response_headers = [("Content-Type", "application/problem+json"), *cors.items()]
        self.set_close_on_finish()
        self.content_length = len(body)
        self.write(body)


class Connection(HTTPChannel):
    """One connection; `cors` says what its errors tell pages of other origins."""

    task_class = _AnswerTask
    error_task_class = _ProblemTask
    parser_class = RequestHead
    _began_at: float | None = None  # when the first byte of the request came that is being read

    def __init__(self, *args: Any, cors: Cors, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.cors = cors

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

    def write_soon(self, data: Any) -> int:
        """Buffer what is to be sent; waitress would begin a new buffer after a gigabyte only."""
        if self.current_outbuf_count >= _BUFFER_BYTES > self.total_outbufs_len:
            self.current_outbuf_count = self.adj.outbuf_high_watermark
        return super().write_soon(data)

    def wait_to_send(self, most_bytes: int) -> None:
        """Return when at most so many bytes wait to be sent; a client that takes next to nothing is cut off.

        Raises:
            ClientDisconnected: the client is gone.
        """
        seconds = self.adj.channel_timeout
        with self.outbuf_lock:
            while self.connected and self.total_outbufs_len > most_bytes:
                before = self._bytes_on_the_way()
                self.outbuf_lock.wait_for(
                    lambda: not self.connected or self.total_outbufs_len <= most_bytes, timeout=seconds
                )
                is_over = self.total_outbufs_len > most_bytes
                if is_over and before - self._bytes_on_the_way() < seconds * SLOWEST_BYTES_PER_SECOND:
                    self.will_close = True
                    raise ClientDisconnected
            if not self.connected:
                raise ClientDisconnected

    def is_gone(self) -> bool:
        """Tell whether the client has closed the connection; nobody reads from it while a request is answered."""
        return not self.connected or self.socket is None or has_left(self.socket)

    def send_continue(self) -> None:
        """Invite the body, unless the headers alone were refused: waitress would read all of it first."""
        if self.request is not None and self.request.error is None:
            super().send_continue()

    def close_if_idle(self) -> None:
        """Have the connection closed if no request is being read, waits or is answered on it."""
        # In this order: a thread takes its request from the list after it has put all of the answer into the buffers.
        if not self.requests and self.request is None and not self.total_outbufs_len:
            self.will_close = True

    def writable(self) -> bool:
        """Tell whether there is something to send, or the connection to close.

        While a thread sends there is, and the loop can do nothing about it: it would ask again at once, and so keep
        that very thread from going on. Under load that took most of the processor, so the thread is waited for.
        """
        if super().writable() and self.outbuf_lock.acquire(timeout=_SENDING_SECONDS):
            self.outbuf_lock.release()
        return super().writable() and not self._is_lingering()

    def handle_close(self) -> None:
        """Close the connection, or leave that for when its client has got everything."""
        if self._is_lingering():
            self.will_close = True
        else:
            super().handle_close()

    def _bytes_on_the_way(self) -> int:
        """Return how much of what was written the client has not got."""
        return self.total_outbufs_len + (_unacknowledged_bytes(self.socket) if self.socket is not None else 0)

    def _is_lingering(self) -> bool:
        """Tell whether the kernel holds the end of the last answer; it would be lost with the network of a pod."""
        is_last = not self.server.accepting and not self.total_outbufs_len
        return is_last and self.socket is not None and _unacknowledged_bytes(self.socket) > 0


def _unacknowledged_bytes(peer: socket) -> int:
    """Return how much of what was sent has not arrived; 0 if the client is gone, or the system does not say."""
    try:
        peer.getpeername()  # fails if the client is gone: what it left behind would count for ever
        return int.from_bytes(fcntl.ioctl(peer, termios.TIOCOUTQ, bytes(4)), sys.byteorder)
    except (OSError, ValueError):  # another thread may have closed it a moment ago
        return 0
