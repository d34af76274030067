"""Three gateways with one Redis are one door: what one knows of a client, all do."""

import asyncio
from collections.abc import Awaitable, Callable, Iterator
from contextlib import ExitStack
from itertools import count
from typing import Any

import httpx
import pytest
import yaml
from websockets.asyncio.client import connect
from websockets.exceptions import InvalidStatus

from gateway.core.authentication import hash_token
from tests.integration.conftest import Browser
from tests.real import DEADLINE_SECONDS, GatewayProcess, Mosquitto, configuration, wait_until
from tests.redis import redis_server
from tests.unit.test_passwords import CHEAP

USERS, PASSWORD = ("ann", "bob", "eve", "zoe"), "correct horse"
"""One for each test, since who has just left counts for a second elsewhere."""
TOKEN, NARROW = "tg_" + "a" * 64, "tg_" + "b" * 64
Start = Callable[[], GatewayProcess]
Cluster = list[GatewayProcess]


@pytest.fixture(scope="module")
def start(tmp_path_factory: pytest.TempPathFactory, plant: Mosquitto) -> Iterator[Start]:
    """Starts gateways that have one Redis."""
    folder = tmp_path_factory.mktemp("cluster")
    (folder / "users.yaml").write_text(
        yaml.safe_dump({name: {"password_hash": CHEAP.hash(PASSWORD), "roles": ["operator"]} for name in USERS})
    )
    (folder / "session.key").write_text("k" * 32)
    with redis_server(folder) as redis, ExitStack() as started:
        config = configuration(
            plant.port,
            engine={"url": redis.url},
            cluster={"lease_seconds": 600},
            identity={
                "users_file": str(folder / "users.yaml"),
                "session_secret_file": str(folder / "session.key"),
                "tokens": [
                    {"name": "ci", "sha256": hash_token(TOKEN), "roles": ["operator"]},
                    {"name": "meter", "sha256": hash_token(NARROW), "roles": ["operator", "narrow"]},
                ],
            },
            access=[{"roles": ["operator"], "subscribe": ["#"], "publish": ["#"]}],
            listen={"trusted_proxies": ["127.0.0.1"]},
            limits={
                "connections_per_user": 3,
                "messages_per_second": 1000,
                "messages_burst": 1000,
                "by_role": {"narrow": {"messages_per_second": 0.01, "messages_burst": 20}},
                "failed_logins": 3,
                "failed_login_delay_seconds": 600,
            },
            offenders={"offences": 1, "window_seconds": 1000, "refuse_seconds": 100},
        )
        names = (f"gateway-{number}" for number in count())
        yield lambda: started.enter_context(GatewayProcess(folder / next(names), config))


@pytest.fixture(scope="module")
def cluster(start: Start) -> Cluster:
    gateways = [start() for _ in range(3)]
    for each in gateways:
        each.wait_until_ready()
    return gateways


def test_a_gateway_that_is_shut_down_counts_no_more(cluster: Cluster, start: Start) -> None:
    def knows(number: int) -> bool:
        return f"tidegate_shared_limits_nodes {number}.0" in cluster[0].get("/metrics").text

    fourth = start()
    wait_until(lambda: knows(4), "it is counted")
    fourth.stop()
    wait_until(lambda: knows(3), "it has left")


def test_metrics_say_that_limits_are_shared(cluster: Cluster) -> None:
    for each in cluster:
        wait_until(lambda: "tidegate_shared_limits_nodes 3.0" in each.get("/metrics").text, "all know all")  # noqa: B023
    metrics = cluster[0].get("/metrics").text
    assert all(f'tidegate_shared_limits_total{{outcome="{each}"}}' in metrics for each in ("told", "heard", "dropped"))


class Person:
    """Somebody with a browser, at an address of its own, who may come to any of the gateways."""

    def __init__(self, address: str) -> None:
        self.http = httpx.Client(timeout=DEADLINE_SECONDS, headers={"x-forwarded-for": address})
        self.address = address
        self.csrf = ""

    def log_in(self, gateway: GatewayProcess, user: str = "ann", password: str = PASSWORD) -> httpx.Response:
        answer = self.http.post(f"{gateway.url}/login", json={"user": user, "password": password})
        self.csrf = answer.json().get("csrf", "")
        return answer

    def log_out(self, gateway: GatewayProcess) -> int:
        return self.http.post(f"{gateway.url}/logout", headers={"x-csrf-token": self.csrf}).status_code

    def session(self, gateway: GatewayProcess, cookie: str | None = None) -> httpx.Response:
        headers = {} if cookie is None else {"cookie": f"tidegate_session={cookie}"}
        return self.http.get(f"{gateway.url}/session", headers=headers)

    @property
    def cookie(self) -> str:
        return self.http.cookies["tidegate_session"]

    def websocket(self, gateway: GatewayProcess) -> Any:
        cookie = f"tidegate_session={self.cookie}"
        sent = {"cookie": cookie, "origin": gateway.url, "x-forwarded-for": self.address}
        return connect(gateway.ws_url, additional_headers=sent)


@pytest.fixture
def person() -> Iterator[Callable[[str], Person]]:
    """Makes people."""
    made: list[Person] = []

    def make(address: str) -> Person:
        made.append(Person(address))
        return made[-1]

    yield make
    for each in made:
        each.http.close()


Make = Callable[[str], Person]


