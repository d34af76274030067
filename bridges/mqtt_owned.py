"""A broker as one of several nodes uses it: each sends by a connection of its own, and who has the lease receives.

Whoever receives has the broker's one session for all nodes, by its client id, and so the messages that the last owner
left in it. Before it connects, all that earlier owners stored is known, and no more of theirs is stored. Who loses the
lease ends its connection before anything else, and acknowledges nothing more.
"""

import asyncio
import contextlib
import logging
from collections.abc import Callable
from functools import partial
from typing import Final, Protocol, TypeAlias

from bridges.mqtt import Changed, Upstream, UpstreamState
from gateway.core.clock import Clock, Timer
from gateway.core.lease import Lease
from gateway.core.upstream import Done, ReplyTo

__all__ = ["OwnedUpstream", "Ownership"]

logger = logging.getLogger(__name__)

SETTLE_SECONDS: Final = 0.5
"""How long what came may take to be stored before the lease is given back; what isn't, comes to the next owner."""

MakeSender: TypeAlias = Callable[[Changed], Upstream]
MakeReceiver: TypeAlias = Callable[[Changed, Callable[[], bool]], Upstream]
"""Of who is told of changes, and who says whether what comes may be read: an owner that was paused may be none."""
MakeLease: TypeAlias = Callable[[Callable[[int], None], Callable[[str], None]], Lease]


class Ownership(Protocol):
    """Who stores what the owner receives."""

    def own(self, session: str, token: int, done: Callable[[], None], fenced: Callable[[], None]) -> None:
        """Store what comes under this token, and, once `done` is called, nothing more under an earlier one.

        `fenced` is called if something was refused, since there is a later one.
        """
        ...

    def settle(self, done: Callable[[], None]) -> None:
        """Call back once all that came is stored."""
        ...


class OwnedUpstream:
    """One broker: `run` keeps its connections, `publish` sends to devices."""

    def __init__(
        self,
        make_sender: MakeSender,
        make_receiver: MakeReceiver,
        make_lease: MakeLease,
        ownership: Ownership,
        changed: Changed,
        clock: Clock,
        node: str,
        patience_seconds: float,
    ) -> None:
        """`patience_seconds` is how long an owner may be without its connection before another node is to try."""
        self._sender = make_sender(self._sender_changed)
        self._lease = make_lease(self._gained, self._lost)
        self._receiver = make_receiver(self._receiver_changed, lambda: self._lease.held)
        self._ownership = ownership
        self._changed = changed
        self._clock = clock
        self._node = node
        self._patience_seconds = patience_seconds
        self._patience: Timer | None = None
        self._fell = False
        """Whether this node owns it, and had its connection, and has it no more."""
        self._tasks: asyncio.TaskGroup | None = None
        self._receiving: asyncio.Task[None] | None = None
        self._left = False
        self.takeovers = 0
        """How often this node came to own it."""
        self.fenced = 0
        """How often something that this node received was refused, since another one owned it."""

    @property
    def name(self) -> str:
        """The upstream's name."""
        return self._sender.options.name

    @property
    def session(self) -> str:
        """By which name it is owned."""
        return self._lease.name

    @property
    def state(self) -> UpstreamState:
        """`up` on the node that receives, `standby` on those that only send."""
        if self._sender.state is not UpstreamState.UP:
            return self._sender.state
        if self._receives:
            return UpstreamState.UP
        return UpstreamState.DOWN if self._fell else UpstreamState.STANDBY

    @property
    def _receives(self) -> bool:
        return self.owns and self._receiver.state is UpstreamState.UP

    @property
    def owns(self) -> bool:
        """Whether this node is the one that receives."""
        return self._lease.held

    @property
    def owner(self) -> str | None:
        """The node that receives, as far as this one knows."""
        return self._node if self.owns else self._lease.holder

    @property
    def problem(self) -> str | None:
        """Why it isn't up; or, if it is, what isn't as it should be."""
        found = (self._sender.problem, self._receiver.problem if self._fell or self._receives else None)
        return "; ".join(filter(None, found)) or None

    @property
    def receive_faults(self) -> int:
        """Messages that met a fault of the gateway's."""
        return self._sender.receive_faults + self._receiver.receive_faults

    @property
    def oversized(self) -> int:
        """Messages from devices that were dropped because of their size."""
        return self._receiver.oversized

    @property
    def reply_topic(self) -> str | None:
        """Where devices may answer with correlation data."""
        return self._sender.reply_topic

    def publish(
        self, topic: str, payload: bytes, qos: int, retain: bool, done: Done, *, reply_to: ReplyTo | None = None
    ) -> None:
        """Hand a message to the broker; `done` is called when it has it, or with the reason why not."""
        self._sender.publish(topic, payload, qos, retain, done, reply_to=reply_to)

    async def run(self) -> None:
        """Stay connected; returns only by cancellation, after all is given back."""
        try:
            async with asyncio.TaskGroup() as self._tasks:
                await self._tasks.create_task(self._sender.run())
        finally:
            self._tasks = None
            self._be_patient(again=False)
            self._lease.resign()

    async def leave(self) -> None:
        """Let another node receive, at once and for good; this one goes on sending."""
        self._left = True
        self._lease.rest()
        self._be_patient(again=False)
        if self._receiving is not None:
            self._receiving.cancel()
            await asyncio.wait([self._receiving])
        if self._lease.held:
            settled = asyncio.Event()
            self._ownership.settle(settled.set)
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(settled.wait(), SETTLE_SECONDS)
        self._lease.resign()
        self._tell()

    def _sender_changed(self, name: str, up: bool) -> None:  # noqa: ARG002 - there is one
        """Only who reaches the broker takes the lease."""
        if up and not self._left:
            self._lease.seek()
        else:
            self._lease.rest()
        self._tell()

    def _gained(self, token: int) -> None:
        logger.info("upstream %s: this node owns it, under the token %d", self.session, token)
        self.takeovers += 1
        self._be_patient()
        self._ownership.own(self.session, token, partial(self._begin, token), partial(self._refused, token))

    def _begin(self, token: int) -> None:
        if token == self._lease.token and self._lease.held and self._tasks is not None and not self._left:
            self._receiving = self._tasks.create_task(self._receive(self._receiving))

    async def _receive(self, before: asyncio.Task[None] | None) -> None:
        if before is not None:
            await asyncio.wait([before])
        await self._receiver.run()

    def _refused(self, token: int) -> None:
        self.fenced += 1
        if token == self._lease.token:
            self._lease.give_up("another node has taken it over")

    def _lost(self, reason: str) -> None:
        logger.warning("upstream %s: this node doesn't own it any more: %s", self.session, reason)
        self._fell = False
        self._be_patient(again=False)
        if self._receiving is not None:
            self._receiver.drop()
            self._receiving.cancel()
        self._tell()

    def _receiver_changed(self, name: str, up: bool) -> None:  # noqa: ARG002 - there is one
        self._fell = not up
        self._be_patient(again=not up)
        if not up:
            self._lease.hurry()  # it may be another's, who has taken the session over
        self._tell()

    def _be_patient(self, *, again: bool = True) -> None:
        """Wait for the connection, no longer than another node would have to be waited for."""
        if again and self._patience is not None:
            return
        if self._patience is not None:
            self._patience.cancel()
            self._patience = None
        if again:
            self._patience = self._clock.call_later(self._patience_seconds, self._lose_patience)

    def _lose_patience(self) -> None:
        self._patience = None
        self._lease.give_up(f"it didn't receive for {self._patience_seconds:g} s")

    def _tell(self) -> None:
        self._changed(self.name, self.state.is_well)
