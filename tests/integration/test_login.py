"""Logins over real HTTP, WebSocket and SSE, under both servers: cookies, their token, and what ends them."""

import asyncio
import threading
from collections.abc import Callable, Iterator
from functools import partial
from http.cookies import SimpleCookie
from pathlib import Path
from typing import Any

import httpx
import pytest
import yaml
from httpx_sse import connect_sse
from websockets.asyncio.client import connect
from websockets.exceptions import InvalidStatus

from gateway.core.authentication import hash_token
from gateway.user_file import UserFile
from tests.integration.conftest import Browser
from tests.real import DEADLINE_SECONDS, GatewayProcess, Mosquitto, configuration, wait_until
from tests.unit.test_passwords import CHEAP

PASSWORD = "correct horse"
PLAIN, SECURE = "tidegate_session", "__Host-tidegate_session"
API_TOKEN = "tg_" + "a" * 64
Start = Callable[..., GatewayProcess]
Visit = Callable[[GatewayProcess], "Person"]


def users(**changes: str) -> str:
    passwords = {"ann": PASSWORD, "bob": "battery staple", **changes}
    hashes = {name: CHEAP.hash(password) for name, password in passwords.items()}
    return yaml.safe_dump({name: {"password_hash": each, "roles": ["operator"]} for name, each in hashes.items()})


@pytest.fixture(params=["direct", "plain"])
def start(request: pytest.FixtureRequest, tmp_path: Path, broker: Mosquitto, start_gateway: Start) -> Start:
    """Starts a gateway with users, with settings of the test's own."""
    path = tmp_path / "users.yaml"
    path.write_text(users())

    def run(identity: dict[str, Any] | None = None, **more: Any) -> GatewayProcess:
        options = {key: more.pop(key) for key in ("trust", "port") if key in more}
        config: dict[str, Any] = {
            "identity": {"users_file": str(path), **(identity or {})},
            "access": [{"roles": ["operator"], "subscribe": ["#"], "publish": ["#"], "request": ["#"]}],
            "limits": {"messages_burst": 1000, "messages_per_second": 1000, "failed_login_delay_seconds": 60},
            "namespaces": {"b": {"access": [{"roles": ["operator"], "subscribe": ["#"]}]}},
            **more,
        }
        return start_gateway(configuration(broker.port, **config), plain=request.param == "plain", **options)

    return run


class Person:
    """A browser's cookies and what they are for."""

    def __init__(self, gateway: GatewayProcess) -> None:
        self.gateway = gateway
        self.http = httpx.Client(base_url=gateway.url, timeout=DEADLINE_SECONDS)
        self.csrf = ""

    def log_in(self, user: str = "ann", password: str = PASSWORD) -> httpx.Response:
        answer = self.http.post("/login", json={"user": user, "password": password})
        self.csrf = answer.json().get("csrf", "")
        return answer

    def post(self, path: str, **options: Any) -> httpx.Response:
        return self.http.post(path, headers={"x-csrf-token": self.csrf}, **options)

    @property
    def cookie(self) -> str:
        (value,) = (each.value for each in self.http.cookies.jar if each.name in (PLAIN, SECURE))
        return value or ""

    def websocket(self, path: str = "/ws", **headers: str) -> Any:
        url = self.gateway.ws_url.replace("/ws", path)
        sent = {"cookie": f"{PLAIN}={self.cookie}", "origin": self.gateway.url, **headers}
        return connect(url, additional_headers={name: value for name, value in sent.items() if value})


@pytest.fixture
def visit() -> Iterator[Visit]:
    """Browsers that have a look at a gateway."""
    people: list[Person] = []

    def come(gateway: GatewayProcess) -> Person:
        people.append(Person(gateway))
        return people[-1]

    yield come
    for person in people:
        person.http.close()


def cookies_of(answer: httpx.Response) -> dict[str, dict[str, Any]]:
    """What an answer sets, by name: attributes, and the value."""
    found = SimpleCookie()
    for header in answer.headers.get_list("set-cookie"):
        found.load(header)
    return {
        name: {**{key: value for key, value in each.items() if value}, "": each.value} for name, each in found.items()
    }


