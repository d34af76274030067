"""How calls of webhooks are signed, and what their answers ask for."""

from base64 import b64decode
from datetime import UTC, datetime
from email.utils import format_datetime
from random import Random

import httpx
import pytest

from bridges.webhooks import Endpoint, WebhookBridge, sign
from gateway.core.counters import Counters
from gateway.core.webhooks import Webhook, WebhookOptions
from tests.unit.conftest import HandClock


def test_signatures_are_those_that_the_standard_webhooks_publish() -> None:
    secret = b64decode("MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw")
    found = sign([secret], "msg_p5jXN8AQM9LWM0D4loKWxJek", 1614265330, b'{"test": 2432232314}')
    assert found == "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="


def test_each_secret_signs() -> None:
    one, two = sign([b"a" * 24], "i", 1, b"x"), sign([b"b" * 24], "i", 1, b"x")
    assert sign([b"a" * 24, b"b" * 24], "i", 1, b"x") == f"{one} {two}"


@pytest.mark.parametrize(
    ("given", "seconds"),
    [("7", 7.0), ("0", 0.0), ("9" * 30, 999_999_999.0), ("soon", None), ("", None), ("-1", None), ("1.5", None)],
)
def test_what_an_answer_asks_to_wait_is_read(given: str, seconds: float | None) -> None:
    assert asked(HandClock(), given) == seconds


@pytest.mark.parametrize("later", [30, -30])
def test_a_date_says_how_long_from_now(later: int) -> None:
    clock = HandClock()
    moment = datetime.fromtimestamp(clock.time() + later, UTC)
    assert asked(clock, format_datetime(moment, usegmt=True)) == max(0, later)


def asked(clock: HandClock, retry_after: str) -> float | None:
    """The seconds in an answer with this `Retry-After`."""
    webhook = Webhook(WebhookOptions("hook"), "default", clock, Random(1), Counters())
    bridge = WebhookBridge(webhook, Endpoint("http://127.0.0.1"), clock)
    return bridge._read(httpx.Response(503, headers={"retry-after": retry_after})).retry_after_seconds
