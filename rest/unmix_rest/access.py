"""Who may ask: the one place in which each request is looked at before its route is, and what it found out.

`unmix_rest.routes.table` says which scope a route wants; `unmix.access` has the keys. Whoever wants to know later who
asks, calls `caller`.
"""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Final

from flask import Flask, Request, request

from unmix.access.exposure import KnownHosts
from unmix.access.keyring import Keyring
from unmix.access.keys import Key, Scope, hash_of, is_key
from unmix.access.known_keys import KnownKeys
from unmix.access.seals import Link, Seals, Session
from unmix.access.tenants import MainIds, TenantIds, Tenants
from unmix.document import seconds_of
from unmix.errors import AccessError
from unmix.names import MAIN_TENANT
from unmix.settings import Settings
from unmix.store.protocol import ObjectStore
from unmix_rest.http.credentials import credentials_of
from unmix_rest.http.origins import is_from_elsewhere
from unmix_rest.http.route import Route

#: How long a browser stays signed in, if its key counts as long.
SESSION_SECONDS: Final = 30 * 86_400

#: How long a link to a job holds if nobody says, and at most.
LINK_HOURS: Final = 7 * 24
MOST_LINK_HOURS: Final = 365 * 24

#: What a page elsewhere can never do, with whatever method.
_CHANGING: Final = (Scope.SUBMIT, Scope.DELETE)
_HARMLESS_METHODS: Final = ("GET", "HEAD", "OPTIONS")
#: Those who watch over a service ask by whatever name or address.
_ASKED_BY_ANY_NAME: Final = "/healthz"

#: In the environment of a request: its `Caller`.
_CALLER: Final = "unmix.caller"


@dataclass(frozen=True, slots=True)
class Caller:
    """Who asks: the owner of a key, whoever got a link from one, or anybody where nobody is asked for a key."""

    tenant: str
    key: Key | None = None  # of a link, that of whoever gave it
    is_guest: bool = False  # came by a link
    ids: TenantIds = field(default_factory=MainIds)
    sees_all: bool = False  # what is of any tenant

    @property
    def listed_tenant(self) -> str | None:
        """Whose jobs lists show; None: those of all tenants."""
        return None if self.sees_all else self.tenant

    def sees(self, job_id: str) -> bool:
        """Tell whether a job of this id, which has the form of one, may be told of, if there is one."""
        return self.sees_all or self.ids.have(job_id)

    def sees_upload(self, upload_id: str) -> bool:
        """Tell the same of an upload."""
        return self.sees_all or self.ids.have_upload(upload_id)


#: Whoever asks a service without keys.
ANYBODY: Final = Caller(MAIN_TENANT, sees_all=True)
#: Whoever asks for what wants no key, where others do.
STRANGER: Final = Caller(MAIN_TENANT)


