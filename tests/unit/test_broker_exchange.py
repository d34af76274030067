"""Who gets a message of the embedded broker, and who is waited for."""

import asyncio
from typing import Any

from bridges.broker.client import Client
from bridges.broker.exchange import Exchange
from bridges.broker.options import BrokerOptions
from bridges.broker.packets import Message


class HandWriter:
    """A connection that takes as much as it is told to."""

    def __init__(self, waiting_bytes: int = 0) -> None:
        self.transport = self
        self.waiting_bytes = waiting_bytes
        self.asked = asyncio.Event()
        self.drained = asyncio.Event()
        self.written = b""

    def set_write_buffer_limits(self, high: int) -> None:
        pass

    def get_write_buffer_size(self) -> int:
        return self.waiting_bytes

    def is_closing(self) -> bool:
        return False

    def write(self, data: bytes) -> None:
        self.written += data

    async def drain(self) -> None:
        self.asked.set()
        await self.drained.wait()
        self.waiting_bytes = 0


def subscriber(exchange: Exchange, client_id: str, writer: Any) -> Client:
    client = Client(client_id, BrokerOptions())
    client.attach(writer)
    exchange.add(client)
    exchange.subscribe(client, "t", 0)
    return client


async def test_a_message_reaches_the_others_though_one_leaves_while_another_is_waited_for() -> None:
    exchange = Exchange(BrokerOptions())
    slow, last = HandWriter(10_000_000), HandWriter()
    for client_id, writer in (("slow", slow), ("leaves", HandWriter()), ("last", last)):
        subscriber(exchange, client_id, writer)

    publishing = asyncio.create_task(exchange.publish(Message("t", b"x", 0, False)))
    await slow.asked.wait()
    exchange.forget("leaves")
    slow.drained.set()
    await publishing
    await asyncio.sleep(0)

    assert slow.written == last.written != b""
