"""Polling and long polling: `fetch` in a loop, curl, and what can go wrong on the way."""

import json
import signal
import subprocess
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest

from gateway.core.authentication import hash_token
from tests.integration.conftest import Device
from tests.integration.test_snippets import snippets
from tests.integration.test_websocket import GENEROUS, sessions
from tests.javascript import ClientError, node_program
from tests.nginx import nginx
from tests.real import DEADLINE_SECONDS, GatewayProcess, Mosquitto, configuration, wait_until

TOKEN = "tg_" + "a" * 64


@pytest.fixture(scope="module")
def polled(plant: Mosquitto, start_shared: Callable[..., GatewayProcess]) -> GatewayProcess:
    """One gateway for all tests here, on its own server and on one that only has ASGI."""
    limits = {**GENEROUS, "subscriptions_per_connection": 10}
    return start_shared(configuration(plant.port, limits=limits, rooms=[{"room": "crew/#", "presence": True}]))


def ask(gateway: GatewayProcess, room: str, **asked: Any) -> httpx.Response:
    return httpx.get(f"{gateway.url}/poll", params={"room": room, **asked}, timeout=DEADLINE_SECONDS)


def start(gateway: GatewayProcess, room: str) -> str:
    return str(ask(gateway, room).json()["cursor"])


def publish(gateway: GatewayProcess, room: str, data: Any) -> None:
    assert httpx.post(f"{gateway.url}/publish", params={"room": room}, json=data).status_code == 200


@contextmanager
def waiting(gateway: GatewayProcess, room: str, **asked: Any) -> Iterator[list[httpx.Response]]:
    """A poll that waits; its answer is there once the context is left."""
    before = sessions(gateway, "polling")
    answers: list[httpx.Response] = []
    thread = threading.Thread(target=lambda: answers.append(ask(gateway, room, **asked)))
    thread.start()
    wait_until(lambda: sessions(gateway, "polling") > before, "the poll waits")
    yield answers
    thread.join(DEADLINE_SECONDS)
    assert answers


def data(answer: httpx.Response) -> list[Any]:
    return [message["data"] for message in answer.json()["messages"]]


def test_the_first_answer_has_the_last_values_and_the_next_one_waits(polled: GatewayProcess, device: Device) -> None:
    device.publish("raw/first", "1")
    wait_until(lambda: ask(polled, "raw/first").json()["last"], "the value is there")
    first = ask(polled, "raw/first").json()
    assert [message["data"] for message in first["last"]] == [1]
    assert (first["messages"], first["recovered"], first["lacking"]) == ([], False, ["raw/first"])
    with waiting(polled, "raw/first", since=first["cursor"]) as answers:
        device.publish("raw/first", "2")
    assert data(answers[0]) == [2]
    assert answers[0].json()["recovered"] is True
    in_vain = ask(polled, "raw/first", since=answers[0].json()["cursor"], wait=0.1)
    assert (in_vain.status_code, data(in_vain)) == (200, [])


@pytest.mark.parametrize("wait", [0, 25], ids=["plain polling", "long polling"])
def test_a_loop_of_fetch_loses_nothing_while_messages_come_fast(
    polled: GatewayProcess, device: Device, wait: int
) -> None:
    room, count = f"kept/fetch-{polled.port}-{wait}", 800
    with node_program("polling.js") as page:
        page.do("connect", url=polled.url, wait=wait)
        page.do("subscribe", room=room)
        for number in range(count):
            device.publish(room, str(number), qos=1)
        told = page.wait_for(lambda event: event["event"] == "message", count)
        assert [event["data"] for event in told] == list(range(count))
        page.do("unsubscribe", room=room)
        device.publish(room, "-1", qos=1)
        page.do("subscribe", room=room, since=told[-2]["cursor"])
        again = page.wait_for(lambda event: event["event"] == "message", count + 2)
        assert [event["data"] for event in again[count:]] == [count - 1, -1]
        page.do("disconnect")
    wait_until(lambda: sessions(polled, "polling") == 0, "nobody waits any more")


