"""`GET /apiv1/usage`: how much whoever asks has used of its quotas."""

import time

from flask import Response

from unmix.access.keys import utc_text
from unmix.queue.quotas import Bucket
from unmix_rest.answer_shapes import QuotaView, UsageView
from unmix_rest.http.answers import json_answer
from unmix_rest.services import Services


def usage(services: Services) -> Response:
    """Tell how much of its quotas the caller has used."""
    now = time.time()
    told = {}
    for name, level in services.quotas.levels().items():
        quota = services.quotas.all[name]
        told[name] = QuotaView(
            limit=quota.most,
            used=round(level.used, 3),
            window_seconds=quota.window_seconds if isinstance(quota, Bucket) else None,
            full_at=utc_text(now + level.full_seconds) if level.full_seconds else None,
        )
    answer = json_answer(UsageView(told))
    answer.headers["Cache-Control"] = "no-store"
    return answer
