"""When a key set is fetched, and what a client with an unknown key meets meanwhile."""

import asyncio
import base64
import hashlib
import hmac
import json
import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from bridges.jwks import MAXIMUM_WAITING, Jwks, JwksOptions
from bridges.jwks_fetch import FetchFailed
from bridges.jwt import JwtOptions, JwtVerifier
from gateway.core.authentication import KeyUnknown
from gateway.core.errors import Unauthenticated
from tests.provider import PRIVATE, jwk, sign
from tests.unit.conftest import HandClock

ALGORITHMS = ("ES256", "RS256")


async def turn() -> None:
    """Let all go on that can."""
    for _ in range(20):
        await asyncio.sleep(0)


class World:
    """A key set with a clock that stands still, and a provider that answers what it is told."""

    def __init__(self) -> None:
        self.clock = HandClock()
        self.keys: list[dict[str, Any]] = [jwk("ES256", "a")]
        self.failure: str | None = None
        self.fetches = 0
        self.go_on = asyncio.Event()
        self.go_on.set()
        self.jwks = Jwks(JwksOptions("https://login.example", ALGORITHMS, 600, 10, 5), self.fetch, self.clock)
        self.verifier = JwtVerifier(JwtOptions(ALGORITHMS, b""), self.jwks)

    async def fetch(self) -> bytes:
        self.fetches += 1
        await self.go_on.wait()
        if self.failure is not None:
            raise FetchFailed(self.failure)
        return json.dumps({"keys": self.keys}).encode()

    async def advance(self, seconds: float) -> None:
        end = self.clock.now + seconds
        while self.clock.now < end:
            due = [timer.at for timer in self.clock.timers if timer.callback is not None]
            self.clock.advance(min(end, *due, end) - self.clock.now)
            await turn()

    def show(self, kid: str | None = "a") -> asyncio.Task[bool]:
        """A client that shows a token, and waits if it is to."""

        async def client() -> bool:
            try:
                self.verifier.identify(sign(kid=kid))
            except KeyUnknown as unknown:
                await unknown.renew()
            except Unauthenticated:
                return False
            try:
                return self.verifier.identify(sign(kid=kid)).user == "ann"
            except Unauthenticated:
                return False

        return asyncio.ensure_future(client())


@asynccontextmanager
async def running() -> AsyncIterator[World]:
    world = World()
    task = asyncio.ensure_future(world.jwks.run())
    await turn()
    yield world
    task.cancel()
    await asyncio.wait((task,))
    assert world.clock.waiting == 0


async def test_keys_are_fetched_at_the_start_and_then_now_and_again() -> None:
    async with running() as world:
        assert (world.fetches, world.jwks.has_keys, world.jwks.problem) == (1, True, None)
        await world.advance(599)
        assert world.fetches == 1
        await world.advance(1)
        assert world.fetches == 2


async def test_a_client_with_a_new_key_waits_and_is_let_in() -> None:
    async with running() as world:
        await world.advance(100)
        world.keys = [jwk("ES256", "a"), jwk("ES256", "b")]
        world.go_on.clear()
        clients = [world.show("b") for _ in range(50)]
        await turn()
        assert not any(client.done() for client in clients)
        world.go_on.set()

        assert all(await asyncio.gather(*clients))
        assert world.fetches == 2
        await world.advance(599)
        assert world.fetches == 2


async def test_one_who_comes_during_a_fetch_waits_for_that_and_causes_no_other() -> None:
    async with running() as world:
        await world.advance(100)
        world.go_on.clear()
        early = world.show("b")
        await turn()
        late = world.show("b")
        await turn()
        world.keys.append(jwk("RS256", "c"))
        world.go_on.set()
        assert [await early, await late] == [False, False]
        await world.advance(590)
        assert world.fetches == 2


async def test_a_name_that_no_key_has_is_no_reason_to_wait() -> None:
    async with running() as world:
        await world.advance(100)
        with pytest.raises(Unauthenticated, match="a `kid` of at most 256 characters") as refused:
            world.verifier.identify(sign(kid="k" * 257))
        assert not isinstance(refused.value, KeyUnknown)


