"""Who may do what: the lockdown.

There is one password. A browser gives it once on the lockdown page and gets a cookie with a random token for the browser
session; the database keeps only the token's SHA-256, so ending a session is deleting a row. A program sends the password by
HTTP Basic with any user name, or a token that was made for it (``tokens``) as Bearer. Whoever gave the password holds every
permission of the table below; a token cannot make tokens, and one that may only read cannot change anything.

Three walls, each of which would do alone: a tween that turns away everything but ``OPEN_PATHS`` before anything is looked
up, a default permission for every view, and the access list of the resource tree. **What is not named open is locked.**
"""

from __future__ import annotations

import base64
import hmac
import ipaddress
import re
import secrets
import time
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, nullcontext
from datetime import UTC, datetime
from enum import StrEnum
from http.cookies import CookieError, SimpleCookie
from typing import Any, NamedTuple
from urllib.parse import urlsplit

from limits import RateLimitItemPerMinute
from limits.storage import MemoryStorage
from limits.strategies import FixedWindowRateLimiter
from pyramid.authorization import ACLHelper, Authenticated, Everyone
from pyramid.csrf import BadCSRFOrigin
from pyramid.httpexceptions import HTTPForbidden, HTTPTooManyRequests
from pyramid.interfaces import ICSRFStoragePolicy, ISecurityPolicy
from pyramid.request import RequestLocalCache
from pyramid.security import Denied
from pyramid.tweens import EXCVIEW, INGRESS, MAIN
from sqlalchemy.orm import Session
from zope.interface import implementer

from dicomweb import passwords, sessions, tokens
from dicomweb.db import work
from dicomweb.languages import gettext
from dicomweb.settings import Settings, is_loopback

SESSION_COOKIE = "dicomweb_session"
# The token against forged requests hangs on this cookie where there is no session: on the lockdown page, and with the lockdown off.
VISITOR_COOKIE = "dicomweb_visitor"
_TOKEN = re.compile(r"[A-Za-z0-9_-]{43}")

# What answers without the password. Static files are the front end's code, the same for everybody.
OPEN_PATHS = ("/login", "/health")
OPEN_PREFIX = "/static/"

# A person who mistypes never meets these; who tries passwords meets the first, who has many addresses the second.
ATTEMPTS_OF_ONE_ADDRESS = RateLimitItemPerMinute(10)
ATTEMPTS_OF_ALL = RateLimitItemPerMinute(100)

SAFE_METHODS = frozenset({"GET", "HEAD", "OPTIONS"})

CONTENT_SECURITY_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; font-src 'self'; connect-src 'self'; "
    "form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
)
# A worker obeys the policy of its own script. The one that decodes frames compiles its decoders (WebAssembly); it asks for nothing else.
_DECODER = re.compile(r"/static/dist/assets/decodeImageFrameWorker-[A-Za-z0-9_-]+\.js")
WORKER_POLICY = "default-src 'none'; script-src 'self' 'wasm-unsafe-eval'; connect-src 'self'"
# The page of an image starts that worker, and its tools make their cursors and snapshots as blobs.
VIEWER_POLICY = CONTENT_SECURITY_POLICY.replace("img-src 'self' data:", "img-src 'self' data: blob:") + "; worker-src 'self'"
HEADERS = {
    "Content-Security-Policy": CONTENT_SECURITY_POLICY,
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "same-origin",
    "Permissions-Policy": "camera=(), geolocation=(), microphone=(), payment=(), usb=()",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    # Pages and answers hold patient data, and must not stay in a cache when the session has ended.
    "Cache-Control": "no-store",
}


class Permission(StrEnum):
    """What can be allowed; ``sentence`` tells people what it means."""

    sentence: str

    def __new__(cls, value: str, sentence: str) -> Permission:
        """Make a permission that is its own name."""
        permission = str.__new__(cls, value)
        permission._value_ = value
        permission.sentence = sentence
        return permission

    USE = "application:use", "See the dashboard, and everything no other permission is named for."
    BATCH_READ = "batch:read", "See batches, their errors and their notices."
    BATCH_RETRY = "batch:retry", "Have the failed files of a batch imported again."
    BATCH_UPLOAD = "batch:upload", "Upload files into a new batch, or into one that is there."
    BATCH_DELETE = "batch:delete", "Delete a batch with all its images."
    IMAGE_READ = "image:read", "See images and their header elements."
    IMAGE_ADD = "image:add", "Store images."
    SEARCH_SAVE = "search:save", "Give a search a name, and forget one."
    LABEL_CHANGE = "label:change", "Put labels on batches, studies, series and images, and take them away."
    ARRIVAL_READ = "arrival:read", "See what waits in the watched folders."
    ARRIVAL_IMPORT = "arrival:import", "Import a waiting folder now."
    JOB_READ = "job:read", "See what the workers owe."
    JOB_RETRY = "job:retry", "Have a failed job tried again."
    SETTINGS_READ = "settings:read", "See the settings in force, the watcher, the workers and the storage."
    TOKEN_CHANGE = "token:change", "Make tokens for programs, and revoke them."
    SESSION_END = "session:end", "End sessions, one's own and others."
    PASSWORD_CHANGE = "password:change", "Set another password."
    WATCHER_CHANGE = "watcher:change", "Stop the watcher, start it, and have it look once more."
    SOURCE_REMOVE = "source:remove", "Have the source folders of imported batches removed."


