"""How requests over HTTP are read and answered, whatever they ask for: bodies within bounds, answers that come late."""

import asyncio
from functools import partial
from typing import Any, Final, TypeVar

from starlette.requests import Request

from gateway.core.admission import Admission, Caller
from gateway.core.engine import Engine
from gateway.core.errors import HandshakeTimeout, MessageTooLarge, TidegateError
from gateway.core.problem import problem

__all__ = ["read_body", "refuse", "resolve", "settled"]

T = TypeVar("T")

PORTION_BYTES: Final = 16 * 1024
"""What may take as long as a request's head: who sends less holds a place."""


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


def resolve(future: asyncio.Future[T], outcome: T) -> None:
    """Answer a request that may have been given up."""
    if not future.done():
        future.set_result(outcome)


async def settled(engine: Engine) -> None:
    """Wait until it is known what cursors stand for."""
    known: asyncio.Future[None] = asyncio.get_running_loop().create_future()
    engine.settled(partial(resolve, known, None))
    await known


async def refuse(send: Any, error: TidegateError) -> None:
    """Answer a request with problem details."""
    status, headers, body = problem(error)
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})
