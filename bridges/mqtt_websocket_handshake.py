"""How a WebSocket for MQTT is accepted or refused."""

from typing import Any, Final

from gateway.core.errors import TidegateError, WrongSubprotocol
from gateway.core.problem import problem

__all__ = ["choose_subprotocol", "deny"]

SUBPROTOCOLS: Final = ("mqtt", "mqttv3.1")
"""Those that clients offer; `mqttv3.1` is what some call 3.1.1 by."""


def choose_subprotocol(offered: list[str]) -> str:
    """The subprotocol, which MQTT asks for (MQTT 5 §6.0.0-3).

    Raises:
        WrongSubprotocol: it isn't offered.
    """
    for subprotocol in offered:
        if subprotocol in SUBPROTOCOLS:
            return subprotocol
    raise WrongSubprotocol("expected the subprotocol mqtt")


async def deny(scope: Any, send: Any, error: TidegateError) -> None:
    """Refuse the handshake with problem details, or with a bare 403 where the server can't say more."""
    if "websocket.http.response" not in (scope.get("extensions") or {}):
        await send({"type": "websocket.close", "code": 1008, "reason": error.code})
        return
    status, headers, body = problem(error)
    await send({"type": "websocket.http.response.start", "status": status, "headers": headers})
    await send({"type": "websocket.http.response.body", "body": body})
