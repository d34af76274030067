"""Which filters an upstream subscribes to, and what the broker made of them."""

import asyncio
import logging
from collections.abc import Mapping
from typing import Final

from paho.mqtt.subscribeoptions import SubscribeOptions

from bridges.mqtt_client import Client, UpstreamOptions, subscription_properties
from bridges.mqtt_packet import Incoming
from gateway.core.filters import disjoint_cover, minimal_cover
from gateway.core.trie import FilterTrie

__all__ = ["SUBSCRIBE_BATCH", "Subscriptions"]

logger = logging.getLogger(__name__)

SUBSCRIBE_BATCH: Final = 100
FAILURE: Final = 0x80
"""From here on the broker's answers are refusals (MQTT 3.1.1 §3.9.3)."""


class Subscriptions:
    """The subscriptions of one upstream, made so that each message comes once, though filters overlap (MQTT 5 §3.3.4).

    With MQTT 5 each filter has an identifier by which further copies are known; 3.1.1 has none, so there filters that
    overlap are widened into one. So they are if they are shared: each copy may go to another node, which, while a
    configuration changes, may know other filters.
    """

    def __init__(self, filters: Mapping[str, int], options: UpstreamOptions) -> None:
        self._name = options.name
        self._v5 = options.protocol == "5"
        self._prefix = "" if options.share is None else f"$share/{options.share}/"
        cover = minimal_cover(filters) if self._v5 and not self._prefix else disjoint_cover(filters)
        self._wanted = dict(cover)
        self._number = {topic_filter: number for number, topic_filter in enumerate(cover, 1)}
        self._numbers: FilterTrie[int] | None = None
        """The identifiers of the filters by the topics they match, where filters overlap."""
        if self._v5 and disjoint_cover(cover) != cover:
            self._numbers = FilterTrie()
            for topic_filter, number in self._number.items():
                self._numbers.add(topic_filter, number)
        self._granted: dict[str, int] = {}
        self.refused: list[str] = []
        """Filters that the broker doesn't let the gateway subscribe to."""

    @property
    def problem(self) -> str | None:
        """What is not as it should be, in the operator's words."""
        problems = []
        if self.refused:
            problems.append(f"the broker refused the subscriptions {', '.join(self.refused)}")
        lowered = [f"{f} (QoS {qos} of {self._wanted[f]})" for f, qos in self._granted.items() if qos < self._wanted[f]]
        if lowered:
            problems.append(f"the broker grants less quality of service than asked: {', '.join(lowered)}")
        return "; ".join(problems) or None

    async def subscribe(self, client: Client) -> None:
        """Subscribe to everything, and log what the broker doesn't grant."""
        before, self._granted = self.problem, {}
        await self._ask(client, list(self._wanted))
        if self.problem is not None and self.problem != before:
            logger.error("upstream %s: %s", self._name, self.problem)

    async def retry(self, client: Client) -> None:
        """Subscribe again to what was refused; the broker's rules may have changed."""
        before = self.problem
        await self._ask(client, self.refused)
        if self.problem is None:
            logger.info("upstream %s: the broker has accepted all subscriptions now", self._name)
        elif self.problem != before:
            logger.error("upstream %s: %s", self._name, self.problem)

    async def end(self, client: Client, timeout_seconds: float) -> None:
        """Take no further part in what is shared, so that the others get all of it; a session of one's own keeps it."""
        if self._prefix:
            for topic_filter in self._wanted:
                await client.unsubscribe(self._prefix + topic_filter, timeout=timeout_seconds)

    async def _ask(self, client: Client, filters: list[str]) -> None:
        refused: list[str] = []
        for start in range(0, len(filters), SUBSCRIBE_BATCH):
            batch = filters[start : start + SUBSCRIBE_BATCH]
            answers = await asyncio.gather(*(self._ask_one(client, topic_filter) for topic_filter in batch))
            for topic_filter, answer in zip(batch, answers, strict=True):
                if answer >= FAILURE:
                    refused.append(topic_filter)
                else:
                    self._granted[topic_filter] = answer
        self.refused = refused

    async def _ask_one(self, client: Client, topic_filter: str) -> int:
        """The quality of service that is granted, or the reason why not."""
        qos = self._wanted[topic_filter]
        if self._v5:
            name, options = self._prefix + topic_filter, SubscribeOptions(qos=qos)
            properties = subscription_properties(self._number[topic_filter] if self._numbers is not None else None)
            codes = await client.subscribe(name, options=options, properties=properties)
        else:
            codes = await client.subscribe(topic_filter, qos)
        return max(code if isinstance(code, int) else int(code.value) for code in codes)

    def is_first_copy(self, message: Incoming) -> bool:
        """Whether this is the copy for the first of our filters that match; brokers may send one for each."""
        if self._numbers is None:
            return True
        given = getattr(message.properties, "SubscriptionIdentifier", None)
        if not given:
            return True
        matching = self._numbers.match(message.topic.split("/"))
        return not matching or min(matching) in given
