"""Server-Sent Events: `GET /sse?room=…&room=…` (HTML Living Standard, §9.2 Server-sent events).

Messages are unnamed events, whose id is the cursor; all else is named by its type. The data of each event is the same
object as over WebSocket.
"""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final
from urllib.parse import parse_qs

from gateway.core.access import Grants
from gateway.core.admission import Admission, Caller
from gateway.core.connections import Seat
from gateway.core.conversation import Conversation
from gateway.core.counters import Counters
from gateway.core.errors import BadMessage, MethodNotAllowed, TidegateError
from gateway.core.message import Cursor
from gateway.core.namespace import Namespace
from gateway.core.presence_wire import read_member_query
from gateway.core.problem import problem
from gateway.core.sample import Sample, rank_of, read_sample
from gateway.core.session import Session
from gateway.core.sink import CLOSE_GRACE_SECONDS, BufferSink, Sink, Transport, TransportSink
from gateway.core.wire_requests import Subscribe, read_bandwidth, read_cursor

__all__ = ["SseBridge", "chunk", "event"]

RETRY_MILLISECONDS: Final = 2000
"""How long an EventSource waits before it connects again."""

HEADERS: Final = [
    (b"content-type", b"text/event-stream; charset=utf-8"),
    (b"cache-control", b"no-store"),
    (b"x-accel-buffering", b"no"),  # nginx would hold events back
]


def event(kind: str, text: bytes, cursor: str | None = None) -> bytes:
    """One event: a `Framing`."""
    name = b"" if kind == "message" else b"event: " + kind.encode() + b"\n"
    identifier = b"" if cursor is None else b"id: " + cursor.encode() + b"\n"
    return b"".join((name, identifier, b"data: ", text, b"\n\n"))


def chunk(kind: str, text: bytes, cursor: str | None = None) -> bytes:
    """One event as one chunk of the response (RFC 9112 §7.1): a `Framing`."""
    return _chunked(event(kind, text, cursor))


def _chunked(data: bytes) -> bytes:
    return b"%x\r\n%b\r\n" % (len(data), data)


@dataclass(frozen=True, slots=True)
class _Asked:
    """What a stream's address asks for."""

    requests: Sequence[Subscribe]
    """The finest first, since that holds where they overlap."""
    bytes_per_second: float | None
    member: str | None
    grants: Grants


