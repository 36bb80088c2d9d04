"""Answers that are no errors: JSON as older clients know it.

They are encoded with jsonpickle as in the services that came before, as plain JSON without type names. Nothing is ever
decoded with it.
"""

from http import HTTPStatus

import jsonpickle
from flask import Response

from unmix.job_view import View


def json_answer(view: View, status: int = HTTPStatus.OK) -> Response:
    """Answer with a view as JSON; older clients take any other status than 200 for a failure."""
    text = jsonpickle.encode(view.to_fields(), unpicklable=False, keys=True)
    return Response(text, status, mimetype="application/json")