# Else whoever finds a token could make himself a way in that outlives it, or lock the others out.
NOT_FOR_TOKENS: dict[str, str] = {
    Permission.TOKEN_CHANGE: "A token cannot make or revoke tokens.",
    Permission.PASSWORD_CHANGE: "A token cannot change the password.",
    Permission.SESSION_END: "A token cannot end sessions.",
}


class Identity(NamedTuple):
    """Who is asking.

    kind: ``session`` (a browser that gave the password), ``program`` (HTTP Basic), ``token`` or ``open`` (the lockdown is off).
    name: of the token. writes: may change things.
    """

    kind: str
    name: str = ""
    writes: bool = True

    @property
    def sender(self) -> str:
        """Who it is, in a row about what was sent: its kind, of a token with the name."""
        return f"{self.kind} {self.name}" if self.name else self.kind


class TooManyAttempts(Exception):
    """So many wrong passwords or tokens came that one has to wait, ``seconds``."""

    def __init__(self, sentence: str, seconds: str) -> None:
        super().__init__(sentence)
        self.seconds = seconds


class Lock:
    """Checks the password, and slows down whoever tries passwords; one for each web process, shared by its threads."""

    def __init__(self, settings: Settings, clock: Callable[[], float] = time.time) -> None:
        self._settings = settings
        self._clock = clock
        self._limiter = FixedWindowRateLimiter(MemoryStorage())
        self._key = secrets.token_bytes(32)
        self._last_right = b""

    def opens(self, text: str, address: str) -> bool:
        """Tell whether a text is the password. Raises HTTPTooManyRequests after too many wrong ones.

        address: of the client. A program that sent the right password before is never slowed down by others' attempts.
        """
        digest = hmac.digest(self._key, text.encode(errors="surrogatepass"), "sha256")
        known = hmac.compare_digest(digest, self._last_right)
        whose = _network(address)
        if not known:
            self._refuse_too_many(ATTEMPTS_OF_ONE_ADDRESS, whose)
            self._refuse_too_many(ATTEMPTS_OF_ALL, "all")
        if passwords.verify(self._settings, text):
            self._last_right = digest
            return True
        self._limiter.hit(ATTEMPTS_OF_ONE_ADDRESS, whose)
        self._limiter.hit(ATTEMPTS_OF_ALL, "all")
        return False

    def note_wrong(self, address: str) -> None:
        """Note that a token was wrong. Raises HTTPTooManyRequests when that was one of too many.

        Unlike a password a token is looked up whatever was tried before: nobody can guess one, and so nobody's attempts
        can keep a program out.
        """
        whose = _network(address)
        self._refuse_too_many(ATTEMPTS_OF_ONE_ADDRESS, whose)
        self._refuse_too_many(ATTEMPTS_OF_ALL, "all")
        self._limiter.hit(ATTEMPTS_OF_ONE_ADDRESS, whose)
        self._limiter.hit(ATTEMPTS_OF_ALL, "all")

    def _refuse_too_many(self, limit: RateLimitItemPerMinute, whose: str) -> None:
        if not self._limiter.test(limit, whose):
            until = self._limiter.get_window_stats(limit, whose).reset_time
            seconds = max(1, round(until - self._clock()))
            raise HTTPTooManyRequests(
                gettext("Too many wrong passwords. Please wait %(seconds)s seconds and try again.", seconds=seconds), headers={"Retry-After": str(seconds)}
            )


def _network(address: str) -> str:
    # Whoever has one IPv6 address usually has the whole /64.
    try:
        parsed = ipaddress.ip_address(address)
    except ValueError:
        return address
    return str(ipaddress.ip_network((parsed, 64), strict=False)) if parsed.version == 6 else address


