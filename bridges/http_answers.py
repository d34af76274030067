"""What the endpoints of plain HTTP have in common: JSON, and errors as problem details."""

import asyncio
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from itertools import chain
from typing import Any, Final

import orjson
from starlette.requests import Request
from starlette.responses import Response, StreamingResponse

from gateway.core import wire, wire_requests
from gateway.core.errors import MethodNotAllowed, TidegateError
from gateway.core.message import Message
from gateway.core.problem import problem

__all__ = ["check_post", "json_answer", "key_of", "messages_answer", "refusal"]

PART_BYTES: Final = 64 * 1024
"""What is made of a long answer before the client has to take it; others have their turn meanwhile."""


def check_post(request: Request) -> None:
    """Check that it is a POST.

    Raises:
        MethodNotAllowed: it isn't.
    """
    if request.method != "POST":
        raise MethodNotAllowed(f"{request.method} is not served here: expected POST", allowed=["POST"])


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