def test_a_login_by_json_or_by_a_form_says_who_one_is_and_gives_a_cookie(start: Start) -> None:
    gateway = start()
    by_json = httpx.post(f"{gateway.url}/login", json={"user": "ann", "password": PASSWORD})
    by_form = httpx.post(f"{gateway.url}/login", data={"user": "ann", "password": PASSWORD})
    for answer in (by_json, by_form):
        said = answer.json()
        assert (answer.status_code, said["user"], said["roles"]) == (200, "ann", ["operator"])
        assert answer.headers["cache-control"] == "no-store"
        assert said.keys() == {"user", "roles", "expires_at", "csrf"}
        cookie = cookies_of(answer)[PLAIN]
        assert cookie.pop("")
        assert cookie == {"path": "/", "max-age": "28800", "httponly": True, "samesite": "Lax"}
    assert cookies_of(by_json)[PLAIN] != cookies_of(by_form)[PLAIN]
    assert PASSWORD not in gateway.text


def test_over_tls_the_cookie_is_one_that_only_this_host_can_have_set(start: Start) -> None:
    gateway = start(listen={"trusted_proxies": ["127.0.0.1"]})
    https = httpx.post(
        f"{gateway.url}/login", json={"user": "ann", "password": PASSWORD}, headers={"x-forwarded-proto": "https"}
    )
    cookie = cookies_of(https)[SECURE]
    assert (cookie["secure"], cookie["path"], cookie["httponly"], cookie["samesite"]) == (True, "/", True, "Lax")
    for name, status in ((SECURE, 200), (PLAIN, 401)):  # the other one may be from anybody on the way
        headers = {"cookie": f"{name}={cookie['']}", "x-forwarded-proto": "https"}
        assert httpx.get(f"{gateway.url}/session", headers=headers).status_code == status
    page = httpx.post(  # TLS ended at a proxy that isn't trusted, which the page's origin tells
        f"{gateway.url}/login",
        json={"user": "ann", "password": PASSWORD},
        headers={"origin": f"https://127.0.0.1:{gateway.port}"},
    )
    assert list(cookies_of(page)) == [SECURE]


@pytest.mark.parametrize(
    ("options", "status", "told"),
    [
        ({"json": {"user": "ann", "password": "wrong"}}, 401, "the name of a user, and the password"),
        ({"json": {"user": "zoe", "password": PASSWORD}}, 401, "the name of a user, and the password"),
        ({"json": {"user": "ann"}}, 400, "expected `user` and `password`"),
        ({"json": {"user": "ann", "password": PASSWORD, "x": 1}}, 400, "nothing else"),
        ({"json": {"user": "ann", "password": 5}}, 400, "password: expected text"),
        ({"json": {"user": "", "password": PASSWORD}}, 400, "user: expected text of 1 to 256"),
        ({"json": ["ann", PASSWORD]}, 400, "expected an object"),
        ({"content": b"{", "headers": {"content-type": "application/json"}}, 400, "expected JSON"),
        ({"content": b'{"user":"ann","password":"x"}'}, 400, "content-type: expected application/json"),
        ({"content": b'{"user":"ann","password":"x"}', "headers": {"content-type": "text/plain"}}, 400, "content-type"),
        ({"data": {"user": ["ann", "bob"], "password": PASSWORD}}, 400, "percent-encoded"),
        ({"content": b"user=%ff&password=x", "headers": {"content-type": "application/x-www-form-urlencoded"}},
         400, "UTF-8"),
        ({"json": {"user": "ann", "password": "x" * 1025}}, 400, "1 to 1024"),
        ({"json": {"user": "ann", "password": "x" * 9000}}, 413, "at most 8192 bytes"),
        ({"json": {"user": "ann", "password": PASSWORD}, "headers": {"origin": "http://evil.example"}}, 403, "origins"),
        ({"json": {"user": "ann", "password": PASSWORD}, "headers": {"origin": "null"}}, 403, "origins"),
    ],
)  # fmt: skip
def test_a_login_that_can_not_be_sets_no_cookie(refusing: GatewayProcess, options: Any, status: int, told: str) -> None:
    answer = httpx.post(f"{refusing.url}/login", **options)
    assert (answer.status_code, "set-cookie" in answer.headers) == (status, False)
    assert told in answer.json()["detail"]


@pytest.fixture(scope="module")
def refusing(tmp_path_factory: pytest.TempPathFactory) -> Iterator[GatewayProcess]:
    folder = tmp_path_factory.mktemp("refusing")
    (folder / "users.yaml").write_text(users())
    config = {
        "broker": {"port": 0},
        "identity": {"users_file": str(folder / "users.yaml")},
        "limits": {"failed_logins": 100, "messages_burst": 1000},
    }
    with GatewayProcess(folder / "gateway", config) as running:
        yield running


