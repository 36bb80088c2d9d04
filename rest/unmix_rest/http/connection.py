"""One connection, as waitress has it, with what it lacks.

One request is read and answered at a time. Clients that trickle, as they send or as they read, are cut off; an answer
can go as fast as its client takes it, so that it need not be kept; what waitress itself refuses has the form that all
errors have; and once the port is closed, a connection ends with its last answer, and not before its client has got all
of it. `unmix_rest.http.places` says who has to go when there are too many.
"""

import fcntl
import sys
import termios
import time
from contextlib import suppress
from functools import partial
from socket import SHUT_WR, socket
from typing import Any, Final, cast

from waitress.channel import ClientDisconnected, HTTPChannel
from waitress.task import ErrorTask, WSGITask
from waitress.utilities import RequestEntityTooLarge

from unmix_rest.http.clients import IS_GONE, client_of, has_left
from unmix_rest.http.cors import Cors
from unmix_rest.http.lanes import HAS_ROOM, MAY_STAY, WAIT_TO_SEND
from unmix_rest.http.pace import Pace, is_next_to_nothing
from unmix_rest.http.problems import RETRY_AFTER_SECONDS, http_problem_json
from unmix_rest.http.request_head import Early, NoRoom, RequestHead, TooSlow
from unmix_rest.http.upload_room import UploadRoom

#: How long the loop waits for a thread that sends; it must not keep other connections waiting.
_SENDING_SECONDS: Final = 0.001
#: For how long a connection that is silent counts as if its client sent so much: more than who trickles, and less than
#: who sends a song.
_FRESH_SECONDS: Final = 2.0
_FRESH_BYTES_PER_SECOND: Final = 4096.0
#: How long a client whose body is too large may go on sending it, and how much, so that it comes to read why.
_HEARING_OUT_SECONDS: Final = 2
_HEARING_OUT_BYTES: Final = 64 << 20
#: A buffer of an answer keeps what was sent until another one is begun: after so many bytes, if most of them are sent.
_BUFFER_BYTES: Final = 1 << 20
#: What may wait on the disk, of all connections together, for clients for which no thread was left that could wait.
MOST_KEPT_BYTES: Final = 512 << 20


#: Where the environment of a request says whether it came in where those who run the service ask.
FOR_OPERATORS: Final = "unmix.for_operators"


class _AnswerTask(WSGITask):
    """Answers by the application."""

    def get_environment(self) -> dict[str, Any]:
        """Add what only the server knows: where it came in, whether it may keep its thread, how its answer goes out."""
        environment = super().get_environment()
        environment[MAY_STAY] = getattr(self.request, "may_stay", False)
        channel: Any = self.channel
        environment[FOR_OPERATORS] = channel.for_operators
        environment[WAIT_TO_SEND] = channel.wait_to_send
        environment[HAS_ROOM] = channel.has_room
        environment[IS_GONE] = channel.is_gone
        return environment

    def build_response_header(self) -> bytes:
        """Say that the connection ends with this answer, if the port is closed and no other request was read."""
        request: Any = self.request
        channel: Any = self.channel
        if not channel.server.accepting and channel.is_last_request():
            request.headers["CONNECTION"] = "close"
        return super().build_response_header()


class _ProblemTask(ErrorTask):
    """Answers what waitress refuses: bodies too large, headers that are none."""

    def execute(self) -> None:
        request: Any = self.request
        body = http_problem_json(request.error.code)
        self.status = f"{request.error.code} {request.error.reason}"
        channel: Any = self.channel
        channel.is_too_much = isinstance(request.error, (NoRoom, RequestEntityTooLarge, TooSlow))
        cors = channel.cors.headers(request.headers.get("ORIGIN"))
        self.response_headers = [("Content-Type", "application/problem+json"), *cors.items()]
        if isinstance(request.error, NoRoom):
            self.response_headers.append(("Retry-After", str(RETRY_AFTER_SECONDS)))
        self.set_close_on_finish()
        self.content_length = len(body)
        self.write(body)


