"""Logins over HTTP: `POST /login`, `POST /logout`, `GET /session`, and cookies that are renewed as they are used."""

import math
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any, Final
from urllib.parse import parse_qs

import orjson
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response

from bridges.carrier_requests import read_body
from bridges.http_answers import check_post, json_answer, refusal
from gateway.core.admission import Admission, Caller
from gateway.core.clock import Clock
from gateway.core.cookies import CLEARED, set_cookie
from gateway.core.counters import Counters
from gateway.core.errors import (
    BadMessage,
    NoSuchEndpoint,
    TidegateError,
    Unauthenticated,
)
from gateway.core.identity import Identity
from gateway.core.login_errors import StaleCookie
from gateway.core.logins import Logins
from gateway.core.users import MAXIMUM_NAME_LENGTH

__all__ = ["CookieRenewal", "LoginBridge"]

MAXIMUM_BODY_BYTES: Final = 8 * 1024
MAXIMUM_PASSWORD_LENGTH: Final = 1024
FIELDS: Final = {"user": MAXIMUM_NAME_LENGTH, "password": MAXIMUM_PASSWORD_LENGTH}


class LoginBridge:
    """The endpoints of logins; they are the whole gateway's, whatever its namespaces."""

    def __init__(self, admission: Admission, counters: Counters, clock: Clock) -> None:
        self._admission = admission
        self._counters = counters
        self._clock = clock

    async def login(self, request: Request) -> Response:
        """Take a user's name and password; give the session cookie."""
        return await self._served(self._login(request))

    async def logout(self, request: Request) -> Response:
        """End the login that the cookie stands for, and take the cookie away, whatever it is."""
        return await self._served(self._logout(request))

    async def session(self, request: Request) -> Response:
        """Say who asks."""
        return await self._served(self._session(request), login=self._admission.authentication.logins is not None)

    async def _served(self, answer: Awaitable[Response], **more: object) -> Response:
        """An answer, or why there is none."""
        try:
            with self._admission.counted():
                return await answer
        except TidegateError as error:
            return refusal(error, **more)
        except ClientDisconnect:
            return Response(status_code=499)

    def _logins(self) -> Logins:
        found = self._admission.authentication.logins
        if found is None:
            raise NoSuchEndpoint("this gateway has no users with passwords: expected `identity.users_file`")
        return found

    async def _login(self, request: Request) -> Response:
        logins = self._logins()
        caller = Caller.of(request.scope)
        with self._admission.charged(caller):
            check_post(request)
            self._admission.check_origin(caller)
            body = await read_body(request, MAXIMUM_BODY_BYTES, self._admission, caller)
        self._admission.spend(caller, None, len(body))
        user, password = _credentials(body, request.headers.get("content-type", ""))
        try:
            identity = await logins.log_in(user, password, caller.network)
        except Unauthenticated:
            self._counters.logins["refused"] += 1
            raise
        self._counters.logins["accepted"] += 1
        self._end_earlier(logins, caller)
        # Where a page comes from over TLS, its requests do so too, though a proxy that isn't trusted may have ended it.
        secure = caller.encrypted or (caller.origin or "").startswith("https://")
        response = json_answer(orjson.dumps(_fields(logins, identity)))
        response.raw_headers.append(_cookie(identity, self._clock.time(), secure=secure))
        return response

    def _end_earlier(self, logins: Logins, caller: Caller) -> None:
        """End the login whose cookie this one takes the place of."""
        if caller.cookie is not None:
            try:
                earlier = logins.identify(caller.cookie.value)
            except StaleCookie:
                return
            logins.end(earlier)

    async def _logout(self, request: Request) -> Response:
        logins = self._logins()
        caller = Caller.of(request.scope)
        with self._admission.charged(caller):
            check_post(request)
            self._admission.check_origin(caller)
        self._admission.spend(caller, None)
        if caller.cookie is not None:
            try:
                identity = logins.identify(caller.cookie.value)
            except StaleCookie:
                pass  # to drop it is what is asked for
            else:
                logins.check_csrf(identity, caller.csrf_token)
                logins.end(identity)
        response = Response(status_code=204, headers={"cache-control": "no-store"})
        response.raw_headers += CLEARED
        return response

    async def _session(self, request: Request) -> Response:
        caller = Caller.of(request.scope)
        with self._admission.charged(caller):
            self._admission.check_origin(caller)
        self._admission.spend(caller, None)
        logins = self._admission.authentication.logins
        identity = await self._admission.require(caller)
        return json_answer(orjson.dumps({**_fields(logins, identity), "login": logins is not None}))


