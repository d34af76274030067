"""Plain HTTP for servers, scripts and charts: `POST /publish` and `/request`, `GET /last`, `/history` and `/presence`.

The body is the data. Errors are problem details (RFC 9457).
"""

import asyncio
from base64 import b64encode
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import replace
from functools import partial
from typing import Any

import orjson
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response

from bridges.carrier_requests import read_body, resolve, settled
from bridges.http_answers import check_post, json_answer, key_of, messages_answer, refusal
from bridges.http_batch import HttpBatch, is_batch
from gateway.core import wire
from gateway.core.access import Action, Grants
from gateway.core.admission import Admission, Caller
from gateway.core.counters import Counters
from gateway.core.errors import BadMessage, TidegateError, Unauthenticated
from gateway.core.history import DEFAULT_LIMIT, History, HistoryQuery
from gateway.core.limits import Limits
from gateway.core.message import Message
from gateway.core.namespace import Namespace
from gateway.core.payload import Payload
from gateway.core.presence import Attendees
from gateway.core.presence_wire import attendees_fields
from gateway.core.publishing import Sending
from gateway.core.wire_requests import read_cursor

__all__ = ["HttpBridge"]


class HttpBridge:
    """The endpoints of a namespace for requests that belong to no session."""

    def __init__(self, namespace: Namespace, admission: Admission, counters: Counters) -> None:
        self._namespace = namespace
        self._admission = admission
        self._counters = counters
        self._batch = HttpBatch(namespace, admission, counters)

    async def publish(self, request: Request) -> Response:
        """Publish the body into a room, and answer once the broker has it; or each line of a batch."""
        return await self._served(self._batch.publish(request) if is_batch(request) else self._publish(request))

    async def _served(self, answer: Awaitable[Response]) -> Response:
        """An answer, or why there is none."""
        try:
            with self._admission.counted():
                return await answer
        except TidegateError as error:
            return refusal(error)
        except ClientDisconnect:
            return Response(status_code=499)

    async def _take(self, request: Request, action: Action) -> tuple[str, Any, bool, Grants]:
        """Room, data, whether that is base64, and what the sender may; all that a request must be to be acted upon."""
        caller = Caller.of(request.scope)
        with self._admission.charged(caller):
            check_post(request)
            self._admission.check_origin(caller)
            grants = await self._grants(caller)
            room = _room_of(request)
            grants.check(action, room)
            body = await read_body(request, self._limits_of(grants).message_bytes, self._admission, caller)
        self._counters.received_bytes["http"] += len(body)
        self._admission.spend(caller, grants.identity, len(body))
        data, binary = _data_of(body, request.headers.get("content-type", ""))
        return room, data, binary, self._still(grants, action, room)

    async def _grants(self, caller: Caller) -> Grants:
        identity = await self._admission.require(caller)
        return self._namespace.access.of(identity)

    def _still(self, grants: Grants, action: Action, room: str) -> Grants:
        """What was granted before something was waited for, if it holds still; checked again by rules that are others.

        Raises:
            Unauthenticated, Forbidden: it isn't any more.
        """
        current = self._namespace.current(grants)
        if current is not grants:
            current.check(action, room)
        if current.identity is not None:
            self._admission.authentication.check(current.identity)
        return current

    async def ticket(self, request: Request) -> Response:
        """A ticket for who shows a token in a header: for WebSocket and EventSource, where browsers can't send one."""
        return await self._served(self._ticket(request))

    async def _ticket(self, request: Request) -> Response:
        caller = replace(Caller.of(request.scope), ticket=None)  # a ticket's time isn't to be prolonged
        with self._admission.charged(caller):
            check_post(request)
            self._admission.check_origin(caller)
        self._admission.spend(caller, None)
        identity = await self._admission.require(caller)
        if identity.user is None:
            raise Unauthenticated("expected `Authorization: Bearer` with a token that this gateway knows")
        tickets = self._admission.authentication.tickets
        ticket = await tickets.issue_for_all(identity, caller.network)
        return json_answer(orjson.dumps({"ticket": ticket, "expires_in_seconds": tickets.seconds}))

    async def _publish(self, request: Request) -> Response:
        room, data, binary, grants = await self._take(request, Action.PUBLISH)
        network, most = Caller.of(request.scope).network, self._limits_of(grants).rooms_per_address
        answer: asyncio.Future[TidegateError | None] = asyncio.get_running_loop().create_future()
        sending = Sending(
            room,
            data,
            binary,
            user=grants.user,
            key=key_of(request),
            address=network,
            rooms_per_address=most,
        )
        self._namespace.publish(sending, partial(resolve, answer), grants)
        self._counters.published["http"] += 1
        error = await answer
        if error is not None:
            raise error
        return json_answer(wire.encode("ack", room=room))

    async def request(self, request: Request) -> Response:
        """Ask the device behind a room, and answer what it answers. One who leaves has asked nothing any more."""
        return await self._served(self._request(request))

    async def _request(self, request: Request) -> Response:
        room, data, binary, grants = await self._take(request, Action.REQUEST)
        network = Caller.of(request.scope).network
        timeout_seconds = _timeout_of(request)
        answer: asyncio.Future[Payload | TidegateError] = asyncio.get_running_loop().create_future()
        cancel = self._namespace.requests.send(
            network,
            room,
            data,
            partial(resolve, answer),
            timeout_seconds=timeout_seconds,
            binary=binary,
            limits=self._limits_of(grants),
        )
        self._counters.published["http"] += 1
        leaving = asyncio.ensure_future(_left(request))
        try:
            await asyncio.wait((answer, leaving), return_when=asyncio.FIRST_COMPLETED)
        finally:
            leaving.cancel()
            cancel()
        if not answer.done():
            raise ClientDisconnect
        self._still(grants, Action.REQUEST, room)
        given = answer.result()
        if isinstance(given, TidegateError):
            raise given
        return json_answer(wire.encode_reply(None, given, room=room))

    async def last(self, request: Request) -> Response:
        """The last values of a room or pattern."""

        async def answer(grants: Grants) -> Response:
            room = _room_of(request)
            found: asyncio.Future[tuple[str, Sequence[Message]]] = asyncio.get_running_loop().create_future()
            self._namespace.last(room, lambda cursor, values: resolve(found, (cursor, values)), grants)
            cursor, values = await found
            self._still(grants, Action.HISTORY, room)
            return messages_answer({"room": room, "cursor": cursor}, "last", values)

        return await self._read_only(request, answer)

    async def history(self, request: Request) -> Response:
        """What is kept of the messages of a room or pattern."""

        async def answer(grants: Grants) -> Response:
            query = _history_query(request)
            await settled(self._namespace.engine)
            found: asyncio.Future[History] = asyncio.get_running_loop().create_future()
            self._namespace.history(query, partial(resolve, found), grants)
            history = await found
            self._still(grants, Action.HISTORY, query.room)
            fields = {
                "room": query.room,
                "cursor": self._namespace.cursor(history.head),
                "recovered": history.recovered,
                "more": history.more,
            }
            return messages_answer(fields, "messages", history.messages)

        return await self._read_only(request, answer)

    async def presence(self, request: Request) -> Response:
        """Who is in a room."""

        async def answer(grants: Grants) -> Response:
            room = _room_of(request)
            found: asyncio.Future[Attendees] = asyncio.get_running_loop().create_future()
            self._namespace.attendance.members(room, partial(resolve, found), grants)
            attendees = await found
            self._still(grants, Action.PRESENCE, room)
            return json_answer(orjson.dumps({"room": room, **attendees_fields(attendees)}))

        return await self._read_only(request, answer)

    async def problems(self, request: Request) -> Response:
        """The newest payloads of devices that didn't decode, for who may read all rooms."""

        async def answer(grants: Grants) -> Response:
            grants.check(Action.HISTORY, "#")
            return json_answer(orjson.dumps({"bad_payloads": self._namespace.bad_payloads.newest()}))

        return await self._read_only(request, answer)

    async def _read_only(self, request: Request, answer: Callable[[Grants], Awaitable[Response]]) -> Response:
        async def admitted() -> Response:
            caller = Caller.of(request.scope)
            with self._admission.charged(caller):
                self._admission.check_origin(caller)
                grants = await self._grants(caller)
            self._admission.spend(caller, grants.identity)
            return await answer(grants)

        return await self._served(admitted())

    def _limits_of(self, grants: Grants) -> Limits:
        return self._namespace.role_limits.of(grants.identity)


