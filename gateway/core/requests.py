"""Requests to devices: from a client's data to the one answer, or to the one error that says why there is none.

Nothing here awaits. What is under way is in `pending`; an upstream hands on what devices answer by `receive` and says
by `lost` that nothing more can come.
"""

from collections.abc import Callable, Mapping
from functools import partial
from random import Random
from typing import Any, Final

from gateway.core.acceptance import encode_accepted
from gateway.core.clock import Clock
from gateway.core.codec import Decode
from gateway.core.counters import Counters
from gateway.core.errors import (
    BadMessage,
    BadReply,
    NotRequestable,
    TidegateError,
    UpstreamRefused,
    UpstreamUnavailable,
)
from gateway.core.keeper import Ask, Keepers
from gateway.core.limits import Limits
from gateway.core.payload import Payload, PayloadError, decoder
from gateway.core.pending import Answered, Pending, Place
from gateway.core.plain_rooms import RoomRates
from gateway.core.room_names import check_room
from gateway.core.routes import Route, is_reserved
from gateway.core.routing import RoutingTable
from gateway.core.topics import MAXIMUM_NAME_BYTES
from gateway.core.upstream import ReplyTo, Upstream

__all__ = ["TIMEOUT_SECONDS", "Answered", "Requests"]

TIMEOUT_SECONDS: Final = 10.0
"""How long a device may take where the client doesn't say, if `limits.request_timeout_max_seconds` isn't less."""


class Requests:
    """The requests of a namespace."""

    def __init__(
        self,
        routing: RoutingTable,
        limits: Limits,
        rates: RoomRates,
        clock: Clock,
        random: Random,
        counters: Counters,
    ) -> None:
        self._routing = routing
        self._limits = limits
        self._rates = rates
        self._counters = counters
        self._pending = Pending(clock, random)
        self._upstreams: Mapping[str, Upstream] = {}
        self._keepers: Keepers | None = None

    def __len__(self) -> int:
        """How many are under way, with those whose late answer is waited for only to tell it from others."""
        return len(self._pending)

    def connect(self, upstreams: Mapping[str, Upstream], keepers: Keepers | None = None) -> None:
        """Say how to reach devices, by the upstreams' names; and the keepers, if there are other gateways."""
        self._upstreams = upstreams
        self._keepers = keepers

    def send(
        self,
        owner: str,
        room: str,
        data: Any,
        answered: Answered,
        *,
        timeout_seconds: float | None = None,
        binary: bool = False,
        limits: Limits | None = None,
    ) -> Callable[[], None]:
        """Ask the device behind `room`; how to cancel that, of no effect once `answered` was called.

        `answered` is called once, perhaps before this returns. `owner` is the session, or who else asks; `limits` are
        those of the client, if they aren't the general ones.

        Raises:
            BadMessage: that is no room, the time is out of bounds, or the data isn't what the route says.
            NotRequestable: there is no device, or no way for it to answer.
            TooManyRequests, ReplyAmbiguous: as `Pending.check`.
            RoomRateLimited: as `RoomRates.spend`. In each case nothing was sent.
        """
        limits = limits or self._limits
        timeout_seconds = _timeout(timeout_seconds, limits.request_timeout_max_seconds)
        route, topic = self._route_of(room)
        upstream = self._upstreams[route.upstreams[0]]
        reply_topic = _reply_topic(route, room, upstream)
        payload = encode_accepted(route.spec, data, binary=binary)
        self._pending.check(owner, route.upstreams[0], reply_topic, limits.requests_in_flight)
        self._rates.spend(room)
        in_line = route.to_reply is not None
        place = self._pending.add(
            owner,
            route.upstreams[0],
            reply_topic,
            _decode(route),
            timeout_seconds,
            answered,
            in_line=in_line and self._keepers is None,
        )
        reply_to = ReplyTo(reply_topic, place.correlation, timeout_seconds)
        if in_line and self._keepers is not None:
            ask = Ask(place.upstream, topic, payload, route.spec.qos, reply_to)
            self._keepers.ask(ask, partial(self._published, place))
        else:
            # Never retained: whoever subscribed later would answer a request that is long over.
            upstream.publish(topic, payload, route.spec.qos, False, partial(self._published, place), reply_to=reply_to)
        place.sent = True
        return partial(self._pending.cancel, place)

    def _published(self, place: Place, error: TidegateError | None) -> None:
        if error is None:
            return
        if place.sent and not isinstance(error, UpstreamRefused):
            self._pending.fail(place, error)  # the device may have it all the same
        else:
            self._pending.settle(place, error)

    def waits(self, owner: str) -> bool:
        """Whether a request of an owner is under way."""
        return self._pending.waits(owner)

    def receive(self, upstream: str, topic: str, raw: bytes, correlation: bytes | None) -> bool:
        """Take what may be an answer; whether it was one, or came late."""
        place = self._pending.find(upstream, topic, correlation)
        if place is None and (
            self._routing.rooms_for(upstream, topic) or not self._routing.is_reply_topic(upstream, topic)
        ):
            return False
        if place is None or not self._pending.settle(place, _answer(place, raw)):
            self._counters.drops["unmatched_reply"] += 1
        return True

    def asked_at(self, upstream: str, topic: str, correlation: bytes | None) -> float | None:
        """When the request was sent that an answer would be taken for, by the clock; None if there is none."""
        place = self._pending.find(upstream, topic, correlation)
        return None if place is None else place.asked

    def lost(self, upstream: str) -> None:
        """Fail all that is under way by an upstream whose connection is gone."""
        error = UpstreamUnavailable(f"upstream {upstream} was lost before the device answered")
        self._pending.fail_all(error, upstream)

    def cancel_all(self, owner: str) -> None:
        """Cancel all requests of one who left."""
        self._pending.cancel_all(owner)

    def end(self, error: TidegateError) -> None:
        """Fail everything under way."""
        self._pending.fail_all(error)

    def _route_of(self, room: str) -> tuple[Route, str]:
        check_room(room)
        matches = self._routing.topics_for(room)
        if len(matches) != 1:
            found = f"{len(matches)} routes lead" if matches else "no route leads"
            raise NotRequestable(f"{found} from {room!r} to a device: expected one")
        return matches[0]


