"""From a device's message to what is to be stored of it: routed, decoded once for each kind, stored together.

Nothing here awaits. Whoever brings a message is told once that it is handled, whatever became of it: stored, known
already, or not wanted. Only then may the broker forget it.
"""

import logging
from collections.abc import Callable
from dataclasses import replace
from typing import Final

from gateway.core.clock import Clock
from gateway.core.counters import Counters
from gateway.core.delivery import Delivery
from gateway.core.engine import Engine, Publication
from gateway.core.limits import TokenBucket
from gateway.core.pacing import Paces
from gateway.core.payload import Payload, PayloadError, decode
from gateway.core.retention import Retention
from gateway.core.room_rules import RoomRules
from gateway.core.routes import PayloadKind, Route
from gateway.core.routing import RoutingTable

__all__ = ["Ingest"]

logger = logging.getLogger(__name__)

REMEMBERED_ROOMS: Final = 65_536
"""Of how many rooms is remembered what is kept; then all are forgotten and found anew."""


class Ingest:
    """The way of devices' messages into the rooms of one namespace."""

    def __init__(
        self, name: str, routing: RoutingTable, rules: RoomRules, engine: Engine, clock: Clock, counters: Counters
    ) -> None:
        self._name = name
        self._routing = routing
        self._rules = rules
        self._engine = engine
        self._counters = counters
        self.paces = Paces(routing.routes, lambda held: engine.publish((held,), lambda _: None), clock, counters)
        self._retentions: dict[tuple[int, str], Retention] = {}
        self._complaints = TokenBucket(0.1, 5, clock)
        """So many bad payloads are logged; all are counted."""

    def receive(self, delivery: Delivery, stored: Callable[[], None]) -> bool:
        """Take a device's message for every room that it is routed to; whether there is one.

        `stored` is called once, as soon as all of it is stored: a redelivery of it will be known.
        """
        receipt = delivery.receipt
        if receipt is not None and self._engine.receipts.repeats(delivery.upstream, receipt):
            self._counters.drops["redelivered"] += 1
            self._engine.publish((), lambda _: stored())  # after the first delivery, which may still be on its way
            return True
        matches = self._routing.rooms_for(delivery.upstream, delivery.topic)
        if not matches:
            stored()
            return False
        entry = None if receipt is None else (delivery.upstream, receipt.packet_id, receipt.digest)
        self._engine.publish(self._publications(delivery, matches), lambda _: stored(), entry)
        return True

    def _publications(self, delivery: Delivery, matches: tuple[tuple[Route, str], ...]) -> list[Publication]:
        decoded: dict[PayloadKind, Payload] = {}
        publications = []
        for route, room in matches:
            kind = route.spec.payload
            try:
                payload = decoded.get(kind) or decoded.setdefault(kind, decode(kind, delivery.payload))
            except PayloadError as error:
                self._complain(route, delivery.topic, error)
                continue
            kept, clears = self._retention(route, room), not delivery.payload
            if clears:  # how a device takes a retained message back (MQTT 5 §3.3.1.3)
                kept = replace(kept, last=False)
            publication = Publication(room, payload, kept, delivery.topic, retained=delivery.retained, clears=clears)
            if self.paces.admits(route, publication):
                publications.append(publication)
        return publications

    def _retention(self, route: Route, room: str) -> Retention:
        """What is kept of a routed room: as the route says, else as the rule for the room says."""
        found = self._retentions.get((route.index, room))
        if found is None:
            rule = self._rules.of(room)
            history = route.spec.history or (Retention() if rule is None else rule.retention)
            found = replace(history, last=route.spec.last)
            if len(self._retentions) >= REMEMBERED_ROOMS:
                self._retentions.clear()
            self._retentions[route.index, room] = found
        return found

    def _complain(self, route: Route, topic: str, error: PayloadError) -> None:
        self._counters.drops["bad_payload"] += 1
        if not self._complaints.take():
            where = f"namespace {self._name}, route {route.index} ({route.topic.text})"
            logger.warning("dropped a payload of %r: %s: %s", topic, where, error)
