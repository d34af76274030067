"""What is said again after a connection was lost: devices' comings and goings, and states.

Who of a node's sessions is where, it can say anew at any time. But that a device has gone, or that somebody has another
state, is said once; so it is kept until Redis has it, and a little longer, for one that comes back without the newest
that it had. Each is said again with its age, so that a word of another node which is newer holds.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final, TypeAlias

from gateway.core.clock import Clock

__all__ = ["Change", "Words"]

KEPT_SECONDS: Final = 30.0
"""How long a word is kept that Redis has."""

Change: TypeAlias = tuple[str, str, str, str | int, int]
"""As the script takes it: what, member, source or state, and more; last the age in microseconds."""


@dataclass(slots=True)
class _Word:
    change: Change
    said: float
    is_known: bool = False
    """Whether Redis has it."""


class Words:
    """The last word on each thing, the oldest first."""

    def __init__(self, clock: Clock, most: int) -> None:
        self._clock = clock
        self._most = most
        self._words: dict[str, _Word] = {}

    def __len__(self) -> int:
        return len(self._words)

    def keep(self, change: Change) -> bool:
        """Keep a word in place of the last one on the same; False if there is no room for any more."""
        self._forget_known()
        thing = thing_of(change)
        self._words.pop(thing, None)
        if len(self._words) >= self._most:
            return False
        self._words[thing] = _Word(change, self._clock.monotonic())
        return True

    def _forget_known(self) -> None:
        end = self._clock.monotonic() - KEPT_SECONDS
        while self._words:
            thing, word = next(iter(self._words.items()))
            if word.said > end or not word.is_known:
                return
            del self._words[thing]

    def contradict(self, change: Change) -> bool:
        """Whether something else was said last, that Redis may have heard or not."""
        word = self._words.get(thing_of(change))
        return word is not None and word.change[:3] != change[:3]

    def forget_state(self, member: str) -> None:
        """There is nothing to say of a member's state any more."""
        self._words.pop(member, None)

    def known(self, change: Change) -> None:
        """Redis has heard this, which is the last word unless something else was said since."""
        word = self._words.get(thing_of(change))
        if word is not None and word.change[:3] == change[:3]:
            word.is_known = True

    def again(self, *, known: bool) -> Iterator[Change]:
        """What Redis may not have heard, each with its age then; what it has `known` as well, if it may have lost that.

        What is forgotten or said anew meanwhile is left out.
        """
        self._forget_known()
        for thing, word in tuple(self._words.items()):
            if self._words.get(thing) is word and (known or not word.is_known):
                what, member, detail, more, _ = word.change
                yield what, member, detail, more, max(1, round((self._clock.monotonic() - word.said) * 1_000_000))


def thing_of(change: Change) -> str:
    """What a word is on: a member's state, or whether a device is there for a reason. As the script names it."""
    what, member, detail, *_ = change
    return member if what == "state" else f"{member}\0{detail}"
