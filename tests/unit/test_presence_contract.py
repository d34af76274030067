"""The promises of `Presence`, held by whoever provides it; over several nodes, by the one that acts and by another."""

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager

import pytest

from gateway.core.errors import PresenceFull
from gateway.core.presence import Attendees, Counted, Joined, Kind, Left, Member, PresenceBounds, Who
from gateway.core.presence_memory import Presence
from tests.redis import RedisServer, redis_server
from tests.unit.presence_benches import PROVIDERS, Bench, Make, RedisBench

ANN, BOB = Who("user", "ann"), Who("session", "bob")


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisServer]:
    with redis_server(tmp_path_factory.mktemp("presence")) as running:
        yield running


@pytest.fixture(params=PROVIDERS, ids=lambda provider: provider.__name__)
def make(request: pytest.FixtureRequest, server: RedisServer) -> Iterator[Callable[..., Bench]]:
    """Makes the bench of a test."""
    provider: Make = request.param
    made: list[AbstractContextManager[Bench]] = []

    def make(**bounds: float) -> Bench:
        made.append(provider(PresenceBounds(**bounds), server))  # type: ignore[arg-type]
        return made[-1].__enter__()

    yield make
    for bench in made:
        bench.__exit__(None, None, None)


def enter(bench: Bench, room: str, who: Who, source: str) -> None:
    bench.act(lambda presence: presence.enter(room, who, source))


def leave(bench: Bench, room: str, who: Who, source: str, *, at_once: bool = False) -> None:
    bench.act(lambda presence: presence.leave(room, who, source, at_once=at_once))


def set_state(bench: Bench, room: str, who: Who, state: bytes | None) -> None:
    bench.act(lambda presence: presence.set_state(room, who, state))


def fill(bench: Bench, room: str, numbers: range) -> None:
    for number in numbers:
        bench.act(lambda presence, name=str(number): presence.enter(room, Who("session", name), name))  # type: ignore[misc]


def test_who_comes_is_told_once_however_many_sessions_they_have(make: Callable[..., Bench]) -> None:
    bench = make()
    enter(bench, "hall", ANN, "s1")
    enter(bench, "hall", ANN, "s2")
    assert bench.take() == [Joined("hall", Member(ANN))]
    assert bench.attendees("hall") == Attendees(1, (Member(ANN),))
    leave(bench, "hall", ANN, "s1")
    bench.advance(60)
    assert bench.take() == []


def test_who_leaves_is_told_after_the_grace_period_and_no_sooner(make: Callable[..., Bench]) -> None:
    bench = make()
    enter(bench, "hall", ANN, "s1")
    bench.take()
    leave(bench, "hall", ANN, "s1")
    bench.advance(4.9)
    assert (bench.take(), bench.attendees("hall").count) == ([], 1)
    bench.advance(0.2)
    assert (bench.take(), bench.attendees("hall").count) == ([Left("hall", ANN)], 0)


def test_who_comes_back_within_the_grace_period_was_never_gone_and_keeps_the_state(make: Callable[..., Bench]) -> None:
    bench = make()
    enter(bench, "hall", ANN, "s1")
    set_state(bench, "hall", ANN, b'"busy"')
    bench.take()
    for source, successor in (("s1", "s2"), ("s2", "s3")):
        leave(bench, "hall", ANN, source)
        bench.advance(4)
        enter(bench, "hall", ANN, successor)
    bench.advance(60)
    assert bench.take() == []
    assert bench.attendees("hall").members == (Member(ANN, b'"busy"'),)


def test_who_comes_back_later_has_no_state(make: Callable[..., Bench]) -> None:
    bench = make()
    enter(bench, "hall", ANN, "s1")
    set_state(bench, "hall", ANN, b'"busy"')
    leave(bench, "hall", ANN, "s1")
    bench.advance(6)
    bench.take()
    enter(bench, "hall", ANN, "s2")
    assert bench.take() == [Joined("hall", Member(ANN))]


def test_without_a_grace_period_and_for_those_who_leave_at_once_it_is_told_at_once(make: Callable[..., Bench]) -> None:
    for grace_seconds in (0, 5):
        bench = make(grace_seconds=grace_seconds)
        enter(bench, "hall", ANN, "s1")
        leave(bench, "hall", ANN, "s1", at_once=bool(grace_seconds))
        assert bench.take() == [Joined("hall", Member(ANN)), Left("hall", ANN)]


def test_leaving_for_a_reason_that_was_none_changes_nothing(make: Callable[..., Bench]) -> None:
    bench = make(grace_seconds=0)
    enter(bench, "hall", ANN, "s1")
    leave(bench, "hall", ANN, "other")
    leave(bench, "hall", BOB, "s1")
    leave(bench, "elsewhere", ANN, "s1")
    assert bench.attendees("hall").count == 1


def test_a_reason_that_was_none_doesnt_prolong_the_grace_period(make: Callable[..., Bench]) -> None:
    bench = make()
    enter(bench, "hall", ANN, "s1")
    leave(bench, "hall", ANN, "s1")
    bench.advance(4)
    leave(bench, "hall", ANN, "other")
    bench.advance(1.1)
    assert bench.attendees("hall").count == 0


