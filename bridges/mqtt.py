"""The upstream: the gateway as a client of an MQTT broker, 3.1.1 or 5, over TCP, TLS or WebSocket.

Messages go to the namespace as they are read, without a task or queue between, and are acknowledged once it has them.
What browsers send is handed to the broker. A lost connection is made again for ever, with growing pauses.
"""

import asyncio
import contextlib
import logging
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from enum import StrEnum
from functools import partial
from random import Random
from typing import Final, NoReturn

import aiomqtt
from paho.mqtt.reasoncodes import ReasonCode

from bridges.mqtt_acknowledgements import Acknowledgements, TooManyUnacknowledged
from bridges.mqtt_backoff import Backoff
from bridges.mqtt_client import Client, UpstreamOptions, explain, is_qos_refused, is_taken_over, make_client
from bridges.mqtt_packet import Incoming
from bridges.mqtt_publisher import Publisher
from bridges.mqtt_replies import Replies
from bridges.mqtt_subscriptions import SUBSCRIBE_BATCH, Subscriptions
from gateway.core.clock import Clock
from gateway.core.delivery import Delivery, Receipt, Receive, Settle
from gateway.core.limits import TokenBucket
from gateway.core.upstream import Done, ReplyTo

__all__ = ["Changed", "Receive", "Upstream", "UpstreamOptions", "UpstreamState"]

logger = logging.getLogger(__name__)

FAREWELL_SECONDS: Final = 1.0

Changed = Callable[[str, bool], None]
"""Is told the upstream's name, and whether it is up."""


class UpstreamState(StrEnum):
    """Whether the broker can be reached."""

    CONNECTING = "connecting"
    UP = "up"
    STANDBY = "standby"
    """It can, but another node receives what devices send."""
    DOWN = "down"

    @property
    def is_well(self) -> bool:
        """Whether all is as it should be, on this node."""
        return self in (UpstreamState.UP, UpstreamState.STANDBY)


