"""The composition root, where no process is needed to see what it does."""

import pytest

from gateway.app import Gateway
from gateway.config import Settings
from tests.unit.conftest import ListSink


class FaultySink(ListSink):
    def close(self, code: int, reason: str) -> None:
        raise RuntimeError("the connection is in a bad way")


async def test_goodbye_goes_on_after_a_session_that_cant_take_it(caplog: pytest.LogCaptureFixture) -> None:
    gateway = Gateway(Settings())
    namespace = gateway.namespaces["default"]
    sinks = [FaultySink(), ListSink()]
    for sink in sinks:
        namespace.open("websocket", sink)

    gateway.drain.finish()

    assert sinks[1].closed == (1012, "shutting_down")
    assert not namespace.sessions
    assert "bad way" in caplog.text
