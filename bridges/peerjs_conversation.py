"""What happens when a peer speaks: its frames in, signals to others, and what it is told into its session's sink.

No frame that a client can send makes it raise. What can't be handed on is answered with `EXPIRE`, so that this one
call fails (`peer-unavailable`) and its client stays; what isn't understood, with `ERROR`, at which it leaves.
"""

import logging
from typing import Final

from bridges.peerjs_protocol import OPEN, SIGNAL, Heartbeat, Signal, expire, read, read_quietly, refusal
from bridges.peerjs_switchboard import Peer, Switchboard
from gateway.core.access import Action
from gateway.core.clock import Clock
from gateway.core.counters import Counters
from gateway.core.errors import InternalError, MessageTooLarge, TidegateError
from gateway.core.limit_errors import Idle, RateLimited
from gateway.core.namespace import Namespace
from gateway.core.plain_rooms import RoomRates
from gateway.core.session import Session
from gateway.core.wheel import Wheel
from gateway.core.wire_requests import Subscribe

__all__ = ["Call", "Exchange"]

MAXIMUM_GIVEN_UP: Final = 100

logger = logging.getLogger(__name__)


class Exchange:
    """What the peers of a namespace have in common."""

    def __init__(
        self,
        namespace: Namespace,
        switchboard: Switchboard,
        clock: Clock,
        alive_seconds: float,
    ) -> None:
        self.namespace = namespace
        self.switchboard = switchboard
        self.clock = clock
        self.rates = RoomRates(namespace.limits, clock)
        self.alive: Wheel[Call] = Wheel(clock, Call.look)
        self.alive_seconds = alive_seconds

    @property
    def counters(self) -> Counters:
        """Where all is counted."""
        return self.namespace.counters


class Call:
    """One connection of a peer: a `Line` of the switchboard, and a `Receiver` of frames."""

    __slots__ = ("_exchange", "_given_up", "_peer", "_room", "session")

    def __init__(self, session: Session, room: str, exchange: Exchange) -> None:
        self.session = session
        self._room = room
        self._exchange = exchange
        self._peer: Peer | None = None
        self._given_up: dict[str, None] = {}
        """Whom a call of its client has failed to reach: its candidates, which come behind, aren't answered too."""

    def begin(self, identifier: str, token: str) -> None:
        """Come into the room, say `OPEN`, and hear what waits.

        Raises:
            IdTaken, TooManyPeers: as `Switchboard.join`.
            Forbidden, BadMessage: as `Namespace.subscribe`.
        """
        exchange, user = self._exchange, self.session.user
        if self.session.ended:  # the rules have changed since the handshake
            return
        exchange.switchboard.check(self._room, identifier, token, user)
        # Before an older connection of the same peer ends: so it never left.
        exchange.namespace.subscribe(self.session, Subscribe(None, (self._room,), None))
        self._peer = exchange.switchboard.join(self._room, identifier, token, user, self)
        exchange.alive.add(self, exchange.alive_seconds)
        self.tell(OPEN)
        exchange.switchboard.connect(self._peer)

    @property
    def live(self) -> bool:
        """Whether it is there, and the rules let it be in the room."""
        return not self.session.ended and self._room in self.session.rooms

    def tell(self, text: bytes) -> None:
        """Send PeerJS text."""
        if not self.session.ended:
            self.session.send(SIGNAL, text)

    def replaced(self) -> None:
        """The same peer has come by another connection."""
        self.session.end()
        self.session.sink.close(1000, "replaced by a newer connection")

    def look(self) -> None:
        """End it if nothing has come for too long, not even `HEARTBEAT`."""
        exchange, seconds = self._exchange, self._exchange.alive_seconds
        left_seconds = self.session.budget.used + seconds - exchange.clock.monotonic()
        if left_seconds > 0:
            exchange.alive.add(self, left_seconds)
        else:
            error = Idle(f"nothing came for {seconds:g} s, not even HEARTBEAT", limit="peerjs.alive_seconds")
            self.session.end(error)

    def receive(self, frame: str | bytes) -> None:
        """Take one frame."""
        if self.session.ended:
            return
        signal: Signal | None = None
        try:
            if not self._spend(frame):
                return
            incoming = read(frame)
            if isinstance(incoming, Signal):
                signal = incoming
                self._act(signal)
        except TidegateError as error:
            self._refuse(signal, error)
        except Exception:
            logger.exception("a signal of session %s failed", self.session.id)
            self.session.end(InternalError("the gateway failed to handle a message; its log says why"))
        else:
            self.session.budget.accept()

    def _spend(self, frame: str | bytes) -> bool:
        """Whether a frame is within the limits; if it isn't, that is told.

        What is over them is read all the same, to say which call it costs; that ends after `limits.refusals`.
        """
        size_bytes = len(frame.encode()) if isinstance(frame, str) else len(frame)
        self._exchange.counters.received_bytes["peerjs"] += size_bytes
        try:
            self.session.budget.spend(size_bytes)
        except RateLimited as error:
            incoming = read_quietly(frame)
            if isinstance(incoming, Heartbeat):  # it has been heard; to answer would end the client
                self._count(error)
            else:
                self._refuse(incoming, error)
            return False
        return True

    def _act(self, signal: Signal) -> None:
        exchange, session = self._exchange, self.session
        exchange.namespace.follow(session)
        if not self.live or self._peer is None:
            return  # the rules have ended it
        if signal.dst is None:
            session.end()
            session.sink.close(1000, "left")
            return
        session.grants.check(Action.PUBLISH, self._room)
        exchange.rates.spend(self._room)
        exchange.switchboard.relay(self._peer, signal)
        self._given_up.pop(signal.dst, None)
        exchange.counters.published["peerjs"] += 1

    def _refuse(self, signal: Signal | None, error: TidegateError) -> None:
        if signal is not None and signal.dst is not None:
            self._fail(signal, signal.dst, error)
        elif not isinstance(error, MessageTooLarge):  # which ends it, with the same words
            self.tell(refusal(error))
        self._count(error)

    def _fail(self, signal: Signal, dst: str, error: TidegateError) -> None:
        """Say that a call comes to nothing, once for all that belongs to it."""
        if self._peer is None or (signal.follows and dst in self._given_up):
            return
        self.tell(expire(dst, self._peer.id, error))
        self._given_up[dst] = None
        if len(self._given_up) > MAXIMUM_GIVEN_UP:
            del self._given_up[next(iter(self._given_up))]

    def _count(self, error: TidegateError) -> None:
        session = self.session
        self._exchange.counters.refuse(error)
        if isinstance(error, MessageTooLarge):
            session.end(error)
        elif isinstance(error, RateLimited):
            session.over_limit(error)

    @property
    def waits(self) -> bool:
        """Nothing here waits."""
        return False

    async def settle(self) -> None:
        """Nothing here waits."""

    def end(self) -> None:
        """Leave the room and the switchboard."""
        self._exchange.alive.discard(self)
        self.session.end()
        if self._peer is not None:
            self._exchange.switchboard.leave(self._peer, self)

    def closed(self, *, offended: bool) -> None:
        """The client is gone, or broke the rules of WebSocket: its session is over, and its seat free."""
        seat = self.session.seat
        if offended and seat is not None:
            seat.offend()
        self.end()
        if seat is not None:
            seat.free()
