"""One connection after its handshake: packets in, one after another, so that nothing overtakes anything.

What must outlive the connection is the `Client`'s; what concerns others is the `Exchange`'s.
"""

import asyncio
from typing import Any, Final

from amqtt.mqtt.disconnect import DisconnectPacket
from amqtt.mqtt.packet import PUBACK, PUBCOMP, PUBREC, PUBREL, UNSUBACK
from amqtt.mqtt.pingreq import PingReqPacket
from amqtt.mqtt.pingresp import PingRespPacket
from amqtt.mqtt.suback import SubackPacket
from amqtt.mqtt.subscribe import SubscribePacket
from amqtt.mqtt.unsubscribe import UnsubscribePacket

from bridges.broker.client import Client
from bridges.broker.exchange import REFUSED, Exchange
from bridges.broker.packets import Acknowledgement, BrokenPacket, Publish, acknowledgement, read_packet

__all__ = ["Conversation"]

TURN_PACKETS: Final = 64
"""So many packets of one connection are handled before others have their turn."""


class Conversation:
    """Reads what one client sends, and answers."""

    def __init__(self, client: Client, exchange: Exchange, packet_bytes: int, silence_seconds: float | None) -> None:
        self._client = client
        self._exchange = exchange
        self._packet_bytes = packet_bytes
        self._silence_seconds = silence_seconds

    async def run(self, reader: asyncio.StreamReader) -> bool:
        """Serve until the client leaves; returns whether it said so (DISCONNECT), which revokes its will (§3.14.4).

        Raises:
            BrokenPacket: the client broke the protocol.
            TimeoutError: it was silent for too long.
            ConnectionError: the connection has been lost.
        """
        while True:
            for _ in range(TURN_PACKETS):
                async with asyncio.timeout(self._silence_seconds):
                    packet = await read_packet(reader, self._packet_bytes)
                if packet is None or isinstance(packet, DisconnectPacket):
                    return packet is not None
                await self._handle(packet)
            async with asyncio.timeout(self._silence_seconds):
                await self._client.drain()  # who doesn't read our answers isn't read either
            await asyncio.sleep(0)

    async def _handle(self, packet: Any) -> None:
        match packet:
            case Publish():
                await self._publish(packet)
            case Acknowledgement():
                self._acknowledge(packet)
            case SubscribePacket():
                await self._subscribe(packet.variable_header.packet_id, packet.payload.topics)
            case UnsubscribePacket():
                for topic_filter in packet.payload.topics:
                    self._exchange.unsubscribe(self._client, topic_filter)
                self._client.send(acknowledgement(UNSUBACK, packet.variable_header.packet_id))
            case PingReqPacket():
                self._client.send(PingRespPacket.build().to_bytes())
            case _:
                raise BrokenPacket(f"an unexpected {type(packet).__name__}")

    async def _publish(self, packet: Publish) -> None:
        repeated = packet.message.qos == 2 and packet.packet_id in self._client.received
        if not repeated:
            await self._exchange.publish(packet.message, self._client)
        if packet.message.qos == 1:
            self._client.send(acknowledgement(PUBACK, packet.packet_id))
        elif packet.message.qos == 2:
            self._client.received.add(packet.packet_id)
            self._client.send(acknowledgement(PUBREC, packet.packet_id))

    def _acknowledge(self, packet: Acknowledgement) -> None:
        if packet.kind == PUBREC:
            self._client.publish_received(packet.packet_id)
        elif packet.kind == PUBREL:
            self._client.received.discard(packet.packet_id)
            self._client.send(acknowledgement(PUBCOMP, packet.packet_id))
        else:
            self._client.acknowledged(packet.packet_id)

    async def _subscribe(self, packet_id: int, wanted: list[tuple[str, int]]) -> None:
        if not wanted or any(qos > 2 for _, qos in wanted):
            raise BrokenPacket("a SUBSCRIBE without filters or with a QoS above 2 (§3.8.3)")
        granted = [self._exchange.subscribe(self._client, topic_filter, qos) for topic_filter, qos in wanted]
        self._client.send(SubackPacket.build(packet_id, granted).to_bytes())
        for (topic_filter, _), qos in zip(wanted, granted, strict=True):
            if qos != REFUSED:
                self._exchange.deliver_retained(self._client, topic_filter, qos)