CURL = """
since=%(since)s
while true; do
  answer=$(curl -sS "%(url)s/poll?room=%(room)s&since=$since&wait=5") || exit 1
  echo "$answer"
  since=$(python3 -c 'import json, sys; print(json.loads(sys.argv[1])["cursor"])' "$answer")
  case "$answer" in *'"data":"end"'*) exit 0;; esac
done
"""


def test_curl_in_a_loop_loses_nothing_while_messages_come_fast(polled: GatewayProcess, device: Device) -> None:
    room = f"kept/curl-{polled.port}"
    script = CURL % {"since": start(polled, room), "room": room, "url": polled.url}
    with subprocess.Popen(["bash", "-c", script], stdout=subprocess.PIPE, text=True) as curl:
        for number in range(500):
            device.publish(room, str(number), qos=1)
        device.publish(room, '"end"', qos=1)
        told, _ = curl.communicate(timeout=DEADLINE_SECONDS)
    heard = [message["data"] for line in told.splitlines() for message in json.loads(line)["messages"]]
    assert heard == [*range(500), "end"]


def test_an_answer_that_was_lost_is_told_again(polled: GatewayProcess, device: Device) -> None:
    room = f"kept/lost-{polled.port}"
    since = start(polled, room)
    client = polled.connect()
    client.sendall(f"GET /poll?room={room}&since={since} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode())
    wait_until(lambda: sessions(polled, "polling") == 1, "the poll waits")
    device.publish(room, "1", qos=1)
    heard = b""
    while b'"data":1' not in heard:
        heard += client.recv(4096)
    client.close()
    assert data(ask(polled, room, since=since)) == [1]


def test_what_is_not_kept_is_told_to_who_waits_and_else_said_to_be_lacking(
    polled: GatewayProcess, device: Device
) -> None:
    since = start(polled, "text/x")
    with waiting(polled, "text/x", since=since) as answers:
        device.publish("text/x", "heard")
    assert data(answers[0]) == ["heard"]
    cursor = answers[0].json()["cursor"]
    device.publish("text/x", "unheard")
    missed = wait_until(lambda: (a := ask(polled, "text/x", since=cursor, wait=0).json())["lacking"] and a, "it came")
    assert (missed["recovered"], missed["lacking"], missed["messages"], missed["last"]) == (False, ["text/x"], [], [])
    assert ask(polled, "text/x", since=missed["cursor"], wait=0).json()["recovered"] is True


def test_an_answer_is_bounded_and_says_that_there_is_more(polled: GatewayProcess, device: Device) -> None:
    room = f"kept/much-{polled.port}"
    since = start(polled, room)
    for number in range(1500):
        device.publish(room, str(number), qos=1)
    wait_until(lambda: (last := ask(polled, room).json()["last"]) and last[0]["data"] == 1499, "all is there")
    first = ask(polled, room, since=since)
    rest = ask(polled, room, since=first.json()["cursor"])
    assert (first.json()["more"], rest.json()["more"]) == (True, False)
    assert len(data(first)) <= 1000
    assert data(first) + data(rest) == list(range(1500))


def test_plain_polling_is_answered_with_304_until_something_comes(polled: GatewayProcess, device: Device) -> None:
    device.publish("raw/tag", "1")
    wait_until(lambda: ask(polled, "raw/tag", wait=0).json()["last"], "the value is there")
    first = ask(polled, "raw/tag", wait=0)
    assert first.headers["cache-control"] == "private, no-cache"
    assert {"Authorization", "Cookie"} <= {name.strip() for name in first.headers["vary"].split(",")}
    tag = {"if-none-match": first.headers["etag"]}

    def again(**params: Any) -> httpx.Response:
        return httpx.get(f"{polled.url}/poll", params={"room": "raw/tag", "wait": 0, **params}, headers=tag)

    publish(polled, "chat/elsewhere", 1)
    assert (again().status_code, again().content, again().headers["etag"]) == (304, b"", tag["if-none-match"])
    assert again(room=["raw/tag", "raw/other"]).status_code == 200
    device.publish("raw/tag", "2")
    changed = wait_until(lambda: (a := again()).status_code == 200 and a, "it has changed")
    assert [message["data"] for message in changed.json()["last"]] == [2]
    long = ask(polled, "raw/tag", since=first.json()["cursor"])
    assert (long.headers["cache-control"], long.headers.get("etag")) == ("no-store", None)
    assert long.headers["x-accel-buffering"] == "no"


@pytest.mark.parametrize(
    ("asked", "named"),
    [
        ({}, "room: expected at least one"),
        ({"room": "a//b"}, "room"),
        ({"room": "a", "wait": "soon"}, "wait: expected seconds from 0 to 55"),
        ({"room": "a", "wait": "56"}, "wait"),
        ({"room": "a", "wait": "-1"}, "wait"),
        ({"room": "a", "wait": "nan"}, "wait"),
        ({"room": "a", "wait": ["1", "2"]}, "wait: expected at most one, found 2"),
        ({"room": "a", "since": "yesterday"}, "since"),
        ({"room": "a", "since": ["e-1", "e-2"]}, "since: expected at most one, found 2"),
        ({"room": "a", "member": ["x", "y"]}, "member"),
    ],
)
def test_bad_questions_are_named(polled: GatewayProcess, asked: dict[str, Any], named: str) -> None:
    answer = httpx.get(f"{polled.url}/poll", params=asked)
    assert (answer.status_code, answer.json()["code"]) == (400, "bad_message")
    assert named in answer.json()["detail"]
    assert answer.headers["cache-control"] == "no-store"
    assert sessions(polled, "polling") == 0


def test_too_many_rooms_and_other_methods_are_refused(polled: GatewayProcess) -> None:
    rooms = httpx.get(f"{polled.url}/poll", params={"room": [f"a/{number}" for number in range(11)]})
    assert (rooms.status_code, rooms.json()["code"]) == (429, "too_many_subscriptions")
    posted = httpx.post(f"{polled.url}/poll?room=a")
    assert (posted.status_code, posted.headers["allow"]) == (405, "GET")


def test_who_waits_is_there_and_who_leaves_is_gone_at_once(polled: GatewayProcess) -> None:
    since = start(polled, "crew/oslo")
    client = polled.connect()
    client.sendall(f"GET /poll?room=crew/oslo&since={since}&member=ann HTTP/1.1\r\nHost: localhost\r\n\r\n".encode())

    def members() -> Any:
        return httpx.get(f"{polled.url}/presence", params={"room": "crew/oslo"}).json()["members"]

    assert wait_until(members, "ann is there") == [{"member": "ann"}]
    client.close()
    wait_until(lambda: sessions(polled, "polling") == 0, "the poll is over")
    assert members() == [{"member": "ann"}], "between two polls, for the time of grace"


def test_a_connection_serves_one_poll_after_the_other_and_what_is_asked_behind_one_ends_it(
    plant: Mosquitto, start_gateway: Callable[..., GatewayProcess]
) -> None:
    gateway = start_gateway(configuration(plant.port))
    since = start(gateway, "chat/x")
    request = f"GET /poll?room=chat/x&since={since} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode()
    client = gateway.connect()
    for _ in range(2):
        client.sendall(request)
        wait_until(lambda: sessions(gateway, "polling") == 1, "the poll waits")
        client.sendall(b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n")
        heard = b""
        while b'{"status":"ok"}' not in heard.replace(b" ", b""):
            heard += client.recv(65536)
        assert heard.count(b"HTTP/1.1 200 OK") == 2
        assert heard.index(b'"messages":[]') < heard.index(b'"status"')
    client.close()


def test_polls_that_wait_are_limited_as_connections_and_polls_as_requests(
    plant: Mosquitto, start_either: Callable[..., GatewayProcess]
) -> None:
    limits = {"connections_per_address": 1, "messages_per_second": 1, "messages_burst": 8}
    gateway = start_either(configuration(plant.port, limits=limits))
    since = start(gateway, "chat/x")
    with waiting(gateway, "chat/x", since=since):
        refused = ask(gateway, "chat/x", since=since)
        assert (refused.status_code, refused.json()["code"]) == (429, "too_many_connections_from_address")
        publish(gateway, "chat/x", 1)
    assert ask(gateway, "chat/y", since=since, wait=0.1).status_code == 200, "the seat is given back"
    answers = [ask(gateway, "chat/x", wait=0) for _ in range(6)]
    limited = [answer for answer in answers if answer.status_code == 429]
    assert limited
    assert (limited[0].json()["code"], int(limited[0].headers["retry-after"]) >= 1) == ("rate_limited", True)


def test_who_polls_is_told_no_more_bytes_a_second_than_the_limit_says(
    plant: Mosquitto, start_either: Callable[..., GatewayProcess]
) -> None:
    gateway = start_either(configuration(plant.port, limits={"bytes_per_second_out": 500}))
    since = start(gateway, "chat/x")
    with waiting(gateway, "chat/x", since=since) as answers:
        publish(gateway, "chat/x", "x" * 3000)
    refused = ask(gateway, "chat/x", since=answers[0].json()["cursor"])
    assert (refused.status_code, refused.json()["code"]) == (429, "rate_limited")
    assert 1 <= int(refused.headers["retry-after"]) <= 10


def test_who_shuts_down_answers_all_who_wait_at_once(
    plant: Mosquitto, start_gateway: Callable[..., GatewayProcess]
) -> None:
    gateway = start_gateway(configuration(plant.port))
    since = start(gateway, "chat/x")
    with waiting(gateway, "chat/x", since=since) as answers:
        gateway.send_signal(signal.SIGTERM)
    assert (answers[0].status_code, data(answers[0]), answers[0].json()["cursor"]) == (200, [], since)
    assert gateway.wait() == 0


def test_who_may_not_is_refused_and_tokens_let_in(
    plant: Mosquitto, start_either: Callable[..., GatewayProcess]
) -> None:
    identity = {"tokens": [{"name": "ci", "sha256": hash_token(TOKEN), "roles": ["operator"]}]}
    access = [{"roles": ["operator"], "subscribe": ["kept/#"], "publish": ["chat/#"]}]
    gateway = start_either(configuration(plant.port, identity=identity, access=access))
    assert ask(gateway, "kept/x").json()["code"] == "unauthenticated"
    with node_program("polling.js") as page:
        page.do("connect", url=gateway.url, token=TOKEN)
        page.do("subscribe", room="kept/x")
        for command, room in (("subscribe", "chat/x"), ("publish", "kept/x")):
            with pytest.raises(ClientError, match="forbidden"):
                page.do(command, room=room, data=1)
        page.do("publish", room="chat/x", data=1)
    foreign = httpx.get(f"{gateway.url}/poll?room=kept/x", headers={"Origin": "https://evil.example"})
    assert (foreign.status_code, foreign.json()["code"]) == (403, "origin_refused")


def test_nginx_passes_polls_on(polled: GatewayProcess, device: Device, tmp_path: Path) -> None:
    (snippet,) = snippets("nginx")
    room = f"kept/nginx-{polled.port}"
    with nginx(tmp_path, snippet.text.replace("127.0.0.1:8080", f"127.0.0.1:{polled.port}")) as port:
        with node_program("polling.js") as page:
            page.do("connect", url=f"http://127.0.0.1:{port}")
            page.do("subscribe", room=room)
            wait_until(lambda: sessions(polled, "polling") == 1, "the poll waits behind nginx")
            for number in range(100):
                device.publish(room, str(number), qos=1)
            told = page.wait_for(lambda event: event["event"] == "message", 100)
            assert [event["data"] for event in told] == list(range(100))
        wait_until(lambda: sessions(polled, "polling") == 0, "nobody waits any more")
