"""`POST /publish` with a body of NDJSON: many messages in one request, each with its own outcome.

A line is what the wire protocol's `publish` is, without its type. Lines are published in order; one that is refused
keeps none of the others from it, but one over the budget of its sender ends the batch: those after it aren't tried.
"""

import asyncio
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Final

import orjson
from starlette.requests import Request
from starlette.responses import Response

from bridges.carrier_requests import read_body, resolve
from bridges.http_answers import check_post, json_answer, key_of
from gateway.core import wire, wire_requests
from gateway.core.access import Grants
from gateway.core.admission import Admission, Caller
from gateway.core.counters import Counters
from gateway.core.errors import BadMessage, MessageTooLarge, TidegateError
from gateway.core.limit_errors import RateLimited
from gateway.core.namespace import Namespace
from gateway.core.publishing import Sending

__all__ = ["HttpBatch", "is_batch", "lines_of"]

MEDIA_TYPES: Final = ("application/x-ndjson", "application/ndjson", "application/jsonl")

EMPTY_LINES: Final = 10_000
"""A batch has at most so many besides its messages: to pass over a million of them would keep everybody waiting."""
LINES_A_TURN: Final = 64
"""After so many lines others have their turn."""


def is_batch(request: Request) -> bool:
    """Whether its body is a batch."""
    return request.headers.get("content-type", "").partition(";")[0].strip().lower() in MEDIA_TYPES


@dataclass(slots=True)
class _Line:
    """One line, and what becomes of it."""

    number: int
    """As an editor counts it: from 1, empty lines included."""
    text: bytes
    room: str | None = None
    id: wire_requests.RequestId = None
    outcome: asyncio.Future[TidegateError | None] = field(
        default_factory=lambda: asyncio.get_running_loop().create_future()
    )

    def result(self) -> bytes:
        error = self.outcome.result()
        if error is None:
            return wire.encode("ack", self.id, room=self.room)
        fields: dict[str, Any] = {"code": error.code, "message": error.message, "line": self.number}
        if error.retry_after_seconds is not None:
            fields["retry_after_seconds"] = error.retry_after_seconds
        return wire.encode("error", self.id, **fields)


class HttpBatch:
    """Publishes the batches of a namespace's clients."""

    def __init__(self, namespace: Namespace, admission: Admission, counters: Counters) -> None:
        self._namespace = namespace
        self._admission = admission
        self._counters = counters

    async def publish(self, request: Request) -> Response:
        """Publish all lines, and answer what became of each once that is known.

        Raises:
            TidegateError: nothing was published, since the request as a whole is refused.
        """
        caller = Caller.of(request.scope)
        with self._admission.charged(caller):
            check_post(request)
            self._admission.check_origin(caller)
            grants = self._namespace.access.of(await self._admission.require(caller))
            key, room = key_of(request), _default_room(request)
            limits = self._namespace.limits
            body = await read_body(request, limits.batch_bytes, self._admission, caller, "batch_bytes")
            lines = [_Line(number, text) for number, text in lines_of(body, limits.batch_messages)]
        self._counters.received_bytes["http"] += len(body)
        await self._publish_all(lines, _Sender(caller, grants, key, room))
        errors = [await line.outcome for line in lines]
        published = errors.count(None)
        counts = {"published": published, "refused": len(lines) - published}
        return json_answer(orjson.dumps({**counts, "results": [orjson.Fragment(line.result()) for line in lines]}))

    async def _publish_all(self, lines: Sequence[_Line], sender: "_Sender") -> None:
        for start in range(0, len(lines), LINES_A_TURN):
            with self._burst():
                for line in lines[start : start + LINES_A_TURN]:
                    self._try(line, sender)
            await asyncio.sleep(0)

    @contextmanager
    def _burst(self) -> Iterator[None]:
        """What lines bring to one client is one write to it."""
        self._namespace.outbox.begin()
        try:
            yield
        finally:
            self._namespace.outbox.end()

    def _try(self, line: _Line, sender: "_Sender") -> None:
        """Publish a line, if the budget isn't used up."""
        if sender.over is not None:
            self._refuse(line, sender.over)
            return
        try:
            self._spend(line, sender)
            self._send(line, sender)
        except TidegateError as error:
            self._refuse(line, error)

    def _spend(self, line: _Line, sender: "_Sender") -> None:
        identity = sender.grants.identity
        try:
            try:
                self._admission.spend(sender.caller, identity, len(line.text))
            except MessageTooLarge:
                self._admission.spend(sender.caller, identity)  # for having been read
                raise
        except RateLimited as error:
            sender.over = error
            raise

    def _send(self, line: _Line, sender: "_Sender") -> None:
        grants = self._namespace.current(sender.grants)
        if grants.identity is not None:
            self._admission.authentication.check(grants.identity)
        asked = _read(line, sender.room)
        limits = self._namespace.role_limits.of(grants.identity)
        sending = Sending(
            asked.room,
            asked.data,
            asked.binary,
            audience=asked.audience,
            volatile=asked.volatile,
            user=grants.user,
            key=asked.key or (None if sender.key is None else f"{sender.key}\n{line.number}"),
            address=sender.caller.network,
            rooms_per_address=limits.rooms_per_address,
        )
        self._namespace.publish(sending, partial(self._done, line), grants)
        self._counters.published["http"] += 1

    def _done(self, line: _Line, error: TidegateError | None) -> None:
        if error is None:
            resolve(line.outcome, None)
        else:
            self._refuse(line, error)

    def _refuse(self, line: _Line, error: TidegateError) -> None:
        self._counters.refuse(error)
        resolve(line.outcome, error)


