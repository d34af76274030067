"""Many messages in one request: each line has its own outcome, and nothing is published twice."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import orjson
import pytest

from gateway.core.authentication import hash_token
from tests.integration.conftest import Device, browser
from tests.integration.test_snippets import snippets
from tests.integration.test_websocket import metric
from tests.nginx import nginx
from tests.real import GatewayProcess, configuration, mosquitto

CI, SLOW, SLOWER = ("tg_" + letter * 64 for letter in "abc")
NDJSON = "application/x-ndjson"
PUBLISHED = 'tidegate_published_total{transport="http"}'


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[GatewayProcess, int]]:
    """A gateway in which a program may publish nearly everywhere, as fast as it likes."""
    folder = tmp_path_factory.mktemp("batch")
    many = {
        "messages_per_second": 10_000,
        "messages_burst": 10_000,
        "bytes_burst": "10 MiB",
        "bytes_per_second": "10 MiB",
    }
    identity = {
        "anonymous": {"roles": ["guest"]},
        "tokens": [
            {"name": "ci", "sha256": hash_token(CI), "roles": ["ci"]},
            {"name": "slow", "sha256": hash_token(SLOW), "roles": ["slow"]},
            {"name": "slower", "sha256": hash_token(SLOWER), "roles": ["slower"]},
        ],
    }
    with mosquitto(folder) as broker:
        config = configuration(
            broker.port,
            identity=identity,
            access=[
                {"roles": ["*"], "subscribe": ["#"], "history": ["#"]},
                {"roles": ["ci", "slow"], "publish": ["chat/#", "sites/#"]},
            ],
            limits={
                "message_bytes": "1 KiB", "batch_bytes": "64 KiB", "batch_messages": 300,
                "by_role": {"ci": many, "slow": {"messages_burst": 3, "messages_per_second": 0.01},
                            "slower": {"messages_burst": 3, "messages_per_second": 0.02}},
            },
            rooms=[{"room": "chat/#", "history": {"messages": 1000}}],
        )  # fmt: skip
        with GatewayProcess(folder / "gateway", config) as gateway:
            gateway.wait_until_ready()
            yield gateway, broker.port


@pytest.fixture
def gateway(running: tuple[GatewayProcess, int]) -> GatewayProcess:
    return running[0]


def post(
    gateway: GatewayProcess, body: bytes | list[dict[str, Any]], query: str = "", **headers: str
) -> httpx.Response:
    if isinstance(body, list):
        body = b"".join(orjson.dumps(line) + b"\n" for line in body)
    given = {
        "content-type": NDJSON,
        "authorization": f"Bearer {CI}",
        **{k.replace("_", "-"): v for k, v in headers.items()},
    }
    return httpx.post(f"{gateway.url}/publish{query}", content=body, headers=given)


def history(gateway: GatewayProcess, room: str) -> list[Any]:
    answer = httpx.get(f"{gateway.url}/history?room={room}&limit=1000").json()
    return [message["data"] for message in answer["messages"]]


async def test_all_lines_are_published_in_order_and_each_is_answered(gateway: GatewayProcess) -> None:
    async with browser(gateway) as client:
        await client.ask(type="subscribe", room="chat/#")
        answer = post(gateway, [{"room": f"chat/{n % 2}", "data": n} for n in range(200)])
        heard = await client.messages(200)

    assert answer.status_code == 200
    told = answer.json()
    assert (told["published"], told["refused"]) == (200, 0)
    assert told["results"][1] == {"type": "ack", "room": "chat/1"}
    assert [message["data"] for message in heard] == list(range(200))
    assert heard[0]["from"] == {"user": "ci"}


def test_a_line_that_is_refused_keeps_no_other_from_being_published(gateway: GatewayProcess) -> None:
    before = metric(gateway, PUBLISHED)
    answer = post(
        gateway,
        b'{"room": "chat/mixed", "data": 1}\r\n'
        b"\r\n"
        b'{"room": "secret/x", "data": 2}\r\n'
        b'  {"room": "chat/mixed", data: 3}\n'
        b'{"room": "chat/mixed"}\n'
        b'{"room": "chat/mixed", "data": 1, "rom": 1, "id": 7}\n'
        b"[1]\n"
        b'{"room": "chat/mixed", "data": "' + b"x" * 1024 + b'"}\n'
        b'{"room": "raw/x", "data": 1}\n'
        b'{"room": "chat/mixed", "data": "AQI=", "binary": true, "id": "last"}\n'
        b"\n",
    )  # fmt: skip

    results = answer.json()["results"]
    assert answer.status_code == 200
    assert (answer.json()["published"], answer.json()["refused"]) == (2, 7)
    assert [(each["type"], each.get("code"), each.get("line")) for each in results] == [
        ("ack", None, None),
        ("error", "forbidden", 3),
        ("error", "bad_message", 4),
        ("error", "bad_message", 5),
        ("error", "bad_message", 6),
        ("error", "bad_message", 7),
        ("error", "message_too_large", 8),
        ("error", "forbidden", 9),
        ("ack", None, None),
    ]
    assert results[2]["message"].startswith("line 4, column 26: expected a JSON object")
    assert results[4]["message"].startswith('line 6: unknown field "rom"')
    assert results[4]["id"] == 7
    assert results[8]["id"] == "last"
    assert history(gateway, "chat/mixed") == [1, "AQI="]
    assert metric(gateway, PUBLISHED) == before + 2


def test_lines_without_a_room_go_where_the_query_says(gateway: GatewayProcess) -> None:
    answer = post(gateway, [{"data": 1}, {"room": "chat/other", "data": 2}], "?room=chat/usual")
    assert [each["room"] for each in answer.json()["results"]] == ["chat/usual", "chat/other"]
    assert history(gateway, "chat/usual") == [1]


def test_a_batch_that_comes_again_is_published_once(gateway: GatewayProcess) -> None:
    batch = [{"room": "chat/again", "data": n} for n in range(3)] + [{"room": "secret/x", "data": 3}]
    first = post(gateway, batch, idempotency_key='"b-1"').json()
    again = post(gateway, batch, idempotency_key="b-1").json()
    assert again == first
    assert history(gateway, "chat/again") == [0, 1, 2]
    post(gateway, batch, idempotency_key="b-2")
    assert history(gateway, "chat/again") == [0, 1, 2, 0, 1, 2]


def test_a_key_of_a_line_is_that_of_a_message_sent_otherwise(gateway: GatewayProcess) -> None:
    line = {"room": "chat/keyed", "data": 1, "key": "k"}
    assert post(gateway, [line, line]).json()["published"] == 2
    headers = {"authorization": f"Bearer {CI}", "idempotency-key": "k"}
    httpx.post(f"{gateway.url}/publish?room=chat/keyed", json=1, headers=headers).raise_for_status()
    assert history(gateway, "chat/keyed") == [1]
    other = post(gateway, [{**line, "data": 2}]).json()["results"][0]
    assert other["code"] == "bad_message"


def test_lines_over_the_budget_of_the_sender_are_not_tried(gateway: GatewayProcess) -> None:
    answer = post(gateway, [{"room": "chat/slow", "data": n} for n in range(6)], authorization=f"Bearer {SLOW}").json()
    assert (answer["published"], answer["refused"]) == (3, 3)
    assert [each.get("code") for each in answer["results"]] == [None] * 3 + ["rate_limited"] * 3
    assert answer["results"][5]["retry_after_seconds"] > 0
    assert answer["results"][5]["line"] == 6
    assert history(gateway, "chat/slow") == [0, 1, 2]


def test_lines_that_are_too_large_cost_as_much_as_others(gateway: GatewayProcess) -> None:
    large = {"room": "chat/large", "data": "x" * 1024}
    answer = post(gateway, [large] * 5, authorization=f"Bearer {SLOWER}").json()
    assert [each["code"] for each in answer["results"]] == ["message_too_large"] * 3 + ["rate_limited"] * 2


def test_a_batch_goes_through_nginx(gateway: GatewayProcess, tmp_path: Path) -> None:
    (documented,) = snippets("nginx")
    with nginx(tmp_path, documented.text.replace("127.0.0.1:8080", f"127.0.0.1:{gateway.port}")) as port:
        lines = b"".join(b'{"room": "chat/nginx", "data": %d}\n' % n for n in range(200))
        headers = {"content-type": NDJSON, "authorization": f"Bearer {CI}"}
        answer = httpx.post(f"http://127.0.0.1:{port}/publish", content=lines, headers=headers)
    assert answer.json()["published"] == 200
    assert history(gateway, "chat/nginx") == list(range(200))


@pytest.mark.parametrize(
    ("body", "headers", "status", "code"),
    [
        (b"x" * 65_537, {}, 413, "message_too_large"),
        (b'{"room": "chat/no", "data": 1}\n' * 301, {}, 413, "message_too_large"),
        (b"\r\n \n", {}, 400, "bad_message"),
        (b'{"room": "chat/no", "data": 1}', {"authorization": "Bearer tg_wrong"}, 401, "unauthenticated"),
        (b'{"room": "chat/no", "data": 1}', {"origin": "https://evil.example"}, 403, "origin_refused"),
        (b'{"room": "chat/no", "data": 1}', {"idempotency_key": "k" * 65}, 400, "bad_message"),
    ],
)
def test_a_batch_that_is_refused_as_a_whole_publishes_nothing(
    gateway: GatewayProcess, body: bytes, headers: dict[str, str], status: int, code: str
) -> None:
    answer = post(gateway, body, **headers)
    assert (answer.status_code, answer.json()["code"]) == (status, code)
    assert history(gateway, "chat/no") == []


def test_which_limit_of_batches_was_gone_over_is_counted(gateway: GatewayProcess) -> None:
    before = [metric(gateway, f'tidegate_limited_total{{limit="batch_{what}"}}') for what in ("bytes", "messages")]
    post(gateway, b"x" * 65_537)
    post(gateway, b"1\n" * 301)
    after = [metric(gateway, f'tidegate_limited_total{{limit="batch_{what}"}}') for what in ("bytes", "messages")]
    assert after == [before[0] + 1, before[1] + 1]


def test_lines_for_a_device_are_answered_once_the_broker_has_them(running: tuple[GatewayProcess, int]) -> None:
    gateway, broker_port = running
    device = Device(broker_port)
    try:
        device.subscribe("commands/oslo/fan")
        room = "sites/oslo/fan/commands"
        assert post(gateway, [{"room": room, "data": n} for n in range(5)]).json()["published"] == 5
        assert [orjson.loads(message.payload) for message in device.received(5)] == list(range(5))
    finally:
        device.stop()