def test_a_user_a_member_a_device_and_a_session_of_one_name_are_four(make: Callable[..., Bench]) -> None:
    bench = make()
    kinds: tuple[Kind, ...] = ("user", "member", "device", "session")
    for kind in kinds:
        enter(bench, "hall", Who(kind, "x"), "s")
    assert bench.attendees("hall").count == 4
    assert bench.kinds() == {"user": 1, "member": 1, "device": 1, "session": 1}


def test_a_device_is_there_as_long_as_one_of_its_topics_says_so(make: Callable[..., Bench]) -> None:
    bench, fan = make(), Who("device", "fan")
    for source in ("plant a", "plant b", "plant a"):
        enter(bench, "hall", fan, source)
    for source in ("plant a", "plant c"):
        leave(bench, "hall", fan, source, at_once=True)
    assert bench.take() == [Joined("hall", Member(fan))]
    leave(bench, "hall", fan, "plant b", at_once=True)
    assert bench.take() == [Left("hall", fan)]
    enter(bench, "hall", fan, "plant b")
    assert bench.take() == [Joined("hall", Member(fan))]


def test_another_state_is_told_as_an_update_and_the_same_one_not_at_all(make: Callable[..., Bench]) -> None:
    bench = make()
    enter(bench, "hall", ANN, "s1")
    bench.take()
    for state in (b'{"a":[1,null]}', b'{"a":[1,null]}', None):
        set_state(bench, "hall", ANN, state)
    set_state(bench, "hall", BOB, b"1")
    assert bench.take() == [Joined("hall", Member(ANN, state), updated=True) for state in (b'{"a":[1,null]}', None)]


@pytest.mark.parametrize("name", ['"', "a b\0c\n", "Zoë 🐢", "[1,2]", "\x7f{}"])
def test_names_of_any_kind_are_told_as_they_are(make: Callable[..., Bench], name: str) -> None:
    bench, who = make(grace_seconds=0), Who("user", name)
    enter(bench, name, who, "s 1")
    enter(bench, name, Who("device", name), name.replace("\0", ""))
    assert bench.attendees(name).members == (Member(who), Member(Who("device", name)))
    leave(bench, name, who, "s 1")
    assert bench.take()[-1] == Left(name, who)


def test_of_a_large_room_only_the_count_is_told_and_once_a_second_at_most(make: Callable[..., Bench]) -> None:
    bench = make(members_told=3)
    fill(bench, "hall", range(3))
    assert len(bench.take()) == 3
    fill(bench, "hall", range(3, 13))
    set_state(bench, "hall", Who("session", "1"), b"1")
    assert bench.take() == [Counted("hall", Attendees(4, None))]
    bench.advance(0.9)
    assert bench.take() == []
    bench.advance(0.2)
    assert bench.take() == [Counted("hall", Attendees(13, None))]
    bench.advance(10)
    assert bench.take() == []
    assert bench.attendees("hall") == Attendees(13, None)


def test_a_room_that_is_large_no_longer_is_told_whole_once(make: Callable[..., Bench]) -> None:
    bench = make(grace_seconds=0, members_told=2)
    fill(bench, "hall", range(4))
    bench.advance(5)
    bench.take()
    for number in ("3", "2", "1"):
        leave(bench, "hall", Who("session", number), number)
    assert bench.take() == [Counted("hall", Attendees(3, None))]
    bench.advance(2)
    assert bench.take() == [Counted("hall", Attendees(1, (Member(Who("session", "0")),)))]
    enter(bench, "hall", ANN, "s")
    assert bench.take() == [Joined("hall", Member(ANN))]


def test_there_is_a_bound_over_all_rooms_which_those_in_their_grace_period_make_place_for(
    make: Callable[..., Bench],
) -> None:
    bench = make(members=3)
    fill(bench, "a", range(2))
    fill(bench, "b", range(1))
    with pytest.raises(PresenceFull):
        enter(bench, "c", ANN, "s")
    enter(bench, "a", Who("session", "1"), "another")
    assert bench.counters.drops["presence_full"] == 1
    bench.take()
    leave(bench, "b", Who("session", "0"), "0")
    enter(bench, "b", ANN, "s")
    assert bench.take() == [Left("b", Who("session", "0")), Joined("b", Member(ANN))]
    assert bench.counters.drops["presence_grace"] == 1
    assert sum(bench.kinds().values()) == 3


def test_an_answer_comes_after_all_that_was_said_before_and_with_all_that_was_told(make: Callable[..., Bench]) -> None:
    bench = make(grace_seconds=0)
    found: list[Attendees] = []

    def act(presence: Presence) -> None:
        presence.enter("hall", ANN, "s1")
        presence.set_state("hall", ANN, b"1")
        presence.ask("hall", found.append)
        presence.leave("hall", ANN, "s1")
        presence.ask("hall", found.append)

    bench.act(act)
    assert found == [Attendees(1, (Member(ANN, b"1"),)), Attendees(0, ())]
    assert len(bench.take()) == 3


def test_nothing_is_told_once_the_gateway_goes(make: Callable[..., Bench]) -> None:
    bench = make()
    enter(bench, "hall", ANN, "s1")
    enter(bench, "hall", BOB, "s2")
    leave(bench, "hall", BOB, "s2")
    bench.take()
    bench.act(lambda presence: presence.close())
    told_here = not isinstance(bench, RedisBench) or bench._listener is bench._actor
    leave(bench, "hall", ANN, "s1")
    bench.advance(60)
    assert bench.take() == ([] if told_here else [Left("hall", BOB), Left("hall", ANN)])
