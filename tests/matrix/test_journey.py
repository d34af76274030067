"""One user goes from client to client with nothing but a cursor."""

from contextlib import ExitStack
from random import Random

from playwright.sync_api import Browser

from tests.matrix.bench import TOKENS, Bench
from tests.matrix.cells import CLIENTS
from tests.matrix.programs import Program, messages_of

LEGS = (
    "websockets (Python)",
    "EventSource (Chromium)",
    "fetch, polling",
    "fetch, long polling",
    "socket.io-client, WebSocket",
    "socket.io-client, polling",
    "mqtt.js",
    "curl",
)
"""All whose users name a cursor themselves."""
TOLD = 20


def cursor_of(program: Program) -> str:
    cursor: str = [event["cursor"] for event in program.events if event["event"] == "message"][-1]
    return cursor


def test_one_user_moves_through_all_transports_and_loses_nothing(running: Bench, chromium: Browser) -> None:
    device, url, since, told = running.name(), running.gateway.url, None, 0
    legs = [*LEGS, *LEGS]
    Random(7).shuffle(legs)
    for leg in legs:
        client = CLIENTS[leg]
        place = client.address(f"sites/{device}/t", f"sensors/{device}/t")
        with ExitStack() as stack:
            program = client.start(chromium, url)
            stack.callback(program.stop)
            program.do("connect", url=url, token=TOKENS["operator"], **client.options)
            program.do("subscribe", room=place, **({} if since is None else {"since": since}))
            running.measure(device, *range(told + (TOLD if since else 0), told + 2 * TOLD))
            expected = list(range(told, told + 2 * TOLD))
            assert messages_of(program, place, len(expected)) == expected, leg
            since, told = cursor_of(program), told + len(expected)
        running.measure(device, *range(told, told + TOLD))
