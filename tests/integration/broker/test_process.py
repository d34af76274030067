"""The broker's process: it starts, ends, dies and is missed as the gateway needs it."""

import logging
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from bridges.broker import BrokerOptions, BrokerUnavailable, EmbeddedBroker
from tests.devices import Wire
from tests.integration.broker.conftest import Devices, Wires
from tests.real import DEADLINE_SECONDS, free_port, listens, wait_until

# In uvloop, as the program does: asyncio's own loop, left to itself, can miss a signal that comes as it falls asleep.
# And a test run in the background may have been told to ignore this signal.
GATEWAY = """
import signal
import uvloop
from bridges.broker import BrokerOptions, EmbeddedBroker

async def main():
    broker = EmbeddedBroker(BrokerOptions(port=0))
    await broker.start()
    print(broker.port, broker.pid, flush=True)
    try:
        await broker.wait()
    finally:
        await broker.stop()

signal.signal(signal.SIGINT, signal.default_int_handler)
try:
    uvloop.run(main())
except KeyboardInterrupt:
    print("interrupted")
"""


def is_alive(pid: int) -> bool:
    status = Path(f"/proc/{pid}/status")
    return status.exists() and "State:\tZ" not in status.read_text()


async def test_clients_are_served_as_soon_as_it_has_started(broker: EmbeddedBroker) -> None:
    assert broker.port > 0
    client = Wire(broker.port)
    assert client.connect("client") == (0x20, b"\0\0")
    client.close()


async def test_it_listens_on_the_port_that_was_asked_for() -> None:
    port = free_port()
    broker = EmbeddedBroker(BrokerOptions(port=port))
    await broker.start()
    try:
        assert broker.port == port
        assert listens(port)
    finally:
        await broker.stop()


async def test_a_port_in_use_is_named() -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        broker = EmbeddedBroker(BrokerOptions(port=port))
        with pytest.raises(BrokerUnavailable, match=rf"127\.0\.0\.1, port {port}: .*Address already in use"):
            await broker.start()
        await broker.stop()


async def test_a_host_that_is_not_ours_is_named() -> None:
    broker = EmbeddedBroker(BrokerOptions(host="no-such-host.invalid", port=0))
    with pytest.raises(BrokerUnavailable, match=r"no-such-host\.invalid"):
        await broker.start()


async def test_a_stopped_broker_leaves_neither_process_nor_port() -> None:
    broker = EmbeddedBroker(BrokerOptions(port=0))
    await broker.start()
    port, pid = broker.port, broker.pid
    assert pid is not None
    client, mute = Wire(port), Wire(port)
    client.connect("client")

    await broker.stop()
    await broker.stop()

    assert client.read() is None
    assert not is_alive(pid)
    socket.create_server(("127.0.0.1", port)).close()
    client.close()
    mute.close()


async def test_it_does_not_wait_for_clients_when_it_stops(caplog: pytest.LogCaptureFixture) -> None:
    broker = EmbeddedBroker(BrokerOptions(port=0))
    await broker.start()
    mute = Wire(broker.port)
    await broker.stop()
    mute.close()
    assert "killed" not in caplog.text


async def test_its_sudden_end_is_noticed_and_it_comes_back_on_its_port(broker: EmbeddedBroker) -> None:
    port, pid = broker.port, broker.pid
    assert pid is not None
    os.kill(pid, signal.SIGKILL)
    with pytest.raises(BrokerUnavailable, match="ended by itself"):
        await broker.wait()

    await broker.start()

    assert broker.port == port
    client = Wire(port)
    assert client.connect("client") == (0x20, b"\0\0")
    client.close()


async def test_waiting_for_a_stopped_broker_is_no_error(broker: EmbeddedBroker) -> None:
    await broker.stop()
    await broker.wait()


@pytest.fixture
def gateway() -> Iterator[subprocess.Popen[str]]:
    with subprocess.Popen(
        [sys.executable, "-c", GATEWAY],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    ) as process:
        try:
            yield process
        finally:
            process.kill()


def announced(gateway: subprocess.Popen[str]) -> tuple[int, int]:
    assert gateway.stdout is not None
    port, pid = gateway.stdout.readline().split()
    return int(port), int(pid)


def test_it_ends_when_the_gateway_is_killed(gateway: subprocess.Popen[str]) -> None:
    port, pid = announced(gateway)
    assert is_alive(pid)
    gateway.kill()
    wait_until(lambda: not is_alive(pid), "the broker ends")
    assert not listens(port)


def test_ctrl_c_ends_both_without_noise(gateway: subprocess.Popen[str]) -> None:
    _, pid = announced(gateway)
    os.killpg(gateway.pid, signal.SIGINT)
    output, errors = gateway.communicate(timeout=DEADLINE_SECONDS)
    assert (output, errors) == ("interrupted\n", "")
    assert not is_alive(pid)


def test_ctrl_c_is_not_the_brokers_to_handle(broker: EmbeddedBroker, wire: Wires) -> None:
    assert broker.pid is not None
    os.kill(broker.pid, signal.SIGINT)
    assert wire().connect("client") == (0x20, b"\0\0")


async def test_clients_that_come_and_go_are_not_logged(
    broker: EmbeddedBroker, device: Devices, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG, "bridges")
    Wire(broker.port).close()
    client = device("client", clean=False)
    client.subscribe(("#", 2))
    client.publish("topic", b"x", 2, retain=True)
    client.vanish()
    await broker.stop()
    assert [record.getMessage() for record in caplog.records if record.name.startswith("bridges")] == []


async def test_warnings_come_to_the_gateways_log(broker: EmbeddedBroker, caplog: pytest.LogCaptureFixture) -> None:
    client = Wire(broker.port)
    client.connect("client\nforged line")
    client.send(0xF0, b"")
    assert client.read() is None
    client.close()
    await broker.stop()
    record = caplog.records[-1]
    assert record.levelno == logging.WARNING
    assert record.getMessage().startswith(r"client 'client\nforged line' sent a packet")
