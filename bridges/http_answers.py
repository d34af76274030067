"""What the endpoints of plain HTTP have in common: bodies within bounds, JSON, and errors as problem details."""

import asyncio
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from itertools import chain
from typing import Any, Final

import orjson
from starlette.requests import Request
from starlette.responses import Response, StreamingResponse

from gateway.core import wire
from gateway.core.errors import MessageTooLarge, MethodNotAllowed, TidegateError
from gateway.core.message import Message
from gateway.core.problem import problem

__all__ = ["check_post", "json_answer", "messages_answer", "read_body", "refusal"]

PART_BYTES: Final = 64 * 1024
"""What is made of a long answer before the client has to take it; others have their turn meanwhile."""


def check_post(request: Request) -> None:
    """Check that it is a POST.

    Raises:
        MethodNotAllowed: it isn't.
    """
    if request.method != "POST":
        raise MethodNotAllowed(f"{request.method} is not served here: expected POST", allowed=["POST"])


async def read_body(request: Request, limit_bytes: int) -> bytes:
    """All of a request's body.

    Raises:
        MessageTooLarge: it is larger.
    """
    body = bytearray()
    async for part in request.stream():
        body += part
        if len(body) > limit_bytes:
            raise MessageTooLarge(f"the body is too large: expected at most {limit_bytes} bytes")
    return bytes(body)


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
