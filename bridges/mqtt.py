"""The upstream: the gateway as a client of an MQTT broker, 3.1.1 or 5, over TCP, TLS or WebSocket.

Messages go to the namespace as they are read, without a task or queue between. What browsers send is handed to the
broker and called back once it has acknowledged it. A lost connection is made again for ever, with growing pauses.
"""

import asyncio
import contextlib
import logging
from collections.abc import Callable, Mapping
from enum import StrEnum
from random import Random
from typing import Final

import aiomqtt
import paho.mqtt.client as paho
from paho.mqtt.reasoncodes import ReasonCode
from paho.mqtt.subscribeoptions import SubscribeOptions

from bridges.mqtt_client import Client, UpstreamOptions, explain, make_client, subscription_properties
from bridges.mqtt_replies import Replies
from gateway.core.errors import BadMessage, TidegateError, UpstreamRefused, UpstreamTimeout, UpstreamUnavailable
from gateway.core.filters import disjoint_cover, minimal_cover
from gateway.core.topics import filter_matches
from gateway.core.upstream import Done, ReplyTo

__all__ = ["Receive", "Upstream", "UpstreamOptions", "UpstreamState"]

logger = logging.getLogger(__name__)

MAXIMUM_IN_FLIGHT: Final = 10_000
"""Messages handed to the broker and not acknowledged, or not yet written to its socket; more are refused."""

SUBSCRIBE_BATCH: Final = 100

Receive = Callable[[str, bytes, bool], None]
"""Takes a message: topic, payload, whether the broker had retained it."""


class UpstreamState(StrEnum):
    """Whether the broker can be reached."""

    CONNECTING = "connecting"
    UP = "up"
    DOWN = "down"


