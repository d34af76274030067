"""One connected client, whatever its transport. It ends once, whatever ends it: the client, a limit, or the gateway."""

from collections.abc import Callable
from typing import Literal

from gateway.core import wire
from gateway.core.errors import SlowConsumer, TidegateError
from gateway.core.limits import Budget
from gateway.core.sink import Sink

__all__ = ["Session", "TransportName"]

TransportName = Literal["websocket", "sse", "http"]


class Session:
    """What the gateway knows of a client, and the way to reach it."""

    __slots__ = ("_on_end", "address", "budget", "ended", "id", "rooms", "sink", "transport")

    def __init__(
        self,
        identifier: str,
        transport: TransportName,
        sink: Sink,
        budget: Budget,
        on_end: "Callable[[Session, TidegateError | None], None]",
    ) -> None:
        self.id = identifier
        self.transport = transport
        self.sink = sink
        self.budget = budget
        self.rooms: set[str] = set()
        """The rooms and patterns that it is subscribed to; the hub keeps them."""
        self.ended = False
        self._on_end = on_end

    def send(self, kind: str, text: bytes, cursor: str | None = None) -> None:
        """Send one object of the wire protocol, already JSON."""
        self.sink.write(self.sink.framing(kind, text, cursor))

    def overflow(self) -> None:
        """End, because more waits for the client than may: it reads slower than its rooms fill."""
        self.end(SlowConsumer(f"the client of session {self.id} reads slower than its rooms fill"))

    def end(self, error: TidegateError | None = None) -> None:
        """Leave all rooms; with an error, say `bye` and close the connection. Only the first call counts."""
        if self.ended:
            return
        self.ended = True
        self._on_end(self, error)
        if error is not None:
            bye = wire.encode("bye", code=error.code, reason=error.message, retry=error.retry)
            self.send("bye", bye)
            self.sink.close(error.close_code or 1000, error.code)
