"""How a request is refused before any bridge has it, whichever protocol it speaks."""

from collections.abc import Mapping
from typing import Any

from bridges.carrier_serving import deny
from gateway.core.errors import TidegateError
from gateway.core.problem import problem

__all__ = ["refuse"]


async def refuse(error: TidegateError, scope: Mapping[str, Any], receive: Any, send: Any) -> None:
    """Answer one HTTP request or WebSocket handshake with problem details."""
    if scope["type"] == "websocket":
        await receive()  # websocket.connect
        await deny(scope, send, error)
        return
    status, headers, body = problem(error)
    headers.append((b"connection", b"close"))  # who goes on has to come anew, which is limited most strictly
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})
