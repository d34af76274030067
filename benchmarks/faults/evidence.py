"""What was published, what was acknowledged, and what the log has of it."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

import orjson

from benchmarks.faults.http_client import HttpClient
from benchmarks.faults.ledger import Key, key_of, number_of

__all__ = ["Evidence", "read_logs"]

PAGE: Final = 1000


@dataclass
class Evidence:
    """All that there is to judge by."""

    logs: dict[str, list[Key]]
    """What the log has of each room, in order."""
    acknowledged: dict[str, set[int]]
    phases: Mapping[tuple[str, int], int]
    """In which phase each message was published."""
    unanswered: int
    """What browsers published and got no answer about."""
    since: dict[str, int] = field(default_factory=dict)
    """Up to which number of each room all was judged before."""

    @property
    def judged(self) -> dict[str, int]:
        """The newest message of each room."""
        return {room: max(map(number_of, keys), default=-1) for room, keys in self.logs.items()}


async def read_logs(port: int, rooms: Iterable[str]) -> dict[str, list[Key]]:
    """All that the log has of these rooms, read page by page from its end."""
    client = await HttpClient.connect(port, "127.0.0.1")
    try:
        return {room: await _read_log(client, room) for room in rooms}
    finally:
        client.close()


async def _read_log(client: HttpClient, room: str) -> list[Key]:
    found: list[dict[str, Any]] = []
    before, more = "", True
    while more:
        page = orjson.loads(await client.ask("GET", f"/history?room={room}&limit={PAGE}{before}"))
        found = page["messages"] + found
        more = page["more"]
        before = f"&before={found[0]['cursor']}" if found else ""
    return [key_of(message["data"]["number"], message["data"]["attempt"]) for message in found]
