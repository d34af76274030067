"""What polls are told: nothing is lost and nothing twice, however much an answer holds, and whatever ends a wait."""

from typing import Any

import orjson
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from bridges import polling_pace
from bridges.polling_pace import Outflow
from bridges.polling_page import Page, answer, etag, place_of_etag, read_page
from bridges.polling_parked import ParkedPoll, entry
from gateway.core.access import Access, AccessRule
from gateway.core.connections import ConnectionLimiter, Seat
from gateway.core.engine import Reading, Wanted
from gateway.core.errors import ShuttingDown
from gateway.core.limit_errors import RateLimited
from gateway.core.limits import Limits
from gateway.core.message import Cursor
from gateway.core.publishing import Sending
from gateway.core.retention import Retention
from gateway.core.role_limits import RoleLimits
from gateway.core.room_rules import RoomRule
from gateway.core.topics import filter_matches
from gateway.core.wire_requests import Subscribe
from tests.unit.conftest import HandClock, World, make_world

RULES = [
    RoomRule("kept/#", Retention(messages=1000)),
    RoomRule("short/#", Retention(messages=2)),
    RoomRule("last/#", Retention(last=True)),
]
ROOMS = ["kept/a", "kept/b", "short/a", "last/a"]


def publish(world: World, room: str, data: object, **more: Any) -> None:
    world.namespace.publish(Sending(room, data, **more), lambda _: None)


def page_after(world: World, rooms: list[str], since: str | None, messages: int = 1000, size: int = 10**6) -> Page:
    engine, found = world.namespace.engine, list[Reading]()
    position = None if since is None else engine.position(Cursor.parse(since))
    engine.read(dict.fromkeys(rooms, Wanted(position or 0, position)), messages, found.append)
    return read_page(found[0], position, messages, size)


def data(texts: tuple[bytes, ...]) -> list[Any]:
    return [orjson.loads(text)["data"] for text in texts]


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.one_of(st.sampled_from(ROOMS), st.none()), max_size=30),
    st.lists(st.sampled_from([*ROOMS, "kept/+", "#"]), min_size=1, max_size=3, unique=True),
    st.integers(1, 4),
    st.integers(1, 600),
)
@example(["kept/a", "last/a", "kept/a", None], ["kept/a", "last/a"], 1, 600)
def test_polls_one_after_the_other_tell_all_that_is_kept_once_and_in_order(
    steps: list[str | None], wanted: list[str], most: int, most_bytes: int
) -> None:
    """A step is a message for a room, or a poll; what is kept is told by messages, of all else the last value is."""
    world = make_world(rules=RULES)
    told: list[int] = []
    since: str | None = None
    published: dict[int, str] = {}
    began: int | None = None
    for number, room in enumerate([*steps, None]):
        if room is not None:
            publish(world, room, number)
            published[number] = room
            continue
        began = number if began is None else began
        page = page_after(world, wanted, since, most, most_bytes)
        while True:
            assert len(page.messages) + len(page.last) <= most
            found = [orjson.loads(text) for text in (*page.messages, *page.last)]
            told += [message["data"] for message in sorted(found, key=lambda message: message["data"])]
            since = world.namespace.cursor(page.place)
            if not page.more:
                break
            page = page_after(world, wanted, since, most, most_bytes)
    heard = {number: room for number, room in published.items() if any(filter_matches(each, room) for each in wanted)}
    assert told == sorted(set(told)), "in order, each once"
    assert set(told) <= set(heard)
    newest = {room: number for number, room in heard.items()}
    assert set(newest.values()) <= set(told), "each room's newest"
    if all(each.startswith("kept/") for each in wanted) and began is not None:
        assert {number for number in heard if number > began} <= set(told), (
            "and all that is kept, from the first poll on"
        )


def test_what_is_kept_is_told_again_to_who_asks_again() -> None:
    world = make_world(rules=RULES)
    for number in range(5):
        publish(world, "kept/a", number)
    first = page_after(world, ["kept/a"], "epoch-2")
    assert (data(first.messages), first.lacking, first.place) == ([2, 3, 4], (), 5)
    assert page_after(world, ["kept/a"], "epoch-2") == first