async def test_a_login_counts_at_every_gateway_until_it_has_ended_at_one(cluster: Cluster, person: Make) -> None:
    ann = person("192.0.2.1")
    ann.log_in(cluster[0])
    cookie = ann.cookie
    assert [ann.session(each).status_code for each in cluster] == [200] * 3
    async with ann.websocket(cluster[1]) as connection:
        assert (await Browser(connection).hear())["type"] == "welcome"
        assert await asyncio.to_thread(ann.log_out, cluster[2]) == 204
        bye = await Browser(connection).hear()
        assert (bye["code"], bye["reason"]) == ("unauthenticated", "this login has ended: log in again")
    for each in cluster:
        wait_until(lambda: ann.session(each, cookie).status_code == 401, "no gateway takes the cookie")  # noqa: B023
        assert "this login has ended" in ann.session(each, cookie).json()["detail"]


async def test_a_ticket_lets_in_once_whichever_gateway_it_is_from(cluster: Cluster) -> None:
    headers = {"authorization": f"Bearer {TOKEN}", "x-forwarded-for": "192.0.2.2"}
    answer = await asyncio.to_thread(httpx.post, f"{cluster[0].url}/ticket", headers=headers)
    ticket = answer.json()["ticket"]

    async def come(gateway: GatewayProcess) -> int:
        try:
            async with connect(f"{gateway.ws_url}?ticket={ticket}") as connection:
                return 200 if (await Browser(connection).hear())["identity"]["user"] == "ci" else 0
        except InvalidStatus as refused:
            return refused.response.status_code

    assert sorted(await asyncio.gather(*(come(each) for each in cluster * 3))) == [200] + [401] * 8


async def test_a_ticket_for_a_login_is_worth_as_much_as_the_login(cluster: Cluster, person: Make) -> None:
    eve = person("192.0.2.3")
    eve.log_in(cluster[0], "eve")
    tickets = [
        eve.http.post(f"{cluster[0].url}/ticket", headers={"x-csrf-token": eve.csrf}).json()["ticket"] for _ in "ab"
    ]
    said = httpx.get(f"{cluster[1].url}/last?room=a&ticket={tickets[0]}", headers={"x-forwarded-for": eve.address})
    assert said.status_code == 200
    eve.log_out(cluster[1])
    wait_until(lambda: eve.session(cluster[2]).status_code == 401, "the login has ended there")
    said = httpx.get(f"{cluster[2].url}/last?room=a&ticket={tickets[1]}", headers={"x-forwarded-for": eve.address})
    assert said.status_code == 401


def test_wrong_passwords_count_over_all_gateways(cluster: Cluster, person: Make) -> None:
    thief = person("192.0.2.4")
    for each in cluster:
        assert thief.log_in(each, "bob", "wrong").status_code == 401

    def is_known() -> bool:
        return all(thief.log_in(each, "bob", "wrong").status_code == 429 for each in cluster)

    wait_until(is_known, "all have counted all")
    assert thief.log_in(cluster[0], "bob").status_code == 429
    assert person("192.0.2.5").log_in(cluster[1], "bob").status_code == 200


async def test_connections_of_a_user_count_over_all_gateways(cluster: Cluster, person: Make) -> None:
    zoe = person("192.0.2.6")
    zoe.log_in(cluster[0], "zoe")

    async def come(gateway: GatewayProcess) -> Any:
        connection = await zoe.websocket(gateway)
        assert (await Browser(connection).hear())["type"] == "welcome"
        return connection

    connections = [await come(cluster[0]) for _ in range(3)]

    async def is_refused() -> bool:
        try:
            await (await zoe.websocket(cluster[1])).close()
        except InvalidStatus as refused:
            return refused.response.status_code == 429
        return False

    await until_it_is(is_refused, True)
    await connections.pop().close()
    await until_it_is(is_refused, False)
    for connection in connections:
        await connection.close()


async def until_it_is(condition: Callable[[], Awaitable[bool]], wanted: bool) -> None:
    async with asyncio.timeout(DEADLINE_SECONDS):
        while await condition() is not wanted:  # noqa: ASYNC110
            await asyncio.sleep(0.05)


def test_requests_of_an_address_count_over_all_gateways(cluster: Cluster, person: Make) -> None:
    busy = person("192.0.2.7")
    headers = {"authorization": f"Bearer {NARROW}"}

    def ask(gateway: GatewayProcess) -> int:
        return busy.http.get(f"{gateway.url}/last?room=a", headers=headers).status_code

    assert [ask(cluster[0]) for _ in range(20)] == [200] * 20
    wait_until(lambda: ask(cluster[1]) == ask(cluster[2]) == 429, "the others know")
    other = httpx.get(f"{cluster[1].url}/last?room=a", headers={**headers, "x-forwarded-for": "192.0.2.8"})
    assert other.status_code == 200


def test_an_address_that_one_gateway_refuses_is_refused_by_all(cluster: Cluster, person: Make) -> None:
    offender, headers = person("192.0.2.9"), {"authorization": f"Bearer {NARROW}"}

    def offend() -> bool:
        answer = offender.http.get(f"{cluster[0].url}/last?room=a", headers=headers)
        return answer.status_code == 429 and answer.json()["code"] == "address_refused"

    wait_until(offend, "it is refused")
    for each in cluster[1:]:
        wait_until(lambda: offender.session(each).status_code == 429, "there, too")  # noqa: B023
        assert offender.session(each).json()["code"] == "address_refused"
