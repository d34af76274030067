"""Where messages meet clients: subscriptions, retained messages, and the way of a message to all who want it."""

import logging
from dataclasses import replace
from typing import Final

from bridges.broker.client import Client
from bridges.broker.options import BrokerOptions
from bridges.broker.packets import Message
from bridges.broker.subscriptions import Subscriptions
from gateway.core.topics import filter_matches, is_too_deep

__all__ = ["REFUSED", "Exchange"]

REFUSED: Final = 0x80
"""The return code of a subscription that isn't granted (MQTT 3.1.1 §3.9.3)."""

logger = logging.getLogger(__name__)


class Exchange:
    """All clients of a broker, connected and away, and what they are to get."""

    def __init__(self, options: BrokerOptions) -> None:
        self._options = options
        self._clients: dict[str, Client] = {}
        self._subscriptions = Subscriptions()
        self._retained: dict[str, Message] = {}

    def __len__(self) -> int:
        return len(self._clients)

    def find(self, client_id: str) -> Client | None:
        """The client with this identifier, if there is one."""
        return self._clients.get(client_id)

    def add(self, client: Client) -> None:
        """Take a client in."""
        self._clients[client.id] = client

    def forget(self, client_id: str) -> None:
        """End a session: its subscriptions, and all that waits for it, are gone."""
        self._subscriptions.forget(client_id)
        self._clients.pop(client_id, None)

    def subscribe(self, client: Client, topic_filter: str, qos: int) -> int:
        """Subscribe; returns the QoS granted, or `REFUSED`."""
        refused = any(filter_matches(pattern, topic_filter) for pattern in self._options.refused_filters)
        if refused or not _is_filter(topic_filter):
            logger.warning("client %r: its subscription to %r was refused", client.id, topic_filter)
            return REFUSED
        self._subscriptions.add(client.id, topic_filter, qos)
        return qos

    def unsubscribe(self, client: Client, topic_filter: str) -> None:
        """Unsubscribe, if there is such a subscription."""
        self._subscriptions.remove(client.id, topic_filter)

    def deliver_retained(self, client: Client, topic_filter: str, qos: int) -> None:
        """Give a new subscription the retained messages that it matches (§3.3.1.3)."""
        client.deliver_all(
            replace(message, qos=min(message.qos, qos))
            for topic, message in self._retained.items()
            if filter_matches(topic_filter, topic)
        )

    async def publish(self, message: Message, sender: Client | None = None) -> None:
        """Retain a message, if it asks for that, and send it to all who have subscribed to its topic.

        Waits for receivers that are congested, but not for the sender itself: what it acknowledges comes over the
        connection that would wait.
        """
        if message.topic.startswith("$SYS/"):
            logger.warning("a message to %r was not accepted: $SYS is the broker's own (§4.7.2)", message.topic)
            return
        if message.retain:
            self._retain(message)
            message = replace(message, retain=False)  # §3.3.1.3: to existing subscriptions without the flag
        for client_id, granted in self._subscriptions.receivers(message.topic).items():
            client = self._clients.get(client_id)
            if client is None:
                continue  # it left while others were waited for
            if client.congested and client is not sender:
                await client.relief()
            client.deliver(message if message.qos <= granted else replace(message, qos=granted))

    def _retain(self, message: Message) -> None:
        if not message.payload:
            self._retained.pop(message.topic, None)
        elif message.topic in self._retained or len(self._retained) < self._options.retained_messages:
            self._retained[message.topic] = message
        else:
            logger.warning("the message to %r was not retained: %d topics are", message.topic, len(self._retained))


def _is_filter(text: str) -> bool:
    """Whether this is a topic filter (MQTT 3.1.1 §4.7). Unlike a room, it may have empty levels and `$`."""
    if not text or "\0" in text or is_too_deep(text):  # each level costs memory for as long as it is subscribed to
        return False
    *parents, last = text.split("/")
    wildcards_alone = all(level == "+" or not ("+" in level or "#" in level) for level in parents)
    return wildcards_alone and (last in ("+", "#") or not ("+" in last or "#" in last))