class Upstream:
    """One broker: `run` keeps the connection, `publish` sends to devices."""

    def __init__(
        self,
        options: UpstreamOptions,
        filters: Mapping[str, int],
        receive: Receive,
        random: Random,
        replies: Replies | None = None,
    ) -> None:
        self.options = options
        self.state = UpstreamState.CONNECTING
        self.problem: str | None = None
        """Why it isn't up, or which subscriptions the broker refused."""
        self.receive_faults = 0
        """Messages that met a fault of the gateway's."""
        self._replies = replies or Replies()
        self._filters = {**filters, **self._replies.filters}
        self._receive = receive
        self._random = random
        self._client: Client | None = None
        self._pending: dict[int, tuple[Done, asyncio.TimerHandle]] = {}
        self._subscription_of: dict[int, str] = {}

    async def run(self) -> None:
        """Stay connected; returns only by cancellation, after saying `offline`."""
        attempts = 0
        while True:
            try:
                await self._connect_once()
            except (aiomqtt.MqttError, OSError, ValueError) as error:
                attempts = 0 if self.state is UpstreamState.UP else attempts + 1
                self._fell(explain(error, self.options))
            except Exception:
                self._fell("a fault of the gateway; its log says more")
                raise
            ceiling = min(
                self.options.reconnect_max_seconds, self.options.reconnect_min_seconds * 2 ** min(attempts, 16)
            )
            await asyncio.sleep(self._random.uniform(self.options.reconnect_min_seconds, ceiling))

    async def _connect_once(self) -> None:
        client = make_client(self.options, self._random, take=self._take, published=self._published)
        client.pending_calls_threshold = SUBSCRIBE_BATCH
        async with client:
            try:
                await self._subscribe(client)
                await self._say(client, b"online")
                self._client = client
                self.state = UpstreamState.UP
                logger.info("upstream %s is up: %s:%d", self.options.name, self.options.host, self.options.port)
                await client.closed()
            except asyncio.CancelledError:
                with contextlib.suppress(aiomqtt.MqttError):
                    await self._say(client, b"offline")
                raise
            finally:
                self._client = None

    def _fell(self, reason: str) -> None:
        was = self.state
        self.state = UpstreamState.DOWN
        if was is not UpstreamState.DOWN:
            logger.warning("upstream %s is down: %s", self.options.name, reason)
        elif reason != self.problem:
            logger.warning("upstream %s is still down: %s", self.options.name, reason)
        self.problem = reason
        lost, self._pending = self._pending, {}
        for done, timer in lost.values():
            timer.cancel()
            done(UpstreamUnavailable(f"upstream {self.options.name} was lost before it acknowledged the message"))
        self._replies.lost()

    async def _say(self, client: Client, status: bytes) -> None:
        if self.options.status_topic is not None:
            await client.publish(self.options.status_topic, status, qos=1, retain=True, timeout=1)

    async def _subscribe(self, client: Client) -> None:
        """Subscribe so that each message comes once, though filters overlap (MQTT 5 §3.3.4).

        With MQTT 5 each filter has an identifier by which further copies are known; 3.1.1 has none, so there filters
        that overlap are widened into one.
        """
        v5 = self.options.protocol == "5"
        cover = minimal_cover(self._filters) if v5 else disjoint_cover(self._filters)
        self._subscription_of = dict(enumerate(cover, 1)) if v5 and disjoint_cover(cover) != cover else {}
        numbered = list(enumerate(cover.items(), 1))
        refused: list[str] = []
        for start in range(0, len(numbered), SUBSCRIBE_BATCH):
            batch = numbered[start : start + SUBSCRIBE_BATCH]
            answers = await asyncio.gather(*(self._subscribe_one(client, n, *item) for n, item in batch))
            refused += [topic_filter for (_, (topic_filter, _)), taken in zip(batch, answers, strict=True) if not taken]
        self.problem = f"the broker refused the subscriptions {', '.join(refused)}" if refused else None
        if refused:
            logger.error("upstream %s: %s", self.options.name, self.problem)

    async def _subscribe_one(self, client: Client, number: int, topic_filter: str, qos: int) -> bool:
        if self.options.protocol != "5":
            codes = await client.subscribe(topic_filter, qos)
        else:
            properties = subscription_properties(number if self._subscription_of else None)
            codes = await client.subscribe(topic_filter, options=SubscribeOptions(qos=qos), properties=properties)
        return all(_value(code) < 0x80 for code in codes)

    def _take(self, message: paho.MQTTMessage) -> None:
        try:
            if self._subscription_of and not self._is_first_copy(message):
                return
            if not self._replies.take(message):
                self._receive(message.topic, bytes(message.payload), message.retain)
        except Exception:
            self.receive_faults += 1
            logger.exception("a message of upstream %s met a fault", self.options.name)

    def _is_first_copy(self, message: paho.MQTTMessage) -> bool:
        """Whether this is the copy for the first of our filters that match; brokers may send one for each."""
        given = getattr(message.properties, "SubscriptionIdentifier", None)
        if not given:
            return True
        topic = message.topic
        first = next((n for n, f in self._subscription_of.items() if filter_matches(f, topic)), None)
        return first is None or first in given

    @property
    def reply_topic(self) -> str | None:
        """Where devices may answer with correlation data."""
        return self._replies.topic

    def publish(
        self, topic: str, payload: bytes, qos: int, retain: bool, done: Done, *, reply_to: ReplyTo | None = None
    ) -> None:
        """Hand a message to the broker; `done` is called when it has it, or with the reason why not."""
        client = self._client
        if client is None or self.state is not UpstreamState.UP:
            done(UpstreamUnavailable(f"upstream {self.options.name} can't be reached"))
            return
        if len(self._pending) >= MAXIMUM_IN_FLIGHT or len(client.paho._out_packet) >= MAXIMUM_IN_FLIGHT:
            done(UpstreamUnavailable(f"upstream {self.options.name} is behind: too many messages wait for it"))
            return
        try:
            info = client.paho.publish(topic, payload, qos, retain, self._replies.properties(reply_to))
        except ValueError as error:  # too long a topic or payload
            done(BadMessage(f"the broker can't take the message: {error}"))
            return
        if info.rc != paho.MQTT_ERR_SUCCESS:
            done(UpstreamUnavailable(f"upstream {self.options.name}: {paho.error_string(info.rc)}"))
        elif qos == 0:
            done(None)
        else:
            timer = asyncio.get_running_loop().call_later(
                self.options.acknowledge_timeout_seconds, self._timed_out, info.mid
            )
            self._pending[info.mid] = (done, timer)

    def _published(self, mid: int, reason_code: ReasonCode | int) -> None:
        done, timer = self._pending.pop(mid, (None, None))
        if done is None or timer is None:
            return
        timer.cancel()
        value = _value(reason_code)
        done(None if value < 0x80 else UpstreamRefused(f"the broker refused the message: {reason_code}"))

    def _timed_out(self, mid: int) -> None:
        done, _ = self._pending.pop(mid)
        error: TidegateError = UpstreamTimeout(f"upstream {self.options.name} did not acknowledge the message in time")
        done(error)


def _value(code: ReasonCode | int) -> int:
    return code if isinstance(code, int) else int(code.value)