def _timeout(asked_seconds: float | None, longest: float) -> float:
    if asked_seconds is None:
        return min(TIMEOUT_SECONDS, longest)
    if not 0 < asked_seconds <= longest:
        limit = "request_timeout_max_seconds" if asked_seconds > longest else None
        found = f"timeout_seconds: expected a number above 0, at most {longest:g}, found {asked_seconds}"
        raise BadMessage(found, limit=limit)
    return asked_seconds


def _reply_topic(route: Route, room: str, upstream: Upstream) -> str:
    topic = upstream.reply_topic
    if route.to_reply is not None:
        topic = route.to_reply.render(room.split("/"), capturable=True)
        assert topic is not None  # it has only captures that the room has
        if is_reserved(topic):
            raise NotRequestable(f"{topic!r} is the gateway's own: expected a room whose device answers elsewhere")
        if len(topic.encode()) > MAXIMUM_NAME_BYTES:
            raise BadMessage(f"room: the topic of its answers is longer than {MAXIMUM_NAME_BYTES} bytes")
    if topic is None:
        raise NotRequestable(
            f"the device behind {room!r} has no way to answer: expected `reply:` in its route, or `protocol: 5` of the "
            f"upstream {route.upstreams[0]}"
        )
    return topic


def _decode(route: Route) -> Decode:
    found = decoder(route.spec.payload, route.spec.transform)
    assert found is not None  # no dialect leads to a device
    return found


def _answer(place: Place, raw: bytes) -> Payload | TidegateError:
    try:
        return place.decode(raw)
    except PayloadError as error:
        return BadReply(f"the device's answer: {error}")
