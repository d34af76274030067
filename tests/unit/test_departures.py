"""Clients of a gateway that leaves go one after the other, in time."""

from dataclasses import dataclass, field
from random import Random

import pytest

from gateway.core.departures import SEARCH_SECONDS, Departures, Guest
from tests.unit.conftest import HandClock


@dataclass(eq=False)
class Client:
    clock: HandClock
    busy: bool = False
    faulty: bool = False
    left: list[float] = field(default_factory=list)

    def leave(self) -> None:
        if self.faulty:
            raise RuntimeError("the connection is in a bad way")
        self.left.append(self.clock.now)


def begin(clients: list[Client], seconds: float, clock: HandClock, seed: int = 7) -> Departures:
    def find() -> list[Guest]:
        return [client for client in clients if not client.left]

    departures = Departures(find, seconds, clock, Random(seed))
    departures.begin()
    return departures


def test_they_go_one_after_the_other_over_all_the_time_there_is(clock: HandClock) -> None:
    start, clients = clock.now, [Client(clock) for _ in range(100)]
    departures = begin(clients, 20, clock)
    for tenth in range(1, 11):
        clock.advance(start + 2 * tenth - clock.now)
        assert abs(sum(bool(client.left) for client in clients) - 10 * tenth) <= 1  # in each slice as many
    assert departures.over
    assert all(len(client.left) == 1 for client in clients)


def test_neither_their_order_nor_their_moments_are_the_same_twice(clock: HandClock) -> None:
    def moments(seed: int) -> list[float]:
        hand = HandClock()
        clients = [Client(hand) for _ in range(20)]
        begin(clients, 20, hand, seed)
        hand.advance(20)
        return [client.left[0] for client in clients]

    first, second = moments(1), moments(2)
    assert first != sorted(first)
    assert sorted(first) != pytest.approx(sorted(second), abs=0.01)


def test_one_that_waits_for_an_answer_goes_once_it_has_it(clock: HandClock) -> None:
    client = Client(clock, busy=True)
    departures = begin([client], 10, clock)
    clock.advance(9.5)
    assert not client.left
    client.busy = False
    clock.advance(0.1)
    assert client.left
    assert departures.over


def test_those_who_come_meanwhile_go_soon(clock: HandClock) -> None:
    clients = [Client(clock) for _ in range(10)]
    begin(clients, 30, clock)
    clock.advance(5)
    clients += [Client(clock), Client(clock)]
    clock.advance(2 * SEARCH_SECONDS + 0.1)
    assert [len(client.left) for client in clients[10:]] == [1, 1]


def test_in_a_hurry_all_go_at_once(clock: HandClock) -> None:
    clients = [Client(clock, busy=number == 0) for number in range(10)]
    departures = begin(clients, 3600, clock)
    departures.hurry()
    assert all(client.left for client in clients)
    assert clock.waiting == 0


def test_without_time_all_go_at_once(clock: HandClock) -> None:
    clients = [Client(clock) for _ in range(10)]
    assert begin(clients, 0, clock).over
    assert all(client.left for client in clients)


def test_one_that_cant_be_told_keeps_nobody_from_going(clock: HandClock, caplog: pytest.LogCaptureFixture) -> None:
    clients = [Client(clock, faulty=True), Client(clock)]
    departures = begin(clients, 1, clock)
    clock.advance(1.1)
    assert clients[1].left
    assert departures.over
    assert "bad way" in caplog.text


def test_where_nobody_is_it_is_over_at_once(clock: HandClock) -> None:
    assert begin([], 30, clock).over
    assert clock.waiting == 0
