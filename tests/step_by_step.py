"""Runs the product one call at a time: threads that stand still before each call to the queue or the store.

Whoever holds the threads decides who goes on, so any order of calls can be had. A process that is frozen is a thread
that is not let on; one that is killed is a thread whose next call, and every call after, does not happen.
"""

import threading
from collections.abc import Callable
from typing import Any

from unmix import names
from unmix.names import ObjectName

#: No single call takes this long on however busy a machine: the thread waits for another one that stands still.
PATIENCE_SECONDS = 30

_thread = threading.local()


class Killed(BaseException):
    """Raised in the thread of a killed actor; what the product does on its way out has no effect any more."""


class Actor:
    """A thread that runs `body` up to its first call, and from then on only by `step`."""

    def __init__(self, name: str, body: Callable[[], object]) -> None:
        self.name = name
        self.point: str | None = None  # the call that it stands before; None once it has ended
        self.result: object = None
        self._body = body
        self._error: BaseException | None = None
        self._killed = False
        self._stands, self._goes_on = threading.Semaphore(0), threading.Semaphore(0)
        threading.Thread(target=self._run, name=name, daemon=True).start()
        self._wait()

    @staticmethod
    def current() -> "Actor | None":
        """Return the actor whose thread this is."""
        return getattr(_thread, "actor", None)

    def stand_before(self, point: str) -> None:
        """Stand still in the actor's own thread until it is let on."""
        if not self._killed:
            self.point = point
            self._stands.release()
            self._goes_on.acquire()
        if self._killed:
            raise Killed

    def step(self) -> None:
        """Let it make the call that it stands before, and run up to the next one or to its end."""
        self._goes_on.release()
        self._wait()

    def kill(self) -> None:
        """End it where it stands."""
        if self.point is not None:
            self._killed = True
            self.step()

    def _run(self) -> None:
        _thread.actor = self
        try:
            self.result = self._body()
        except Killed:
            pass
        except BaseException as error:  # handed on to the thread that waits
            self._error = error
        self.point = None
        self._stands.release()

    def _wait(self) -> None:
        assert self._stands.acquire(timeout=PATIENCE_SECONDS), f"{self.name} hangs after {self.point}"
        if self._error is not None:
            raise self._error


class Stepwise:
    """Hands every call on to `target`, once the actor that makes it is let on. Other threads are not held up.

    `name` says what the call is, or None for one that need not be stood before; `watch` makes it, and may look at what
    was before and what is after it.
    """

    def __init__(
        self,
        target: object,
        name: Callable[[str, tuple[Any, ...]], str | None],
        watch: Callable[[str, tuple[Any, ...], Callable[[], Any]], Any],
    ) -> None:
        self._target = target
        self._name = name
        self._watch = watch

    def __getattr__(self, attribute: str) -> Any:
        member = getattr(self._target, attribute)
        if not callable(member):
            return member

        def call(*args: Any, **kwargs: Any) -> Any:
            actor, point = Actor.current(), self._name(attribute, args)
            if actor is not None and point is not None:
                actor.stand_before(point)
            return self._watch(attribute, args, lambda: member(*args, **kwargs))

        return call


def store_point(operation: str, args: tuple[Any, ...]) -> str | None:
    """Name a call to a store by what it does to which kind of object: `put outcome`, `read request`, `list queue`."""
    if operation == "room":
        return None
    if operation == "list":
        return f"list {args[0]}"
    verb = {"put_file": "put", "put_if": "put", "copy": "put", "remove": "remove"}.get(operation, operation)
    name = args[1] if operation == "copy" else args[0]
    return f"{verb if verb in ('put', 'remove') else 'read'} {_kind(name)}"


def _kind(name: ObjectName) -> str:
    if name.key.startswith(names.OPEN_PREFIX):
        return "mark"
    if "/parts." in name.key:
        return "part" if name.key.endswith(".json") else "file of a part"
    if name.key.endswith(".json"):
        return "request" if name.bucket == names.QUEUE_BUCKET else "outcome"
    if name.bucket == names.QUEUE_BUCKET:
        return "song"
    return "stem" if "/" in name.key else "copy"
