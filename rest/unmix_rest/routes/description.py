"""`/apiv1/openapi.json` and `/apiv1/docs`: how this API describes itself, for programs and for people.

Both are the same document, made from the table of routes by `unmix_rest.openapi` when somebody asks for the first time.
"""

from importlib.resources import files

from flask import Response

from unmix_rest.services import Services


def openapi(services: Services) -> Response:
    """Describe this API as OpenAPI 3.1."""
    return Response(services.description.json, mimetype="application/json")


def docs(services: Services) -> Response:
    """Describe this API as a page for people, without scripts."""
    return Response(services.description.page, mimetype="text/html")


def style(services: Services) -> Response:
    """Hand out how the page looks."""
    return Response(files("unmix_rest").joinpath("openapi", "docs.css").read_bytes(), mimetype="text/css")
