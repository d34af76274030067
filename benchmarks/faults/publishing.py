"""All who publish, at a rate that they have together: devices, and browsers in rooms without a route."""

import asyncio
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from random import Random
from typing import Final

from benchmarks.faults.evidence import Evidence, read_logs
from benchmarks.faults.publishers import Device, Poster

__all__ = ["Publishing"]

HALLS_SHARE: Final = 0.1
"""How much of what is published comes from browsers."""
TICK_SECONDS: Final = 0.01


class Publishing:
    """All who publish.

    Args:
        groups: Names of rooms, and of the topics that lead to them, by the pattern that matches a group.
        halls: Rooms of browsers.
    """

    def __init__(
        self, groups: Mapping[str, Sequence[str]], halls: Sequence[str], rate: float, port: int, random: Random
    ) -> None:
        self.phase = 0
        """What is published now belongs to it."""
        self._rate, self._port, self._random = rate, port, random
        self._phases: dict[tuple[str, int], int] = {}
        self.devices = [Device(name[:-2], rooms, self._phases) for name, rooms in groups.items()]
        sources = (f"127.0.{201 + number}.1" for number in range(len(halls)))
        self._posters = [Poster(room, source, self._phases) for room, source in zip(halls, sources, strict=True)]
        self._topics = [(device, topic) for device in self.devices for topic in device.numbers]
        self._is_on = False
        self._posts: set[asyncio.Task[None]] = set()

    @contextmanager
    def on(self) -> Iterator[None]:
        """Publish meanwhile."""
        self._is_on = True
        yield
        self._is_on = False

    async def run(self) -> None:
        """Publish evenly, for ever, as far as that is wanted."""
        due, last = 0.0, time.monotonic()
        while True:
            await asyncio.sleep(TICK_SECONDS)
            now = time.monotonic()
            due, last = due + (now - last) * self._rate, now
            while due >= 1:
                due -= 1
                if self._is_on:
                    self._publish()

    def _publish(self) -> None:
        if self._random.random() < HALLS_SHARE:
            task = asyncio.ensure_future(self._random.choice(self._posters).publish(self._port, self.phase))
            self._posts.add(task)
            task.add_done_callback(self._posts.discard)
        else:
            device, topic = self._random.choice(self._topics)
            device.publish(topic, self.phase)

    @property
    def is_idle(self) -> bool:
        """Whether the broker has all from devices, and browsers wait for no answer."""
        return not any(device.unacknowledged for device in self.devices) and not self._posts

    @property
    def newest(self) -> dict[str, int]:
        """The newest message of each room that the clients are to have."""
        found = {topic: number for device in self.devices for topic, number in device.numbers.items()}
        return found | {poster.room: max(poster.acknowledged, default=-1) for poster in self._posters}

    async def evidence(self) -> Evidence:
        """What was published, and what the log has of it; once all is idle."""
        acknowledged = {topic: set(range(number + 1)) for d in self.devices for topic, number in d.numbers.items()}
        acknowledged |= {poster.room: set(poster.acknowledged) for poster in self._posters}
        unanswered = sum(poster.unanswered for poster in self._posters)
        return Evidence(await read_logs(self._port, acknowledged), acknowledged, self._phases, unanswered)
