"""Answers that are no errors, as plain JSON.

Those that the services before this one gave are encoded with jsonpickle as they did, without type names; nothing is
ever decoded with it. It takes fifteen times as long over a page of the list of jobs, so what is new does without.
"""

import json
from http import HTTPStatus

import jsonpickle
from flask import Response

from unmix.job_view import View


def json_answer(view: View, status: int = HTTPStatus.OK) -> Response:
    """Answer with a view."""
    return Response(json.dumps(view.to_fields()), status, mimetype="application/json")


def old_answer(view: View) -> Response:
    """Answer with a view that older clients know, who take any other status than 200 for a failure."""
    text = jsonpickle.encode(view.to_fields(), unpicklable=False, keys=True)
    return Response(text, mimetype="application/json")
