"""The simulated devices on a real broker: each an MQTT client of its own, with a last will and ears for commands."""

import asyncio
import contextlib
import logging
import time
from collections.abc import Iterable
from dataclasses import dataclass, field
from random import Random

import aiomqtt
import orjson

from gateway.simulation import Device, Publication, make_devices

__all__ = ["DemoBroker", "run_demo"]

logger = logging.getLogger(__name__)

RECONNECT_SECONDS = (0.5, 5.0)
FAREWELL_SECONDS = 0.5


@dataclass(frozen=True, slots=True)
class DemoBroker:
    """Where the devices connect to, and as whom."""

    host: str
    port: int
    username: str | None = None
    password: str | None = field(default=None, repr=False)


async def run_demo(broker: DemoBroker, *, interval_seconds: float = 0.5, random: Random | None = None) -> None:
    """Let the dozen publish and obey until cancelled; a broker that goes away is waited for."""
    random = random or Random()  # noqa: S311 - weather, not keys
    devices = make_devices(random)
    logger.info("simulating %d devices on %s:%d", len(devices), broker.host, broker.port)
    outage = _Outage(broker.host, broker.port)
    async with asyncio.TaskGroup() as tasks:
        for device in devices:
            tasks.create_task(_Connected(device, broker, interval_seconds, random, outage).run())


class _Outage:
    """Says once, not once for each device, that the broker is away or back."""

    def __init__(self, host: str, port: int) -> None:
        self._where = f"{host}:{port}"
        self._away = False

    def begins(self, error: Exception) -> None:
        if not self._away:
            logger.warning("the broker at %s is away: %s", self._where, error)
        self._away = True

    def ends(self) -> None:
        if self._away:
            logger.info("the broker at %s is back", self._where)
        self._away = False


class _Connected:
    """One device and its connection."""

    def __init__(
        self, device: Device, broker: DemoBroker, interval_seconds: float, random: Random, outage: _Outage
    ) -> None:
        self._device = device
        self._broker = broker
        self._interval_seconds = interval_seconds
        self._random = random
        self._outage = outage

    async def run(self) -> None:
        """Stay connected; returns only by cancellation."""
        task = asyncio.current_task()
        assert task is not None
        while True:
            try:
                await self._connect()
            except* (aiomqtt.MqttError, OSError) as errors:
                self._outage.begins(errors.exceptions[0])
            if task.cancelling():  # a group of tasks tells of an error rather than of its cancellation
                raise asyncio.CancelledError
            await asyncio.sleep(self._random.uniform(*RECONNECT_SECONDS))

    async def _connect(self) -> None:
        status = f"sensors/{self._device.path}/status"
        client = aiomqtt.Client(
            self._broker.host,
            self._broker.port,
            username=self._broker.username,
            password=self._broker.password,
            identifier=f"demo-{self._device.site}-{self._device.name}",
            will=aiomqtt.Will(status, b'"offline"', qos=1, retain=True),
            keepalive=10,
            timeout=FAREWELL_SECONDS * 4,
        )
        async with client:
            self._outage.ends()
            try:
                async with asyncio.TaskGroup() as tasks:
                    tasks.create_task(self._obey(client))
                    tasks.create_task(self._report(client))
            except asyncio.CancelledError:
                with contextlib.suppress(aiomqtt.MqttError):
                    await client.publish(status, b'"offline"', qos=1, retain=True, timeout=FAREWELL_SECONDS)
                raise

    async def _report(self, client: aiomqtt.Client) -> None:
        await _publish(client, self._device.state(), qos=1)
        await asyncio.sleep(self._random.uniform(0, self._interval_seconds))  # devices don't beat in step
        before = time.monotonic()
        while True:
            await asyncio.sleep(self._interval_seconds)
            now = time.monotonic()
            await _publish(client, self._device.step(now - before, time.time()))
            before = now

    async def _obey(self, client: aiomqtt.Client) -> None:
        await _subscribe(client, f"commands/{self._device.path}")
        async for message in client.messages:
            try:
                state = self._device.command(bytes(message.payload))
                answer = state[0].payload
            except ValueError as error:
                logger.warning("%s ignores a command: %s", self._device.path, error)
                state, answer = [], orjson.dumps({"error": str(error)})
            reply = Publication(f"commands/{self._device.path}/reply", answer)
            await _publish(client, [*state, reply], qos=1)


async def _subscribe(client: aiomqtt.Client, topic_filter: str) -> None:
    """Subscribe, and let the answer come even when cancelled: aiomqtt takes one that nobody waits for as an error."""
    subscribing = asyncio.ensure_future(client.subscribe(topic_filter, qos=1))
    try:
        await asyncio.shield(subscribing)
    except asyncio.CancelledError:
        with contextlib.suppress(aiomqtt.MqttError):
            await subscribing
        raise


async def _publish(client: aiomqtt.Client, publications: Iterable[Publication], qos: int = 0) -> None:
    for publication in publications:
        await client.publish(publication.topic, publication.payload, qos, publication.retain)