def test_what_may_be_lacking_is_named_with_the_last_values_that_are_newer() -> None:
    world = make_world(rules=RULES)
    for number in range(3):
        publish(world, "last/a", number)
    publish(world, "kept/a", "kept")
    page = page_after(world, ["last/a", "kept/a"], "epoch-0")
    assert (data(page.messages), data(page.last), page.lacking) == (["kept"], [2], ("last/a",))
    assert data(page_after(world, ["last/a"], None).last) == [2]
    assert data(page_after(world, ["last/a"], "another-7").last) == [2]
    assert not page_after(world, ["last/a", "kept/a"], "epoch-4").is_news


def test_one_message_larger_than_an_answer_is_told_alone() -> None:
    world = make_world(rules=RULES)
    for _ in range(2):
        publish(world, "kept/a", "x" * 500)
    page = page_after(world, ["kept/a"], "epoch-0", size=100)
    assert (len(page.messages), page.more, page.place) == (1, True, 1)


def test_an_answer_is_json() -> None:
    told = orjson.loads(answer([b'{"data":1}', b'{"data":2}'], "e-2", [b"{}"], ["a/#"], more=True))
    assert told == {
        "messages": [{"data": 1}, {"data": 2}],
        "last": [{}],
        "cursor": "e-2",
        "recovered": False,
        "lacking": ["a/#"],
        "more": True,
    }
    assert orjson.loads(answer([], "e-2"))["recovered"] is True


def test_a_tag_is_known_only_for_the_same_question() -> None:
    since = Cursor("e", 3)
    tag = etag(["a", "b"], since, "e-7")
    assert place_of_etag(f'"other", {tag}', ["a", "b"], since) == Cursor("e", 7)
    for rooms, place in ((["a"], since), (["a", "b"], None), (["a", "b"], Cursor("e", 4))):
        assert place_of_etag(tag, rooms, place) is None
    for given_tag in ("", "*", '"', "W/", tag.replace("e-7", "nonsense")):
        assert place_of_etag(given_tag, ["a", "b"], since) is None


def test_who_was_told_too_much_is_told_when_to_ask_again() -> None:
    clock = HandClock()
    outflow = Outflow(clock)
    assert outflow.of("ann", None) is None
    account = outflow.of("ann", 1000)
    assert account is not None
    account(3000)
    with pytest.raises(RateLimited) as limited:
        outflow.of("ann", 1000)
    assert (limited.value.retry_after_seconds, limited.value.limit) == (2.0, "bytes_per_second_out")
    assert outflow.of("bob", 1000) is not None
    clock.advance(2)
    assert outflow.of("ann", 1000) is not None


