"""What is known of one route, beside what it answers: `unmix_rest.routes.table` has all of them."""

from collections.abc import Callable
from dataclasses import dataclass

from flask import Response

from unmix_rest.http.lanes import Lane


@dataclass(frozen=True, slots=True)
class Route:
    """One rule, and the function that answers it: it is handed the services and the variables of the rule."""

    rule: str
    methods: tuple[str, ...]  # HEAD goes with GET
    view: Callable[..., Response]
    lane: Lane = Lane.QUICK
    is_new: bool = False  # a wrong field is answered with 422, not with 400 as older clients expect
    may_wait: bool = False  # for the end of its job, if the client would
    takes_songs: bool = False  # what is refused here counts as a song that was turned away

    @property
    def endpoint(self) -> str:
        """What Flask calls the route, such as `separate.submit`."""
        return f"{self.view.__module__.rpartition('.')[2]}.{self.view.__name__}"
