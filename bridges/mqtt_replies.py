"""Requests' way over MQTT: where devices answer, what a request bears, and which messages are answers.

MQTT 5 has a response topic and correlation data (§4.10): the gateway has one topic of its own for each upstream, whose
messages never reach a room. Over 3.1.1 a route says where its devices answer.
"""

import hashlib
import math
from collections.abc import Callable
from random import Random

from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties

from bridges.mqtt_client import UpstreamOptions
from bridges.mqtt_packet import Incoming
from gateway.core.routes import is_reserved
from gateway.core.upstream import ReplyTo

__all__ = ["Replies", "TakeReply", "response_topic"]

TakeReply = Callable[[str, bytes, bytes | None], bool]
"""Takes what may be an answer: topic, payload, correlation data; whether it is for nobody else."""


def response_topic(options: UpstreamOptions, random: Random) -> str | None:
    """Where devices of this upstream may answer with correlation data; None for 3.1.1, which has none.

    The topic of a persistent session is the same in the next process, or the broker would keep a subscription for each.
    """
    if options.protocol != "5":
        return None
    if options.persistent and options.client_id is not None:
        return f"tidegate/replies/{hashlib.sha256(options.client_id.encode()).hexdigest()[:32]}"
    return f"tidegate/replies/{random.getrandbits(128):032x}"


class Replies:
    """The answers that come by one upstream."""

    def __init__(
        self,
        topic: str | None = None,
        take: TakeReply | None = None,
        lost: Callable[[], None] | None = None,
        *,
        listen: bool = True,
    ) -> None:
        self.topic = topic
        self.filters = {topic: 0} if topic is not None and listen else {}
        """What is to be subscribed to besides the routes' filters.

        QoS 0: an answer that is lost with the connection is of no use, for its request has failed by then; and a
        route's filter that covers this one isn't raised to a higher quality of service.
        """
        self._take = take
        self._lost = lost

    def take(self, message: Incoming) -> bool:
        """Take what may be an answer; whether it is nothing for rooms.

        What the broker had kept, or sends again after a reconnection, answers no request of now; unless correlation
        data say so.
        """
        topic = message.topic
        correlation = getattr(message.properties, "CorrelationData", None) if self.topic is not None else None
        stale = message.retain or (message.dup and correlation is None)
        if self._take is not None and not stale and self._take(topic, message.payload, correlation):
            return True
        return is_reserved(topic)

    def lost(self) -> None:
        """Say that the connection is gone, and what was asked over it with it."""
        if self._lost is not None:
            self._lost()

    def properties(self, reply_to: ReplyTo | None) -> Properties | None:
        """What a request bears (MQTT 5 §3.3.2.3); None over 3.1.1, and for what is no request."""
        if reply_to is None or self.topic is None:
            return None
        properties = Properties(PacketTypes.PUBLISH)  # type: ignore[no-untyped-call]
        properties.ResponseTopic = reply_to.topic
        properties.CorrelationData = reply_to.correlation
        properties.MessageExpiryInterval = math.ceil(reply_to.expires_seconds)
        return properties
