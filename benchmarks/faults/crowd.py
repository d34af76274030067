"""All clients: each comes back whenever its connection is lost, and keeps a ledger of what it was told."""

import asyncio
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from random import Random
from typing import Any, Final

from benchmarks.faults import mqtt_clients, socketio_clients, transports
from benchmarks.faults.http_client import HttpError
from benchmarks.faults.ledger import Key, Ledger, key_of
from benchmarks.faults.transports import Stay, Visitor

__all__ = ["LATE_SECONDS", "UNAIDED", "Client", "Crowd", "Phase"]

KINDS: Final[dict[str, tuple[Stay, int]]] = {
    "WebSocket": (transports.websocket, 6),
    "WebSocket, msgpack": (transports.msgpack, 4),
    "SSE": (transports.event_stream, 5),
    "long polling": (transports.long_polling, 4),
    "Socket.IO, WebSocket": (socketio_clients.over_websocket, 3),
    "Socket.IO, polling": (socketio_clients.over_polling, 2),
    "MQTT 5": (mqtt_clients.mqtt_5, 3),
    "MQTT 3.1.1": (mqtt_clients.mqtt_3, 2),
    "raw": (transports.raw, 1),
}
"""Each transport, and how many of thirty clients use it."""

UNAIDED: Final = ("MQTT 3.1.1", "raw")
"""Those that know no cursor."""

LATE_SECONDS: Final = 0.5
"""What takes longer is late; a busy machine takes as much now and then."""
LONGEST_PAUSE_SECONDS: Final = 1.0


@dataclass
class Phase:
    """A stretch of time, with what happened in it."""

    number: int = 0
    is_data_lost: bool = False
    newest_late: float = 0.0
    """When the last message came that was late."""
    returned: set["Client"] = field(default_factory=set)
    """Whose connection was lost."""


class Client:
    """One client."""

    def __init__(self, number: int, kind: str, filters: Mapping[str, Sequence[str]], crowd: "Crowd") -> None:
        self.kind = kind
        self.ledger = Ledger(room for rooms in filters.values() for room in rooms)
        self.visitor = Visitor(self, list(filters), f"127.0.{1 + number % 200}.1")
        self.visitor.memory["client_id"] = f"client-{number}"
        self.arrived = asyncio.Event()
        """Whether it is subscribed."""
        self.repeated = 0
        """Messages that were marked as sent again (MQTT 5 §4.3.2)."""
        self._filters = dict(filters)
        self._stay = KINDS[kind][0]
        self._crowd = crowd
        self._random = Random(number)
        self._parts: dict[str, dict[str, Key]] = {}
        """Last values of rooms and patterns of which not all is said."""

    async def live(self, port: int) -> None:
        """Come, and come back, for ever."""
        failures = 0
        while True:
            self.arrived.clear()
            try:
                await self._stay(self.visitor, port)
            except (OSError, TimeoutError, HttpError, ValueError) as error:
                self._crowd.problems[f"{self.kind}: {type(error).__name__} {str(error)[:60]}"] += 1
            failures = 0 if self.arrived.is_set() else failures + 1
            self._crowd.phase.returned.add(self)
            await asyncio.sleep(self._random.uniform(0.02, min(LONGEST_PAUSE_SECONDS, 0.1 * 2**failures)))

    def want(self, room: str) -> bool:
        """Subscribe to one more room, if there is a way to; whether there is."""
        if self.visitor.subscribe is None or room in self.ledger.rooms:
            return False
        self.ledger.add(room)
        self.visitor.added.append(room)
        self.visitor.subscribe(room)
        return True

    def arrive(self) -> None:
        """It is subscribed."""
        self.arrived.set()

    def begin_unaided(self) -> None:
        """It may have missed anything, and wasn't told."""
        self._begin_all(unaided=True)

    def _begin_all(self, *, unaided: bool) -> None:
        for room in self.ledger.rooms:
            self.ledger.begin(room, None, self._crowd.phase.number, unaided=unaided)

    def hear(self, said: dict[str, Any]) -> None:
        """An object of the wire protocol."""
        match said["type"]:
            case "message":
                self._hear_message(said)
            case "subscribed":
                self._hear_subscribed(said)
            case "bye" if self.visitor.connection is not None:
                self.visitor.connection.close()
            case "error":
                self._crowd.problems[f"{self.kind}: {said['code']} {said['message'][:60]}"] += 1

    def _hear_message(self, said: dict[str, Any]) -> None:
        data, room, phase = said["data"], said["room"], self._crowd.phase
        if "cursor" in said:
            self._note_cursor(said["cursor"])
        if said.get("again") and data["number"] <= self.ledger.rooms[room].newest:
            self.repeated += 1
            return
        self.ledger.message(room, _key(data), phase.number)
        now = time.time()
        if now - data["sent"] > LATE_SECONDS:
            phase.newest_late = now

    def _note_cursor(self, cursor: str) -> None:
        before, self.visitor.cursor = self.visitor.cursor or cursor, cursor
        is_another = before.partition("-")[0] != cursor.partition("-")[0]
        if is_another and self.kind == "MQTT 5" and self._crowd.phase.is_data_lost:
            self._begin_all(unaided=False)  # its packets have no other word for it, where no last value is kept

    def _hear_subscribed(self, said: dict[str, Any]) -> None:
        name = said["room"]
        last = self._parts.setdefault(name, {})
        last |= {message["room"]: _key(message["data"]) for message in said["last"]}
        if said.get("more"):
            return
        del self._parts[name]
        if name in self.visitor.added:
            self.visitor.added.remove(name)
            self.visitor.filters.append(name)
        if not said["recovered"]:
            for room in self._filters.get(name, (name,)):
                self.ledger.begin(room, last.get(room), self._crowd.phase.number)
        self.visitor.cursor = said.get("cursor") or self.visitor.cursor
        self.arrive()