class SseBridge:
    """The ASGI application behind `/sse`."""

    def __init__(
        self, namespace: Namespace, admission: Admission, counters: Counters, heartbeat_seconds: float
    ) -> None:
        self._namespace = namespace
        self._admission = admission
        self._counters = counters
        self._heartbeat_seconds = heartbeat_seconds
        self._sinks: dict[Sink, bytes] = {}
        """Every client's sink, with its heartbeat."""

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        """Serve one stream."""
        try:
            with self._admission.counted():
                await self._admit(scope, receive, send)
        except TidegateError as error:
            status, headers, body = problem(error)
            await send({"type": "http.response.start", "status": status, "headers": headers})
            await send({"type": "http.response.body", "body": body})

    async def _admit(self, scope: Any, receive: Any, send: Any) -> None:
        if scope["method"] != "GET":
            raise MethodNotAllowed(f"{scope['method']} is not served here: expected GET", allowed=["GET"])
        caller = Caller.of(scope)
        with self._admission.connection(caller) as seat:  # before all else, so that each attempt counts
            identity = await self._admission.require(caller)
            asked = self._asked(scope, self._namespace.access.of(identity))
            seat.identify(identity)
            await send({"type": "http.response.start", "status": 200, "headers": HEADERS})
            transport: Transport | None = (scope.get("extensions") or {}).get("tidegate")
            if transport is not None:
                await self._serve(transport, asked, receive, seat)
            else:
                await self._serve_buffered(asked, receive, send, seat)

    def _asked(self, scope: Any, grants: Grants) -> _Asked:
        """What the stream is to be subscribed to, from where on, and what its client calls itself.

        A browser that comes back by itself says where it was, in `Last-Event-ID`. Who can't set headers says it by
        `since`: one for all rooms, or one for each, empty for a room that is new. Where both are said, the later holds.
        """
        query = parse_qs(scope["query_string"].decode("latin-1"), keep_blank_values=True)
        rooms, places = query.get("room", []), query.get("since", [])
        seen = next((value.decode("latin-1") for name, value in scope["headers"] if name == b"last-event-id"), "")
        if not rooms:
            raise BadMessage("room: expected at least one, as in /sse?room=sites/oslo/boiler-1/temperature")
        if len(places) not in (0, 1, len(rooms)):
            raise BadMessage(f"since: expected one, or one for each of {len(rooms)} rooms, found {len(places)}")
        self._namespace.check_rooms(rooms, grants)
        groups: dict[tuple[Cursor | None, Sample | None], list[str]] = {}
        for room, place, sample in zip(rooms, _for_each(places, rooms), _samples_of(query, rooms), strict=True):
            since = _later(read_cursor("since", place or None), read_cursor("Last-Event-ID", seen or None))
            groups.setdefault((since, sample), []).append(room)
        requests = [Subscribe(None, tuple(dict.fromkeys(group)), *how) for how, group in groups.items()]
        requests.sort(key=lambda request: rank_of(request.sample))
        return _Asked(requests, _bandwidth_of(query), read_member_query(query), grants)

    async def _serve(self, transport: Transport, asked: _Asked, receive: Any, seat: Seat) -> None:
        sink = TransportSink(transport, chunk)
        session = self._namespace.open("sse", sink, asked.grants, member=asked.member, seat=seat)
        transport.watch(self._namespace.limits.write_buffer_bytes, session)
        sink.write(_chunked(b"retry: %d\n" % RETRY_MILLISECONDS))
        await self._stream(session, _chunked(b":\n"), asked, receive)

    async def _serve_buffered(self, asked: _Asked, receive: Any, send: Any, seat: Seat) -> None:
        sink = BufferSink(event, self._namespace.limits.write_buffer_bytes)
        session = self._namespace.open("sse", sink, asked.grants, member=asked.member, seat=seat)
        sink.watch(session)
        sink.write(b"retry: %d\n" % RETRY_MILLISECONDS)
        try:
            async with asyncio.TaskGroup() as tasks:
                sender = tasks.create_task(_send_from(sink, send))
                await self._stream(session, b":\n", asked, receive)
                sender.cancel()
        except* TimeoutError:
            pass  # it doesn't read; the server ends the connection as this returns

    async def _stream(self, session: Session, heartbeat: bytes, asked: _Asked, receive: Any) -> None:
        conversation = Conversation(session, self._namespace, self._counters)
        if asked.bytes_per_second is not None:
            self._namespace.recovery.limit_bandwidth(session, asked.bytes_per_second)
        self._sinks[session.sink] = heartbeat
        try:
            conversation.greet(self._heartbeat_seconds)
            self._subscribe(session, asked)
            while (await receive())["type"] != "http.disconnect":
                pass
        finally:
            del self._sinks[session.sink]
            session.end()

    def _subscribe(self, session: Session, asked: _Asked) -> None:
        try:
            if not session.ended:
                self._namespace.subscribe(session, *asked.requests)
        except TidegateError as error:  # the rules have changed since it was let in
            session.end(error)

    async def beat(self) -> None:
        """Send every client a comment each `heartbeat_seconds`, so that proxies keep the stream; never returns."""
        while True:
            await asyncio.sleep(self._heartbeat_seconds)
            for sink, heartbeat in tuple(self._sinks.items()):
                sink.write(heartbeat)


def _samples_of(query: dict[str, list[str]], rooms: list[str]) -> list[Sample | None]:
    """How each room is to be sampled: `sample` and `sample_keep` are one for all, or one for each, empty for none."""
    seconds, keeps = query.get("sample", []), query.get("sample_keep", [])
    for name, given in (("sample", seconds), ("sample_keep", keeps)):
        if len(given) not in (0, 1, len(rooms)):
            raise BadMessage(f"{name}: expected one, or one for each of {len(rooms)} rooms, found {len(given)}")
    if any(keeps) and not any(seconds):
        raise BadMessage("sample: expected a number of seconds beside sample_keep, as in sample=0.5&sample_keep=mean")
    pairs = zip(_for_each(seconds, rooms), _for_each(keeps, rooms), strict=True)
    return [
        read_sample({"seconds": _number("sample", text), "keep": keep or "last"}) if text else None
        for text, keep in pairs
    ]


def _bandwidth_of(query: dict[str, list[str]]) -> float | None:
    (text,) = query.get("bytes_per_second", [""])[-1:]
    return read_bandwidth(_number("bytes_per_second", text)) if text else None


def _number(name: str, text: str) -> float:
    try:
        return float(text)
    except ValueError:
        raise BadMessage(f"{name}: expected a number, found {text[:20]!r}") from None


def _later(since: Cursor | None, seen: Cursor | None) -> Cursor | None:
    """Where a room goes on: where the stream was cut, unless it was to begin later."""
    if since is None or seen is None:
        return seen or since
    return max(since, seen, key=lambda cursor: cursor.sequence) if since.epoch == seen.epoch else seen


def _for_each(places: list[str], rooms: list[str]) -> list[str]:
    return places if len(places) == len(rooms) else (places or [""]) * len(rooms)


async def _send_from(sink: BufferSink, send: Any) -> None:
    async def send_event(data: bytes) -> None:
        await send({"type": "http.response.body", "body": data, "more_body": True})

    await sink.pump(send_event)
    async with asyncio.timeout(CLOSE_GRACE_SECONDS):
        await send({"type": "http.response.body", "body": b"", "more_body": False})
