"""One client id: what the broker keeps for it between connections, and the connection that it has now, if any.

Nothing that is sent to a client waits for that client: what doesn't fit is dropped and counted. Who can wait, a
publisher's connection, asks `congested` first.
"""

import asyncio
import logging
from collections.abc import Iterable
from typing import Final

from bridges.broker.options import BrokerOptions
from bridges.broker.outbox import Outbox
from bridges.broker.packets import Message, publish

__all__ = ["Client"]

WRITE_BUFFER_BYTES: Final = 1_048_576
"""How much may wait in the transport of a client that doesn't read."""
PATIENCE_SECONDS: Final = 1.0
"""How long others wait for a client that doesn't keep up, before messages to it are dropped."""

logger = logging.getLogger(__name__)


class Client:
    """A session (MQTT 3.1.1 §3.1.2.4) with its connection."""

    def __init__(self, client_id: str, options: BrokerOptions) -> None:
        self.id = client_id
        self.received: set[int] = set()
        """Identifiers of QoS 2 messages that came and whose PUBREL hasn't come yet (§4.3.3)."""
        self.dropped = 0
        self._outbox = Outbox(options.in_flight_messages, options.queued_messages)
        self._writer: asyncio.StreamWriter | None = None
        self._unsent: list[bytes] = []
        self._left = asyncio.Event()
        self._room = asyncio.Event()
        self._stalled = False

    @property
    def connected(self) -> bool:
        """Whether it has a connection now."""
        return self._writer is not None

    def attach(self, writer: asyncio.StreamWriter) -> None:
        """Go on over a new connection; `resume` is to follow once it is accepted."""
        writer.transport.set_write_buffer_limits(high=WRITE_BUFFER_BYTES)
        self._writer = writer
        self._left.clear()

    def resume(self) -> None:
        """Send again what the last connection left unfinished, then what has been queued."""
        for packet in self._outbox.unfinished():
            self.send(packet)
        self._send_ready()

    def detach(self) -> None:
        """Forget the connection, which has ended."""
        self._flush()
        self._writer = None
        self._left.set()
        self._room.set()

    async def displace(self) -> None:
        """Cut the connection and wait until whoever serves it has finished (§3.1.4: a second CONNECT of this id)."""
        if self._writer is not None:
            self._writer.transport.abort()
            await self._left.wait()

    def close(self) -> None:
        """Close the connection, if there is one."""
        if self._writer is not None:
            self._writer.close()

    def send(self, packet: bytes) -> None:
        """Send a packet, together with all others of this turn of the event loop; nothing without a connection."""
        if self._writer is not None:
            if not self._unsent:
                asyncio.get_running_loop().call_soon(self._flush)
            self._unsent.append(packet)

    async def drain(self) -> None:
        """Wait until the client has read most of what was sent.

        Raises:
            ConnectionError: the connection has been lost.
        """
        self._flush()
        if self._writer is not None:
            await self._writer.drain()

    def deliver(self, message: Message) -> None:
        """Send a message, or queue it if its QoS is more than 0; drop it where there is no room."""
        if self._writer is None and message.qos == 0:
            return  # QoS 0 is for those who are there (§3.1.2.4)
        if self.congested or self._outbox.is_full:
            self._drop()
            return
        self._kept_up()
        self._hand_over(message)

    def deliver_all(self, messages: Iterable[Message]) -> None:
        """Send many messages at once, though they may take more room than there is: retained ones, that are bounded."""
        if self.congested:
            self._drop()
            return
        for message in messages:
            self._hand_over(message)
        self._flush()

    def acknowledged(self, packet_id: int) -> None:
        """A PUBACK or PUBCOMP came."""
        self._outbox.acknowledged(packet_id)
        self._send_ready()
        self._room.set()

    def publish_received(self, packet_id: int) -> None:
        """A PUBREC came."""
        self.send(self._outbox.received(packet_id))

    @property
    def congested(self) -> bool:
        """Whether more messages would have to be dropped now, while the client is connected."""
        if self._writer is None or self._writer.is_closing():
            return False
        return self._outbox.is_full or self._writer.transport.get_write_buffer_size() > WRITE_BUFFER_BYTES

    async def relief(self) -> None:
        """Wait until the client isn't congested any more, but not again and again for one that stands still."""
        if self._stalled:
            return
        try:
            async with asyncio.timeout(PATIENCE_SECONDS):
                while self.congested:
                    self._room.clear()
                    await self.drain()
                    if self._outbox.is_full:
                        await self._room.wait()
        except TimeoutError:
            self._stalled = True
        except ConnectionError:
            pass  # it has gone, which its own connection notices too

    def _flush(self) -> None:
        packets, self._unsent = self._unsent, []
        if packets and self._writer is not None and not self._writer.is_closing():
            self._writer.write(b"".join(packets))

    def _hand_over(self, message: Message) -> None:
        if message.qos == 0:
            self.send(publish(message))
        else:
            self._outbox.put(message)
            self._send_ready()

    def _send_ready(self) -> None:
        if self._writer is not None:
            for packet in self._outbox.ready():
                self.send(packet)

    def _drop(self) -> None:
        if not self.dropped:
            logger.warning("client %r: too much waits for it; messages to it are dropped", self.id)
        self.dropped += 1

    def _kept_up(self) -> None:
        self._stalled = False
        if self.dropped:
            logger.warning("client %r: there is room again; %d messages to it were dropped", self.id, self.dropped)
            self.dropped = 0