def _fields(logins: Logins | None, identity: Identity) -> dict[str, Any]:
    csrf = None if logins is None else logins.csrf_token(identity)
    return identity.fields() if csrf is None else {**identity.fields(), "csrf": csrf}


def _cookie(identity: Identity, now: float, *, secure: bool) -> tuple[bytes, bytes]:
    assert identity.credential is not None
    seconds = max(1, math.ceil((identity.expires_at or now) - now))
    return set_cookie(identity.credential.value, seconds, secure=secure)


def _credentials(body: bytes, content_type: str) -> tuple[str, str]:
    """Name and password.

    Raises:
        BadMessage: the body says something else. What it says is never shown.
    """
    match content_type.partition(";")[0].strip().lower():
        case "application/json":
            found = _json_fields(body)
        case "application/x-www-form-urlencoded":
            found = _form_fields(body)
        case _:
            raise BadMessage("content-type: expected application/json, or application/x-www-form-urlencoded")
    if found.keys() != FIELDS.keys():
        raise BadMessage("body: expected `user` and `password`, and nothing else; JSON needs its content type")
    for name, most in FIELDS.items():
        if not isinstance(found[name], str) or not 0 < len(found[name]) <= most:
            raise BadMessage(f"{name}: expected text of 1 to {most} characters")
    return found["user"], found["password"]


def _json_fields(body: bytes) -> dict[str, Any]:
    try:
        found = orjson.loads(body)
    except orjson.JSONDecodeError:
        raise BadMessage("body: expected JSON") from None
    if not isinstance(found, dict):
        raise BadMessage("body: expected an object")
    return found


def _form_fields(body: bytes) -> dict[str, Any]:
    try:
        found = parse_qs(body.decode("ascii"), keep_blank_values=True, errors="strict", max_num_fields=len(FIELDS))
    except ValueError:
        raise BadMessage("body: expected `user=…&password=…`, percent-encoded in UTF-8") from None
    return {name: values[0] if len(values) == 1 else values for name, values in found.items()}


class CookieRenewal:
    """ASGI middleware: who is answered well, and came by a cookie of which more than half is over, gets a newer one."""

    def __init__(self, app: Callable[..., Awaitable[None]], admission: Admission, clock: Clock) -> None:
        self._app = app
        self._admission = admission
        self._clock = clock

    async def __call__(self, scope: MutableMapping[str, Any], receive: Any, send: Any) -> None:
        """Serve one request."""
        logins = self._admission.authentication.logins
        caller = None if logins is None else Caller.of(scope)
        if logins is None or caller is None or caller.cookie is None or not caller.by_cookie:
            await self._app(scope, receive, send)
            return
        shown = caller.cookie

        async def send_with_cookie(message: MutableMapping[str, Any]) -> None:
            if message["type"] == "http.response.start" and message["status"] < 400:
                newer = _renewed(logins, shown.value)
                if newer is not None:
                    header = _cookie(newer, self._clock.time(), secure=shown.secure)
                    message["headers"] = [*message.get("headers", ()), header]
            await send(message)

        await self._app(scope, receive, send_with_cookie)


def _renewed(logins: Logins, cookie: str) -> Identity | None:
    try:
        return logins.renewed(logins.identify(cookie))
    except StaleCookie:
        return None  # it was ended, or has expired, while the request was answered
