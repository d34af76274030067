"""Polling and long polling: `GET /poll?room=…&room=…&since=…&wait=…`.

A poll is told what came after `since`; if nothing did, it waits, and is told the first burst of messages. Between two
polls the client's cursor is all that is known of it.
"""

import asyncio
import math
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from typing import Any, Final, TypeAlias

from bridges.carrier_requests import refuse, resolve, settled
from bridges.polling_pace import Outflow
from bridges.polling_page import MAXIMUM_MESSAGES, Page, answer, etag, place_of_etag, read_page
from bridges.polling_parked import ParkedPoll
from gateway.core.access import Action, Grants
from gateway.core.admission import Admission, Caller
from gateway.core.clock import Clock
from gateway.core.connections import Seat
from gateway.core.counters import Counters
from gateway.core.engine import Reading, Wanted
from gateway.core.errors import BadMessage, MethodNotAllowed, TidegateError
from gateway.core.message import Cursor
from gateway.core.namespace import Namespace
from gateway.core.presence_wire import read_member_query
from gateway.core.sink import ParkingTransport
from gateway.core.stream_query import Query, read_query, read_rooms
from gateway.core.wire_requests import Subscribe, read_cursor

__all__ = ["PollingBridge"]

DEFAULT_WAIT_SECONDS: Final = 25.0
MAXIMUM_WAIT_SECONDS: Final = 55.0
"""Proxies commonly give up on who says nothing for a minute."""

HEADERS: Final = [
    (b"content-type", b"application/json"),
    (b"x-accel-buffering", b"no"),  # nginx would hold the head of the answer back
]
NEVER_KEPT: Final = (b"cache-control", b"no-store")
ASKED_AGAIN: Final = [(b"cache-control", b"private, no-cache"), (b"vary", b"Authorization, Cookie")]

_Account: TypeAlias = Callable[[int], None] | None
"""Takes how many bytes were told, where there is a limit of that."""


@dataclass(frozen=True, slots=True)
class _Asked:
    """What a poll's address asks for."""

    rooms: tuple[str, ...]
    since: Cursor | None
    wait_seconds: float
    member: str | None
    known: Cursor | None
    """Up to where the client has the answer already, as it says."""


