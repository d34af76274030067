"""paho's client, with acknowledgement by hand for both QoS 1 and 2, and a keep-alive that notices within its time.

paho's own manual acknowledgement covers QoS 1 only: it answers a QoS 2 PUBLISH with PUBREC before anybody has the
message, keeps it in memory until PUBREL, and so loses it with the connection. Here a message is handed on at PUBLISH
(MQTT 3.1.1 §4.3.3, method B), PUBREC is sent when it is stored, and PUBREL is always answered.
"""

import contextlib
import math
import struct
import time
from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Final

import paho.mqtt.client as paho
from paho.mqtt.enums import MQTTErrorCode, _ConnectionState
from paho.mqtt.exception import MalformedPacket
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties
from paho.mqtt.reasoncodes import ReasonCode

from bridges.mqtt_acknowledgements import Acknowledgements, TooManyUnacknowledged
from bridges.mqtt_packet import Incoming, read_publish, whole_packet

__all__ = ["PahoClient"]

READ_BYTES: Final = 16 * 1024
"""What is read at once; what is left is read in the next turn of the event loop."""

FAILURE: Final = 0x80
"""From here on reason codes are failures (MQTT 5 §2.4)."""


class PahoClient(paho.Client):
    """What aiomqtt drives; it has no constructor of its own, since aiomqtt makes its client itself."""

    acknowledgements: Acknowledgements
    take: Callable[[Incoming], None]
    """Is given each message as it is read."""
    burst: AbstractContextManager[None]
    """Around all that one read brings."""
    taken = 0
    """Messages that have come."""
    _unread = b""
    _unread_at = 0
    _has_read = False
    _acknowledging: bytearray | None = None
    """PUBACKs and PUBRECs of the burst that is being taken."""

    def loop_read(self, max_packets: int = 1) -> MQTTErrorCode:  # noqa: ARG002 - all that has come is taken
        """Take all packets that one read brings; paho would ask the system for each of their parts."""
        self._acknowledging, self._has_read = bytearray(), False
        try:
            with self.burst:
                result = self._read_all()
        finally:
            packets, self._acknowledging = bytes(self._acknowledging), None
            if packets and self._sock is not None:
                self._packet_queue(paho.PUBACK, packets, 0, 1)
        if result > 0 and self._sock is not None:  # else whoever closed it has said so
            return self._loop_rc_handle(result)
        return MQTTErrorCode.MQTT_ERR_SUCCESS

    def _read_all(self) -> MQTTErrorCode:
        if self._unread_at >= len(self._unread):
            self._read_some()
        while self._sock is not None:
            result = self._take_messages() or self._packet_read()
            if result or self._unread_at >= len(self._unread):
                return result
        return MQTTErrorCode.MQTT_ERR_NO_CONN

    def _read_some(self) -> None:
        """Read what has come. What goes wrong goes wrong again when paho reads, which knows what to make of it."""
        with contextlib.suppress(OSError):
            data = super()._sock_recv(READ_BYTES)
            if data:
                self._unread, self._unread_at, self._has_read = data, 0, True
                self._last_bytes_received = time.monotonic()

    def _take_messages(self) -> MQTTErrorCode:
        """Take the whole PUBLISH packets that come next; paho goes through all others, and parts, byte by byte."""
        if self._in_packet["command"]:
            return MQTTErrorCode.MQTT_ERR_SUCCESS
        data, v5 = self._unread, self._protocol == paho.MQTTv5
        while (found := whole_packet(data, self._unread_at)) is not None:
            header, start, end = found
            if header & 0xF0 != paho.PUBLISH or self._sock is None:
                break
            self._unread_at = end
            result = self._take(header, data[start:end], v5=v5)
            if result:
                return result
        return MQTTErrorCode.MQTT_ERR_SUCCESS

    def _take(self, header: int, packet: bytes | bytearray, *, v5: bool) -> MQTTErrorCode:
        self.taken += 1
        try:
            self.take(read_publish(header, packet, v5=v5))
        except (TooManyUnacknowledged, MalformedPacket):
            return MQTTErrorCode.MQTT_ERR_PROTOCOL
        return MQTTErrorCode.MQTT_ERR_SUCCESS

    def _sock_recv(self, bufsize: int) -> bytes:
        """What paho wants next of what has been read."""
        start = self._unread_at
        if start >= len(self._unread):
            if self._has_read:  # others have their turn before the rest
                raise BlockingIOError
            return super()._sock_recv(bufsize)
        data = self._unread[start : start + bufsize]
        self._unread_at = start + len(data)
        return data

    def acknowledge(self, packet_id: int, qos: int) -> None:
        """Send PUBACK or PUBREC."""
        if self._acknowledging is not None:
            command = paho.PUBACK if qos == 1 else paho.PUBREC
            self._acknowledging += struct.pack("!BBH", command, 2, packet_id)
        elif qos == 1:
            self._send_puback(packet_id)
        else:
            self._send_pubrec(packet_id)

    def release(self, packet_id: int) -> None:
        """Send PUBREL for a message of an earlier connection."""
        self._send_pubrel(packet_id)

    def fail(self, reason: MQTTErrorCode) -> None:
        """End the connection without waiting for the broker; nothing happens if it has ended."""
        if self._sock is not None:
            self._loop_rc_handle(reason)

    def _handle_publish(self) -> MQTTErrorCode:
        packet = self._in_packet
        return self._take(packet["command"], packet["packet"], v5=self._protocol == paho.MQTTv5)

    def _handle_pubrel(self) -> MQTTErrorCode:
        packet_id = int.from_bytes(self._in_packet["packet"][:2], "big")
        result = super()._handle_pubrel()  # knows of no such message, and completes it nevertheless
        if result == MQTTErrorCode.MQTT_ERR_SUCCESS:
            self.acknowledgements.released(packet_id)
        return result

    def _handle_pubrec(self) -> MQTTErrorCode:
        """A PUBREC may refuse the message (MQTT 5 §3.5.2.1); then there is no PUBREL."""
        packet = self._in_packet["packet"]
        if self._protocol == paho.MQTTv5 and len(packet) > 2 and packet[2] >= FAILURE:
            packet_id = int.from_bytes(packet[:2], "big")
            if packet_id in self._out_messages:
                reason = ReasonCode(PacketTypes.PUBREC, identifier=packet[2])
                return self._do_on_publish(packet_id, reason, Properties(PacketTypes.PUBREC))  # type: ignore[no-untyped-call]
        return super()._handle_pubrec()

    def _handle_pingresp(self) -> MQTTErrorCode:
        result = super()._handle_pingresp()
        self.acknowledgements.answered()
        return result

    def _check_keepalive(self) -> None:
        """Ping after half the keep-alive, and give the broker the other half to show life.

        paho's own check takes twice the keep-alive. Called each second; so it also asks what became of PUBACKs.
        """
        if self._state != _ConnectionState.MQTT_CS_CONNECTED or self._sock is None:
            super()._check_keepalive()
            return
        now = time.monotonic()
        patience_seconds = self._keepalive / 2 or math.inf
        if self._ping_t:
            if now - max(self._ping_t, self._last_bytes_received) >= patience_seconds:
                self.fail(MQTTErrorCode.MQTT_ERR_KEEPALIVE)
                self._ping_t = 0
        elif (
            self.acknowledgements.unconfirmed
            or now - min(self._last_msg_out, self._last_bytes_received) >= patience_seconds
        ):
            self._send_pingreq()
            self.acknowledgements.asked()
