"""The client of the broker, as far as it needs none."""

import asyncio
from typing import Any

import pytest

from bridges.mqtt_client import Client


class Nobody:
    """Takes no interest in what happens."""

    def connected(self, client: Any, session_present: bool) -> None: ...

    def take(self, message: Any) -> None: ...

    def published(self, packet_id: int, reason_code: Any) -> None: ...

    def may_read(self) -> bool:
        return True


async def test_an_answer_to_who_was_told_to_end_meanwhile_is_no_fault(caplog: pytest.LogCaptureFixture) -> None:
    client = Client("broker.example", events=Nobody(), gather_seconds=0)
    waiting: asyncio.Future[list[int]] = asyncio.get_running_loop().create_future()
    client._pending_subscribes[7] = waiting  # type: ignore[assignment] # as the library does while it waits
    client._on_subscribe(None, None, 7, [1])
    assert await waiting == [1]
    client._on_subscribe(None, None, 7, [1])
    assert caplog.text == ""
