"""Bodies of requests, as all doors over HTTP read them."""

from typing import Any

import pytest
from starlette.requests import ClientDisconnect, Request

from bridges.carrier_requests import read_body
from gateway.core.errors import MessageTooLarge
from tests.unit.conftest import HandClock
from tests.unit.test_admission import HERE, Door


async def read(clock: HandClock, *events: dict[str, Any]) -> bytes:
    coming = iter(events)

    async def receive() -> dict[str, Any]:
        return next(coming)

    request = Request({"type": "http", "method": "POST", "headers": []}, receive)
    return await read_body(request, 8, Door(clock).admission, HERE)


def part(body: bytes, *, more: bool = True) -> dict[str, Any]:
    return {"type": "http.request", "body": body, "more_body": more}


async def test_a_body_comes_in_parts(clock: HandClock) -> None:
    assert await read(clock, part(b"one"), part(b"two", more=False)) == b"onetwo"


async def test_a_body_that_breaks_off_is_none(clock: HandClock) -> None:
    with pytest.raises(ClientDisconnect):
        await read(clock, part(b"one"), {"type": "http.disconnect"})


async def test_no_more_is_read_of_one_that_is_too_large(clock: HandClock) -> None:
    with pytest.raises(MessageTooLarge, match="expected at most 8 bytes"):
        await read(clock, part(b"12345"), part(b"6789"))
