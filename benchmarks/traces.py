"""What traces cost: the processor time of a span, made and sent, and what the spans of a song come to.

.venv/bin/python -m benchmarks.traces
"""

import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Final

from unmix.runtime.spans import Recorder

#: Spans of a song of three minutes, its parts and a callback included, and what a quick machine takes for it.
_SPANS_OF_A_SONG: Final = 50
_SECONDS_OF_A_SONG: Final = 15.0
_SPANS: Final = 20_000
#: Spans made before all are sent: they must fit into the SDK's queue.
_AT_ONCE: Final = 1000
_TARGET: Final = 0.01


class _Receiver(BaseHTTPRequestHandler):
    def do_POST(self) -> None:
        """Take whatever comes."""
        self.rfile.read(int(self.headers["Content-Length"]))
        self.send_response(200)
        self.end_headers()

    def log_message(self, format: str, *args: object) -> None:
        """Say nothing."""


def main() -> None:
    """Make and send spans, and print what one of them and those of a song take."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), _Receiver)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    recorder = Recorder("benchmark", f"http://127.0.0.1:{server.server_port}")
    began = time.process_time()
    for number in range(_SPANS):
        with recorder.span("attempt", within=None, kind="consumer", facts={"job_id": "0" * 64, "attempt": number}):
            pass
        if number % _AT_ONCE == 0:
            recorder.flush()
    recorder.flush()
    span_s = (time.process_time() - began) / _SPANS
    share = span_s * _SPANS_OF_A_SONG / _SECONDS_OF_A_SONG
    print(
        f"a span, with its receiver: {1e6 * span_s:.0f} µs; {_SPANS_OF_A_SONG} of a song of {_SECONDS_OF_A_SONG:g} s: "
        f"{100 * share:.3f} % (target: at most {100 * _TARGET:g} %)"
    )


if __name__ == "__main__":
    main()