@implementer(ISecurityPolicy)
class LockdownPolicy:
    """Pyramid's question who is asking and what they may do, answered by the lockdown."""

    def __init__(self) -> None:
        self._acl = ACLHelper()
        self._identities = RequestLocalCache(_identify)

    def identity(self, request: Any) -> Identity | None:
        """Tell who is asking; None: somebody who has not given the password."""
        return self._identities.get_or_create(request)

    def authenticated_userid(self, request: Any) -> str | None:
        """Give the kind of identity: there are no user names."""
        identity = self.identity(request)
        return None if identity is None else identity.kind

    def permits(self, request: Any, context: Any, permission: str) -> Any:
        """Tell whether the access lists of a resource and those above it grant a permission."""
        identity = self.identity(request)
        if identity is not None and identity.kind == "token" and (sentence := NOT_FOR_TOKENS.get(permission)):
            return Denied(sentence)
        principals = [Everyone] if identity is None else [Everyone, Authenticated]
        return self._acl.permits(context, principals, permission)

    def remember(self, request: Any, userid: str, **_options: Any) -> list[tuple[str, str]]:
        """Begin a session: a new token each time, so that no token from before the login is worth anything."""
        token = secrets.token_urlsafe(32)
        _forget_token(request)
        address, browser = request.remote_addr or "", request.user_agent or ""
        sessions.begin(request.dbsession, token, address=address, browser=browser, now=datetime.now(UTC))
        return [("Set-Cookie", _cookie(request, SESSION_COOKIE, token))]

    def forget(self, request: Any, **_options: Any) -> list[tuple[str, str]]:
        """End the session of this browser."""
        _forget_token(request)
        return [("Set-Cookie", _cookie(request, SESSION_COOKIE, "") + "; Max-Age=0")]


def _identify(request: Any) -> Identity | None:
    if not request.registry.settings["dicomweb"]["lockdown.mode"]:
        # A web page elsewhere can have its own name resolve to this machine; it must not read what is open here.
        if not is_loopback(request.domain.strip("[]")):
            raise HTTPForbidden("With the lockdown off, only requests to an address of this machine itself are answered.")
        return Identity("open")

    def reading() -> AbstractContextManager[Session]:
        # The session of a change holds the only write lock of SQLite from its first statement on.
        return nullcontext(request.dbsession) if request.method in ("GET", "HEAD") else work(request.registry["engine"], read_only=True)

    authorization = request.headers.get("Authorization", "")
    return _recognise(request.registry, session_token(request), authorization, request.remote_addr or "", reading)


def admit(registry: Any, headers: Mapping[str, str], address: str) -> Identity | None:
    """Tell who is asking before there is a request: for the web server, which must not take a large body from anybody else.

    headers: by names in small letters. Raises TooManyAttempts.
    """
    if not registry.settings["dicomweb"]["lockdown.mode"]:
        return Identity("open")
    try:
        cookies = SimpleCookie(headers.get("cookie", ""))
    except CookieError:
        cookies = SimpleCookie()
    token = cookies[SESSION_COOKIE].value if SESSION_COOKIE in cookies else ""
    session = token if _TOKEN.fullmatch(token) else None
    authorization = headers.get("authorization", "")
    try:
        return _recognise(registry, session, authorization, address, lambda: work(registry["engine"], read_only=True))
    except HTTPTooManyRequests as error:
        raise TooManyAttempts(str(error.detail), error.headers["Retry-After"]) from None


def _recognise(
    registry: Any, session: str | None, authorization: str, address: str, reading: Callable[[], AbstractContextManager[Session]]
) -> Identity | None:
    now = datetime.now(UTC)
    if session is not None:
        with reading() as dbsession:
            found = sessions.find(dbsession, session, now=now)
        if found is not None:
            if not sessions.is_noted(found, address=address, now=now):
                with work(registry["engine"]) as dbsession:
                    sessions.note_use(dbsession, session, address=address, now=now)
            return Identity("session")
    scheme, _, credentials = authorization.partition(" ")
    lock: Lock = registry["lock"]
    match scheme.lower():
        case "basic":
            password = _password(credentials.strip())
            return Identity("program") if password is not None and lock.opens(password, address) else None
        case "bearer":
            with reading() as dbsession:
                token = tokens.find(dbsession, credentials.strip(), now=now)
            if token is None:
                lock.note_wrong(address)
                return None
            if not tokens.is_noted(token, now=now):
                with work(registry["engine"]) as dbsession:
                    tokens.note_use(dbsession, token.id, now=now)
            return Identity("token", token.name, token.writes)
    return None


def session_token(request: Any) -> str | None:
    """Give the token of the session cookie when it has the form of one; that it is valid only the database can tell."""
    token = request.cookies.get(SESSION_COOKIE, "")
    return token if _TOKEN.fullmatch(token) else None


def _password(credentials: str) -> str | None:
    try:
        decoded = base64.b64decode(credentials, validate=True).decode("utf-8")
    except ValueError:
        return None
    _name, colon, password = decoded.partition(":")
    return password if colon else None


