from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import ExitStack
from typing import Any

import pytest

from bridges.broker import BrokerOptions, EmbeddedBroker
from tests.devices import Device, Wire

Devices = Callable[..., Device]
Wires = Callable[[], Wire]


@pytest.fixture
def options() -> BrokerOptions:
    return BrokerOptions(port=0)


@pytest.fixture
async def broker(options: BrokerOptions) -> AsyncIterator[EmbeddedBroker]:
    broker = EmbeddedBroker(options)
    await broker.start()
    yield broker
    await broker.stop()


@pytest.fixture
def device(broker: EmbeddedBroker) -> Iterator[Devices]:
    """Makes connected paho clients."""
    with ExitStack() as stack:

        def make(client_id: str, **how: Any) -> Device:
            made = Device(broker.port, client_id, **how)
            stack.callback(made.disconnect)
            return made.connect()

        yield make


@pytest.fixture
def wire(broker: EmbeddedBroker) -> Iterator[Wires]:
    """Makes bare connections."""
    with ExitStack() as stack:

        def make() -> Wire:
            made = Wire(broker.port)
            stack.callback(made.close)
            return made

        yield make