def test_there_are_no_logins_without_users(start: Start) -> None:
    gateway = start({"users_file": None})
    for path in ("/login", "/logout"):
        answer = httpx.post(f"{gateway.url}{path}", json={"user": "ann", "password": PASSWORD})
        assert (answer.status_code, answer.json()["code"]) == (404, "no_such_endpoint")
    said = httpx.get(f"{gateway.url}/session")
    assert said.json()["login"] is False


def test_who_one_is_is_told_by_whatever_one_shows(start: Start, visit: Visit) -> None:
    gateway = start({"tokens": [{"name": "ci", "sha256": hash_token(API_TOKEN)}]})
    person = visit(gateway)
    nobody = person.http.get("/session")
    assert (nobody.status_code, nobody.json()["code"], nobody.json()["login"]) == (401, "unauthenticated", True)
    logged_in = person.log_in().json()
    assert person.http.get("/session").json() == {**logged_in, "login": True}
    program = person.http.get("/session", headers={"authorization": f"Bearer {API_TOKEN}"})
    assert program.json() == {"user": "ci", "roles": [], "login": True}
    assert httpx.post(f"{gateway.url}/login").status_code == 400
    assert httpx.get(f"{gateway.url}/login").status_code == 405


async def test_the_cookie_opens_every_door_in_every_namespace(start: Start, visit: Visit) -> None:
    person = visit(start())
    assert person.http.get("/last?room=a").status_code == 401
    person.log_in()
    assert person.http.get("/last?room=a").status_code == 200
    assert person.http.get("/n/b/last?room=a").status_code == 200
    assert person.post("/publish?room=a", json=1).status_code == 200
    with connect_sse(person.http, "GET", "/sse?room=a") as source:
        assert next(source.iter_sse()).json()["identity"]["user"] == "ann"
    for path in ("/ws", "/n/b/ws"):
        async with person.websocket(path) as connection:
            identity = (await Browser(connection).hear())["identity"]
            assert (identity["user"], identity["roles"]) == ("ann", ["operator"])
            assert identity["expires_at"] > 0
    ticket = person.post("/ticket").json()["ticket"]
    async with connect(f"{person.gateway.ws_url}?ticket={ticket}") as connection:
        assert (await Browser(connection).hear())["identity"]["user"] == "ann"


@pytest.mark.parametrize("path", ["/publish?room=a", "/request?room=a", "/ticket", "/logout"])
def test_what_changes_something_needs_the_token_of_this_login(start: Start, visit: Visit, path: str) -> None:
    gateway = start()
    ann, bob = visit(gateway), visit(gateway)
    ann.log_in()
    bob.log_in("bob", "battery staple")
    for headers in ({}, {"x-csrf-token": ""}, {"x-csrf-token": bob.csrf}, {"x-csrf-token": "x"}):
        refused = ann.http.post(path, json=1, headers=headers)
        assert (refused.status_code, refused.json()["code"]) == (403, "csrf_refused")
    assert ann.post(path, json=1).status_code == {"/logout": 204, "/request?room=a": 422}.get(path, 200)
    assert ann.http.get("/session").status_code == (401 if path == "/logout" else 200)


async def refused_handshake(person: Person, **headers: str) -> tuple[int, list[str]]:
    with pytest.raises(InvalidStatus) as refused:
        await person.websocket(**headers)
    response = refused.value.response
    return response.status_code, [value.partition(";")[0] for value in response.headers.get_all("set-cookie")]


async def test_a_websocket_with_the_cookie_comes_from_a_page_of_the_gateway(start: Start, visit: Visit) -> None:
    person = visit(start())
    person.log_in()
    for origin in ("", "http://evil.example", "null"):
        assert (await refused_handshake(person, origin=origin))[0] == 403


async def test_a_wrong_cookie_is_refused_at_every_door_and_taken_away(start: Start) -> None:
    gateway = start({"anonymous": {"roles": ["operator"]}})
    assert httpx.get(f"{gateway.url}/last?room=a").status_code == 200
    wrong = {"cookie": f"{PLAIN}=wrong"}
    for path in ("/last?room=a", "/sse?room=a", "/session", "/history?room=a"):
        answer = httpx.get(f"{gateway.url}{path}", headers=wrong)
        assert (answer.status_code, answer.json()["code"]) == (401, "unauthenticated")
        assert "the session cookie is refused" in answer.json()["detail"]
        assert {name: each["max-age"] for name, each in cookies_of(answer).items()} == {SECURE: "0", PLAIN: "0"}
    with pytest.raises(InvalidStatus) as refused:
        await connect(gateway.ws_url, additional_headers={**wrong, "origin": gateway.url})
    assert refused.value.response.status_code in (401, 403)  # 403 where the server can't say more
    gone = httpx.post(f"{gateway.url}/logout", headers=wrong)
    assert (gone.status_code, set(cookies_of(gone))) == (204, {SECURE, PLAIN})


