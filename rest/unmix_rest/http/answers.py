"""Answers that are no errors: JSON as older clients know it.

They are encoded with jsonpickle as in the services that came before, as plain JSON without type names. Nothing is ever
decoded with it.
"""

from typing import Any

import jsonpickle
from flask import Response


def json_answer(fields: dict[str, Any]) -> Response:
    """Answer 200 with `fields` as JSON; older clients take any other status for a failure."""
    return Response(jsonpickle.encode(fields, unpicklable=False, keys=True), mimetype="application/json")
