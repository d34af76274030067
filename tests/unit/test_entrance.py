"""What is asked of a request before anything answers it, without a server around it."""

from typing import Any

import orjson
import pytest

from gateway.core.errors import HeadersTooLarge, TidegateError
from gateway.core.limit_errors import AddressRefused, RateLimited, UrlTooLong
from gateway.core.limits import Limits
from gateway.core.offenders import OffenceBounds, Offenders
from gateway.core.plain_http import HttpRequests
from gateway.entrance import Entrance, HeadBounds
from tests.unit.conftest import HandClock

HERE = "192.0.2.1"


class Asked:
    """An entrance, what came through, what was sent back and what was counted."""

    def __init__(self, clock: HandClock, header_bytes: int = 100, url_bytes: int = 20) -> None:
        self.offenders = Offenders(OffenceBounds(offences=1), clock)
        self.passed: list[str] = []
        self.sent: list[dict[str, Any]] = []
        self.refused: list[tuple[type[TidegateError], str | None]] = []
        bounds = HeadBounds(10, header_bytes, url_bytes, 30)
        requests = HttpRequests(10, 20, self.offenders, clock)
        self.entrance = Entrance(self.app, bounds, self.offenders, requests, self.count)

    def count(self, error: TidegateError, address: str | None) -> None:
        self.refused.append((type(error), address))

    async def app(self, scope: dict[str, Any], receive: Any, send: Any) -> None:
        self.passed.append(scope["type"])

    async def receive(self) -> dict[str, Any]:
        return {"type": "websocket.connect"}

    async def send(self, message: dict[str, Any]) -> None:
        self.sent.append(message)

    async def ask(self, kind: str = "http", path: str = "/x", query: bytes = b"", **more: Any) -> None:
        scope: dict[str, Any] = {"type": kind, "path": path, "query_string": query, "headers": [], "client": (HERE, 5)}
        if kind == "websocket":
            scope["extensions"] = {"websocket.http.response": {}}
        await self.entrance({**scope, **more}, self.receive, self.send)

    @property
    def statuses(self) -> list[int]:
        return [message["status"] for message in self.sent if message["type"].endswith("response.start")]


async def test_what_is_small_and_from_an_address_that_is_not_refused_is_served(clock: HandClock) -> None:
    asked = Asked(clock)
    for kind in ("http", "websocket", "lifespan"):
        await asked.ask(kind)
    assert (asked.passed, asked.sent, asked.refused) == (["http", "websocket", "lifespan"], [], [])


@pytest.mark.parametrize("kind", ["http", "websocket"])
async def test_a_refused_address_is_told_for_how_long_and_nothing_answers_it(clock: HandClock, kind: str) -> None:
    asked = Asked(clock)
    for _ in range(2):
        asked.offenders.offend(HERE)
    await asked.ask(kind)
    assert (asked.passed, asked.statuses, asked.refused) == ([], [429], [(AddressRefused, HERE)])
    assert orjson.loads(asked.sent[-1]["body"])["retry_after_seconds"] == 10
    await asked.ask(kind, client=("192.0.2.2", 5))
    assert asked.passed == [kind]


@pytest.mark.parametrize(
    ("path", "query", "passes"),
    [
        ("/" + 19 * "x", b"", True),
        ("/" + 20 * "x", b"", False),
        ("/12345678", b"x" * 10, True),
        ("/", b"x" * 19, False),
    ],
)
async def test_a_path_with_its_query_may_be_so_long(clock: HandClock, path: str, query: bytes, passes: bool) -> None:
    asked = Asked(clock)
    await asked.ask(path=path, query=query)
    assert bool(asked.passed) == passes
    assert asked.refused == ([] if passes else [(UrlTooLong, HERE)])
    assert asked.statuses == ([] if passes else [414])


async def test_a_path_is_as_long_as_it_was_sent_and_not_as_it_reads(clock: HandClock) -> None:
    asked = Asked(clock)
    await asked.ask(path="/é", raw_path=b"/" + b"%C3%A9" * 4)
    assert asked.refused == [(UrlTooLong, HERE)]
    await asked.ask(path="/" + "é" * 10)
    assert asked.refused[1:] == [(UrlTooLong, HERE)]
    assert asked.passed == []


@pytest.mark.parametrize(
    ("name", "value", "passes"), [(b"x" * 44, b"y" * 42, True), (b"x" * 45, b"y" * 42, False), (b"x", b"y" * 86, False)]
)
async def test_names_values_and_the_line_count_as_the_head(
    clock: HandClock, name: bytes, value: bytes, passes: bool
) -> None:
    asked = Asked(clock)
    await asked.ask(path="/" + 9 * "x", headers=[(name, value)])
    assert asked.refused == ([] if passes else [(HeadersTooLarge, HERE)])
    assert bool(asked.passed) == passes


async def test_one_whose_address_is_not_known_is_served(clock: HandClock) -> None:
    asked = Asked(clock)
    await asked.ask(client=None)
    assert asked.passed == ["http"]


async def test_requests_that_come_too_fast_are_refused_whatever_they_ask_but_not_handshakes(clock: HandClock) -> None:
    asked = Asked(clock)
    for _ in range(21):
        await asked.ask()
    assert (len(asked.passed), asked.statuses, asked.refused) == (20, [429], [(RateLimited, None)])
    await asked.ask("websocket")
    await asked.ask(client=("192.0.2.2", 5))
    clock.advance(0.1)
    await asked.ask()
    assert asked.passed[20:] == ["websocket", "http", "http"]


def test_the_most_that_any_namespace_puts_up_with_holds_for_all() -> None:
    few = Limits(handshake_seconds=1, header_bytes=2000, url_bytes=1000, lag_seconds=4)
    more = Limits(handshake_seconds=2, header_bytes=1000, url_bytes=2000, lag_seconds=3)
    assert HeadBounds.of([few, more]) == HeadBounds.of([more, few]) == HeadBounds(2, 2000, 2000, 4)
