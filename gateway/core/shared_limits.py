"""Limits over several nodes: each decides at once by what it knows, and every second tells the others what it did.

Nobody waits for anybody: a node that hears nothing goes on with its own limits alone. So what all let through together
is what one would, and what each lets through until it has heard of it besides. What is told is bounded, the heaviest
first. Sans-I/O: `report` says what is to be told, `hear` takes what others tell; who carries it is no matter here.
"""

import logging
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from hashlib import blake2b
from typing import Any, Final, Protocol, TypeAlias

from gateway.core.clock import Clock
from gateway.core.shared_notes import SharedNotes
from gateway.core.shared_rates import SharedRate

__all__ = ["Report", "Share", "SharedLimits", "shared_key"]

logger = logging.getLogger(__name__)

MOST_KEYS: Final = 1000
"""How many keys one node tells at once."""
KEYS_OF_ALL: Final = 5000
"""How many all nodes together do, since each hears of all of them."""
FEWEST_KEYS: Final = 50
MOST_SILENT: Final = 1000
MAXIMUM_KEY_LENGTH: Final = 128
KEY_DIGEST_BYTES: Final = 16

Report: TypeAlias = dict[str, Any]
"""What a node tells; JSON."""


def shared_key(text: str) -> str:
    """What stands for a name that clients choose, wherever it is told: itself, unless it is long or can't be shown."""
    if len(text) <= MAXIMUM_KEY_LENGTH and text.isprintable():
        return text
    return f"\0{blake2b(text.encode(errors='surrogateescape'), digest_size=KEY_DIGEST_BYTES).hexdigest()}"


class Share(Protocol):
    """One limit that nodes have in common."""

    dropped: int
    """How much of it was never told or heard, there being too much."""

    def report(self, most: int, nodes: int) -> dict[str, Any]:
        """What is to be told of it now, by key, at most so much; `nodes` share it."""
        ...

    def hear(self, node: str, told: Mapping[str, Any]) -> None:
        """Another node has told this.

        Raises:
            TypeError, ValueError: it is nothing that one would.
        """
        ...

    def retell(self) -> None:
        """Somebody knows nothing of what was told."""
        ...

    def forget(self, node: str) -> None:
        """A node is gone."""
        ...


class SharedLimits:
    """What this node tells others of its limits, and what it has heard from them.

    Args:
        node: Its name.
        silence_seconds: After so long without a report a node is taken to be gone.
    """

    def __init__(self, node: str, silence_seconds: float, clock: Clock) -> None:
        self._node = node
        self._silence_seconds = silence_seconds
        self._clock = clock
        self._shares: dict[str, Share] = {}
        self._others: dict[str, float] = {}
        """When each was heard last."""
        self._silent: dict[str, bool] = {}
        """Those that were taken to be gone, and whether they have been heard since: they are to tell all again."""
        self._turn = 0
        self.outcomes = Counter({"told": 0, "heard": 0})
        """Keys, by what became of them."""

    def add(self, name: str, share: Share) -> None:
        """Share a limit, by a name that it has on every node."""
        self._shares[name] = share

    def rate(
        self, name: str, burst: float, settled_seconds: float, owe: Callable[[str, float], None]
    ) -> Callable[[str, float], None]:
        """Share a rate: what is to be called with all that is spent. See `SharedRate`."""
        share = SharedRate(burst, settled_seconds, owe, self._clock)
        self.add(name, share)
        return share.spend

    def notes(
        self, name: str, hear: Callable[[str, Any], None], known: Callable[[], Iterable[tuple[str, Any]]]
    ) -> Callable[[str, Any], None]:
        """Share what is so from now on: what is to be called with each news. See `SharedNotes`."""
        share = SharedNotes(hear, known)
        self.add(name, share)
        return share.note

    @property
    def nodes(self) -> int:
        """How many there are, this one included."""
        return 1 + len(self._others)

    @property
    def dropped(self) -> int:
        """How many keys were never told, or heard of in vain, since there were too many."""
        return sum(share.dropped for share in self._shares.values())

    def begin(self) -> Report:
        """Others can be reached, and couldn't before: what is to be told first, so that they tell all again."""
        for node in tuple(self._others):
            self._forget(node)
        self._silent.clear()
        self._retell()
        return {"node": self._node, "hello": True}

    def report(self) -> Report:
        """What is to be told now; to be asked once a second, though it be nothing but that the node is there."""
        now = self._clock.monotonic()
        for node, heard in tuple(self._others.items()):
            if heard + self._silence_seconds <= now:
                self._forget(node)
                self._silent[node] = False
        told: dict[str, dict[str, Any]] = {}
        left = max(FEWEST_KEYS, min(MOST_KEYS, KEYS_OF_ALL // self.nodes))
        for name in self._in_turn():
            part = self._shares[name].report((left + 1) // 2, self.nodes)
            if part:
                told[name] = part
                left -= len(part)
                self.outcomes["told"] += len(part)
        return {"node": self._node, "told": told, "again": self._back_again()}

    def _back_again(self) -> list[str]:
        """Those that were taken to be gone and aren't, once."""
        back = [node for node, is_back in self._silent.items() if is_back]
        for node in back:
            del self._silent[node]
        while len(self._silent) > MOST_SILENT:
            del self._silent[next(iter(self._silent))]
        return back

    def _in_turn(self) -> list[str]:
        """All shares, another one first each time: none of them can take all the room for ever."""
        names = list(self._shares)
        self._turn = (self._turn + 1) % max(1, len(names))
        return names[self._turn :] + names[: self._turn]

    def leave(self) -> Report:
        """What is to be told last."""
        return {"node": self._node, "bye": True}

    def hear(self, report: Report) -> None:
        """Take what a node tells; what this one has told itself is nothing new.

        Raises:
            KeyError, TypeError, ValueError, AttributeError: it is no report. What could be taken of it was.
        """
        node = str(report["node"])
        if node == self._node:
            return
        hello = bool(report.get("hello"))
        if hello or report.get("bye"):  # who begins tells all that it has
            self._forget(node)
            self._silent.pop(node, None)
        if report.get("bye"):
            return
        self._others[node] = self._clock.monotonic()
        if node in self._silent:
            self._silent[node] = True
        if hello or self._node in report.get("again", ()):
            self._retell()
        for name, part in report.get("told", {}).items():
            share = self._shares.get(name)
            if share is not None:
                self.outcomes["heard"] += len(part)
                share.hear(node, part)

    def _retell(self) -> None:
        for share in self._shares.values():
            share.retell()

    def _forget(self, node: str) -> None:
        self._others.pop(node, None)
        for share in self._shares.values():
            share.forget(node)
