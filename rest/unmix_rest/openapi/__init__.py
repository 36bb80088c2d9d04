"""The API as a document (OpenAPI 3.1), made from the table of routes: `Description` is what the service has of it.

Nothing of the API is said here: what a route takes and answers stands in its row of `unmix_rest.routes.table`.
"""

from collections.abc import Mapping, Sequence
from functools import cached_property
from typing import Any

from unmix_rest.http.route import Route


class Description:
    """What these routes are, in each form that somebody may ask for; made when they do."""

    def __init__(self, routes: Sequence[Route], version: str, *, needs_key: bool) -> None:
        self._routes = routes
        self._version = version
        self._needs_key = needs_key

    @cached_property
    def document(self) -> Mapping[str, Any]:
        """The document as plain JSON values."""
        from unmix_rest.openapi.document import document_of  # here, as its library takes its time to load

        return document_of(self._routes, self._version, needs_key=self._needs_key)

    @cached_property
    def json(self) -> bytes:
        """The document as a program reads it."""
        import json

        return json.dumps(self.document).encode()

    @cached_property
    def page(self) -> str:
        """The document as people read it."""
        from unmix_rest.openapi.page import page_of

        return page_of(self.document)
