"""Presence over several nodes: changes go through scripts in Redis, and every node applies what those publish.

So the order is Redis' own, and the same at all nodes. What a node adds is its sessions, in a *term* for each of its
connections: it enters all of them anew and then takes out what the term before it had, so that it doesn't matter what
was lost, or who has taken it out meanwhile. Terms of nodes that are gone are taken out by the others. While Redis is
away nothing changes for anybody, and questions are answered from what is known.
"""

import asyncio
import logging
import sys
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from random import Random
from typing import Any, Final

from bridges.redis_link import RedisLink, RedisRefused
from bridges.redis_nodes import RedisNodes
from bridges.redis_options import RedisUnavailable
from bridges.redis_presence_ends import GraceTimer, Reaper
from bridges.redis_presence_replica import Replica, pack, unpack
from bridges.redis_presence_scripts import PresenceScripts
from bridges.redis_presence_term import Beginning, PresenceTimes, change_arguments
from bridges.redis_presence_words import Change, Words
from gateway.core.clock import Clock
from gateway.core.counters import Counters
from gateway.core.errors import PresenceFull
from gateway.core.presence import Attendees, Kind, PresenceBounds, Roster, Who
from gateway.core.presence import Change as Told
from gateway.core.presence_memory import MemoryPresence, Refused, no_one

__all__ = ["RedisPresence"]

logger = logging.getLogger(__name__)

ASKS_WAITING: Final = 10_000
RETRY_SECONDS: Final = 1.0


