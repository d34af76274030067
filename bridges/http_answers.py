"""What the endpoints of plain HTTP have in common: bodies within bounds, JSON, and errors as problem details."""

import asyncio
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from itertools import chain
from typing import Any, Final, TypeVar

import orjson
from starlette.requests import Request
from starlette.responses import Response, StreamingResponse

from gateway.core import wire, wire_requests
from gateway.core.admission import Admission, Caller
from gateway.core.errors import HandshakeTimeout, MessageTooLarge, MethodNotAllowed, TidegateError
from gateway.core.message import Message
from gateway.core.problem import problem

__all__ = ["check_post", "json_answer", "key_of", "messages_answer", "read_body", "refusal", "resolve"]

T = TypeVar("T")

PART_BYTES: Final = 64 * 1024
"""What is made of a long answer before the client has to take it; others have their turn meanwhile."""

PORTION_BYTES: Final = 16 * 1024
"""What may take as long as a request's head: who sends less holds a place."""


def check_post(request: Request) -> None:
    """Check that it is a POST.

    Raises:
        MethodNotAllowed: it isn't.
    """
    if request.method != "POST":
        raise MethodNotAllowed(f"{request.method} is not served here: expected POST", allowed=["POST"])


async def read_body(
    request: Request, limit_bytes: int, admission: Admission, caller: Caller, limit: str | None = None
) -> bytes:
    """All of a request's body. Each `PORTION_BYTES` of it, and the rest, has as much time as a request's head.

    Args:
        request: The request.
        limit_bytes: The largest body.
        admission: Says how long that time is.
        caller: Who is to blame.
        limit: The limit's key, if it isn't that of a single message.

    Raises:
        MessageTooLarge: it is larger.
        HandshakeTimeout: it comes more slowly, which is an offence of the caller's address.
    """
    seconds, body, due_bytes = admission.patience_seconds, bytearray(), PORTION_BYTES
    try:
        async with asyncio.timeout(seconds) as patience:
            async for part in request.stream():
                body += part
                if len(body) > limit_bytes:
                    found = f"the body is too large: expected at most {limit_bytes} bytes"
                    raise MessageTooLarge(found, limit=limit)
                if len(body) >= due_bytes:
                    due_bytes = len(body) + PORTION_BYTES
                    patience.reschedule(asyncio.get_running_loop().time() + seconds)
    except TimeoutError:
        admission.blame(caller)
        raise HandshakeTimeout(f"the body came too slowly: expected {PORTION_BYTES} bytes in {seconds:g} s") from None
    return bytes(body)


def key_of(request: Request) -> str | None:
    """The key of a request that may come again, with or without the quotes of a structured field (RFC 9651 §3.3.3).

    Raises:
        BadMessage: it isn't one.
    """
    key = request.headers.get("idempotency-key")
    if key is None:
        return None
    quoted = len(key) > 1 and key[0] == key[-1] == '"'
    return wire_requests.read_key(key[1:-1] if quoted else key)


def resolve(future: asyncio.Future[T], outcome: T) -> None:
    """Answer a request that may have been given up."""
    if not future.done():
        future.set_result(outcome)


def json_answer(body: bytes) -> Response:
    """An answer that nobody keeps."""
    return Response(body, media_type="application/json", headers={"cache-control": "no-store"})


def messages_answer(fields: Mapping[str, Any], name: str, messages: Sequence[Message]) -> Response:
    """A JSON object with messages at its end; if it is long it is made as it is read, and waits for nobody."""
    parts = _parts(fields, name, messages)
    first, second = next(parts), next(parts, None)
    if second is None:
        return json_answer(first)

    async def body() -> AsyncIterator[bytes]:
        for part in chain((first, second), parts):
            yield part
            await asyncio.sleep(0)

    return StreamingResponse(body(), media_type="application/json", headers={"cache-control": "no-store"})


def _parts(fields: Mapping[str, Any], name: str, messages: Sequence[Message]) -> Iterator[bytes]:
    part = bytearray(orjson.dumps(fields)[:-1] + b',"%b":[' % name.encode())
    for index, message in enumerate(messages):
        part += wire.encode_message(message) if index == 0 else b"," + wire.encode_message(message)
        if len(part) >= PART_BYTES:
            yield bytes(part)
            part.clear()
    yield bytes(part + b"]}")


def refusal(error: TidegateError, **more: object) -> Response:
    """The answer to a request that met an error."""
    status, headers, body = problem(error, **more)
    response = Response(body, status)
    response.raw_headers = headers
    return response
