"""How a node's term begins: with a hello, what it knew if Redis has lost that, its sessions, and all that there is."""

import asyncio
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any, Final, TypeVar

from bridges.redis_link import RedisLink, RedisRefused, Script
from bridges.redis_options import RedisUnavailable
from bridges.redis_presence_replica import LAST, Replica
from bridges.redis_presence_scripts import PresenceScripts
from bridges.redis_presence_words import Change

__all__ = ["Beginning", "PresenceTimes", "change_arguments"]

T = TypeVar("T")

BATCH: Final = 500
"""Changes in one script, and rows of one page: Redis does nothing else meanwhile."""
WAIT_SECONDS: Final = 0.2
"""How often it is asked whether another node has put back what it knew."""


@dataclass(frozen=True, slots=True)
class PresenceTimes:
    """As the scripts take them, in milliseconds."""

    grace: int
    lease: int


def change_arguments(term: str, most: int, changes: Iterable[Change]) -> list[str | int]:
    """What the script for changes takes."""
    return [term, most, *(field for change in changes for field in change)]


class Beginning:
    """A term that begins; each step ends with RedisUnavailable or RedisRefused if the term has, too."""

    def __init__(
        self,
        term: str,
        is_over: Callable[[], bool],
        link: RedisLink,
        scripts: PresenceScripts,
        replica: Replica,
        times: PresenceTimes,
    ) -> None:
        self.term = term
        self._is_over = is_over
        self._link = link
        self._scripts = scripts
        self._replica = replica
        self._times = times

    async def hello(self, known: str, fresh: str) -> tuple[bool, str, bytes]:
        """Begin the term: whether `known` data were lost and are to be put back, which there are now, and in which run.

        `fresh` is what they are called if there are none. Another run of Redis may lack what came last.
        """
        while True:
            words = (self.term, known, fresh, self._times.lease, self._times.grace)
            verdict, *rest = (await self._run(self._scripts.hello, *words))[2:]
            if verdict != b"wait":
                return verdict == b"restore", rest[0].decode(), rest[1]
            await asyncio.sleep(WAIT_SECONDS)

    async def restore(self) -> None:
        """Put back what this node knew of all."""
        for batch in batches(tuple(self._replica.known())):
            words = [word for row in batch for word in row]
            await self._run(self._scripts.restore, self.term, self._times.lease, self._times.grace, *words)
        await self._run(self._scripts.restored, self.term)

    async def enter(
        self,
        mine: Mapping[str, set[str]],
        words: Iterable[Change],
        most: int,
        take: Callable[[Sequence[Change], Any], None],
    ) -> None:
        """Enter this node's sessions, and say again what may not have been heard."""
        for changes in (self._entries(mine), words):
            for batch in batches(changes):
                take(batch, await self._run(self._scripts.change, *change_arguments(self.term, most, batch)))

    def _entries(self, mine: Mapping[str, set[str]]) -> Iterator[Change]:
        """Who is there by sessions of this node, and in which state; those who leave meanwhile are left out."""
        for member in tuple(mine):
            state = self._replica.state_of(member)
            for source in tuple(mine.get(member, ())):
                yield "enter", member, source, state, 0

    async def load(self) -> None:
        """Let the replica be what Redis has."""
        self._replica.start_loading()
        for command, name, take in (
            ("HSCAN", "presence:members", self._replica.load_members),
            ("SSCAN", "presence:devices", self._replica.load_devices),
        ):
            cursor = LAST
            while (cursor := await self._page(take, command, self._link.key(name), cursor, "COUNT", BATCH)) != LAST:
                pass
        await self._page(self._replica.load_terms, "SMEMBERS", self._link.key("presence:terms"))
        self._replica.compare()
        while not self._replica.tell_some(BATCH):
            await asyncio.sleep(0)
            self._check()

    def _check(self) -> None:
        if self._is_over():
            raise RedisUnavailable("the connection was lost meanwhile")

    async def _run(self, script: Script, *words: str | int) -> Any:
        self._check()
        reply = await self._link.call("EVALSHA", script.sha, 1, self._link.key("meta"), *words)
        self._check()
        if reply[2] == b"ended":
            raise RedisRefused("another node has ended the term")
        return reply

    async def _page(self, take: Callable[[Any], bytes], *command: str | bytes | int) -> bytes:
        """Let an answer be taken at once, as changes that come next are newer; what that returns."""
        self._check()
        cursor: asyncio.Future[bytes] = asyncio.get_running_loop().create_future()

        def answer(reply: Any) -> None:
            if cursor.done():  # whoever waited has been told to end
                return
            if isinstance(reply, Exception):
                cursor.set_exception(reply)
            else:
                cursor.set_result(take(reply))

        self._link.send(answer, *command)
        return await cursor


def batches(items: Iterable[T]) -> Iterator[list[T]]:
    """Some at a time, each taken when it is wanted."""
    remaining = iter(items)
    while batch := list(islice(remaining, BATCH)):
        yield batch
