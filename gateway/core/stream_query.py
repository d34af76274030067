"""What an address asks for whose client can say nothing more: rooms, and from where on; `?room=…&room=…&since=…`.

Shared by the doors where a subscription is a part of the address.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final, TypeAlias
from urllib.parse import parse_qs

from gateway.core.errors import BadMessage
from gateway.core.message import Cursor
from gateway.core.sample import Sample, rank_of, read_sample
from gateway.core.wire_requests import Subscribe, read_bandwidth, read_cursor

__all__ = ["Query", "StreamQuery", "read_query", "read_rooms", "read_stream"]

Query: TypeAlias = Mapping[str, Sequence[str]]

EVERYTHING: Final = "*"
"""The topic by which a Mercure subscriber asks for all."""


@dataclass(frozen=True, slots=True)
class StreamQuery:
    """What a stream is to be subscribed to."""

    rooms: tuple[str, ...]
    requests: tuple[Subscribe, ...]
    """The finest first, since that holds where they overlap."""
    bytes_per_second: float | None


def read_query(query_string: bytes) -> dict[str, list[str]]:
    """The fields of a query, those without a value too."""
    return parse_qs(query_string.decode("latin-1"), keep_blank_values=True)


def read_rooms(query: Query, example: str) -> list[str]:
    """The rooms and patterns that are asked for, by `room` or, as Mercure's subscribers say it, by `topic`.

    Raises:
        BadMessage: there is none.
    """
    rooms = [*query.get("room", ()), *("#" if topic == EVERYTHING else topic for topic in query.get("topic", ()))]
    if not rooms:
        raise BadMessage(f"room: expected at least one, as in {example}?room=sites/oslo/boiler-1/temperature")
    return rooms


def read_stream(query: Query, example: str, seen: str | None = None) -> StreamQuery:
    """What a stream is to be subscribed to, from where on.

    A browser that comes back by itself says where it was, in `seen`. Who can't do that says it by `since`: one for all
    rooms, or one for each, empty for a room that is new. Where both are said, the later holds.

    Raises:
        BadMessage: it can't be made out.
    """
    rooms, places = read_rooms(query, example), query.get("since", ())
    if len(places) not in (0, 1, len(rooms)):
        raise BadMessage(f"since: expected one, or one for each of {len(rooms)} rooms, found {len(places)}")
    groups: dict[tuple[Cursor | None, Sample | None], list[str]] = {}
    for room, place, sample in zip(rooms, _for_each(places, rooms), _samples_of(query, rooms), strict=True):
        since = _later(read_cursor("since", place or None), read_cursor("Last-Event-ID", seen or None))
        groups.setdefault((since, sample), []).append(room)
    requests = [Subscribe(None, tuple(dict.fromkeys(group)), *how) for how, group in groups.items()]
    requests.sort(key=lambda request: rank_of(request.sample))
    return StreamQuery(tuple(rooms), tuple(requests), _bandwidth_of(query))


def _later(since: Cursor | None, seen: Cursor | None) -> Cursor | None:
    """Where a room goes on: where the stream was cut, unless it was to begin later."""
    if since is None or seen is None:
        return seen or since
    return max(since, seen, key=lambda cursor: cursor.sequence) if since.epoch == seen.epoch else seen


def _samples_of(query: Query, rooms: Sequence[str]) -> list[Sample | None]:
    """How each room is to be sampled: `sample` and `sample_keep` are one for all, or one for each, empty for none."""
    seconds, keeps = query.get("sample", ()), query.get("sample_keep", ())
    for name, given in (("sample", seconds), ("sample_keep", keeps)):
        if len(given) not in (0, 1, len(rooms)):
            raise BadMessage(f"{name}: expected one, or one for each of {len(rooms)} rooms, found {len(given)}")
    if any(keeps) and not any(seconds):
        raise BadMessage("sample: expected a number of seconds beside sample_keep, as in sample=0.5&sample_keep=mean")
    pairs = zip(_for_each(seconds, rooms), _for_each(keeps, rooms), strict=True)
    return [
        read_sample({"seconds": _number("sample", text), "keep": keep or "last"}) if text else None
        for text, keep in pairs
    ]


def _bandwidth_of(query: Query) -> float | None:
    (text,) = query.get("bytes_per_second", [""])[-1:]
    return read_bandwidth(_number("bytes_per_second", text)) if text else None


def _number(name: str, text: str) -> float:
    try:
        return float(text)
    except ValueError:
        raise BadMessage(f"{name}: expected a number, found {text[:20]!r}") from None


def _for_each(places: Sequence[str], rooms: Sequence[str]) -> Sequence[str]:
    return places if len(places) == len(rooms) else [places[0] if places else ""] * len(rooms)