def _key(data: dict[str, Any]) -> Key:
    return key_of(data["number"], data["attempt"])


class Crowd:
    """All of them.

    Args:
        groups: Names of rooms, by the pattern that matches a group of them.
        halls: Rooms of browsers.
    """

    def __init__(self, count: int, groups: Mapping[str, Sequence[str]], halls: Sequence[str], random: Random) -> None:
        self.phase = Phase()
        self.problems: Counter[str] = Counter()
        """What clients were refused, and how often."""
        self._random = random
        self._rooms = [room for group in groups.values() for room in group]
        kinds = [kind for kind, (_, share) in KINDS.items() for _ in range(share)]
        random.shuffle(kinds)
        self.clients = []
        for number in range(count):
            if number % 5 == 4:
                pattern = random.choice(list(groups))
                filters: dict[str, Sequence[str]] = {pattern: groups[pattern]}
            else:
                chosen = (random.choice(self._rooms), random.choice(halls if number % 2 else self._rooms))
                filters = {room: (room,) for room in chosen}
            self.clients.append(Client(number, kinds[number % len(kinds)], filters, self))

    def wander(self) -> None:
        """Let somebody subscribe to one room more."""
        candidates = [client for client in self.clients if client.visitor.subscribe is not None]
        if candidates:
            self._random.choice(candidates).want(self._random.choice(self._rooms))

    def lose_data(self) -> None:
        """Redis has lost its data: those who know no cursor aren't told of it."""
        for client in self.clients:
            if client.kind in UNAIDED:
                client.begin_unaided()

    def has(self, newest: Mapping[str, int]) -> bool:
        """Whether everybody has got as far as this."""
        return all(client.ledger.has(newest) for client in self.clients)

    def behind(self, newest: Mapping[str, int]) -> Counter[str]:
        """How many of which transport haven't."""
        return Counter(client.kind for client in self.clients if not client.ledger.has(newest))
