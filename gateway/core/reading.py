"""What one session's subscriptions lack, read from a log: the question, the answer, and how it is found."""

from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass
from heapq import merge
from itertools import islice
from typing import Final, Protocol

from gateway.core.backlog import by_sequence, each_once
from gateway.core.message import Message
from gateway.core.topics import filter_matches

__all__ = ["PRESENT", "Reading", "Source", "Wanted", "brought", "others_of", "read"]


PRESENT: Final = 2**53
"""The position of a subscription that is told all as it comes: it lacks nothing, whenever the answer comes."""


class Source(Protocol):
    """What is kept, for rooms or filters; a `gateway.core.log.Log` is one."""

    def last(self, room_filter: str, /) -> Iterable[Message]:
        """The last values of a room, or of all rooms that a filter matches."""
        ...

    def after(self, room_filter: str, position: int, /, *, latest: bool = False) -> tuple[Iterable[Message], bool]:
        """What is kept of the messages after a position, in order; and whether that is all there were."""
        ...


@dataclass(frozen=True, slots=True)
class Wanted:
    """What of a subscription was told: all after `start` up to `position`, or `PRESENT`; None for nothing yet."""

    start: int
    position: int | None
    latest: bool = False
    """Whether each topic's newest message will do."""
    rank: float = 0.0
    """Of filters that match a room, those of the lowest rank bring its messages."""


@dataclass(frozen=True, slots=True)
class Reading:
    """What came after some positions."""

    messages: tuple[Message, ...]
    """In order, each once."""
    incomplete: Mapping[str, tuple[Message, ...]]
    """The filters that were told nothing yet, or for which messages are lacking, each with its last values."""
    head: int
    """The place of the newest message."""
    more: bool
    """Whether there are more than the limit let through."""


def read(log: Source, head: int, wanted: Mapping[str, Wanted], limit: int) -> Reading:
    """What the log has for subscriptions, rooms or filters; what one of them has told isn't told by another."""
    streams: list[Iterable[Message]] = []
    newest: dict[tuple[str, str | None], Message] = {}
    incomplete: dict[str, tuple[Message, ...]] = {}
    others = others_of(wanted)
    for room_filter, want in wanted.items():
        if want.position is None:
            incomplete[room_filter] = tuple(log.last(room_filter))
            continue
        if want.position >= head:
            continue
        messages, complete = log.after(room_filter, want.position, latest=want.latest)
        if not complete:
            incomplete[room_filter] = tuple(log.last(room_filter))
            continue
        due_by_it = brought(messages, want.rank, others)
        if want.latest:
            newest.update(((message.room, message.topic), message) for message in due_by_it)
        else:
            streams.append(due_by_it)
    streams.append(sorted(newest.values(), key=by_sequence))
    due = list(islice(each_once(merge(*streams, key=by_sequence)), limit + 1))
    return Reading(tuple(due[:limit]), incomplete, head, len(due) > limit)


def others_of(wanted: Mapping[str, Wanted]) -> list[tuple[str, Wanted]]:
    """Those that may bring what another one needn't: a node that comes back asks for very many, and has none."""
    if len(wanted) < 2:
        return []
    highest = max(want.rank for want in wanted.values())
    return [
        (room_filter, want)
        for room_filter, want in wanted.items()
        if want.rank < highest or (want.position is not None and want.start < want.position)
    ]


def brought(messages: Iterable[Message], rank: float, others: Collection[tuple[str, Wanted]]) -> Iterator[Message]:
    """Those that a subscription of this rank is to bring: no other one does so, or has done so; see `others_of`."""
    if not others:
        return iter(messages)
    return (message for message in messages if not _elsewhere(message, rank, others))


def _elsewhere(message: Message, rank: float, wanted: Iterable[tuple[str, Wanted]]) -> bool:
    """Whether another of a session's subscriptions brings the message, or one of the same rank has brought it."""
    return any(
        (
            want.rank < rank
            or (want.rank == rank and want.position is not None and want.start < message.sequence <= want.position)
        )
        and filter_matches(room_filter, message.room)
        for room_filter, want in wanted
    )