async def test_a_key_that_is_known_costs_no_waiting_while_others_wait() -> None:
    async with running() as world:
        await world.advance(100)
        world.go_on.clear()
        other = world.show("b")
        await turn()

        assert await world.show("a")
        assert not other.done()
        world.go_on.set()
        assert not await other


async def test_a_flood_of_unknown_keys_has_the_set_fetched_once_in_the_cooldown() -> None:
    async with running() as world:
        for second in range(1, 101):
            await world.advance(1)
            clients = [world.show(f"{second}-{number}") for number in range(20)]
            await turn()
            assert not any(client.done() and client.result() for client in clients)
        assert world.fetches <= 11


async def test_who_comes_in_the_cooldown_waits_if_that_is_short_and_is_told_when_to_come_back_otherwise() -> None:
    async with running() as world:
        world.keys = [jwk("ES256", "b")]
        await world.advance(4)
        with pytest.raises(Unauthenticated) as refused:
            world.verifier.identify(sign(kid="b"))
        assert not isinstance(refused.value, KeyUnknown)
        assert refused.value.retry_after_seconds == 6
        await world.advance(1)
        client = world.show("b")
        await turn()
        assert not client.done()
        await world.advance(5)
        assert await client


async def test_so_many_clients_wait_and_no_more() -> None:
    async with running() as world:
        await world.advance(100)
        world.go_on.clear()
        clients = [world.show("b") for _ in range(MAXIMUM_WAITING + 1)]
        await turn()
        assert [client.done() for client in clients] == [False] * MAXIMUM_WAITING + [True]
        world.go_on.set()
        await asyncio.gather(*clients)


async def test_who_comes_before_the_first_answer_waits_for_it() -> None:
    world = World()
    world.go_on.clear()
    task = asyncio.ensure_future(world.jwks.run())
    client = world.show("a")
    await turn()
    assert (world.jwks.has_keys, world.jwks.problem) == (False, "not fetched yet")
    world.go_on.set()

    assert await client
    task.cancel()
    await asyncio.wait((task,))