@dataclass(slots=True)
class _Sender:
    """Who sends a batch, and what holds of all its lines."""

    caller: Caller
    grants: Grants
    key: str | None
    room: str | None
    """Where lines go that name no room."""
    over: RateLimited | None = None
    """What it went over, once its budget is used up."""


def lines_of(body: bytes, most: int) -> list[tuple[int, bytes]]:
    """The lines that aren't empty, with their numbers.

    Raises:
        MessageTooLarge: there are more.
        BadMessage: there are none.
    """
    if (found := body.count(b"\n")) > most + EMPTY_LINES:
        raise MessageTooLarge(
            f"{found} lines: expected at most {most} with messages and {EMPTY_LINES} without; nothing was published",
            limit="batch_messages",
        )
    numbered = enumerate(body.split(b"\n"), 1)
    lines = [(number, text.removesuffix(b"\r")) for number, text in numbered if text.strip()]
    if len(lines) > most:
        text = f"{len(lines)} lines: expected at most {most} in one batch; nothing of it was published"
        raise MessageTooLarge(text, limit="batch_messages")
    if not lines:
        raise BadMessage('body: expected lines such as {"room": "sites/oslo", "data": 1}, found none')
    return lines


def _default_room(request: Request) -> str | None:
    rooms = request.query_params.getlist("room")
    if len(rooms) > 1:
        raise BadMessage(f"room: expected at most one beside a batch, found {len(rooms)}")
    return rooms[0] if rooms else None


def _read(line: _Line, default_room: str | None) -> wire_requests.Publish:
    """What a line asks for.

    Raises:
        BadMessage: it can't be understood; it says where that is.
    """
    try:
        value = orjson.loads(line.text)
    except orjson.JSONDecodeError as error:
        where = f"line {line.number}, column {error.colno}"
        raise BadMessage(f"{where}: expected a JSON object: {error.msg}") from None
    if not isinstance(value, dict):
        raise BadMessage(f'line {line.number}: expected a JSON object such as {{"room": "sites/oslo", "data": 1}}')
    if value.get("type", "publish") != "publish":
        raise BadMessage(f'line {line.number}: type: expected "publish", or nothing')
    if default_room is not None:
        value.setdefault("room", default_room)
    line.id = wire_requests.request_id(value)
    try:
        asked = wire_requests.read({**value, "type": "publish"})
    except BadMessage as error:
        raise BadMessage(f"line {line.number}: {error.message}") from None
    assert isinstance(asked, wire_requests.Publish)
    line.room = asked.room
    return asked