class RedisPresence:
    """The presence of a namespace on one of several nodes; `run` keeps it. See `Presence` for the promises."""

    def __init__(
        self,
        link: RedisLink,
        nodes: RedisNodes,
        bounds: PresenceBounds,
        clock: Clock,
        random: Random,
        counters: Counters,
    ) -> None:
        self._link, self._nodes = link, nodes
        self._bounds, self._clock, self._random, self._counters = bounds, clock, random, counters
        self._times = PresenceTimes(round(bounds.grace_seconds * 1000), round(nodes.lease_seconds * 1000))
        self._roster = Roster(PresenceBounds(0, bounds.members_told, sys.maxsize), clock, counters)
        self._local = MemoryPresence(self._roster, clock)
        self._replica = Replica(self._local, self._roster)
        self._refused: Refused = no_one
        self._mine: dict[str, set[str]] = {}
        """Where sessions of this node are, with their names."""
        self._words = Words(clock, bounds.members)
        self._known_life = ""
        """Which data Redis had when all was loaded last, and in which run of it."""
        self._run = b""
        self._terms = 0
        self._term: str | None = None
        """The term of this connection, from when it begins."""
        self._takes_changes = False
        self._is_loaded = False
        self._sent = self._answered = self._awaited = 0
        """Changes sent, and answered, on this connection, and the position that those have led to."""
        self._asks: deque[tuple[int, str, Callable[[Attendees], None]]] = deque()
        self._wake = asyncio.Event()
        scripts = self._scripts = PresenceScripts.load(link)
        self._grace = GraceTimer(link, scripts.expire, clock)
        self._reaper = Reaper(link, scripts.reap, nodes, self._replica, self._times.grace, self._grace.expect)
        link.subscribe(link.key("presence"), self._pushed)
        link.connected.append(self._wake.set)
        link.lost.append(self._end_term)
        nodes.heard.append(self._look_at_nodes)

    @property
    def kinds(self) -> Mapping[Kind, int]:
        """How many members of each kind there are, over all nodes."""
        return self._local.kinds

    def attach(self, tell: Callable[[Told], None], refused: Refused = no_one) -> None:
        """Say who is told."""
        self._local.attach(tell)
        self._refused = refused

    def enter(self, room: str, who: Who, source: str) -> None:
        """Somebody is in a room."""
        member = pack(room, who)
        if self._is_full and self._roster.find(room, who) is None:
            raise self._full()
        if who.kind == "device":
            self._say(("appear", member, source, "", 0))
            return
        self._mine.setdefault(member, set()).add(source)
        self._change([("enter", member, source, "", 0)])

    @property
    def _is_full(self) -> bool:
        return sum(self.kinds.values()) >= self._bounds.members and not self._grace.has_leaving

    def _full(self) -> PresenceFull:
        self._counters.drops["presence_full"] += 1
        return PresenceFull(f"more than {self._bounds.members} members in all rooms: this one isn't shown")

    def leave(self, room: str, who: Who, source: str, *, at_once: bool = False) -> None:
        """One reason for that holds no more. What Redis doesn't hear in time has its grace period even `at_once`."""
        member, grace = pack(room, who), 0 if at_once else self._times.grace
        if who.kind == "device":
            self._say(("vanish", member, source, grace, 0))
            return
        sources = self._mine.get(member, set())
        if source not in sources:
            return
        sources.discard(source)
        if not sources:
            del self._mine[member]
            self._words.forget_state(member)
        self._change([("leave", member, source, grace, 0)])

    def set_state(self, room: str, who: Who, state: bytes | None) -> None:
        """Somebody has another state."""
        self._say(("state", pack(room, who), "" if state is None else state.decode(), "", 0))

    def _say(self, change: Change) -> None:
        """Say what must not get lost; of devices, not what is known to all as it is."""
        what, member, source, *_ = change
        is_known = what != "state" and self._replica.says(member, source) == (what == "appear")
        if is_known and not self._words.contradict(change):
            return
        if not self._words.keep(change):
            self._counters.drops["presence_unsaid"] += 1
        self._change([change])

    def ask(self, room: str, done: Callable[[Attendees], None]) -> None:
        """Answer as soon as what was sent before is known here; at once while Redis is away."""
        if len(self._asks) < ASKS_WAITING:
            self._asks.append((self._sent, room, done))
            self._answer()
        else:
            self._local.ask(room, done)

    def _answer(self) -> None:
        while self._asks and (self._term is None or self._is_known(self._asks[0][0])):
            _, room, done = self._asks.popleft()
            self._local.ask(room, done)

    def _is_known(self, number: int) -> bool:
        return self._is_loaded and number <= self._answered and self._replica.position >= self._awaited

    def close(self) -> None:
        """Tell nothing any more. Who leaves from now on is known to the other nodes as always, and so comes back."""
        self._local.close()

    def _change(self, changes: Sequence[Change]) -> None:
        if self._term is not None and self._takes_changes:
            self._sent += 1
            done = partial(self._changed, self._term, self._sent, changes)
            self._link.evaluate(self._scripts.change, change_arguments(self._term, self._bounds.members, changes), done)

    def _changed(self, term: str, number: int, changes: Sequence[Change], reply: Any) -> None:
        if term != self._term or isinstance(reply, RedisUnavailable):
            return
        self._answered = number
        if isinstance(reply, RedisRefused) or reply[2] == b"ended":
            logger.warning("presence of %s begins anew: %s", self._link.tag, reply)
            self._end_term()
        else:
            self._take(changes, reply)

    def _take(self, changes: Sequence[Change], reply: Any) -> None:
        """Redis has taken changes, if there was place for all."""
        position, soonest, _, evicted, refused = reply
        self._awaited = position
        self._grace.expect(soonest)
        self._counters.drops["presence_grace"] += evicted
        for change in changes:
            self._words.known(change)
        for index in refused:
            self._refuse(changes[index])
        self._answer()

    def _refuse(self, change: Change) -> None:
        _, member, source, *_ = change
        room, who = unpack(member)
        error = self._full()
        sources = self._mine.get(member, set())
        if who.kind != "device" and source in sources:
            sources.discard(source)
            if not sources:
                del self._mine[member]
            self._refused(room, source, error)

    def _pushed(self, data: bytes) -> None:
        try:
            self._replica.push(data)
        except Exception:
            logger.exception("presence of %s: a change can't be told; all is loaded anew", self._link.tag)
            self._end_term()
        if self._is_loaded and self._term not in self._replica.terms:
            self._end_term()  # others took this node for gone
        self._answer()

    async def run(self) -> None:
        """Have a term whenever there is a connection and this node in the list; returns only by cancellation."""
        self._end_term()
        while True:
            self._wake.clear()
            if self._term is None and self._link.is_up and self._nodes.is_listed:
                try:
                    await self._begin()
                except RedisUnavailable:
                    continue  # what comes next is told by the link
                except RedisRefused as error:
                    logger.warning("presence of %s can't begin: %s", self._link.tag, error)
                    self._end_term()
                    await asyncio.sleep(RETRY_SECONDS)
            await self._wake.wait()

    async def _begin(self) -> None:
        self._terms += 1
        term = self._term = f"{self._nodes.life}/{self._terms}"
        beginning = Beginning(term, lambda: term != self._term, self._link, self._scripts, self._replica, self._times)
        is_lost, life, run = await beginning.hello(self._known_life, f"{self._random.getrandbits(64):016x}")
        if is_lost:
            logger.warning("presence of %s: Redis has lost its data; this node puts back what it knew", self._link.tag)
            await beginning.restore()
        self._sent = self._answered = self._awaited = 0
        self._takes_changes = True
        words = self._words.again(known=run != self._run)
        await beginning.enter(self._mine, words, self._bounds.members, self._take)
        await beginning.load()
        self._known_life, self._run, self._is_loaded = life, run, True
        self._reaper.reap_own(term)
        self._answer()

    def _end_term(self) -> None:
        """The connection is lost, or the term was ended."""
        self._term, self._takes_changes, self._is_loaded = None, False, False
        self._replica.abandon_loading()
        self._grace.cancel()
        self._wake.set()
        self._answer()

    def _look_at_nodes(self) -> None:
        if self._term is not None and self._is_loaded:
            self._link.send(_ignore, "SET", self._link.key("presence:alive"), 1, "PX", self._times.lease)
            self._reaper.reap_own(self._term)
            self._reaper.reap_gone()
        else:
            self._wake.set()


def _ignore(reply: Any) -> None:
    """What this leads to is seen by others."""