def test_only_so_many_who_poll_are_kept_in_mind(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(polling_pace, "CAPACITY", 2)
    outflow = Outflow(HandClock())
    for who in ("a", "b", "c"):
        outflow.of(who, 1)
    assert len(outflow) == 2


class Waiting:
    """A poll that waits in a room."""

    def __init__(self, world: World, room: str = "kept/a", seconds: float = 25) -> None:
        self.answers: list[dict[str, Any]] = []
        self.seats = ConnectionLimiter(RoleLimits(Limits()))
        seat: Seat = self.seats.acquire("192.0.2.1")
        namespace = world.namespace
        cursor = namespace.cursor(namespace.engine.head)
        self.poll = ParkedPoll(
            namespace, cursor, lambda body: self.answers.append(orjson.loads(body)), world.clock, seat
        )
        self.session = namespace.open("polling", self.poll, seat=seat)
        self.poll.wait(self.session, seconds)
        if not self.session.ended:
            namespace.subscribe(self.session, Subscribe(None, (room,), Cursor.parse(cursor)))

    @property
    def is_over(self) -> bool:
        """Whether nothing of it is left."""
        return self.session.ended and not len(self.seats)


def test_a_burst_ends_the_wait_and_is_told_whole(world: World) -> None:
    waiting = Waiting(world)
    for number in range(3):
        publish(world, "kept/a", number)
        assert waiting.answers == []
    world.clock.advance(0)
    (told,) = waiting.answers
    assert [message["data"] for message in told["messages"]] == [0, 1, 2]
    assert (told["cursor"], told["recovered"], told["more"]) == ("epoch-3", True, False)
    assert waiting.is_over
    assert not world.namespace.sessions


def test_a_burst_larger_than_an_answer_ends_the_wait_at_once(world: World) -> None:
    waiting = Waiting(world)
    for _ in range(3):
        publish(world, "kept/a", "x" * 200_000)
    (told,) = waiting.answers
    assert (len(told["messages"]), told["cursor"]) == (2, "epoch-2")
    assert waiting.is_over


def test_who_waited_in_vain_goes_on_from_the_present(world: World) -> None:
    waiting = Waiting(world, seconds=25)
    publish(world, "elsewhere", 1)
    world.clock.advance(24.9)
    assert waiting.answers == []
    world.clock.advance(0.2)
    assert (waiting.answers[0]["messages"], waiting.answers[0]["cursor"]) == ([], "epoch-1")
    assert waiting.is_over
    assert world.clock.waiting == 0


def test_a_message_that_is_never_kept_is_told_to_who_waits(world: World) -> None:
    waiting = Waiting(world)
    publish(world, "kept/a", "now", volatile=True)
    world.clock.advance(0)
    assert [message["data"] for message in waiting.answers[0]["messages"]] == ["now"]


def test_who_leaves_is_told_nothing_and_leaves_nothing(world: World) -> None:
    waiting = Waiting(world)
    waiting.poll.left()
    publish(world, "kept/a", 1)
    world.clock.advance(60)
    assert waiting.answers == []
    assert waiting.is_over
    assert world.clock.waiting == 0


def test_who_isnt_shown_in_a_full_room_waits_all_the_same() -> None:
    world = make_world(Limits(presence_members=0), rules=[RoomRule("kept/#", Retention(messages=9), presence=True)])
    waiting = Waiting(world)
    assert world.counters.refusals["presence_full"] == 1
    world.clock.advance(1)
    assert waiting.answers == []
    publish(world, "kept/a", 1)
    world.clock.advance(0)
    assert len(waiting.answers[0]["messages"]) == 1


def test_a_gateway_that_shuts_down_answers_at_once(world: World) -> None:
    waiting = Waiting(world)
    waiting.session.end(ShuttingDown("going"))
    (told,) = waiting.answers
    assert (told["messages"], told["cursor"], waiting.is_over) == ([], "epoch-0", True)


def test_a_poll_whose_room_is_withdrawn_ends() -> None:
    world = make_world()
    waiting = Waiting(world)
    world.namespace.reconfigure(Access([AccessRule(frozenset({"x"}), {})]), lambda identity: identity)
    world.clock.advance(1)
    assert len(waiting.answers) == 1
    assert waiting.is_over


def test_a_poll_that_is_behind_after_all_is_to_ask_again(world: World) -> None:
    waiting = Waiting(world)
    waiting.poll.write(waiting.poll.framing("message", b'{"data":1}', "epoch-9"))
    subscribed = orjson.dumps({"type": "subscribed", "recovered": False})
    waiting.poll.write(waiting.poll.framing("subscribed", subscribed, None))
    world.clock.advance(0)
    assert waiting.answers == [
        {"messages": [], "last": [], "cursor": "epoch-0", "recovered": True, "lacking": [], "more": True}
    ]


def test_all_polls_share_the_bytes_of_a_message(world: World) -> None:
    first, second = Waiting(world), Waiting(world)
    assert first.session.sink.framing is second.session.sink.framing is entry
    assert entry("message", b"{}", "e-1") == b"e-1\n{}"