class Access:
    """Knows the keys of a service, and the sessions that were made from them."""

    def __init__(self, settings: Settings, store: ObjectStore, *, clock: Callable[[], float] = time.time) -> None:
        self.needs_key = settings.auth == "keys"
        self._hosts = None if self.needs_key else KnownHosts(settings.known_hosts, is_open=settings.open)
        self._pages = settings.allowed_origins
        self._clock = clock  # seconds since the epoch
        self._keys = KnownKeys(Keyring(store, clock=clock), clock=clock)
        self._seals = Seals(store)
        self._tenants = Tenants(store)

    def check_origin(self, request: Request, scope: Scope | None) -> None:
        """Refuse what a browser asks because a page elsewhere wants it; `scope` is the route's, None if there is none.

        Whoever says a key in `Authorization: Bearer` is no browser that does what a page wants without knowing.

        Raises:
            AccessError: we are asked by a name that is not ours (`unknown_host`), or something is to be changed by
                somebody else's page (`foreign_page`).
        """
        host = request.headers.get("Host")
        if self._hosts and host is not None and request.path != _ASKED_BY_ANY_NAME and not self._hosts.has(host):
            text = "this service is not known by this name: its operator can name it in UNMIX_HOSTS"
            raise AccessError(text, code="unknown_host")
        changes = request.method not in _HARMLESS_METHODS or (request.method != "OPTIONS" and scope in _CHANGING)
        says_key = self.needs_key and request.headers.get("Authorization", "").lower().startswith("bearer ")
        if changes and not says_key and is_from_elsewhere(request, self._pages):
            raise AccessError("pages of other origins may change nothing here", code="foreign_page")

    def key_of(self, request: Request) -> Key | None:
        """Return the key with which somebody asks, None if it is none.

        Raises:
            AccessError: what is given as a key is none that counts (`bad_key`).
            StoreError: nobody can say, as the store is away.
        """
        said = credentials_of(request)
        if said.key is not None:
            return self.key(said.key)
        session = self._seals.session(said.session, now=self._clock()) if said.session else None
        return self._keys.live(session.key_hash) if session else None

    def key(self, text: str) -> Key:
        """Return what is known of a key that counts.

        Raises:
            AccessError: it is none (`bad_key`).
            StoreError: nobody can say, as the store is away.
        """
        found = self._keys.live(hash_of(text)) if is_key(text) else None
        if found is None:
            raise AccessError("this is no key of this service, or it was revoked, or its time is over", code="bad_key")
        return found

    def session_of(self, key: Key) -> tuple[str, Session]:
        """Return a session for the owner of a key, sealed, and what it says."""
        session = Session(key.key_hash, self._ends_at(key, SESSION_SECONDS))
        return self._seals.of_session(session), session

    def link_of(self, key: Key, job_id: str, *, hours: float) -> tuple[str, Link]:
        """Return a link to a job from the owner of a key, sealed, and what it says; it does not outlive the key."""
        ends_at = self._ends_at(key, hours * 3600)
        link = Link(job_id, key.key_hash, ends_at)
        return self._seals.of_link(link), link

    def admit(self, request: Request, route: Route) -> Caller:
        """Return who asks for this route.

        Raises:
            AccessError: nobody who may (`key_required`, `bad_key`, `bad_link`, `scope_missing`).
            StoreError: nobody can say, as the store is away.
        """
        scope = route.scope
        if not self.needs_key:
            return ANYBODY
        if scope is Scope.PUBLIC:
            return STRANGER
        if route.takes_links and "link" in request.args and "Authorization" not in request.headers:
            return self._guest(request.args["link"], (request.view_args or {})["job_id"])
        key = self.key_of(request)
        if key is None:
            raise AccessError("this service wants a key: Authorization: Bearer <key>", code="key_required")
        if scope not in key.scopes:
            raise AccessError(f"this key is not for what needs the scope {scope}", code="scope_missing")
        return self._caller(key)

    def _guest(self, text: str, job_id: str) -> Caller:
        """Return who came by a link to this job."""
        link = self._seals.link(text, now=self._clock())
        giver = self._keys.live(link.key_hash) if link and link.job_id == job_id else None
        if giver is None or Scope.READ not in giver.scopes:
            raise AccessError("this is no link to this job, or its time or that of its giver is over", code="bad_link")
        return self._caller(giver, is_guest=True)

    def _caller(self, key: Key, *, is_guest: bool = False) -> Caller:
        """Return who asks with a key, or by a link from its owner."""
        ids, sees_all = self._tenants.ids(key.tenant), Scope.ADMIN in key.scopes
        return Caller(key.tenant, key, is_guest, ids, sees_all)

    def _ends_at(self, key: Key, seconds: float) -> int:
        ends_at = self._clock() + seconds
        return int(ends_at if key.expires_at is None else min(ends_at, seconds_of(key.expires_at)))


def register(app: Flask, access: Access, routes: Sequence[Route]) -> None:
    """Let nobody reach a route of `app` who may not."""
    by_endpoint = {route.endpoint: route for route in routes}

    @app.before_request
    def admit() -> None:
        route = by_endpoint.get(request.endpoint or "")
        access.check_origin(request, route.scope if route else None)
        # A browser asks without a key what a page may ask with one.
        if route is not None and request.method != "OPTIONS":
            request.environ[_CALLER] = access.admit(request, route)


def caller() -> Caller:
    """Return who asks."""
    found: Caller = request.environ.get(_CALLER, STRANGER)
    return found
