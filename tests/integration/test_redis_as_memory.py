"""What the engine in Redis answers is what the engine in memory would: whatever was published, whatever is asked."""

import asyncio
from collections.abc import Iterator
from itertools import count
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from gateway.core.clock import SystemClock
from gateway.core.counters import Counters
from gateway.core.engine import Publication, Reading, Span, Wanted
from gateway.core.engine_memory import MemoryEngine
from gateway.core.log import Log, LogBounds
from gateway.core.message import Audience, Message
from gateway.core.payload import Payload
from gateway.core.retention import Retention
from tests.redis import RedisServer, redis_server
from tests.redis_node import Node, node, until

ROOMS = ["a", "a/b", "a/c", "b"]
FILTERS = [*ROOMS, "#", "+", "a/#", "a/+"]
RETENTIONS = [
    Retention(),
    Retention(messages=3),
    Retention(last=False, messages=2),
    Retention(last=False),
    Retention(messages=100),
]


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisServer]:
    with redis_server(tmp_path_factory.mktemp("redis")) as running:
        yield running


@pytest.fixture(scope="module")
def tags() -> Iterator[int]:
    return count()


def publications(kept: dict[str, Retention]) -> st.SearchStrategy[Publication]:
    def make(room: str, topic: str | None, data: int, kind: str) -> Publication:
        publication = Publication(room, Payload(b"%d" % data), kept[room], topic)
        match kind:
            case "retained":
                publication.retained = True
            case "volatile":
                publication.volatile = True
            case "addressed":
                publication.audience = Audience(user="ann")
            case "clears":
                publication.clears, publication.retention = True, Retention(False, kept[room].messages)
        return publication

    kinds = st.sampled_from(["plain"] * 6 + ["retained", "volatile", "addressed", "clears"])
    return st.builds(make, st.sampled_from(ROOMS), st.sampled_from([None, "t", "u"]), st.integers(0, 3), kinds)


@st.composite
def stories(draw: st.DrawFn) -> tuple[list[Publication], list[Any]]:
    kept = {room: draw(st.sampled_from(RETENTIONS)) for room in ROOMS}
    told = draw(st.lists(publications(kept), max_size=25))
    places = st.integers(0, len(told) + 1)

    def wanted(place: int | None, latest: bool) -> Wanted:
        return Wanted(0 if place is None else place, place, latest)

    some = st.builds(wanted, st.one_of(places, st.none()), st.booleans())
    reads = st.tuples(
        st.just("read"), st.dictionaries(st.sampled_from(FILTERS), some, min_size=1, max_size=3), st.integers(1, 30)
    )
    lasts = st.tuples(st.just("last"), st.sampled_from(FILTERS))
    spans = st.builds(Span, st.sampled_from(FILTERS), places, places, st.integers(1, 30), st.booleans())
    return told, draw(st.lists(st.one_of(reads, lasts, st.tuples(st.just("history"), spans)), max_size=8))


def shown(message: Message) -> tuple[Any, ...]:
    return message.room, message.topic, message.data, message.sequence, message.kept, message.retained, message.user


def shown_all(answer: Any) -> Any:
    match answer:
        case Reading():
            incomplete = {room: sorted(map(shown, last), key=repr) for room, last in answer.incomplete.items()}
            return [*map(shown, answer.messages)], incomplete, answer.more
        case (int() as head, tuple() as values):
            return head, sorted(map(shown, values), key=repr)
        case (tuple() as messages, bool() as complete):
            return [*map(shown, messages)], complete


def ask(engine: Any, question: Any, done: Any) -> None:
    match question:
        case ("read", wanted, limit):
            engine.read(wanted, limit, done)
        case ("last", room_filter):
            engine.last(room_filter, lambda head, values: done((head, values)))
        case ("history", span):
            engine.history(span, lambda messages, complete: done((messages, complete)))


def in_reach(question: Any, head: int) -> Any:
    """What a client may ask: nobody was told more than there is."""
    if question[0] != "read":
        return question
    bounded = {
        room: want if want.position is None else Wanted(min(want.start, head), min(want.position, head), want.latest)
        for room, want in question[1].items()
    }
    return "read", bounded, question[2]


async def compare(
    one: Node, memory: MemoryEngine, heard: list[Message], story: tuple[list[Publication], list[Any]]
) -> None:
    told, questions = story
    for publication in told:
        memory.publish([publication], lambda _: None)
        one.engine.publish([publication], one.said.append)
    await until(lambda: len(one.said) == len(told))
    assert [*map(shown, one.delivered)] == [*map(shown, heard)]
    for question in questions:
        asked, expected, found = in_reach(question, memory.head), [], []  # type: ignore[var-annotated]
        ask(memory, asked, expected.append)
        ask(one.engine, asked, found.append)
        await until(lambda: found)  # noqa: B023
        if isinstance(found[0], Reading) and found[0].more and expected[0].incomplete:
            continue  # what is lacking beyond a page is found with the next one
        shown_first = [[*map(shown_all, each)] for each in (found, expected)]
        if asked[0] == "history" and (asked[1].newest or found[0][1]):
            shown_first = [
                [answer[0] for answer in each] for each in shown_first
            ]  # as is what is lacking beyond a span
        assert shown_first[0] == shown_first[1], asked


@settings(
    max_examples=100,
    report_multiple_bugs=False,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(stories())
def test_it_answers_as_the_engine_in_memory_does(
    server: RedisServer, tags: Iterator[int], story: tuple[list[Publication], list[Any]]
) -> None:
    async def run() -> None:
        clock, counters, heard = SystemClock(), Counters(), list[Message]()
        memory = MemoryEngine("e", Log(LogBounds(), clock, counters), clock, counters)
        memory.attach(heard.append)
        async with node(server.port, "#", tag=f"t{next(tags)}") as one:
            await compare(one, memory, heard, story)

    asyncio.run(run())
