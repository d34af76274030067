"""One connected client, whatever its transport. It ends once, whatever ends it: the client, a limit, or the gateway."""

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal, Protocol

from gateway.core import wire, wire_requests
from gateway.core.access import OPEN, Grants
from gateway.core.connections import Seat
from gateway.core.errors import SlowConsumer, TidegateError
from gateway.core.identity import Identity
from gateway.core.limit_errors import RateLimited
from gateway.core.limits import Budget, Limits
from gateway.core.message import Cursor, Message
from gateway.core.sample import Sample, rank_of
from gateway.core.sink import Sink
from gateway.core.topics import filter_matches

__all__ = ["Keeper", "Pending", "Session", "TransportName"]

TransportName = Literal["websocket", "raw", "sse", "polling", "http", "socketio", "mqtt", "peerjs", "webhook"]


@dataclass(slots=True)
class Pending:
    """A subscription that is not in the fan-out: what its client has still to be told."""

    position: int | None
    """The place in the sequence up to which all was told; None if nothing was."""
    since: Cursor | None = None
    """Where it is to begin, for as long as it isn't known what place that is."""
    request: wire_requests.RequestId = None
    announced: bool = False
    """Whether `subscribed` has been said."""
    recovered: bool = True
    """Whether it is to say that nothing is lacking."""
    untold: deque[Message] | None = None
    """The last values that it is still to say, in the order of the sequence; None if it isn't to be said now."""
    values_told: int = 0
    """The place up to which last values have been told by then."""
    listed_at: float = 0.0
    """When they were listed."""
    latest: bool = False
    """Whether of each topic only the newest value is to be told."""


class Keeper(Protocol):
    """Who is told what befalls a session."""

    def ended(self, session: "Session", error: TidegateError | None) -> None:
        """It has ended, with an error if the gateway ended it."""
        ...

    def paused(self, session: "Session") -> None:
        """Its client doesn't take any more for now."""
        ...

    def resumed(self, session: "Session") -> None:
        """Its client has taken what waited."""
        ...

    def about_to_send(self) -> None:
        """Something that isn't for a room's audience is about to be written to it."""
        ...

    def throttled(self, session: "Session", wait_seconds: float) -> None:
        """It has been sent all that it may be for now, and is to be sent nothing for a while."""
        ...


class Session:
    """What the gateway knows of a client, and the way to reach it."""

    __slots__ = (
        "_keeper",
        "bandwidth",
        "budget",
        "ended",
        "ending",
        "grants",
        "id",
        "member",
        "pending",
        "rooms",
        "samples",
        "seat",
        "sink",
        "throttled",
        "transport",
    )

    def __init__(
        self,
        identifier: str,
        transport: TransportName,
        sink: Sink,
        budget: Budget,
        keeper: Keeper,
        grants: Grants = OPEN,
        member: str | None = None,
        seat: Seat | None = None,
    ) -> None:
        self.id = identifier
        self.transport = transport
        self.sink = sink
        self.budget = budget
        self.grants = grants
        """Who it is, and so what it may do."""
        self.member = member
        """What the client calls itself, in rooms with presence: its own word."""
        self.seat = seat
        """What its connection counts for."""
        self.bandwidth: float | None = None
        """How many bytes a second its client asks for at most."""
        self.rooms: dict[str, int] = {}
        """Its subscriptions, each with the place in the sequence after which its messages are told."""
        self.pending: dict[str, Pending] = {}
        """Those of them that are not in the fan-out."""
        self.samples: dict[str, Sample] = {}
        """Those of them that are sampled."""
        self.throttled = False
        """Whether it has been sent all that it may be for now."""
        self.ended = False
        self.ending: Callable[[], None] | None = None
        """To be called as it ends, while it is known still what it has subscribed to and was told."""
        self._keeper = keeper

    @property
    def identity(self) -> Identity | None:
        """Who it is; None while it has still to say so."""
        return self.grants.identity

    @property
    def user(self) -> str | None:
        """The user's name, if it has one."""
        return self.grants.user

    @property
    def limits(self) -> Limits:
        """How much it may do."""
        return self.budget.limits

    @property
    def address(self) -> str:
        """The address, or network, that it counts for."""
        return "" if self.seat is None else self.seat.address

    def send(self, kind: str, text: bytes, cursor: str | None = None) -> int:
        """Send one object of the wire protocol, already JSON; how many bytes that made."""
        self._keeper.about_to_send()
        frame = self.sink.framing(kind, text, cursor)
        self.sink.write(frame)
        return len(frame)

    @property
    def can_be_told(self) -> bool:
        """Whether there is a client that takes what is written, and may be sent it."""
        return not self.ended and not self.throttled and not self.sink.paused

    def sample_for(self, room: str) -> Sample | None:
        """How a room's messages are sampled for it: of the subscriptions that match, the finest holds."""
        found = [self.samples.get(wanted) for wanted in self.rooms if filter_matches(wanted, room)]
        return min(found, key=rank_of, default=None)

    def hears(self, room: str, sample: Sample) -> bool:
        """Whether a subscription with this sample brings it a room's messages now."""
        return self.sample_for(room) == sample and any(
            wanted not in self.pending and self.samples[wanted] == sample and filter_matches(wanted, room)
            for wanted in self.samples
        )

    def throttle(self, wait_seconds: float) -> None:
        """It has been sent all that it may be for so long."""
        self._keeper.throttled(self, wait_seconds)

    def pause(self) -> None:
        """The client doesn't take any more for now."""
        self._keeper.paused(self)

    def resume(self) -> None:
        """The client has taken what waited."""
        self._keeper.resumed(self)

    def overflow(self) -> None:
        """End, because the client asks on and on without reading the answers."""
        self.end(SlowConsumer(f"the client of session {self.id} doesn't read what it asks for"))

    def gone(self) -> None:
        """The connection is lost: leave the fan-out at once, whoever still has to notice."""
        self.end()

    def aside(self, size_bytes: int) -> None:
        """Account for what is no message, such as a ping; end if there are more than there may be messages."""
        try:
            self.budget.spend(size_bytes)
        except TidegateError as error:
            if self.budget.refuse():
                self.end(RateLimited(f"too many pings and the like: {error.message}", limit="refusals"))

    def over_limit(self, error: TidegateError) -> None:
        """Account for what was refused since it is over a limit; end if there was too much of that in a row."""
        if self.budget.refuse():
            reason = f"too many messages over the limits, at last: {error.message}"
            self.end(RateLimited(reason, limit="refusals"))

    def end(self, error: TidegateError | None = None) -> None:
        """Leave all rooms; with an error, say `bye` and close the connection. Only the first call counts."""
        if self.ended:
            return
        self.ended = True
        if self.ending is not None:
            self.ending()
        self._keeper.ended(self, error)
        if error is not None:
            bye = wire.encode("bye", code=error.code, reason=error.message, retry=error.retry)
            self.send("bye", bye)
            self.sink.close(error.close_code or 1000, error.code)