async def test_a_logout_ends_the_login_and_all_that_lives_by_it(start: Start, visit: Visit) -> None:
    gateway = start()
    person, other = visit(gateway), visit(gateway)
    person.log_in()
    other.log_in()
    copied = {"cookie": f"{PLAIN}={person.cookie}"}
    ticket = person.post("/ticket").json()["ticket"]
    async with person.websocket() as here, person.websocket("/n/b/ws") as there, other.websocket() as stays:
        for connection in (here, there, stays):
            assert (await Browser(connection).hear())["type"] == "welcome"
        stream = asyncio.create_task(asyncio.to_thread(last_event, person))
        await asyncio.to_thread(wait_until, lambda: streams(gateway) == 1, "the stream is open")
        gone = person.post("/logout")
        assert (gone.status_code, set(cookies_of(gone))) == (204, {SECURE, PLAIN})
        for connection in (here, there):
            bye = await Browser(connection).hear()
            assert (bye["type"], bye["code"], bye["retry"]) == ("bye", "unauthenticated", False)
            assert bye["reason"] == "this login has ended: log in again"
            await connection.wait_closed()
            assert connection.close_code == 4401
        assert (await stream)["code"] == "unauthenticated"
        assert (await Browser(stays).ask(type="ping"))["type"] == "pong"
    assert PLAIN not in person.http.cookies
    again = httpx.get(f"{gateway.url}/last?room=a", headers=copied)
    assert (again.status_code, "this login has ended" in again.json()["detail"]) == (401, True)
    assert httpx.get(f"{gateway.url}/last?room=a&ticket={ticket}").status_code == 401
    assert other.http.get("/session").status_code == 200


def last_event(person: Person) -> Any:
    with connect_sse(person.http, "GET", "/sse?room=a") as source:
        return [event.json() for event in source.iter_sse()][-1]


def streams(gateway: GatewayProcess) -> int:
    wanted = 'tidegate_sessions{namespace="default",transport="sse"}'
    (line,) = (line for line in gateway.get("/metrics").text.splitlines() if line.startswith(wanted))
    return int(float(line.split()[-1]))


def test_a_new_login_takes_the_place_of_the_one_before_in_the_same_browser(start: Start, visit: Visit) -> None:
    person = visit(start())
    person.log_in()
    before = person.cookie
    person.log_in("bob", "battery staple")
    assert person.http.get("/session").json()["user"] == "bob"
    assert httpx.get(f"{person.gateway.url}/session", headers={"cookie": f"{PLAIN}={before}"}).status_code == 401


def test_a_cookie_is_renewed_as_it_is_used_and_live_sessions_with_it(start: Start, visit: Visit) -> None:
    person = visit(start({"session_seconds": 4}))
    first = person.log_in().json()
    before = person.cookie
    events: list[Any] = []
    reader = threading.Thread(target=lambda: events.append(last_event(person)))
    reader.start()
    for path in ("/session", "/last?room=a"):
        shown = person.cookie
        answer = wait_until(partial(renewed, person, path), f"{path} renews the cookie")
        assert person.cookie != shown
        assert cookies_of(answer)[PLAIN]["max-age"] == "4"
    said = person.http.get("/session").json()
    assert said["csrf"] == first["csrf"]
    assert said["expires_at"] > first["expires_at"] + 3  # the first one has gone by
    assert httpx.get(f"{person.gateway.url}/session", headers={"cookie": f"{PLAIN}={before}"}).status_code == 401
    assert events == []  # the stream has outlived the cookie that it was opened with
    reader.join()
    assert events[0]["reason"] == "the login has expired"
    assert httpx.get(f"{person.gateway.url}/session", headers={"cookie": f"{PLAIN}={before}"}).status_code == 401


def renewed(person: Person, path: str) -> httpx.Response | None:
    answer = person.http.get(path)
    assert answer.status_code == 200
    return answer if "set-cookie" in answer.headers else None


async def test_a_websocket_ends_when_its_login_does(start: Start, visit: Visit) -> None:
    person = visit(start({"session_seconds": 2}))
    person.log_in()
    async with person.websocket() as connection:
        assert [(await Browser(connection).hear())["type"] for _ in range(2)] == ["welcome", "bye"]
        await connection.wait_closed()
        assert connection.close_code == 4401


