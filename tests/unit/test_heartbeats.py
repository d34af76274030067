"""Who is asked whether it is there, and until when it has to say so."""

from random import Random

from gateway.heartbeats import Heartbeats
from tests.unit.conftest import HandClock


class Client:
    """Notes when it is asked, and answers if it is to."""

    def __init__(self, heartbeats: Heartbeats, clock: HandClock, *, answers: bool = True) -> None:
        self._heartbeats = heartbeats
        self._clock = clock
        self._answers = answers
        self.asked: list[int] = []
        self.given_up = 0

    def ping(self, payload: bytes) -> None:
        assert len(payload) == 4
        self.asked.append(round(self._clock.now - 1000))
        if self._answers:
            self._heartbeats.answered(self)

    def silent(self) -> None:
        self.given_up += 1


def test_who_answers_is_asked_again_and_again() -> None:
    clock = HandClock()
    heartbeats = Heartbeats(10, 5, clock, Random(1))
    client = Client(heartbeats, clock)
    heartbeats.begin(client)
    clock.advance(35)
    assert (client.asked, client.given_up, len(heartbeats)) == ([10, 20, 30], 0, 1)


def test_who_doesnt_answer_is_given_up_once() -> None:
    clock = HandClock()
    heartbeats = Heartbeats(10, 5, clock, Random(1))
    client = Client(heartbeats, clock, answers=False)
    heartbeats.begin(client)
    clock.advance(14.5)
    assert client.given_up == 0
    clock.advance(100)
    assert (client.asked, client.given_up, len(heartbeats)) == ([10], 1, 0)


def test_who_has_left_is_asked_no_more() -> None:
    clock = HandClock()
    heartbeats = Heartbeats(10, 5, clock, Random(1))
    waiting, asked = Client(heartbeats, clock), Client(heartbeats, clock, answers=False)
    for client in (waiting, asked):
        heartbeats.begin(client)
    clock.advance(12)
    for client in (waiting, asked):
        heartbeats.end(client)
    clock.advance(100)
    assert (waiting.asked, asked.given_up, clock.waiting) == ([10], 0, 0)