class PollingBridge:
    """The ASGI application behind `/poll`."""

    def __init__(self, namespace: Namespace, admission: Admission, counters: Counters, clock: Clock) -> None:
        self._namespace = namespace
        self._admission = admission
        self._counters = counters
        self._clock = clock
        self._outflow = Outflow(clock)

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        """Answer one poll, or let it wait."""
        try:
            with self._admission.counted():
                await self._answer(scope, receive, send)
        except TidegateError as error:
            await refuse(send, error)

    async def _answer(self, scope: Any, receive: Any, send: Any) -> None:
        caller = Caller.of(scope)
        with self._admission.charged(caller):
            if scope["method"] != "GET":
                raise MethodNotAllowed(f"{scope['method']} is not served here: expected GET", allowed=["GET"])
            self._admission.check_origin(caller)
            identity = await self._admission.require(caller)
            grants = self._namespace.access.of(identity)
            asked = _asked(scope)
            self._namespace.check_rooms(asked.rooms, grants)
        self._admission.spend(caller, identity)
        account = self._account(caller, grants)
        if not asked.wait_seconds and await self._is_known(asked):
            self._still(grants, asked)
            headers = [*ASKED_AGAIN, _etag_header(asked, str(asked.known))]
            await send({"type": "http.response.start", "status": 304, "headers": headers})
            await send({"type": "http.response.body", "body": b""})
            return
        page = await self._page(asked, asked.since)
        grants = self._still(grants, asked)
        if asked.wait_seconds and asked.since is not None and not page.is_news:
            with ExitStack() as held:
                seat = held.enter_context(self._admission.connection(caller))
                seat.identify(grants.identity)
                waiting = _Waiting(asked, page, grants, seat, account)
                transport: ParkingTransport | None = (scope.get("extensions") or {}).get("tidegate")
                if transport is None:
                    await self._wait(waiting, receive, send)
                else:
                    await self._park(waiting, transport, send)
                    held.pop_all()
        else:
            await self._tell(asked, page, send, account)

    async def _page(self, asked: _Asked, since: Cursor | None) -> Page:
        await settled(self._namespace.engine)
        position = None if since is None else self._namespace.engine.position(since)
        wanted = Wanted(position or 0, position)
        found: asyncio.Future[Reading] = asyncio.get_running_loop().create_future()
        self._namespace.engine.read(dict.fromkeys(asked.rooms, wanted), MAXIMUM_MESSAGES, partial(resolve, found))
        return read_page(await found, position)

    async def _is_known(self, asked: _Asked) -> bool:
        """Whether nothing has come since the answer that the client has."""
        return asked.known is not None and not (await self._page(asked, asked.known)).is_news

    def _still(self, grants: Grants, asked: _Asked) -> Grants:
        """What was granted before something was waited for, by rules that may be others now."""
        current = self._namespace.current(grants)
        if current is not grants:
            for room in asked.rooms:
                current.check(Action.SUBSCRIBE, room)
        if current.identity is not None:
            self._admission.authentication.check(current.identity)
        return current

    def _account(self, caller: Caller, grants: Grants) -> _Account:
        limits = self._namespace.role_limits.of(grants.identity)
        who = f"@{caller.network}" if grants.user is None else f"user {grants.user}"
        return self._outflow.of(who, limits.bytes_per_second_out)

    async def _tell(self, asked: _Asked, page: Page, send: Any, account: _Account) -> None:
        cursor = self._namespace.cursor(page.place)
        body = answer(page.messages, cursor, page.last, page.lacking, more=page.more)
        if account is not None:
            account(len(body))
        self._counters.deliveries["polling"] += len(page.messages)
        self._counters.delivered_bytes["polling"] += sum(map(len, page.messages))
        kept = [NEVER_KEPT] if asked.wait_seconds else [*ASKED_AGAIN, _etag_header(asked, cursor)]
        headers = [*HEADERS, *kept, (b"content-length", b"%d" % len(body))]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": body})

    async def _park(self, waiting: "_Waiting", transport: ParkingTransport, send: Any) -> None:
        """Let the connection answer later, without this application."""
        await send({"type": "http.response.start", "status": 200, "headers": [*HEADERS, NEVER_KEPT]})
        tell = waiting.accounted(transport.answer)
        poll = ParkedPoll(self._namespace, self._cursor(waiting), tell, self._clock, waiting.seat)
        transport.park(poll)
        self._begin(poll, waiting)

    async def _wait(self, waiting: "_Waiting", receive: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": [*HEADERS, NEVER_KEPT]})
        told: asyncio.Future[bytes] = asyncio.get_running_loop().create_future()
        tell = waiting.accounted(partial(resolve, told))
        poll = ParkedPoll(self._namespace, self._cursor(waiting), tell, self._clock, waiting.seat)
        leaving = asyncio.ensure_future(_left(receive))
        try:
            self._begin(poll, waiting)
            await asyncio.wait((told, leaving), return_when=asyncio.FIRST_COMPLETED)
        finally:
            leaving.cancel()
            poll.left()
        if told.done():
            await send({"type": "http.response.body", "body": told.result()})

    def _cursor(self, waiting: "_Waiting") -> str:
        return self._namespace.cursor(waiting.page.place)

    def _begin(self, poll: ParkedPoll, waiting: "_Waiting") -> None:
        """Let a poll be told what comes. The head of its answer is sent: what fails now is told to who asks again."""
        asked = waiting.asked
        session = self._namespace.open("polling", poll, waiting.grants, member=asked.member, seat=waiting.seat)
        poll.wait(session, asked.wait_seconds)
        try:
            if not session.ended:
                since = Cursor(self._namespace.engine.epoch, waiting.page.place)
                self._namespace.subscribe(session, Subscribe(None, asked.rooms, since))
        except TidegateError:
            poll.finish()
        except BaseException:
            poll.finish()
            raise


@dataclass(frozen=True, slots=True)
class _Waiting:
    """A poll that has nothing to be told yet."""

    asked: _Asked
    page: Page
    grants: Grants
    seat: Seat
    account: _Account

    def accounted(self, tell: Callable[[bytes], None]) -> Callable[[bytes], None]:
        """As `tell`, with account of what is told."""
        account = self.account
        if account is None:
            return tell

        def tell_and_account(body: bytes) -> None:
            account(len(body))
            tell(body)

        return tell_and_account


def _asked(scope: Any) -> _Asked:
    query = read_query(scope["query_string"])
    rooms = tuple(dict.fromkeys(read_rooms(query, "/poll")))
    since = read_cursor("since", _one(query, "since") or None)
    given = b", ".join(value for name, value in scope["headers"] if name == b"if-none-match").decode("latin-1")
    known = place_of_etag(given, rooms, since)
    return _Asked(rooms, since, _wait_of(query), read_member_query(query), known)


def _one(query: Query, name: str) -> str:
    found = query.get(name, ())
    if len(found) > 1:
        raise BadMessage(f"{name}: expected at most one, found {len(found)}")
    return found[0] if found else ""


def _wait_of(query: Query) -> float:
    text = _one(query, "wait")
    if not text:
        return DEFAULT_WAIT_SECONDS
    try:
        seconds = float(text)
    except ValueError:
        seconds = math.nan
    if not 0 <= seconds <= MAXIMUM_WAIT_SECONDS:
        raise BadMessage(f"wait: expected seconds from 0 to {MAXIMUM_WAIT_SECONDS:g}, found {text[:20]!r}")
    return seconds


def _etag_header(asked: _Asked, cursor: str) -> tuple[bytes, bytes]:
    return b"etag", etag(asked.rooms, asked.since, cursor).encode()


async def _left(receive: Any) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass
