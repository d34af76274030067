"""Requests whose answers may come without correlation data, where several gateways ask: one of them sends them all.

Each gateway hears every answer, but only who has sent all that is under way on a topic knows by their order whose each
is. So one, the keeper of an upstream, sends the requests of all, and hands each answer back with the correlation data
that the request had. A device that gives correlation data itself is heard by who asked, too; the second answer is none.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from random import Random
from typing import Protocol, TypeAlias

from gateway.core.clock import Clock
from gateway.core.counters import Counters
from gateway.core.errors import ReplyAmbiguous, TidegateError, UpstreamRefused, UpstreamUnavailable
from gateway.core.limit_errors import TooManyRequests
from gateway.core.payload import Payload
from gateway.core.pending import MAXIMUM_PENDING, Pending, Place
from gateway.core.upstream import ReplyTo, Upstream

__all__ = ["Ask", "Keeper", "Keepers", "Outcome"]

Outcome: TypeAlias = Callable[[bytes | TidegateError], None]
"""Is told, once, the answer as it came, or why there will be none."""


@dataclass(frozen=True, slots=True)
class Ask:
    """What is to be sent."""

    upstream: str
    topic: str
    payload: bytes
    qos: int
    reply_to: ReplyTo


class Keepers(Protocol):
    """The way to the keeper of each upstream, whichever gateway that is."""

    def ask(self, ask: Ask, failed: Callable[[TidegateError], None]) -> None:
        """Have a request sent; its answer comes as one with its correlation data.

        `failed` is called, at most once, if there will be none.
        """
        ...


class Keeper:
    """The keeper that this gateway is."""

    def __init__(self, clock: Clock, random: Random, counters: Counters) -> None:
        self._pending = Pending(clock, random)
        self._counters = counters
        self._upstreams: Mapping[str, Upstream] = {}

    def __len__(self) -> int:
        """How many requests are under way."""
        return len(self._pending)

    def connect(self, upstreams: Mapping[str, Upstream]) -> None:
        """Say how to reach devices, by the upstreams' names."""
        self._upstreams = upstreams

    def ask(self, asker: str, ask: Ask, outcome: Outcome) -> None:
        """Send a request of a gateway's, unless that would make answers ambiguous."""
        upstream, topic = ask.upstream, ask.reply_to.topic
        if self._pending.find(upstream, topic, ask.reply_to.correlation) is not None:
            return  # it was sent
        try:
            self._pending.check(asker, upstream, topic, MAXIMUM_PENDING)
        except (TooManyRequests, ReplyAmbiguous) as error:
            outcome(error)
            return

        def answered(found: Payload | TidegateError) -> None:
            outcome(found.data if isinstance(found, Payload) else found)

        seconds, correlation = ask.reply_to.expires_seconds, ask.reply_to.correlation
        place = self._pending.add(
            asker, upstream, topic, Payload, seconds, answered, in_line=True, correlation=correlation
        )
        published = partial(self._published, place)
        self._upstreams[upstream].publish(ask.topic, ask.payload, ask.qos, False, published, reply_to=ask.reply_to)
        place.sent = True

    def _published(self, place: Place, error: TidegateError | None) -> None:
        if error is None:
            return
        if place.sent and not isinstance(error, UpstreamRefused):
            self._pending.fail(place, error)  # the device may have it all the same
        else:
            self._pending.settle(place, error)

    def receive(self, upstream: str, topic: str, raw: bytes, correlation: bytes | None) -> None:
        """Take what may be an answer to a request that was sent here."""
        place = self._pending.find(upstream, topic, correlation)
        if place is not None and not self._pending.settle(place, Payload(raw)):
            self._counters.drops["unmatched_reply"] += 1

    def lost(self, upstream: str) -> None:
        """Fail all that is under way by an upstream whose connection is gone."""
        self._pending.fail_all(
            UpstreamUnavailable(f"upstream {upstream} was lost before the device answered"), upstream
        )