def _room_of(request: Request) -> str:
    rooms = request.query_params.getlist("room")
    if len(rooms) != 1:
        raise BadMessage(f"room: expected one, as in {request.url.path}?room=sites/oslo, found {len(rooms)}")
    return rooms[0]


def _timeout_of(request: Request) -> float | None:
    given = request.query_params.get("timeout_seconds")
    if given is None:
        return None
    try:
        return float(given)
    except ValueError:
        raise BadMessage(f"timeout_seconds: expected a number of seconds, found {given[:40]!r}") from None


async def _left(request: Request) -> None:
    while (await request.receive())["type"] != "http.disconnect":
        pass


def _history_query(request: Request) -> HistoryQuery:
    asked = request.query_params
    limit = asked.get("limit", str(DEFAULT_LIMIT))
    if not limit.isdecimal() or len(limit) > 9:
        raise BadMessage(f"limit: expected a whole number, found {limit[:20]!r}")
    since, before = (read_cursor(name, asked.get(name)) for name in ("since", "before"))
    return HistoryQuery(_room_of(request), since, before, int(limit))


def _data_of(body: bytes, content_type: str) -> tuple[Any, bool]:
    """The data in a body, and whether it is base64: bytes and plain text as they are, all else as JSON."""
    match content_type.partition(";")[0].strip().lower():
        case "application/octet-stream":
            return b64encode(body).decode(), True
        case "text/plain":
            try:
                return body.decode(), False
            except UnicodeDecodeError:
                raise BadMessage("body: expected UTF-8 text") from None
        case _:
            try:
                return orjson.loads(body), False
            except orjson.JSONDecodeError as error:
                raise BadMessage(f"body: expected JSON: {error}") from None
