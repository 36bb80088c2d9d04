"""`POST /apiv1/jobs/<job_id>/links`: whoever has a key lets others see and hear one job, for a while, without one."""

from http import HTTPStatus

from flask import Response, request

from unmix.access.keys import utc_text
from unmix.errors import InputError
from unmix_rest.access import LINK_HOURS, MOST_LINK_HOURS, caller
from unmix_rest.answer_shapes import LinkView
from unmix_rest.http.answers import json_answer
from unmix_rest.http.uploads import small_object
from unmix_rest.routes.lookup import checked
from unmix_rest.services import Services
from unmix_rest.views import view_of_job


def make_link(services: Services, job_id: str) -> Response:
    """Make a link to a job."""
    hours = _said_hours()
    view_of_job(checked(job_id), services)  # so that nobody sends a link that leads nowhere
    giver = caller().key
    if giver is None:
        raise InputError("this service wants no keys: the URLs of a job can be passed on as they are", code="no_keys")
    sealed, link = services.access.link_of(giver, job_id, hours=hours)
    answer = json_answer(
        LinkView(f"/apiv1/jobs/{job_id}?link={sealed}", sealed, utc_text(link.ends_at)), HTTPStatus.CREATED
    )
    answer.headers["Cache-Control"] = "no-store"
    return answer


def _said_hours() -> float:
    hours = small_object(request).get("hours")
    if hours is None:
        return LINK_HOURS
    if not isinstance(hours, int | float) or isinstance(hours, bool) or not 0 < hours <= MOST_LINK_HOURS:
        raise InputError(f"the field hours has to be a number, up to {MOST_LINK_HOURS}", code="invalid_field")
    return hours