class Connection(HTTPChannel):
    """One connection; `cors` says what its errors tell pages of other origins, `room` how much bodies may take, and
    `for_operators` who connects there.
    """

    task_class = _AnswerTask
    error_task_class = _ProblemTask
    _early: Early | None = None  # what came before the request in front of it was answered
    is_too_much = False  # what was sent; nothing else comes on this connection then
    _hears_out_until: float | None = None
    _heard_bytes = 0
    _sent_bytes = 0
    _reading: Pace | None = None  # how fast the client reads; None: nothing waits for it

    def __init__(self, *args: Any, cors: Cors, room: UploadRoom, for_operators: bool, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.cors = cors
        self._room = room
        self.for_operators = for_operators
        self.parser_class = cast(Any, self._next_parser)

    def readable(self) -> bool:
        """Tell whether more should be read; what came early is, as soon as everything before it is answered."""
        if self._early is not None and not (self.requests or self.total_outbufs_len or self.will_close):
            early, self._early = self._early, None
            self.received(early.data)
        return bool(super().readable())

    def handle_write(self) -> None:
        """Send what can be sent; what is closed with a request unread would take the answer with it."""
        if self.is_too_much and self.close_when_flushed and self.socket is not None:
            channel: Any = self
            channel._flush_exception(channel._flush_some)
            if not self.total_outbufs_len and not self.will_close:
                self.close_when_flushed = False
                self._hears_out_until = time.time() + _HEARING_OUT_SECONDS
                with suppress(OSError):
                    self.socket.shutdown(SHUT_WR)
                return
        super().handle_write()

    def handle_read(self) -> None:
        """Read what came."""
        if self._hears_out_until is not None:
            self._heard_bytes += len(self.recv(self.adj.recv_bytes))  # closes the connection with the end of what comes
            if self._heard_bytes > _HEARING_OUT_BYTES:
                self.handle_close()
            return
        super().handle_read()

    def write_soon(self, data: Any) -> int:
        """Buffer what is to be sent; waitress would begin a new buffer after a gigabyte only."""
        if self.current_outbuf_count >= _BUFFER_BYTES > self.total_outbufs_len:
            self.current_outbuf_count = self.adj.outbuf_high_watermark
        return super().write_soon(data)

    def send(self, data: bytes, do_close: bool = True) -> int:
        """Send what the kernel takes, and count it."""
        sent: int = super().send(data, do_close=do_close)
        self._sent_bytes += sent
        return sent

    def has_room(self, size_bytes: int) -> bool:
        """Tell whether an answer of this size may wait for its client on the disk."""
        channels: Any = self.server.active_channels
        waiting: int = sum(channel.total_outbufs_len for channel in list(channels.values()))
        return waiting + size_bytes <= MOST_KEPT_BYTES

    def is_last_request(self) -> bool:
        """Tell whether nothing was read that is still to be answered, but for one request."""
        return len(self.requests) == 1 and self.request is None and self._early is None

    def bytes_per_second(self, now: float) -> float | None:
        """Return how fast a request comes in, 0 if there is none; None while one is answered.

        Of whoever has just come, or has just had an answer, a request may be on its way.
        """
        if self.requests or self.total_outbufs_len or self._early is not None:
            return None
        request = cast("RequestHead | None", self.request)
        if request is not None:
            return request.pace.bytes_per_second(now, request.received_bytes)
        return 0.0 if now - self.last_activity > _FRESH_SECONDS else _FRESH_BYTES_PER_SECOND

    def end_if_stuck(self, now: float) -> None:
        """Cut the client off if it sends or reads next to nothing, or not even its end.

        Only a socket that can be written to is ever asked by waitress whether it should be closed.
        """
        request = cast("RequestHead | None", self.request)
        seconds = self.adj.channel_timeout
        if request is not None and request.pace.is_too_slow(now, request.received_bytes, look_seconds=seconds):
            self._refuse_slow(request)
        elif self._is_deaf(now):
            self.handle_close()

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
                if is_over and is_next_to_nothing(before - self._bytes_on_the_way(), seconds):
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
        if not self.requests and self.request is None and self._early is None and not self.total_outbufs_len:
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
            return
        if self.request is not None:
            self.request.close()
        super().handle_close()

    def _refuse_slow(self, request: RequestHead) -> None:
        if not request.headers_finished:  # it is no request yet
            self.handle_close()
            return
        channel: Any = self
        with channel.requests_lock:
            request.refuse(TooSlow("next to nothing of the body came"))
            channel.request = None
            channel.requests.append(request)
        channel.server.add_task(channel)

    def _is_deaf(self, now: float) -> bool:
        """Tell whether the client reads next to nothing of what is sent, or goes on sending what nobody wants."""
        if not self.total_outbufs_len:
            self._reading = None
            return self._hears_out_until is not None and now >= self._hears_out_until
        if self.will_close:
            return True
        self._reading = self._reading or Pace(now, self._got_bytes())
        return self._reading.is_too_slow(now, self._got_bytes(), look_seconds=self.adj.channel_timeout)

    def _next_parser(self, adj: Any) -> RequestHead:
        """Return what reads the next request: waitress would have any number of them wait for the first one."""
        if not self.requests:
            return RequestHead(adj, self._room, partial(client_of, self))
        self._early = Early(adj, self._room, partial(client_of, self))
        return self._early

    def _got_bytes(self) -> int:
        """Return how much of all that was ever sent the client has got."""
        return self._sent_bytes - (_unacknowledged_bytes(self.socket) if self.socket is not None else 0)

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
