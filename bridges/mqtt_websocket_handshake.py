"""Which WebSocket is one for MQTT."""

from typing import Final

from gateway.core.errors import WrongSubprotocol

__all__ = ["choose_subprotocol"]

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