def _forget_token(request: Any) -> None:
    if token := session_token(request):
        sessions.end(request.dbsession, token)


def _cookie(request: Any, name: str, value: str) -> str:
    # Without Max-Age: it ends with the browser session.
    secure = "; Secure" if request.scheme == "https" else ""
    return f"{name}={value}; Path=/; HttpOnly; SameSite=Lax{secure}"


@implementer(ICSRFStoragePolicy)
class TokenOfTheCookie:
    """The token against forged requests: computed from the cookie of the session, so that it is stored nowhere."""

    def new_csrf_token(self, request: Any) -> str:
        """Give a token on a new visitor cookie."""
        secret = secrets.token_urlsafe(32)
        request.cookies[VISITOR_COOKIE] = secret
        request.add_response_callback(lambda request, response: response.headers.add("Set-Cookie", _cookie(request, VISITOR_COOKIE, secret)))
        return _csrf_token(secret)

    def get_csrf_token(self, request: Any) -> str:
        """Give the token that belongs to the cookies of this browser."""
        if token := session_token(request):
            return _csrf_token(token)
        visitor = request.cookies.get(VISITOR_COOKIE, "")
        return _csrf_token(visitor) if _TOKEN.fullmatch(visitor) else self.new_csrf_token(request)

    def check_csrf_token(self, request: Any, supplied_token: str) -> bool:
        """Tell whether a request carries the token of its cookies."""
        expected = self.get_csrf_token(request)
        return hmac.compare_digest(expected.encode(), supplied_token.encode(errors="surrogatepass"))


def _csrf_token(secret: str) -> str:
    return hmac.digest(secret.encode(), b"dicomweb: changes by pages", "sha256").hex()


def needs_csrf_token(request: Any) -> bool:
    """Tell whether a change needs the token: not from programs, whose credentials no foreign page can make a browser send.

    Browsers repeat HTTP Basic credentials on their own once they have them, so a request that a browser says comes from
    another site is refused whatever it carries. Raises BadCSRFOrigin.
    """
    if not _same_origin(request):
        raise BadCSRFOrigin("This change was asked for by another web site.")
    identity = request.identity
    return identity is None or identity.kind not in ("program", "token")


def _same_origin(request: Any) -> bool:
    if site := request.headers.get("Sec-Fetch-Site"):
        return site in ("same-origin", "none")
    if origin := request.headers.get("Origin"):
        return urlsplit(origin).netloc.lower() == request.host.removesuffix(":443" if request.scheme == "https" else ":80").lower()
    return True


def is_open(path: str) -> bool:
    """Tell whether a path answers without the password."""
    return path in OPEN_PATHS or path.startswith(OPEN_PREFIX)


def lock_tween(handler: Callable[[Any], Any], registry: Any) -> Callable[[Any], Any]:
    """Turn away whoever has not given the password, before any route or resource is looked up."""

    def tween(request: Any) -> Any:
        # Not request.path_info, which fails on an address that is no text.
        if not is_open(request.environ.get("PATH_INFO", "")):
            if request.identity is None:
                raise HTTPForbidden("The password is needed.")
            if not request.identity.writes and request.method not in SAFE_METHODS:
                raise HTTPForbidden("This token may only read.")
        return handler(request)

    return tween


def headers_tween(handler: Callable[[Any], Any], registry: Any) -> Callable[[Any], Any]:
    """Add the security headers to every answer; a view that needs another one sets it itself."""

    def tween(request: Any) -> Any:
        response = handler(request)
        if _DECODER.fullmatch(request.environ.get("PATH_INFO", "")):
            response.headers.setdefault("Content-Security-Policy", WORKER_POLICY)
        for name, value in HEADERS.items():
            response.headers.setdefault(name, value)
        return response

    return tween


def includeme(config: Any) -> None:
    """Lock the application."""
    config.registry["lock"] = Lock(config.registry.settings["dicomweb"])
    config.set_security_policy(LockdownPolicy())
    config.set_default_permission(Permission.USE)
    config.set_csrf_storage_policy(TokenOfTheCookie())
    # Pyramid's own look at the origin is for https only; needs_csrf_token looks at it always.
    config.set_default_csrf_options(require_csrf=True, safe_methods=SAFE_METHODS, check_origin=False, callback=needs_csrf_token)
    config.add_tween("dicomweb.security.headers_tween", under=INGRESS, over="pyramid_tm.tm_tween_factory")
    # Inside the transaction, whose session it reads; and inside the exception views, which make an answer of its refusal.
    config.add_tween("dicomweb.security.lock_tween", under=EXCVIEW, over=MAIN)
