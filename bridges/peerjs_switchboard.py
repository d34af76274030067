"""Who is there to be called in which room, and what waits for a peer that is about to come. No I/O, and no protocol.

Signals go from peer to peer here and not through the room: a message in a room could be sent by any client that may
publish there, and say that it is whoever's; one for a busy receiver would be dropped, and a room that leads to a device
takes none with an address. That a peer is in a room, and may be, is the core's to say (`Line.live`).
"""

from collections import deque
from dataclasses import dataclass, field
from hmac import compare_digest
from typing import Final, Protocol, TypeAlias

from bridges.peerjs_protocol import Signal, expire
from gateway.core.clock import Clock
from gateway.core.counters import Counters
from gateway.core.peer_errors import IdTaken, PeerUnavailable, TooManyPeers
from gateway.core.wheel import Wheel

__all__ = ["Line", "Peer", "Switchboard", "SwitchboardBounds"]

WAITING_MESSAGES: Final = 10_000
"""How many may wait for peers, over all rooms."""
WAITING_BYTES: Final = 16 * 1024 * 1024

_Place: TypeAlias = tuple[str, str]
"""A room, and an id there."""


class Line(Protocol):
    """One connection of a peer."""

    @property
    def live(self) -> bool:
        """Whether it is there, and may be in the room."""
        ...

    def tell(self, text: bytes) -> None:
        """Send it something."""
        ...

    def replaced(self) -> None:
        """The same peer has come by another connection: end this one."""
        ...


@dataclass(frozen=True, slots=True)
class SwitchboardBounds:
    """How many, and how long."""

    peers_per_room: int = 1000
    expire_seconds: float = 5.0
    """How long what is said to a peer waits until it comes."""
    queue_messages: int = 100
    """How much of what one peer says may wait."""
    queue_bytes: int = 256 * 1024


@dataclass(slots=True, eq=False)
class Peer:
    """One of those who may be called in a room; whoever shows its token is it."""

    room: str
    id: str
    token: str = field(repr=False)
    user: str | None
    line: Line
    waiting: dict[_Place, None] = field(default_factory=dict)
    """For whom something waits that it has said."""
    messages: int = 0
    """How many wait."""
    size_bytes: int = 0

    def is_same(self, token: str, user: str | None) -> bool:
        """Whether who shows this token, as that user, is this peer."""
        return user == self.user and compare_digest(token.encode(), self.token.encode())


@dataclass(frozen=True, slots=True)
class _Said:
    sender: Peer
    text: bytes


