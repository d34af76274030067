import sys
from collections import Counter
from types import FrameType

from hypothesis import given
from hypothesis import strategies as st

from bridges.redis_channels import DEPTH, Change, Channels
from gateway.core.topics import filter_matches, has_wildcard

LEVELS = st.sampled_from(["a", "b"])
ROOMS = st.lists(LEVELS, min_size=1, max_size=5).map("/".join)
FILTERS = st.lists(st.one_of(LEVELS, st.just("+")), min_size=0, max_size=4).flatmap(
    lambda levels: st.sampled_from([["#"], []]).map(lambda end: "/".join([*levels, *end]) or "#")
)


def published(room: str) -> set[str]:
    """Where the script publishes a message of a room."""
    levels = room.split("/")
    trees = {"tree:" + "/".join(levels[:depth]) for depth in range(min(DEPTH, len(levels)) + 1)}
    return {f"room:{room}"} | trees


@given(st.lists(st.one_of(ROOMS, FILTERS), max_size=30), st.randoms(), ROOMS)
def test_what_is_watched_comes_by_one_channel_and_through_every_change(filters: list[str], random, room: str) -> None:  # type: ignore[no-untyped-def]
    channels, watched = Channels(), Counter[str]()
    subscribed: set[str] = set()

    def wanted() -> bool:
        return any(filter_matches(each, room) if has_wildcard(each) else each == room for each in watched)

    def follow(change: Change, before: bool) -> None:
        for channel in change.subscribe:
            assert channel not in subscribed
            subscribed.add(channel)
            assert not (before and wanted()) or subscribed & published(room)
        for channel in change.unsubscribe:
            subscribed.remove(channel)
            assert not (before and wanted()) or subscribed & published(room)

    for each in filters:
        before = wanted()
        if watched[each] and random.random() < 0.6:
            watched[each] -= 1
            watched += Counter()
            change = channels.unwatch(each)
        else:
            watched[each] += 1
            change = channels.watch(each)
        follow(change, before)
        assert len(channels) == len(subscribed)
        if wanted():
            assert len(subscribed & published(room)) == 1


def test_a_pattern_is_the_tree_of_its_first_levels_and_brings_what_is_in_it() -> None:
    channels = Channels()
    assert channels.watch("sites/oslo/boiler") == Change(("room:sites/oslo/boiler",))
    assert channels.watch("sites/+/boiler") == Change(("tree:sites",), ("room:sites/oslo/boiler",))
    assert channels.watch("sites/rome/boiler") == Change()
    assert channels.unwatch("sites/oslo/boiler") == Change()
    assert channels.unwatch("sites/+/boiler") == Change(("room:sites/rome/boiler",), ("tree:sites",))
    assert channels.watch("+/oslo") == Change(("tree:",), ("room:sites/rome/boiler",))


def steps_of_one_more_room(rooms: int) -> int:
    """How many functions are called to begin with one room, and end with it, where others are watched."""
    channels, calls = Channels(), 0
    for number in range(rooms):
        channels.watch(f"sites/oslo/boiler-{number}/value")

    def count(frame: FrameType, event: str, argument: object) -> None:
        nonlocal calls
        calls += event == "call"  # of a generator, too, each time that it goes on

    sys.setprofile(count)
    try:
        channels.watch("sites/rome/boiler/value")
        channels.unwatch("sites/rome/boiler/value")
    finally:
        sys.setprofile(None)
    return calls


def test_one_more_room_is_no_more_work_where_there_are_many() -> None:
    assert steps_of_one_more_room(1000) == steps_of_one_more_room(10)
