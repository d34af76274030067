"""From a device's message to what is to be stored of it: routed, decoded once for each kind, stored together.

Nothing here awaits. Whoever brings a message is told once that it is handled, whatever became of it: stored, known
already, or not wanted. Only then may the broker forget it.
"""

import logging
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Final

from gateway.core.bad_payloads import BadPayloads
from gateway.core.clock import Clock
from gateway.core.codec import PART, Decode, Part, Told, name_of
from gateway.core.counters import Counters
from gateway.core.delivery import Delivery
from gateway.core.dialects import NOTHING, Dialects, Heard
from gateway.core.engine import Engine, Publication
from gateway.core.limits import TokenBucket
from gateway.core.pacing import Paces
from gateway.core.payload import Payload, PayloadError, decoder, reshape
from gateway.core.retention import Retention
from gateway.core.room_rules import RoomRules
from gateway.core.routes import Route
from gateway.core.routing import RoutingTable
from gateway.core.topics import InvalidName, check_name

__all__ = ["Ingest"]

logger = logging.getLogger(__name__)

REMEMBERED_ROOMS: Final = 65_536
"""Of how many rooms is remembered what is kept; then all are forgotten and found anew."""


class Ingest:
    """The way of devices' messages into the rooms of one namespace."""

    def __init__(
        self,
        name: str,
        routing: RoutingTable,
        rules: RoomRules,
        engine: Engine,
        clock: Clock,
        counters: Counters,
        overheard: Callable[[str, Heard], None] = lambda *_: None,
    ) -> None:
        self._name = name
        self._routing = routing
        self._rules = rules
        self._engine = engine
        self._counters = counters
        self._clock = clock
        self._decoders = tuple(decoder(route.spec.payload, route.spec.transform) for route in routing.routes)
        """What decodes the payloads of each route, by its place in the table; None for those of a dialect."""
        self._dialects = Dialects(routing.routes, counters)
        self._overheard = overheard
        self.bad_payloads = BadPayloads()
        self.paces = Paces(routing.routes, lambda held: engine.publish((held,), lambda _: None), clock, counters)
        self._retentions: dict[tuple[int, str], Retention] = {}
        self._complaints = TokenBucket(0.1, 5, clock)
        """So many bad payloads are logged; all are counted."""

    def receive(self, delivery: Delivery, stored: Callable[[], None]) -> bool:
        """Take a device's message for every room that it is routed to; whether there is one.

        `stored` is called once, as soon as all of it is stored: a redelivery of it will be known.
        """
        receipt = delivery.receipt
        if receipt is not None and self._engine.receipts.repeats(delivery.owned_as, receipt):
            self._counters.drops["redelivered"] += 1
            self._engine.publish((), lambda _: stored())  # after the first delivery, which may still be on its way
            return True
        heard = self._hear(delivery) if self._dialects.any else NOTHING
        matches = self._routing.rooms_for(delivery.upstream, delivery.topic)
        if not matches:
            stored()
            return bool(heard)
        entry = None if receipt is None else (delivery.owned_as, receipt.packet_id, receipt.digest)
        self._engine.publish(self._publications(delivery, matches, heard), lambda _: stored(), entry)
        return True

    def _hear(self, delivery: Delivery) -> Heard:
        heard = self._dialects.hear(delivery)
        self._overheard(delivery.upstream, heard)
        return heard

    def _publications(
        self, delivery: Delivery, matches: tuple[tuple[Route, str], ...], heard: Heard
    ) -> list[Publication]:
        decoded: dict[Decode, Payload] = {}
        publications = []
        for route, room in matches:
            decode = self._decoders[route.index]
            try:
                if decode is None:
                    publications += self._told(route, room, delivery, heard)
                    continue
                payload = decoded.get(decode) or decoded.setdefault(decode, decode(delivery.payload))
            except PayloadError as error:
                self._complain(route, delivery, error)
                continue
            kept, clears = self._retention(route, room), not delivery.payload
            if clears:  # how a device takes a retained message back (MQTT 5 §3.3.1.3)
                kept = replace(kept, last=False)
            publication = Publication(room, payload, kept, delivery.topic, retained=delivery.retained, clears=clears)
            publication.upstream = delivery.owned_as
            if self.paces.admits(route, publication):
                publications.append(publication)
        return publications

    def _told(self, route: Route, room: str, delivery: Delivery, heard: Heard) -> list[Publication]:
        """What a route's rooms get of a message of a dialect.

        Raises:
            PayloadError: it can't be understood.
        """
        told = heard.get(name_of(route.spec.payload))
        if told is None:
            return []
        if told.error is not None:
            raise told.error
        if not route.splits:
            found = [] if told.whole is None else [self._telling(route, room, told.whole, delivery, delivery.topic)]
        else:
            found = list(self._parts(route, room.removesuffix(PART), told, delivery))
        return [publication for publication in found if self.paces.admits(route, publication)]

    def _parts(self, route: Route, base: str, told: Told, delivery: Delivery) -> Iterator[Publication]:
        for part in told.parts:
            if not self._fits(base, part):
                continue
            try:
                publication = self._telling(route, base + part.name, part.data, delivery, told.topic or delivery.topic)
            except PayloadError as error:  # of this part alone
                self._complain(route, delivery, error)
                continue
            if part.past:
                publication.retention = replace(publication.retention, last=False)
            yield publication

    def _fits(self, base: str, part: Part) -> bool:
        """Whether a part's name makes a room: it is a device's word."""
        try:
            check_name(base + part.name)
        except InvalidName:
            self._counters.drops["bad_metric_name"] += 1
            return False
        return True

    def _telling(self, route: Route, room: str, data: bytes, delivery: Delivery, topic: str) -> Publication:
        if route.spec.transform is not None:
            data = reshape(data, route.spec.transform)
        retention, retained = self._retention(route, room), delivery.retained
        return Publication(room, Payload(data), retention, topic, retained=retained, upstream=delivery.owned_as)

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

    def _complain(self, route: Route, delivery: Delivery, error: PayloadError) -> None:
        topic, kind = delivery.topic, name_of(route.spec.payload)
        self._counters.drops["bad_payload"] += 1
        self._counters.bad_payloads[kind] += 1
        self.bad_payloads.add(self._clock.time(), route.index, topic, kind, str(error), delivery.payload)
        if not self._complaints.take():
            where = f"namespace {self._name}, route {route.index} ({route.topic.text})"
            logger.warning("dropped a payload of %r: %s: %s", topic, where, error)
