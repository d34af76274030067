"""What browsers send to devices: handed to the broker, and called back once it has acknowledged it."""

import asyncio
import logging
from typing import Final

import paho.mqtt.client as paho
from paho.mqtt.properties import Properties
from paho.mqtt.reasoncodes import ReasonCode

from bridges.mqtt_client import Client, UpstreamOptions
from gateway.core.errors import BadMessage, UpstreamRefused, UpstreamTimeout, UpstreamUnavailable
from gateway.core.upstream import Done

__all__ = ["MAXIMUM_IN_FLIGHT", "Publisher"]

logger = logging.getLogger(__name__)

MAXIMUM_IN_FLIGHT: Final = 10_000
"""Messages handed to the broker and not acknowledged, or not yet written to its socket; more are refused."""

HEADER_BYTES: Final = 12
"""The most that a PUBLISH has besides topic and payload, without properties (MQTT 5 §3.3)."""

FAILURE: Final = 0x80


class Publisher:
    """The messages to one broker that aren't acknowledged yet."""

    def __init__(self, options: UpstreamOptions) -> None:
        self._options = options
        self._client: Client | None = None
        self._last_packet_id = 0
        self._broken_off: list[int] = []
        """QoS 2 exchanges that were under way when the connection was lost."""
        self._pending: dict[int, tuple[Done, asyncio.TimerHandle]] = {}
        self.lowered = False
        """Whether the broker took something only with less quality of service than its route says."""

    def prepare(self, client: Client) -> None:
        """Go on counting packets where the last connection ended: the broker may remember its last numbers."""
        client.paho._last_mid = self._last_packet_id
        self.lowered = False

    def resume(self, client: Client, session_present: bool) -> None:
        """Let the broker complete what was broken off, lest it wait for ever and has no room for more.

        Whoever sent it was told that it may arrive. It is PUBREL that completes it, whether the broker has it or not
        (MQTT 5 §4.3.3, reason 0x92).
        """
        broken_off, self._broken_off = self._broken_off, []
        if session_present:
            for packet_id in broken_off:
                client.paho.release(packet_id)

    def connected(self, client: Client) -> None:
        """From now on messages can be sent."""
        self._client = client

    def lost(self, client: Client) -> None:
        """The connection has ended: whoever waits is told that nobody knows."""
        self._client = None
        self._last_packet_id = client.paho._last_mid
        self._broken_off += [mid for mid, message in client.paho._out_messages.items() if message.qos == 2]
        lost, self._pending = self._pending, {}
        for done, timer in lost.values():
            timer.cancel()
            done(UpstreamTimeout(f"upstream {self._options.name} was lost before it acknowledged the message"))

    def publish(
        self, topic: str, payload: bytes, qos: int, retain: bool, done: Done, properties: Properties | None = None
    ) -> None:
        """Hand a message to the broker; `done` is called when it has it, or with the reason why not."""
        name, client = self._options.name, self._client
        if client is None:
            done(UpstreamUnavailable(f"upstream {name} can't be reached"))
            return
        if max(len(client.paho._out_messages), len(client.paho._out_packet)) >= MAXIMUM_IN_FLIGHT:
            done(UpstreamUnavailable(f"upstream {name} is behind: too many messages wait for it"))
            return
        size_bytes = len(topic.encode()) + len(payload) + HEADER_BYTES
        if properties is not None:
            size_bytes += len(properties.pack())  # type: ignore[no-untyped-call]
        limit_bytes = min(self._options.maximum_packet_bytes, client.maximum_packet_bytes or size_bytes)
        if size_bytes > limit_bytes:
            done(UpstreamRefused(f"{size_bytes} bytes: upstream {name} takes at most {limit_bytes} in one packet"))
            return
        if qos > client.maximum_qos:
            qos = client.maximum_qos
            self._note_lowered(qos)
        try:
            info = client.paho.publish(topic, payload, qos, retain, properties)
        except ValueError as error:  # too long a topic or payload
            done(BadMessage(f"the broker can't take the message: {error}"))
            return
        if info.rc != paho.MQTT_ERR_SUCCESS:
            done(UpstreamUnavailable(f"upstream {name}: {paho.error_string(info.rc)}"))
        elif qos == 0:
            done(None)
        else:
            wait_seconds = self._options.acknowledge_timeout_seconds
            timer = asyncio.get_running_loop().call_later(wait_seconds, self._timed_out, info.mid)
            self._pending[info.mid] = (done, timer)

    def _note_lowered(self, qos: int) -> None:
        if not self.lowered:
            logger.warning("upstream %s takes at most QoS %d: messages go out with that", self._options.name, qos)
        self.lowered = True

    def published(self, packet_id: int, reason_code: ReasonCode | int) -> None:
        """The broker has acknowledged a message, or refused it."""
        done, timer = self._pending.pop(packet_id, (None, None))
        if done is None or timer is None:
            return
        timer.cancel()
        value = reason_code if isinstance(reason_code, int) else int(reason_code.value)
        done(None if value < FAILURE else UpstreamRefused(f"the broker refused the message: {reason_code}"))

    def _timed_out(self, packet_id: int) -> None:
        done, _ = self._pending.pop(packet_id)
        done(UpstreamTimeout(f"upstream {self._options.name} did not acknowledge the message in time"))
