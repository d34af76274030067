"""What comes to its end: grace periods, and terms. Any node may see to it, and it is no matter if several do."""

from collections.abc import Callable
from functools import partial
from typing import Any

from bridges.redis_link import RedisLink, Script
from bridges.redis_nodes import RedisNodes
from bridges.redis_presence_replica import Replica
from gateway.core.clock import Clock, Timer

__all__ = ["GraceTimer", "Reaper"]


class GraceTimer:
    """Has those taken out of their rooms whose grace period is over.

    The node that let it begin sees to it. If that goes, its terms are taken out, by which another one hears of it.
    """

    def __init__(self, link: RedisLink, script: Script, clock: Clock) -> None:
        self.has_leaving = False
        """Whether somebody is in their grace period, as far as it is known here."""
        self._link = link
        self._script = script
        self._clock = clock
        self._timer: Timer | None = None
        self._due = 0.0

    def expect(self, soonest_milliseconds: int) -> None:
        """The next grace period ends then; it is -1 if there is none."""
        self.has_leaving = soonest_milliseconds >= 0
        due = self._clock.monotonic() + (soonest_milliseconds + 1) / 1000
        if self.has_leaving and (self._timer is None or due < self._due):
            self.cancel()
            self._due = due
            self._timer = self._clock.call_later(due - self._clock.monotonic(), self._expire)

    def cancel(self) -> None:
        """Wait for nothing."""
        if self._timer is not None:
            self._timer.cancel()
        self._timer = None

    def _expire(self) -> None:
        """Ask first whether Redis answers: if it was away, those who came back meanwhile are to be heard before."""
        self._timer = None
        self._link.send(self._expire_now, "PING")

    def _expire_now(self, reply: Any) -> None:
        if not isinstance(reply, Exception):
            self._link.evaluate(self._script, (), self._expired)

    def _expired(self, reply: Any) -> None:
        if isinstance(reply, Exception):
            return
        if reply[1] == 0:  # there are more than are taken out at a time
            self._expire_now(reply)
        else:
            self.expect(reply[1])


class Reaper:
    """Takes out the entries of terms that have ended: those that this node had before, and those of nodes gone."""

    def __init__(
        self,
        link: RedisLink,
        script: Script,
        nodes: RedisNodes,
        replica: Replica,
        grace: int,
        expect: Callable[[int], None],
    ) -> None:
        self._link = link
        self._script = script
        self._nodes = nodes
        self._replica = replica
        self._grace = grace
        self._expect = expect
        self._unlisted: set[str] = set()
        """Terms whose nodes weren't in the list when it came last."""
        self._busy: set[str] = set()

    def reap_own(self, current: str) -> None:
        """Take out what this node entered over connections that it had before."""
        for term in self._replica.terms:
            if term != current and _life(term) == self._nodes.life:
                self._reap(term)

    def reap_gone(self) -> None:
        """The list of nodes has come: take out the terms of those that are neither in it nor were in the one before.

        A node is in the list before it begins a term, and the newer list was asked for when the term was known.
        """
        unlisted = {term for term in self._replica.terms if _life(term) not in self._nodes.lives}
        if self._nodes.is_settled:
            for term in unlisted & self._unlisted:
                self._reap(term)
        self._unlisted = unlisted

    def _reap(self, term: str) -> None:
        if term not in self._busy:
            self._busy.add(term)
            self._reap_some(term)

    def _reap_some(self, term: str) -> None:
        self._link.evaluate(self._script, (term, self._grace), partial(self._reaped, term))

    def _reaped(self, term: str, reply: Any) -> None:
        if not isinstance(reply, Exception):
            self._expect(reply[1])
            if reply[2]:
                self._reap_some(term)
                return
        self._busy.discard(term)  # as long as the term is there, it is tried again


def _life(term: str) -> str:
    """Of the process whose term it is."""
    return term.partition("/")[0]