async def test_keys_stay_while_the_provider_is_away_and_that_is_told_once(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    async with running() as world:
        world.failure = "it can't be reached: Connection refused"
        await world.advance(600)
        for _ in range(10):
            await world.advance(10)
        assert world.fetches == 12
        assert await world.show("a")
        assert (world.jwks.has_keys, world.jwks.problem) == (True, world.failure)
        assert [record.levelname for record in caplog.records] == ["INFO", "WARNING"]
        assert caplog.messages[1].endswith("Connection refused; the 1 that are known stay")

        world.failure = None
        await world.advance(10)
        assert world.jwks.problem is None
        assert caplog.messages[2:] == ["keys at https://login.example: 1 known"]
        await world.advance(1800)
        assert len(caplog.records) == 3


async def test_a_provider_that_is_away_at_the_start_is_asked_again_and_again() -> None:
    world = World()
    world.failure = "away"
    task = asyncio.ensure_future(world.jwks.run())
    await turn()
    for expected in (1, 2, 3):
        assert (world.fetches, world.jwks.has_keys, world.jwks.problem) == (expected, False, "away")
        await world.advance(10)
    world.failure = None
    await world.advance(10)
    assert (world.jwks.has_keys, world.jwks.problem) == (True, None)
    task.cancel()
    await asyncio.wait((task,))


async def test_a_key_that_the_provider_withdraws_is_refused_from_the_next_time_on() -> None:
    async with running() as world:
        world.keys = [jwk("ES256", "b")]
        assert await world.show("a")
        await world.advance(600)
        assert not await world.show("a")
        world.keys = []
        await world.advance(600)
        assert (world.jwks.has_keys, world.jwks.problem) == (False, "none fits: expected one for ES256, RS256")


async def test_a_key_that_does_not_count_is_told_once(caplog: pytest.LogCaptureFixture) -> None:
    async with running() as world:
        world.keys = [jwk("ES256", "a"), {**jwk("RS256", "p"), "d": "AQAB"}]
        for _ in range(3):
            await world.advance(600)
        (told,) = caplog.messages
        assert "keys[1]: found a private key" in told


async def test_a_fault_wakes_those_who_wait() -> None:
    world = World()

    async def fault() -> bytes:
        raise ZeroDivisionError

    faulty = Jwks(JwksOptions("https://login.example", ALGORITHMS), fault, world.clock)
    client = asyncio.ensure_future(faulty.renew())
    await turn()
    with pytest.raises(ZeroDivisionError):
        await faulty.run()
    await asyncio.wait_for(client, 5)


ATTACKS: dict[str, Any] = {
    "an unknown key": lambda: sign(kid="b"),
    "no key where two fit": lambda: sign(),
    "a key of the attacker's own in the header": lambda: sign(
        kid="b", key=PRIVATE["RS256"], algorithm="RS256", header={"jwk": jwk("RS256")}
    ),
    "another's key under a known name": lambda: sign("RS256", "a", header={"jwk": jwk("RS256", "a")}),
    "an address of keys in the header": lambda: sign("RS256", "a", header={"jku": "http://127.0.0.1:1/keys"}),
    "an address of certificates in the header": lambda: sign("RS256", "a", header={"x5u": "http://127.0.0.1:1"}),
    "a path for a name": lambda: sign(kid="../../../../dev/null"),
    "an address for a name": lambda: sign(kid="http://127.0.0.1:1/keys"),
    "a query for a name": lambda: sign(kid="' OR 1=1 --"),
    "a NUL in the name": lambda: sign(kid="a\0"),
    "a long name": lambda: sign(kid="k" * 100_000),
    "an empty name": lambda: sign(kid=""),
    "an algorithm that isn't accepted": lambda: sign("EdDSA", "a"),
}


@pytest.mark.parametrize("what", ATTACKS)
async def test_an_attacker_is_refused_whatever_its_header_says(what: str) -> None:
    async with running() as world:
        world.keys.append(jwk("ES256", "c"))
        await world.advance(600)
        with pytest.raises(Unauthenticated):
            world.verifier.identify(ATTACKS[what]())
        await turn()
        assert world.fetches == 2


def token(header: bytes, signature: str = "") -> str:
    parts = (header, b'{"sub": "ann", "exp": 99999999999}')
    return ".".join(base64.urlsafe_b64encode(part).rstrip(b"=").decode() for part in parts) + f".{signature}"


@pytest.mark.parametrize(
    "header",
    [
        b'{"alg": "none", "kid": "a"}',
        b'{"kid": "a"}',
        b'{"alg": ["ES256"], "kid": "a"}',
        b'{"alg": null, "kid": "a"}',
        b'{"alg": "ES256", "kid": 5}',
        b'{"alg": "ES256", "kid": ["a"]}',
        b'{"alg": "ES256", "kid": null}',
        b'["ES256"]',
        b"",
        b"{",
        b'{"alg": "ES256", "kid": "a", "crit": ["b64"], "b64": false}',
    ],
)
async def test_no_header_makes_the_verifier_fail(header: bytes) -> None:
    async with running() as world:
        for signature in ("", "AAAA"):
            with pytest.raises(Unauthenticated):
                world.verifier.identify(token(header, signature))


@pytest.mark.parametrize("algorithm", ["HS256", "HS384", "HS512"])
async def test_a_published_key_is_never_taken_for_a_secret(algorithm: str) -> None:
    public = PRIVATE["ES256"].public_key()
    forms = [
        public.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo),
        public.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo),
        json.dumps(jwk("ES256", "a")).encode(),
    ]
    async with running() as world:
        for secret in forms:
            unsigned = token(json.dumps({"alg": algorithm, "kid": "a"}).encode()).rstrip(".")
            mac = hmac.new(secret, unsigned.encode(), getattr(hashlib, f"sha{algorithm[2:]}")).digest()
            with pytest.raises(Unauthenticated, match="algorithm that isn't accepted"):
                world.verifier.identify(f"{unsigned}.{base64.urlsafe_b64encode(mac).rstrip(b'=').decode()}")
