"""What upstreams bring, given to every namespace that wants it.

An upstream is one connection, however many namespaces there are: it subscribes to what all of them want together. A
message counts once as a device's, and as unrouted only if no namespace has a route for it. What becomes of it in one
namespace, a fault included, is nothing to the others.
"""

import logging
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import AbstractContextManager
from operator import itemgetter

from gateway.core.counters import Counters
from gateway.core.delivery import Delivery
from gateway.core.namespace import Namespace
from gateway.core.routes import is_reserved
from gateway.core.topics import is_too_deep

__all__ = ["Intake"]

logger = logging.getLogger(__name__)


class Intake:
    """Where upstreams deliver."""

    def __init__(self, namespaces: Sequence[Namespace], counters: Counters) -> None:
        self.counters = counters
        """What belongs to no namespace: devices' messages, and those of them that nobody wants."""
        self.faults: Counter[str] = Counter()
        """Messages that met a fault of the gateway's, by upstream."""
        self._namespaces = tuple(namespaces)

    def room_filters(self, upstream: str) -> dict[str, int]:
        """The MQTT filters of all namespaces' routes to rooms, each with the highest quality of service asked for."""
        return _highest(namespace.routing.room_filters(upstream) for namespace in self._namespaces)

    def reply_filters(self, upstream: str) -> dict[str, int]:
        """The MQTT filters of where devices answer, as all namespaces' routes say."""
        return _highest(namespace.routing.reply_filters(upstream) for namespace in self._namespaces)

    def subscriptions(self, upstream: str) -> dict[str, int]:
        """All of these together, for one connection that takes both."""
        return _highest((self.room_filters(upstream), self.reply_filters(upstream)))

    def receive(self, delivery: Delivery, stored: Callable[[], None]) -> None:
        """Take a device's message for all namespaces; `stored` is called once, as soon as all of them have it.

        One whose topic has too many levels is dropped.
        """
        self.counters.device_messages[delivery.upstream] += 1
        self.counters.device_bytes += len(delivery.payload)
        if is_too_deep(delivery.topic):
            self.counters.drops["too_deep"] += 1
            stored()  # it would be dropped again
            return
        shared = _Shared(len(self._namespaces), stored) if len(self._namespaces) > 1 else None
        wanted = False
        for namespace in self._namespaces:
            share = stored if shared is None else shared.share()
            try:
                wanted |= namespace.receive(delivery, share)
            except Exception:
                self.faults[delivery.upstream] += 1
                logger.exception("a message of %s met a fault in namespace %s", delivery.upstream, namespace.name)
                share()  # it would meet the same fault again, and keep up all that came after it
                wanted = True
        if not wanted:
            self.counters.drops["unrouted"] += 1

    def changed(self, upstream: str, up: bool) -> None:
        """Tell all sessions that an upstream is up, or away."""
        for namespace in self._namespaces:
            namespace.upstream_states.changed(upstream, up)

    @property
    def burst(self) -> AbstractContextManager[None]:
        """Around messages that came together: what sessions get of them is written together."""
        return _Burst(self._namespaces)

    def acknowledged(self, upstream: str, packet_id: int) -> None:
        """The broker knows that the gateway has this packet."""
        for namespace in self._namespaces:
            namespace.engine.acknowledged(upstream, packet_id)

    def forget(self, upstream: str) -> None:
        """The broker has begun a new session."""
        for namespace in self._namespaces:
            namespace.engine.forget(upstream)

    def own(self, session: str, token: int, done: Callable[[], None], fenced: Callable[[], None]) -> None:
        """Own a session in all namespaces, as `Engine.own`."""
        shared = _Shared(len(self._namespaces), done)
        for namespace in self._namespaces:
            namespace.engine.own(session, token, shared.share(), fenced)

    def settle(self, done: Callable[[], None]) -> None:
        """Let nothing wait any more to be stored; `done` once all that came is."""
        shared = _Shared(len(self._namespaces), done)
        for namespace in self._namespaces:
            namespace.paces.flush()
            share = shared.share()
            namespace.engine.publish((), lambda _, share=share: share())  # type: ignore[misc]

    def needs_response_topic(self, upstream: str) -> bool:
        """Whether a namespace has devices that answer on the gateway's own topic."""
        return any(namespace.routing.needs_response_topic(upstream) for namespace in self._namespaces)

    def take_answer(self, upstream: str, topic: str, raw: bytes, correlation: bytes | None) -> bool:
        """Offer what may be a device's answer to whoever asked; whether it is one, and no room wants it besides.

        Of several namespaces that wait for answers on one topic, the one whose request was sent first.
        """
        offered = self._namespaces if len(self._namespaces) == 1 else self._asked(upstream, topic, correlation)
        taken = [each.requests.receive(upstream, topic, raw, correlation) for each in offered]
        if not any(taken) or any(each.routing.rooms_for(upstream, topic) for each in self._namespaces):
            return False
        self.counters.device_messages[upstream] += 1
        self.counters.device_bytes += len(raw)
        return True

    def take_shared_answer(self, upstream: str, topic: str, raw: bytes, correlation: bytes | None) -> bool:
        """As `take_answer`, where all nodes hear what devices answer, and another connection brings what is for rooms.

        An answer on a route's reply topic that nobody here waits for may be another node's.
        """
        waits = (each.requests.asked_at(upstream, topic, correlation) is not None for each in self._namespaces)
        if is_reserved(topic) or any(waits):
            self.take_answer(upstream, topic, raw, correlation)
        return True

    def _asked(self, upstream: str, topic: str, correlation: bytes | None) -> Sequence[Namespace]:
        asked = [(each.requests.asked_at(upstream, topic, correlation), each) for each in self._namespaces]
        waiting = [(at, each) for at, each in asked if at is not None]
        return [min(waiting, key=itemgetter(0))[1]] if waiting else self._namespaces

    def lost(self, upstream: str) -> None:
        """Fail the requests under way by an upstream whose connection is gone."""
        for namespace in self._namespaces:
            namespace.requests.lost(upstream)


def _highest(each: Iterable[Mapping[str, int]]) -> dict[str, int]:
    wanted: dict[str, int] = {}
    for filters in each:
        for topic_filter, qos in filters.items():
            wanted[topic_filter] = max(wanted.get(topic_filter, 0), qos)
    return wanted


class _Burst:
    """A context that may be entered again and again."""

    __slots__ = ("_outboxes",)

    def __init__(self, namespaces: Sequence[Namespace]) -> None:
        self._outboxes = [namespace.outbox for namespace in namespaces]

    def __enter__(self) -> None:
        for outbox in self._outboxes:
            outbox.begin()

    def __exit__(self, *_: object) -> None:
        for outbox in self._outboxes:
            outbox.end()


class _Shared:
    """One call that is due when each of several has called its share of it."""

    __slots__ = ("_call", "_left")

    def __init__(self, shares: int, call: Callable[[], None]) -> None:
        self._left = shares
        self._call = call

    def share(self) -> Callable[[], None]:
        """A share; only the first call of it counts."""
        called = False

        def call() -> None:
            nonlocal called
            if called:
                return
            called = True
            self._left -= 1
            if not self._left:
                self._call()

        return call
