"""How a gateway leaves: `/readyz` says so, then no connection is taken any more, then one client after another is told.

Who has not been told yet is served as before. What is under way is finished, unless it takes longer than there is time.
"""

import asyncio
import logging
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from random import Random
from typing import Final

from bridges.socketio import SocketIoBridge
from gateway.core.clock import Clock
from gateway.core.departures import Departures, Guest
from gateway.core.errors import ShuttingDown
from gateway.core.namespace import Namespace
from gateway.core.session import Session
from gateway.endpoints import Endpoints
from gateway.health import Health

__all__ = ["Drain"]

GOODBYE: Final = "the gateway is shutting down"
LOOK_SECONDS: Final = 0.02
"""How often it is looked whether anything is under way."""

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class _SessionGuest:
    namespace: Namespace
    session: Session

    @property
    def busy(self) -> bool:
        """Whether its client waits for a device, or for an acknowledgement."""
        requests, unacknowledged, name = self.namespace.requests, self.namespace.unacknowledged, self.session.id
        return not self.session.ended and (requests.waits(name) or unacknowledged.waits(name))

    def leave(self) -> None:
        """Say goodbye; the client may come back at once, here or elsewhere."""
        self.session.end(ShuttingDown(GOODBYE))


class Drain:
    """The end of one gateway.

    Args:
        endpoints: Of each namespace.
        socketio: Where Socket.IO's clients are.
        health: Says that it leaves.
        hand_over: Lets others receive what devices send; called again does nothing.
        notice_seconds: How long it only says that it leaves.
        seconds: How long it then takes to tell everybody.
    """

    def __init__(
        self,
        endpoints: Mapping[str, Endpoints],
        socketio: SocketIoBridge,
        health: Health,
        hand_over: Callable[[], None],
        notice_seconds: float,
        seconds: float,
        clock: Clock,
        random: Random,
    ) -> None:
        self._endpoints = endpoints
        self._socketio = socketio
        self._health = health
        self._hand_over = hand_over
        self._notice_seconds = notice_seconds
        self._seconds = seconds
        self._clock = clock
        self._random = random
        self._hurried = asyncio.Event()

    def announce(self) -> None:
        """Say that it leaves to whoever asks."""
        self._health.draining = True

    def hurry(self) -> None:
        """Wait for nobody any more."""
        self._hurried.set()

    @property
    def hurried(self) -> bool:
        """Whether nobody is waited for."""
        return self._hurried.is_set()

    async def give_notice(self) -> None:
        """Go on for as long as load balancers may take to notice."""
        await self._pass(self._notice_seconds)

    async def tell_all(self, under_way: Callable[[], bool]) -> None:
        """Tell one client after the other; returns once all are told and nothing is `under_way`, or time is over."""
        self._hand_over()
        end = self._clock.monotonic() + self._seconds
        for each in self._endpoints.values():
            each.namespace.paces.flush()
        departures = Departures(self._guests, self._seconds, self._clock, self._random)
        departures.begin()
        while self._clock.monotonic() < end and not self.hurried:
            if departures.over and not under_way() and not any(each.tunnels for each in self._endpoints.values()):
                break
            await self._pass(LOOK_SECONDS)
        self._end_requests()
        departures.hurry()

    def finish(self) -> None:
        """Tell all who are still there, and end what is still under way."""
        self.announce()
        self._hand_over()
        for each in self._endpoints.values():
            each.namespace.attendance.close()
            each.namespace.paces.flush()
        self._end_requests()
        for guest in self._guests():
            try:
                guest.leave()
            except Exception:
                logger.exception("a client could not be told that the gateway is shutting down")
        self._socketio.close()

    def _end_requests(self) -> None:
        for each in self._endpoints.values():
            each.namespace.requests.end(ShuttingDown(GOODBYE))

    def _guests(self) -> Iterator[Guest]:
        for each in self._endpoints.values():
            namespace = each.namespace
            yield from (_SessionGuest(namespace, session) for session in tuple(namespace.sessions.values()))
            yield from each.tunnels

    async def _pass(self, seconds: float) -> None:
        with suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._hurried.wait()