def test_logins_outlive_the_gateway_with_a_secret_of_theirs_and_end_with_it_without(
    start: Start, visit: Visit, tmp_path: Path
) -> None:
    key = tmp_path / "session.key"
    key.write_text("a" * 32)
    statuses = []
    for identity in ({"session_secret_file": str(key)}, {}):
        first = start(identity)
        person = visit(first)
        person.log_in()
        first.stop()
        key.write_text("a" * 32 + "\n" + "b" * 32)  # a newer one; the old one is still accepted
        person.http.base_url = httpx.URL(start(identity).url)
        statuses.append(person.http.get("/session").status_code)
    assert statuses == [200, 401]


def test_another_password_ends_logins(start: Start, visit: Visit, tmp_path: Path) -> None:
    key = tmp_path / "session.key"
    key.write_text("a" * 32)
    first = start({"session_secret_file": str(key)})
    ann, bob = visit(first), visit(first)
    ann.log_in()
    bob.log_in("bob", "battery staple")
    first.stop()
    bobs_hash = yaml.safe_load((tmp_path / "users.yaml").read_text())["bob"]
    (tmp_path / "users.yaml").write_text(yaml.safe_dump({**yaml.safe_load(users()), "bob": bobs_hash}))
    url = httpx.URL(start({"session_secret_file": str(key)}).url)
    for person, status in ((ann, 401), (bob, 200)):
        person.http.base_url = url
        assert person.http.get("/session").status_code == status


async def test_a_changed_users_file_takes_effect_on_who_is_connected(
    start: Start, visit: Visit, tmp_path: Path
) -> None:
    gateway = start()
    ann, bob, eve = visit(gateway), visit(gateway), visit(gateway)
    ann.log_in()
    bob.log_in("bob", "battery staple")
    kept = yaml.safe_load((tmp_path / "users.yaml").read_text())["bob"]
    async with ann.websocket() as anns, bob.websocket() as bobs:
        for connection in (anns, bobs):
            assert (await Browser(connection).hear())["type"] == "welcome"
        UserFile(tmp_path / "users.yaml").put("ann", CHEAP.hash("another one"), ["operator"], {})
        UserFile(tmp_path / "users.yaml").put("bob", kept["password_hash"], [], {})
        bye = await Browser(anns).hear()
        assert (bye["type"], bye["code"]) == ("bye", "unauthenticated")
        assert "another password" in bye["reason"]
        await asyncio.to_thread(wait_until, lambda: bob.http.get("/session").json()["roles"] == [], "bob has no roles")
        assert (await Browser(bobs).ask(type="subscribe", room="a"))["code"] == "forbidden"
    assert ann.http.get("/session").status_code == 401
    assert eve.log_in(password="another one").status_code == 200
    assert CHEAP.hash("x")[:20] not in gateway.text


def test_a_logout_is_not_forgotten_over_a_reload(start: Start, visit: Visit, tmp_path: Path) -> None:
    gateway = start(limits={"failed_logins": 10_000, "messages_burst": 10_000})
    person = visit(gateway)
    person.log_in()
    copied = {"cookie": f"{PLAIN}={person.cookie}"}
    person.post("/logout")
    UserFile(tmp_path / "users.yaml").put("eve", CHEAP.hash(PASSWORD), [], {})
    eve = visit(gateway)
    wait_until(lambda: eve.log_in("eve").status_code == 200, "eve is known")
    assert "this login has ended" in httpx.get(f"{gateway.url}/session", headers=copied).json()["detail"]


def test_wrong_passwords_have_to_wait_and_are_counted(start: Start, visit: Visit) -> None:
    gateway = start()
    person = visit(gateway)
    for _ in range(5):
        assert person.log_in(password="wrong").status_code == 401
    refused = person.log_in()
    assert (refused.status_code, refused.json()["code"]) == (429, "rate_limited")
    assert 0 < refused.json()["retry_after_seconds"] <= 60
    assert int(refused.headers["retry-after"]) <= 60
    assert person.log_in("bob", "battery staple").status_code == 200
    metrics = gateway.get("/metrics").text
    assert 'tidegate_logins_total{namespace="default",outcome="refused"} 5.0' in metrics
    assert 'tidegate_logins_total{namespace="default",outcome="accepted"} 1.0' in metrics
    assert 'tidegate_refusals_total{code="rate_limited",namespace="default"} 1.0' in metrics