class Switchboard:
    """The peers of a namespace."""

    def __init__(self, bounds: SwitchboardBounds, clock: Clock, counters: Counters) -> None:
        self._bounds = bounds
        self._counters = counters
        self._rooms: dict[str, dict[str, Peer]] = {}
        self._queues: dict[_Place, deque[_Said]] = {}
        self._messages = self._size_bytes = 0
        self._due: Wheel[_Place] = Wheel(clock, self._expire)

    def ids(self, room: str) -> list[str]:
        """Who can be called in a room."""
        return [peer.id for peer in self._rooms.get(room, {}).values() if peer.line.live]

    def check(self, room: str, identifier: str, token: str, user: str | None) -> Peer | None:
        """Check that somebody may come; the peer that it is already, if it is.

        Raises:
            IdTaken: another one has this id.
            TooManyPeers: the room is full.
        """
        peers = self._rooms.get(room, {})
        known = peers.get(identifier)
        if known is not None and known.is_same(token, user):
            return known
        if known is not None and known.line.live:
            raise IdTaken(f"ID is taken: {identifier!r} is there with another token")
        if known is None and len(peers) >= self._bounds.peers_per_room:
            raise TooManyPeers(
                f"Server has reached its concurrent user limit: {self._bounds.peers_per_room} peers in {room!r}",
                limit="peerjs.peers_per_room",
            )
        return None

    def join(self, room: str, identifier: str, token: str, user: str | None, line: Line) -> Peer:
        """Somebody comes; it is told nothing before `connect`. The same peer's older connection is replaced.

        Raises:
            IdTaken, TooManyPeers: as `check`.
        """
        known = self.check(room, identifier, token, user)
        if known is not None:
            before, known.line = known.line, line
            before.replaced()
            return known
        gone = self._rooms.get(room, {}).get(identifier)
        if gone is not None:
            self._remove(gone)
        peer = Peer(room, identifier, token, user, line)
        self._rooms.setdefault(room, {})[identifier] = peer
        return peer

    def connect(self, peer: Peer) -> None:
        """Tell a peer that has come what waits for it."""
        for said in self._take((peer.room, peer.id)):
            if said.sender.line.live:
                self._deliver(said.text, peer)
            else:  # the rules have ended it since, or it is about to leave
                self._counters.drops["peerjs_expired"] += 1

    def leave(self, peer: Peer, line: Line) -> None:
        """A connection is over, and so is its peer, with all of it that waits; unless another one has replaced it."""
        if peer.line is line:
            self._remove(peer)

    def _remove(self, peer: Peer) -> None:
        peers = self._rooms.get(peer.room, {})
        if peers.get(peer.id) is peer:
            del peers[peer.id]
        if not peers:
            self._rooms.pop(peer.room, None)
        for place in tuple(peer.waiting):
            self._withdraw(peer, place)

    def relay(self, peer: Peer, signal: Signal) -> None:
        """Hand on what a peer says to another one of its room, or keep it for one that is about to come.

        Raises:
            TooManyPeers: too much waits already; nothing was kept.
        """
        assert signal.dst is not None
        place, text = (peer.room, signal.dst), signal.text(peer.id)
        other = self._rooms.get(peer.room, {}).get(signal.dst)
        if other is not None and other.line.live:
            self._deliver(text, other)
        elif signal.waits:
            self._keep(place, _Said(peer, text))
        else:
            self._withdraw(peer, place)

    def _deliver(self, text: bytes, peer: Peer) -> None:
        self._counters.deliveries["peerjs"] += 1
        self._counters.delivered_bytes["peerjs"] += len(text)
        peer.line.tell(text)

    def _keep(self, place: _Place, said: _Said) -> None:
        peer, size_bytes, bounds = said.sender, len(said.text), self._bounds
        if (
            peer.messages >= bounds.queue_messages
            or peer.size_bytes + size_bytes > bounds.queue_bytes
            or self._messages >= WAITING_MESSAGES
            or self._size_bytes + size_bytes > WAITING_BYTES
        ):
            self._counters.drops["peerjs_queue_full"] += 1
            raise TooManyPeers(
                "too much waits for peers that aren't there",
                retry_after_seconds=bounds.expire_seconds,
                limit="peerjs.queue_messages",
            )
        queue = self._queues.get(place)
        if queue is None:
            queue = self._queues[place] = deque()
            self._due.add(place, bounds.expire_seconds)
        queue.append(said)
        peer.waiting[place] = None
        self._count(said, 1)

    def _count(self, said: _Said, change: int) -> None:
        size_bytes = change * len(said.text)
        said.sender.messages += change
        said.sender.size_bytes += size_bytes
        self._messages += change
        self._size_bytes += size_bytes

    def _take(self, place: _Place) -> deque[_Said]:
        self._due.discard(place)
        queue = self._queues.pop(place, deque())
        for said in queue:
            said.sender.waiting.pop(place, None)
            self._count(said, -1)
        return queue

    def _withdraw(self, peer: Peer, place: _Place) -> None:
        """Forget what waits of a peer's for another one."""
        if peer.waiting.pop(place, 0) == 0:
            return
        queue = self._queues[place]
        kept = deque(said for said in queue if said.sender is not peer)
        for said in queue:
            if said.sender is peer:
                self._count(said, -1)
        self._queues[place] = kept
        if not kept:
            self._take(place)

    def _expire(self, place: _Place) -> None:
        """Nobody came: tell all who called, each once."""
        queue = self._take(place)
        self._counters.drops["peerjs_expired"] += len(queue)
        seconds = self._bounds.expire_seconds
        error = PeerUnavailable(f"nobody of the id {place[1]!r} came to {place[0]!r} within {seconds:g} s")
        for peer in dict.fromkeys(said.sender for said in queue):
            if peer.line.live:
                self._counters.refuse(error)
                peer.line.tell(expire(place[1], peer.id, error))

    def __len__(self) -> int:
        """How many messages wait."""
        return self._messages
