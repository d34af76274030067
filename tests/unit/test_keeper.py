"""Several gateways ask devices whose answers are told apart only by their order: nobody gets another one's answer."""

from collections.abc import Callable
from random import Random

import pytest

from gateway.core.counters import Counters
from gateway.core.errors import TidegateError, UpstreamRefused
from gateway.core.intake import Intake
from gateway.core.keeper import Ask, Keeper
from gateway.core.limits import Limits
from tests.unit.conftest import HandClock, ListSink, ListUpstream, World, make_world
from tests.unit.test_requests import LINE, ROUTES, ask, take_one


class Gateway:
    """One of several, with a client that asks."""

    def __init__(self, gateways: "Gateways", name: str) -> None:
        self.gateways, self.name = gateways, name
        self.world: World = make_world(Limits(idle_seconds=None), ROUTES)
        pending = self.world.namespace.requests._pending
        pending._clock, pending._random = gateways.clock, Random(name)
        self.world.upstream.answer_at_once = False
        self.world.namespace.connect({"embedded": self.world.upstream}, self)
        self.intake = Intake([self.world.namespace], Counters())

    def ask(self, asked: Ask, failed: Callable[[TidegateError], None]) -> None:
        """The way to the keeper, and back."""
        correlation = asked.reply_to.correlation

        def outcome(found: bytes | TidegateError) -> None:
            if isinstance(found, TidegateError):
                failed(found)
            else:
                self.hear(found, correlation)

        self.gateways.keeper.ask(self.name, asked, outcome)

    def hear(self, raw: bytes, correlation: bytes | None = None) -> None:
        assert self.intake.take_shared_answer("embedded", LINE, raw, correlation)

    def request(self, **fields: object) -> ListSink:
        """A client of its own asks the device `x`."""
        _, sink, talk = self.world.join()
        ask(talk, **fields)  # type: ignore[arg-type]
        return sink


class Gateways:
    """Two, and a keeper, which may be a third."""

    def __init__(self) -> None:
        self.clock, self.counters, self.upstream = HandClock(), Counters(), ListUpstream(answer_at_once=False)
        self.keeper = Keeper(self.clock, Random(3), self.counters)
        self.keeper.connect({"embedded": self.upstream})
        self.a, self.b = Gateway(self, "a"), Gateway(self, "b")

    def answer(self, payload: bytes, correlation: bytes | None = None) -> None:
        """The device answers; everybody hears it, the keeper last."""
        for gateway in (self.a, self.b):
            gateway.hear(payload, correlation)
        self.keeper.receive("embedded", LINE, payload, correlation)

    def sent(self) -> list[bytes]:
        sent = [payload for _, payload, _, _ in self.upstream.published]
        self.upstream.published.clear()
        return sent


@pytest.fixture
def gateways() -> Gateways:
    return Gateways()


def test_each_answer_goes_to_who_asked_in_the_order_of_asking(gateways: Gateways) -> None:
    first, second, third = gateways.a.request(data=1), gateways.b.request(data=2), gateways.a.request(data=3)
    assert gateways.sent() == [b"1", b"2", b"3"]
    assert gateways.a.world.upstream.published == gateways.b.world.upstream.published == []
    for number, sink in ((1, first), (2, second), (3, third)):
        gateways.answer(b"%d" % number)
        assert take_one(sink)["data"] == number
        assert all(other.take() == [] for other in (first, second, third))
    assert len(gateways.keeper) == 0
    drops = [gateway.world.counters.drops for gateway in (gateways.a, gateways.b)]
    assert drops == [{}, {}], "another gateway's answer is no unmatched one"


def test_a_device_that_gives_correlation_data_answers_in_any_order(gateways: Gateways) -> None:
    first, second = gateways.a.request(), gateways.b.request()
    correlations = [to.correlation for to in gateways.upstream.replies_to if to is not None]
    gateways.answer(b"2", correlations[1])
    assert take_one(second)["data"] == 2
    gateways.answer(b"1", correlations[0])
    assert take_one(first)["data"] == 1
    assert (len(gateways.keeper), gateways.counters.drops) == (0, {})


def test_requests_with_a_response_topic_of_the_gateways_own_need_no_keeper(gateways: Gateways) -> None:
    gateways.a.world.upstream.reply_topic = "tidegate/replies/a"
    gateways.a.request(room="modern/x", data="x")
    assert gateways.sent() == []
    assert len(gateways.a.world.upstream.published) == 1


def test_a_late_answer_is_taken_for_nobodys(gateways: Gateways) -> None:
    first = gateways.a.request(timeout_seconds=3)
    gateways.clock.advance(3.5)
    assert take_one(first)["code"] == "request_timeout"
    second = gateways.b.request()
    error = take_one(second)
    assert (error["code"], gateways.sent()) == ("reply_ambiguous", [b'{"on":true}'])
    assert 0 < error["retry_after_seconds"] <= 3  # type: ignore[operator]
    gateways.answer(b"1")
    assert (first.take(), second.take()) == ([], [])
    assert gateways.counters.drops == {"unmatched_reply": 1}
    third = gateways.b.request()
    gateways.answer(b"2")
    assert take_one(third)["data"] == 2


@pytest.mark.parametrize("sent", [False, True])
def test_who_asked_is_told_that_the_upstream_failed(gateways: Gateways, sent: bool) -> None:
    sink = gateways.a.request()
    if sent:
        gateways.keeper.lost("embedded")
    else:
        gateways.upstream.waiting[0](UpstreamRefused("no"))
    assert take_one(sink)["code"] == ("upstream_unavailable" if sent else "upstream_refused")
    assert len(gateways.a.world.namespace.requests) == 0


def test_a_client_that_leaves_keeps_its_place_in_the_line(gateways: Gateways) -> None:
    session, _, talk = gateways.a.world.join()
    ask(talk)
    second = gateways.b.request()
    session.end(None)
    gateways.answer(b"1")
    assert second.take() == []
    gateways.answer(b"2")
    assert take_one(second)["data"] == 2


def test_what_is_asked_twice_is_sent_once(gateways: Gateways) -> None:
    gateways.a.request()
    to = gateways.upstream.replies_to[0]
    assert to is not None
    outcomes: list[bytes | TidegateError] = []
    gateways.keeper.ask("a", Ask("embedded", "commands/x", b"again", 1, to), outcomes.append)
    assert gateways.sent() == [b'{"on":true}']
    assert outcomes == []


def test_whoever_gets_an_answer_is_who_asked(gateways: Gateways) -> None:
    """A device that answers what it was asked, in order, each with what it was."""
    chance, asked, answered = Random(5), dict[int, ListSink](), set[int]()
    for number in range(300):
        gateway = chance.choice((gateways.a, gateways.b))
        asked[number] = gateway.request(data=number, timeout_seconds=30)
        if chance.random() < 0.5:
            for raw in gateways.sent():
                gateways.answer(raw)
                answered.add(int(raw))
        gateways.clock.advance(0.01)
    assert len(answered) > 250
    for number, sink in asked.items():
        assert [answer["data"] for answer in sink.take()] == ([number] if number in answered else [])