class Upstream:
    """One broker: `run` keeps the connection, `publish` sends to devices."""

    def __init__(
        self,
        options: UpstreamOptions,
        filters: Mapping[str, int],
        receive: Receive,
        settle: Settle,
        changed: Changed,
        clock: Clock,
        random: Random,
        replies: Replies | None = None,
        burst: AbstractContextManager[None] | None = None,
        role: str = "",
        may_read: Callable[[], bool] = lambda: True,
    ) -> None:
        self.options = options
        self._title = f"{options.name} ({role})" if role else options.name
        self._session = options.session or options.name
        self.may_read = may_read
        self.state = UpstreamState.CONNECTING
        self.receive_faults = 0
        """Messages that met a fault of the gateway's."""
        self.oversized = 0
        """Messages from devices that were dropped because of their size."""
        self._publisher = Publisher(options)
        self._replies = replies or Replies()
        self._subscriptions = Subscriptions({**filters, **self._replies.filters}, options)
        self._receive = receive
        self._settle = settle
        self._burst = burst or contextlib.nullcontext()
        """Around messages that one read brings; it is entered again and again."""
        self._changed = changed
        self._random = random
        self._backoff = Backoff(options.reconnect_min_seconds, options.reconnect_max_seconds, random)
        self._complaints = TokenBucket(0.1, 5, clock)
        self._clock = clock
        self._reason: str | None = None
        """Why it isn't up."""
        self._up_since: float | None = None
        self._status_qos = 1
        self._client: Client | None = None
        self._dropped = False
        self._acknowledgements: Acknowledgements | None = None

    @property
    def owner(self) -> str | None:
        """Which node receives, where only one does."""
        return None

    @property
    def problem(self) -> str | None:
        """Why it isn't up; or, if it is, what isn't as it should be."""
        if self.state is not UpstreamState.UP:
            return self._reason
        lowered = "the broker takes less quality of service than routes ask for" if self._publisher.lowered else None
        return "; ".join(filter(None, (self._subscriptions.problem, lowered))) or None

    @property
    def reply_topic(self) -> str | None:
        """Where devices may answer with correlation data."""
        return self._replies.topic

    def publish(
        self, topic: str, payload: bytes, qos: int, retain: bool, done: Done, *, reply_to: ReplyTo | None = None
    ) -> None:
        """Hand a message to the broker; `done` is called when it has it, or with the reason why not."""
        self._publisher.publish(topic, payload, qos, retain, done, self._replies.properties(reply_to))

    async def run(self) -> None:
        """Stay connected; returns only by cancellation, after saying `offline`. It may be run again then."""
        self.state, self._dropped = UpstreamState.CONNECTING, False
        while True:
            pause_seconds = await self._try()
            _heed_cancellation()
            await asyncio.sleep(pause_seconds)

    def drop(self) -> None:
        """End the connection without a word and acknowledge nothing more, before `run` is cancelled."""
        self._dropped = True
        if self._acknowledgements is not None:
            self._acknowledgements.close()
        if self._client is not None:
            self._client.abandon()

    async def _try(self) -> float:
        """Connect and stay so; after which pause to do it again."""
        self._up_since = None
        try:
            await self._connect_once()
        except (aiomqtt.MqttError, OSError, ValueError) as error:
            pause_seconds = self._backoff.failed(self._up_seconds(), taken_over=is_taken_over(error))
            if is_qos_refused(error):
                self._status_qos = 0
            self._fell(explain(error, self.options, self._backoff.quick_losses))
            return pause_seconds
        except Exception:
            self._fell("a fault of the gateway; its log says more")
            raise

    def _up_seconds(self) -> float | None:
        return None if self._up_since is None else self._clock.monotonic() - self._up_since

    async def _connect_once(self) -> NoReturn:
        self._client = client = make_client(self.options, self._random, self, status_qos=self._status_qos)
        client.pending_calls_threshold = SUBSCRIBE_BATCH
        confirmed = partial(self._settle.acknowledged, self._session)
        self._acknowledgements = acknowledgements = Acknowledgements(client.paho.acknowledge, confirmed)
        client.paho.acknowledgements = acknowledgements
        client.paho.burst = self._burst
        self._publisher.prepare(client)
        try:
            async with client:
                await self._stay(client)
        finally:
            acknowledgements.close()
            self._publisher.lost(client)
            client.abandon()

    async def _stay(self, client: Client) -> NoReturn:
        try:
            _heed_cancellation()
            await self._subscriptions.subscribe(client)
            await self._say(client, b"online")
            _heed_cancellation()
            self._publisher.connected(client)
            self._rose()
            while True:
                await client.closed(self.options.reconnect_max_seconds if self._subscriptions.refused else None)
                await self._subscriptions.retry(client)
                _heed_cancellation()
        except asyncio.CancelledError:
            with contextlib.suppress(aiomqtt.MqttError):
                if not self._dropped:
                    await self._subscriptions.end(client, FAREWELL_SECONDS)
                    await self._say(client, b"offline")
            raise

    def _rose(self) -> None:
        self.state = UpstreamState.UP
        self._up_since = self._clock.monotonic()
        logger.info("upstream %s is up: %s:%d", self._title, self.options.host, self.options.port)
        self._changed(self.options.name, True)

    def _fell(self, reason: str) -> None:
        was, self.state = self.state, UpstreamState.DOWN
        if was is not UpstreamState.DOWN:
            logger.warning("upstream %s is down: %s", self._title, reason)
        elif reason != self._reason:
            logger.warning("upstream %s is still down: %s", self._title, reason)
        self._reason = reason
        self._replies.lost()
        self._changed(self.options.name, False)

    async def _say(self, client: Client, status: bytes) -> None:
        if self.options.status_topic is not None:
            qos = min(self._status_qos, client.maximum_qos)
            await client.publish(self.options.status_topic, status, qos=qos, retain=True, timeout=FAREWELL_SECONDS)

    def connected(self, client: Client, session_present: bool) -> None:
        """The broker has accepted the connection."""
        if not session_present:
            self._settle.forget(self._session)
        self._publisher.resume(client, session_present)

    def published(self, packet_id: int, reason_code: ReasonCode | int) -> None:
        """The broker has acknowledged a message, or refused it."""
        self._publisher.published(packet_id, reason_code)

    def take(self, message: Incoming) -> None:
        """Hand a message on; it is acknowledged when whoever receives it says so."""
        stored = _nothing
        try:
            if message.qos and self._acknowledgements is not None:
                stored = self._acknowledgements.owe(message.mid, message.qos)
            if self._is_wanted(message) and not self._replies.take(message):
                self._receive(self._delivery_of(message), stored)
            else:
                stored()
        except TooManyUnacknowledged:
            raise
        except Exception:
            self.receive_faults += 1
            logger.exception("a message of upstream %s met a fault", self.options.name)
            stored()  # it would meet the same fault again, and keep up all that came after it

    def _is_wanted(self, message: Incoming) -> bool:
        size_bytes, limit_bytes = len(message.payload), self.options.maximum_packet_bytes
        if size_bytes > limit_bytes:  # only from a broker that can't be told, with 3.1.1
            self.oversized += 1
            if not self._complaints.take():
                where = (self.options.name, message.topic, size_bytes, limit_bytes)
                logger.warning("upstream %s: dropped a message of %r: %d bytes, expected at most %d", *where)
            return False
        return self._subscriptions.is_first_copy(message)

    def _delivery_of(self, message: Incoming) -> Delivery:
        topic, payload = message.topic, message.payload
        receipt = Receipt.of(message.mid, message.dup, topic, payload) if message.qos else None
        return Delivery(self.options.name, topic, payload, message.retain, receipt, self._session)


def _heed_cancellation() -> None:
    """End if that was asked for: `asyncio.wait_for` forgets it if its answer comes at the same time (Python 3.11).

    Who lost the lease of an upstream would go on, or connect again, and take the session from its new owner.
    """
    task = asyncio.current_task()
    if task is not None and task.cancelling():
        raise asyncio.CancelledError


def _nothing() -> None:
    """What is owed for QoS 0."""
