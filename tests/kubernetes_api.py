"""The API server of Kubernetes, as far as it lets annotations of pods be changed: small, and as strict as the real one.

Behind TLS, with a certificate of its own, a token and a folder as the kubelet mounts it into a pod.
"""

import json
import ssl
import threading
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, Self

from certificates import self_signed

NAMESPACE = "track-unmix"


class KubernetesApi:
    """A server with pods, by their names, and their annotations; `refusal` is what it answers to everything."""

    def __init__(self, folder: Path) -> None:
        self.pods: dict[str, dict[str, str]] = {}
        self.patches: list[tuple[str, dict[str, str]]] = []  # of which pod, and what
        self.refusal: HTTPStatus | None = None
        self.account = folder / "serviceaccount"
        self.account.mkdir()
        (self.account / "namespace").write_text(NAMESPACE)
        self.token = "a-token"  # in the file with a line's end, as some write it
        self.renew("a-token")
        certificate = self_signed(folder, "localhost")
        (self.account / "ca.crt").write_bytes(certificate.read_bytes())
        api = self

        class Handler(BaseHTTPRequestHandler):
            def do_PATCH(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                status, message = api.answer(self.path, dict(self.headers), body)
                told = json.dumps({"kind": "Status", "message": message, "code": int(status)}).encode()
                self.send_response(status)
                self.send_header("Content-Length", str(len(told)))
                self.end_headers()
                self.wfile.write(told)

            def log_message(self, format: str, *args: Any) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(certificate)
        self._server.socket = context.wrap_socket(self._server.socket, server_side=True, do_handshake_on_connect=False)
        self.url = f"https://localhost:{self._server.server_port}"

    def renew(self, token: str) -> None:
        """Let another token hold from here on."""
        self.token = token
        (self.account / "token").write_text(token + "\n")

    def answer(self, path: str, headers: dict[str, str], body: bytes) -> tuple[HTTPStatus, str]:
        """Do what is asked, and return the status and what is said of it."""
        *folder, pod = path.split("/")
        if self.refusal is not None:
            return self.refusal, "no"
        if headers.get("Authorization") != f"Bearer {self.token}":
            return HTTPStatus.UNAUTHORIZED, "Unauthorized"
        if folder != ["", "api", "v1", "namespaces", NAMESPACE, "pods"]:
            return HTTPStatus.FORBIDDEN, f"cannot patch {path}"
        if headers.get("Content-Type") != "application/merge-patch+json":
            return HTTPStatus.UNSUPPORTED_MEDIA_TYPE, "the body of the request was in an unknown format"
        change = json.loads(body)["metadata"]["annotations"]
        if not all(isinstance(value, str) for value in change.values()):
            return HTTPStatus.UNPROCESSABLE_ENTITY, "annotations are texts"
        if pod not in self.pods:
            return HTTPStatus.NOT_FOUND, f'pods "{pod}" not found'
        self.pods[pod].update(change)
        self.patches.append((pod, change))
        return HTTPStatus.OK, ""

    def __enter__(self) -> Self:
        threading.Thread(target=self._server.serve_forever, args=[0.01], daemon=True).start()  # ends at once
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()
