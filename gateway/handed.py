"""A WebSocket connection without its application: what comes goes to a receiver, and nothing is kept to wait for it.

An application that serves a connection for as long as that lasts costs a task with all its frames, a queue, and the
request: more than the connection itself.
"""

from collections import deque
from typing import Any

from gateway.core.sink import Framing, Receiver

__all__ = ["Handed"]


class Handed:
    """Stands in the place of the queue to the application, and gives to a receiver at once what would go there."""

    __slots__ = ("_receiver", "_waiting")

    def __init__(self, receiver: Receiver) -> None:
        self._receiver: Receiver | None = receiver
        self._waiting: deque[str | bytes] | None = None
        """What has come since a frame that is still to be settled."""

    @property
    def framing(self) -> Framing | None:
        """How the receiver's protocol frames errors, if it isn't the gateway's own protocol."""
        return getattr(self._receiver, "framing", None)

    def put_nowait(self, event: Any) -> None:
        """Take an event of ASGI which says that the connection is over; only the first of them counts."""
        receiver, self._receiver = self._receiver, None  # it leads back to the connection
        if receiver is not None:
            receiver.closed(offended="tidegate.broken" in event)

    def empty(self) -> bool:
        """Whether more may come."""
        return self._waiting is None

    def receive(self, frame: str | bytes) -> bool:
        """Take what the client has sent; whether `settle` is to be awaited now."""
        if self._waiting is not None:
            self._waiting.append(frame)
        elif self._receiver is not None:
            receiver = self._receiver
            receiver.receive(frame)
            if receiver.waits:
                self._waiting = deque()
                return True
        return False

    async def settle(self) -> None:
        """Wait for what the last frame waits for, and then take those that came behind it."""
        receiver = self._receiver
        while receiver is not None and receiver.waits:
            await receiver.settle()
            while self._waiting and not receiver.waits:
                receiver.receive(self._waiting.popleft())
        self._waiting = None
