"""MQTT clients for tests: paho's, which behaves, and a bare socket, which does what the test says and nothing more."""

import socket
import struct
from collections.abc import Callable
from typing import Any, Self

from paho.mqtt.client import Client, MQTTMessage
from paho.mqtt.enums import CallbackAPIVersion, MQTTErrorCode

from tests.real import wait_until

__all__ = ["Device", "Wire"]

SECONDS = 20.0


class Device:
    """A paho client with its thread; it remembers what came, and waits for the answer to all that it asks."""

    def __init__(
        self,
        port: int,
        client_id: str,
        *,
        clean: bool = True,
        keep_alive: int = 60,
        will: tuple[str, bytes] | None = None,
    ) -> None:
        self.messages: list[MQTTMessage] = []
        self.session_present = False
        self._port = port
        self._keep_alive = keep_alive
        self._connected = False
        self._answers: dict[int, list[int]] = {}
        self._client = Client(CallbackAPIVersion.VERSION2, client_id, clean_session=clean, reconnect_on_failure=False)
        self._client.on_connect = self._on_connect
        self._client.on_disconnect = self._on_disconnect
        self._client.on_message = lambda _client, _data, message: self.messages.append(message)
        self._client.on_subscribe = lambda _c, _d, mid, codes, _p: self._answers.update({mid: [c.value for c in codes]})
        self._client.on_unsubscribe = lambda _c, _d, mid, _codes, _p: self._answers.update({mid: []})
        if will is not None:
            self._client.will_set(*will, qos=1)

    def _on_connect(self, _client: Client, _data: Any, flags: Any, code: Any, _properties: Any) -> None:
        self.session_present = flags.session_present
        self._connected = not code.is_failure

    def _on_disconnect(self, *_: object) -> None:
        self._connected = False

    def connect(self) -> Self:
        """Connect, once; a new device with the same identifier goes on with the session."""
        self._client.connect("127.0.0.1", self._port, self._keep_alive)
        self._client.loop_start()
        wait_until(lambda: self._connected, "the broker accepts the client")
        return self

    def disconnect(self) -> None:
        """Leave as the protocol wants it."""
        self._client.disconnect()
        self.wait_closed()

    def vanish(self) -> None:
        """Lose the connection without a word."""
        connection = self._client.socket()
        assert isinstance(connection, socket.socket)
        connection.shutdown(socket.SHUT_RDWR)
        self.wait_closed()

    def wait_closed(self) -> None:
        """Wait until the connection has ended."""
        wait_until(lambda: not self._connected, "the connection ends")
        self._client.loop_stop()

    def subscribe(self, *filters: tuple[str, int]) -> list[int]:
        """Subscribe; the return codes."""
        return self._ask(lambda: self._client.subscribe(list(filters)))

    def unsubscribe(self, topic_filter: str) -> None:
        """Unsubscribe."""
        self._ask(lambda: self._client.unsubscribe(topic_filter))

    def _ask(self, question: Callable[[], tuple[MQTTErrorCode, int | None]]) -> list[int]:
        _, mid = question()
        assert mid is not None
        wait_until(lambda: mid in self._answers, "the broker answers")
        return self._answers.pop(mid)

    def publish(self, topic: str, payload: bytes, qos: int = 0, *, retain: bool = False) -> None:
        """Publish, and wait until the exchange is complete."""
        self._client.publish(topic, payload, qos, retain).wait_for_publish(SECONDS)

    def publish_all(self, topic: str, payloads: list[bytes], qos: int) -> None:
        """Publish many as fast as paho can."""
        sent = [self._client.publish(topic, payload, qos) for payload in payloads]
        for message in sent:
            message.wait_for_publish(SECONDS)

    def received(self, count: int) -> list[tuple[str, bytes, int, bool]]:
        """The first messages, once there are so many: topic, payload, QoS, retained."""
        wait_until(lambda: len(self.messages) >= count, f"{count} messages come")
        return [(m.topic, bytes(m.payload), m.qos, m.retain) for m in self.messages]


class Wire:
    """A connection that carries what the test writes: no pings, no acknowledgements."""

    def __init__(self, port: int) -> None:
        self._socket = socket.create_connection(("127.0.0.1", port), timeout=SECONDS)
        self._stream = self._socket.makefile("rb")

    def send(self, kind: int, body: bytes) -> None:
        """One packet: its first byte and what follows the length."""
        length, size = b"", len(body)
        while True:
            size, digit = divmod(size, 128)
            length += bytes((digit | (0x80 if size else 0),))
            if not size:
                break
        self._socket.sendall(bytes((kind,)) + length + body)

    def read(self) -> tuple[int, bytes] | None:
        """The next packet, as it is given to `send`; None at the end."""
        try:
            first = self._stream.read(1)
            if not first:
                return None
            size = shift = 0
            while True:
                digit = self._stream.read(1)[0]
                size |= (digit & 0x7F) << shift
                shift += 7
                if digit < 0x80:
                    break
            return first[0], self._stream.read(size)
        except ConnectionResetError:
            return None

    def connect(
        self,
        client_id: str,
        *,
        clean: bool = True,
        keep_alive: int = 0,
        will: tuple[str, bytes] | None = None,
        protocol: str = "MQTT",
        level: int = 4,
    ) -> tuple[int, bytes] | None:
        """Send a CONNECT; the answer."""
        flags = (0x02 if clean else 0) | (0x0C if will else 0)
        body = _string(protocol) + bytes((level, flags)) + struct.pack("!H", keep_alive) + _string(client_id)
        if will:
            body += _string(will[0]) + struct.pack("!H", len(will[1])) + will[1]
        self.send(0x10, body)
        return self.read()

    def subscribe(self, topic_filter: str, qos: int) -> None:
        """Subscribe, and wait for the SUBACK."""
        self.send(0x82, b"\0\1" + _string(topic_filter) + bytes((qos,)))
        assert self.read() == (0x90, bytes((0, 1, qos)))

    def publish(self, topic: str, payload: bytes, qos: int = 0, packet_id: int = 0, *, again: bool = False) -> None:
        """Send a PUBLISH and wait for nothing."""
        identifier = struct.pack("!H", packet_id) if qos else b""
        self.send(0x30 | again << 3 | qos << 1, _string(topic) + identifier + payload)

    def close(self) -> None:
        """Close the connection without a DISCONNECT."""
        self._stream.close()
        self._socket.close()


def _string(text: str) -> bytes:
    return struct.pack("!H", len(text.encode())) + text.encode()
