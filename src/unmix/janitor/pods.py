"""Writes on the pods of our own namespace, over the API of Kubernetes, and may do nothing else there.

It knows the one call that is needed. The address is a setting; the token, the CA and the namespace are files that the
kubelet puts into a pod. The token is read anew each time, as it is replaced long before it expires.
"""

import http.client
import json
import ssl
from collections.abc import Mapping
from pathlib import Path
from typing import Final
from urllib.parse import quote, urlsplit

from unmix.errors import UnreachableError

#: Where the kubelet puts what a pod with a ServiceAccount needs.
ACCOUNT: Final = Path("/var/run/secrets/kubernetes.io/serviceaccount")
#: Longest wait for the server at each step, in seconds.
_REPLY_SECONDS: Final = 5
#: More of an answer is not read.
_MOST_BYTES: Final = 1 << 20


class Pods:
    """The pods of the namespace that this process runs in."""

    def __init__(self, server: str, account: Path = ACCOUNT) -> None:
        """Prepare to ask `server`, as `https://kubernetes.default.svc`, with the files in `account`."""
        self._server = urlsplit(server)
        self._account = account

    def annotate(self, pod: str, annotations: Mapping[str, str]) -> bool:
        """Set annotations of a pod, and leave all others as they are; False if there is no such pod.

        Raises:
            UnreachableError: the server cannot be reached, does not let us (`cluster_denied`), or does not do it.
        """
        change = json.dumps({"metadata": {"annotations": dict(annotations)}})
        try:
            namespace = (self._account / "namespace").read_text().strip()
            token = (self._account / "token").read_text().strip()
            path = f"/api/v1/namespaces/{quote(namespace, safe='')}/pods/{quote(pod, safe='')}"
            status, told = self._ask("PATCH", path, change, token)
        except (OSError, http.client.HTTPException) as error:
            raise UnreachableError(f"the API server of Kubernetes cannot be asked: {error}") from error
        except ValueError:  # which may have the token in its message
            raise UnreachableError("the API server of Kubernetes cannot be asked: bad address or token") from None
        if status == http.HTTPStatus.NOT_FOUND:
            return False
        if status in (http.HTTPStatus.UNAUTHORIZED, http.HTTPStatus.FORBIDDEN):
            message = f"Kubernetes does not let us write on pods ({status}): is k8s/components/scale-in applied? {told}"
            raise UnreachableError(message, code="cluster_denied")
        if status != http.HTTPStatus.OK:
            raise UnreachableError(f"Kubernetes did not write on the pod {pod} ({status}): {told}")
        return True

    def _ask(self, method: str, path: str, body: str, token: str) -> tuple[int, str]:
        host, port = self._server.hostname or "", self._server.port
        if self._server.scheme == "https":
            trusted = ssl.create_default_context(cafile=str(self._account / "ca.crt"))
            connection: http.client.HTTPConnection = http.client.HTTPSConnection(
                host, port, timeout=_REPLY_SECONDS, context=trusted
            )
        else:
            connection = http.client.HTTPConnection(host, port, timeout=_REPLY_SECONDS)
        try:
            headers = {"Authorization": f"Bearer {token}", "Content-Type": "application/merge-patch+json"}
            connection.request(method, path, body, {**headers, "Accept": "application/json"})
            answer = connection.getresponse()
            return answer.status, _message(answer.read(_MOST_BYTES))
        finally:
            connection.close()


def _message(body: bytes) -> str:
    """Return what the server says of a refusal."""
    try:
        return str(json.loads(body)["message"])
    except (ValueError, TypeError, KeyError):
        return ""
