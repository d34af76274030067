"""Logins: who is let in by a password, how long, and what ends that."""

from dataclasses import dataclass, field, replace
from random import Random

import pytest

from bridges.cookies import SignedCookies
from gateway.core import ended_logins
from gateway.core.access import Access
from gateway.core.admission import Admission, Caller
from gateway.core.authentication import Authentication, hash_token
from gateway.core.cookies import ShownCookie
from gateway.core.counters import Counters
from gateway.core.ended_logins import Ended, EndedLogins
from gateway.core.errors import EngineUnavailable, OriginRefused, Unauthenticated
from gateway.core.identity import ANONYMOUS, Identity, Login
from gateway.core.limit_errors import RateLimited
from gateway.core.limits import Limits
from gateway.core.login_attempts import LoginAttempts, LoginLimits
from gateway.core.login_errors import CsrfRefused, LoginsBusy, StaleCookie
from gateway.core.logins import Logins, LoginTimes
from gateway.core.offenders import OffenceBounds, Offenders
from gateway.core.origins import Origins
from gateway.core.problem import problem
from gateway.core.role_limits import RoleLimits
from gateway.core.tickets import Tickets
from gateway.core.users import User
from tests.unit.conftest import HandClock, ListSink, World, make_world

TIMES = LoginTimes(100, 250)
TOKEN = "tg_" + "a" * 64


@dataclass
class Plainly:
    """Takes the hash for the password, and remembers what it was asked."""

    asked: list[str | None] = field(default_factory=list)
    busy: bool = False

    async def check(self, password_hash: str | None, password: str, network: str) -> bool:
        if self.busy:
            raise LoginsBusy("too many")
        self.asked.append(password_hash)
        return password_hash == password


@dataclass
class House:
    """Logins with everything around them in reach."""

    clock: HandClock
    users: dict[str, User]
    passwords: Plainly
    ended: EndedLogins
    logins: Logins
    world: World

    async def log_in(self, user: str = "ann") -> Identity:
        return await self.logins.log_in(user, self.users[user].password_hash, "a")

    def authentication(self, anonymous: Identity | None = None) -> Authentication:
        tickets = Tickets(30, self.clock, Random(1))
        tokens = {hash_token(TOKEN): Identity("ci")}
        return Authentication(self.clock, tickets, tokens, anonymous=anonymous, logins=self.logins)

    def admission(self, anonymous: Identity | None = None) -> Admission:
        return Admission(
            Origins(),
            RoleLimits(Limits()),
            self.clock,
            Counters(),
            self.authentication(anonymous),
            Offenders(OffenceBounds(), self.clock),
        )

    def live(self, identity: Identity) -> ListSink:
        sink = ListSink()
        self.world.namespace.open("websocket", sink, Access().of(identity))
        return sink


def cookie_of(identity: Identity) -> str:
    assert identity.credential is not None
    return identity.credential.value


@pytest.fixture
def house() -> House:
    world, passwords = make_world(), Plainly()
    clock = world.clock
    users = {"ann": User("ann", "secret", frozenset(["operator"]), {"site": "oslo"}), "bob": User("bob", "other")}
    attempts = LoginAttempts(LoginLimits(3, 1, 60), clock)
    seals = SignedCookies(["k" * 32])
    ended = EndedLogins(clock)
    logins = Logins(users, passwords, seals, attempts, TIMES, clock, Random(2), [world.namespace], ended)
    return House(clock, users, passwords, ended, logins, world)


async def test_a_right_password_makes_a_login_and_its_cookie_says_whose(house: House) -> None:
    identity = await house.log_in()
    assert (identity.user, sorted(identity.roles), identity.claims["site"]) == ("ann", ["operator"], "oslo")
    assert identity.expires_at == house.clock.time() + 100
    assert house.logins.identify(cookie_of(identity)) == identity
    again = await house.log_in()
    assert identity.login != again.login


async def test_the_same_is_done_and_said_whether_the_user_or_the_password_is_wrong(house: House) -> None:
    told = []
    for user, password in (("ann", "wrong"), ("zoe", "secret")):
        with pytest.raises(Unauthenticated) as refused:
            await house.logins.log_in(user, password, "a")
        told.append(refused.value.message)
    assert told[0] == told[1]
    assert house.passwords.asked == ["secret", None]  # both were checked


@pytest.mark.parametrize("user", ["ann", "zoe"])
async def test_wrong_passwords_make_further_tries_wait_whoever_the_user_is(house: House, user: str) -> None:
    for _ in range(3):
        with pytest.raises(Unauthenticated):
            await house.logins.log_in(user, "wrong", "a")
    with pytest.raises(RateLimited) as refused:
        await house.logins.log_in(user, "secret", "a")
    assert refused.value.retry_after_seconds == 1
    assert len(house.passwords.asked) == 3  # none was checked


async def test_a_right_password_ends_the_count_of_wrong_ones(house: House) -> None:
    for password in ("wrong", "wrong", "secret") * 5:
        try:
            await house.logins.log_in("ann", password, "a")
        except Unauthenticated:
            assert password == "wrong"


async def test_a_password_that_was_not_looked_at_is_no_failure(house: House) -> None:
    house.passwords.busy = True
    for _ in range(10):
        with pytest.raises(LoginsBusy):
            await house.log_in()
    house.passwords.busy = False
    assert (await house.log_in()).user == "ann"


async def test_a_cookie_holds_until_its_time_and_no_longer(house: House) -> None:
    cookie = cookie_of(await house.log_in())
    house.clock.advance(99.9)
    assert house.logins.identify(cookie).user == "ann"
    house.clock.advance(0.1)
    with pytest.raises(StaleCookie, match="expired"):
        house.logins.identify(cookie)


@pytest.mark.parametrize("cookie", ["", "x", "x" * 5000])
def test_what_is_no_cookie_of_this_gateway_is_refused(house: House, cookie: str) -> None:
    with pytest.raises(StaleCookie, match="isn't one that this gateway made"):
        house.logins.identify(cookie)


async def test_a_cookie_that_no_browser_would_keep_is_not_looked_at(house: House) -> None:
    fields = {"login": "a", "since": 0, "user": "ann", "password": house.users["ann"].fingerprint}
    more = {"expires_at": house.clock.time() + 10, "padding": f"{Random(1).getrandbits(60_000):x}"}
    with pytest.raises(StaleCookie, match="isn't one that this gateway made"):
        house.logins.identify(SignedCookies(["k" * 32]).seal({**fields, **more}))


async def test_another_password_or_no_user_any_more_ends_cookies(house: House) -> None:
    anns, bobs = [cookie_of(await house.log_in(user)) for user in ("ann", "bob")]
    house.users["ann"] = replace(house.users["ann"], password_hash="new")
    del house.users["bob"]
    for cookie in (anns, bobs):
        with pytest.raises(StaleCookie, match="gone or has another password"):
            house.logins.identify(cookie)


async def test_roles_are_those_of_now(house: House) -> None:
    cookie = cookie_of(await house.log_in())
    house.users["ann"] = replace(house.users["ann"], roles=frozenset(["guest"]))
    assert house.logins.identify(cookie).roles == {"guest"}


async def test_a_login_is_renewed_after_half_of_its_time_and_not_before(house: House) -> None:
    identity = await house.log_in()
    house.clock.advance(49.9)
    assert house.logins.renewed(identity) is None
    house.clock.advance(0.1)
    newer = house.logins.renewed(identity)
    assert newer is not None
    assert (newer.login, newer.expires_at) == (identity.login, house.clock.time() + 100)


async def test_a_login_ends_at_last_however_often_it_is_renewed(house: House) -> None:
    identity = await house.log_in()
    began = house.clock.time()
    for _ in range(4):
        house.clock.advance(60)
        house.logins.identify(cookie_of(identity))
        identity = house.logins.renewed(identity) or identity
    assert identity.expires_at == began + 250


async def test_a_renewed_login_prolongs_its_live_sessions_and_no_others(house: House) -> None:
    identity, other = await house.log_in(), await house.log_in()
    first, second = house.live(identity), house.live(other)
    house.clock.advance(60)
    assert house.logins.renewed(identity) is not None
    house.clock.advance(40)
    assert first.closed is None
    assert second.closed == (4401, "unauthenticated")
    assert second.take()[-1]["reason"] == "the login has expired"
    house.clock.advance(60)
    assert first.closed == (4401, "unauthenticated")


async def test_a_login_that_was_renewed_at_another_node_prolongs_its_live_sessions_here(house: House) -> None:
    identity = await house.log_in()
    live, login = house.live(identity), identity.login
    assert login is not None
    told: list[tuple[str, Login, float]] = []
    house.ended.prolonged = lambda *each: told.append(each)
    house.clock.advance(60)
    house.logins.prolong("ann", login, house.clock.time() + 100)
    house.logins.prolong("ann", login, house.clock.time() + 50)  # what is older changes nothing
    house.logins.prolong("nobody", login, house.clock.time() + 500)
    house.logins.prolong("ann", Login("another", login.since), house.clock.time() + 500)
    house.clock.advance(99)
    assert live.closed is None
    house.clock.advance(1)
    assert live.closed == (4401, "unauthenticated")
    assert told == []
    house.ended.hear(Ended("ann", login.id, login.since, house.clock.time() + 1000))
    house.logins.prolong("ann", login, house.clock.time() + 100)


async def test_that_a_login_was_renewed_here_is_told(house: House) -> None:
    identity = await house.log_in()
    told: list[tuple[str, Login, float]] = []
    house.ended.prolonged = lambda *each: told.append(each)
    house.clock.advance(60)
    assert house.logins.renewed(identity) is not None
    assert told == [("ann", identity.login, house.clock.time() + 100)]


async def test_an_ended_login_is_refused_and_its_live_sessions_end(house: House) -> None:
    identity, other = await house.log_in(), await house.log_in()
    cookie, live, stays = cookie_of(identity), house.live(identity), house.live(other)
    house.logins.end(identity)
    with pytest.raises(StaleCookie, match="has ended"):
        house.logins.identify(cookie)
    assert live.take()[-1]["reason"] == "this login has ended: log in again"
    assert stays.closed is None
    assert house.logins.identify(cookie_of(other)) == other


async def test_a_login_that_has_ended_at_another_node_is_refused_and_its_live_sessions_end(house: House) -> None:
    identity, other = await house.log_in(), await house.log_in()
    live, stays, login = house.live(identity), house.live(other), identity.login
    assert login is not None
    house.ended.hear(Ended("ann", login.id, login.since, house.clock.time() + 1000))
    house.logins.end_sessions(login.id)
    with pytest.raises(StaleCookie, match="has ended"):
        house.logins.identify(cookie_of(identity))
    assert (live.closed is None, stays.closed is None) == (False, True)


async def test_what_ends_here_is_told_with_what_it_takes_the_place_of(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ended_logins, "MAXIMUM_ENDED", 2)
    told: list[tuple[list[Ended], list[Ended]]] = []
    house.ended.told = lambda new, needless: told.append((sorted(new, key=str), sorted(needless, key=str)))
    for number in range(1, 5):
        house.ended.add("ann", login(number), 2e9 + number)
    one, two, three, four = (Ended("ann", str(number), float(number), 2e9 + number) for number in range(1, 5))
    before_one, before_two = (each._replace(id=None) for each in (one, two))
    assert told == [([one], []), ([two], []), ([three, before_one], [one]), ([four, before_two], [two, before_one])]
    assert set(house.ended.all()) == {three, four, before_two}


async def test_no_cookie_is_believed_before_it_is_known_which_logins_have_ended(house: House) -> None:
    identity, admission = await house.log_in(), house.admission()
    cookie, asked = cookie_of(identity), 0
    ticket = admission.authentication.tickets.issue(identity, "192.0.2.1")

    async def learn() -> None:
        nonlocal asked
        asked += 1
        house.ended.learn = None
        house.ended.hear(Ended("ann", None, house.clock.time(), house.clock.time() + 1000))

    for shown in (caller(cookie), caller(ticket=ticket)):
        house.ended.learn = learn
        with pytest.raises(Unauthenticated, match="has ended"):
            await admission.identify(shown)
    assert asked == 2

    async def refuse() -> None:
        raise EngineUnavailable("Redis is away")

    house.ended.learn = refuse
    with pytest.raises(EngineUnavailable):
        await admission.identify(caller(cookie))
    assert (await admission.require(caller(bearer=TOKEN))).user == "ci"


async def test_a_ticket_of_an_ended_login_is_refused(house: House) -> None:
    identity, authentication = await house.log_in(), house.authentication()
    ticket = authentication.tickets.issue(identity)
    house.logins.end(identity)
    with pytest.raises(Unauthenticated) as refused:
        authentication.of(None, ticket)
    assert not isinstance(refused.value, StaleCookie)  # the browser may have the cookie of a newer login


async def test_the_token_of_one_login_is_not_that_of_another(house: House) -> None:
    first, second = await house.log_in(), await house.log_in()
    token = house.logins.csrf_token(first)
    house.logins.check_csrf(first, token)
    for identity, wrong in ((second, token), (first, None), (first, ""), (first, "é"), (Identity("ci"), token)):
        with pytest.raises(CsrfRefused):
            house.logins.check_csrf(identity, wrong)
    assert house.logins.csrf_token(Identity("ci")) is None


def newer_logins(house: House, keys: list[str], **users: User) -> Authentication:
    attempts = LoginAttempts(LoginLimits(), house.clock)
    logins = Logins(
        users, house.passwords, SignedCookies(keys), attempts, LoginTimes(10, 10), house.clock, Random(3), []
    )
    return Authentication(house.clock, Tickets(30, house.clock, Random(1)), logins=logins)


async def test_with_other_users_logins_go_on_as_far_as_their_users_do(house: House) -> None:
    authentication = house.authentication()
    ann, bob, ended = await house.log_in(), await house.log_in("bob"), await house.log_in()
    house.logins.end(ended)
    changed = replace(house.users["ann"], roles=frozenset(["guest"]))
    authentication.become(newer_logins(house, ["x" * 32], ann=changed), same_keys=True)

    assert authentication.confirm(ann).roles == {"guest"}
    for identity, reason in ((bob, "gone or has another password"), (ended, "has ended")):
        with pytest.raises(Unauthenticated, match=reason):
            authentication.confirm(identity)
    live = house.live(ann)
    assert authentication.logins is not None
    authentication.logins.end(ann)
    assert live.closed == (4401, "unauthenticated")


@pytest.mark.parametrize(("keys", "holds"), [(["k" * 32, "l" * 32], True), (["l" * 32], False)])
async def test_with_other_keys_cookies_go_on_as_far_as_those_are_known(
    house: House, keys: list[str], holds: bool
) -> None:
    authentication, identity = house.authentication(), await house.log_in()
    authentication.become(newer_logins(house, keys, **house.users))
    if holds:
        assert authentication.of(None, None, cookie_of(identity)) == authentication.confirm(identity) == identity
    else:
        with pytest.raises(Unauthenticated, match="isn't one that this gateway made"):
            authentication.confirm(identity)


async def test_an_ended_login_stays_so_though_logins_have_become_shorter(house: House) -> None:
    authentication, identity, other = house.authentication(), await house.log_in(), await house.log_in()
    authentication.become(newer_logins(house, ["k" * 32], **house.users), same_keys=True)
    assert authentication.logins is not None
    authentication.logins.end(identity)
    house.clock.advance(20)
    authentication.logins.end(other)  # now those of before are forgotten whose cookies have expired
    with pytest.raises(Unauthenticated, match="has ended"):
        authentication.confirm(identity)


async def test_who_was_known_a_moment_ago_may_not_be_any_more(house: House) -> None:
    authentication, identity, other = house.authentication(), await house.log_in(), await house.log_in()
    authentication.check(identity)
    house.logins.end(identity)
    with pytest.raises(Unauthenticated, match="has ended"):
        authentication.check(identity)
    authentication.check(other)
    house.clock.advance(100)
    with pytest.raises(Unauthenticated, match="expired"):
        authentication.check(other)


async def test_without_users_any_more_logins_are_over(house: House) -> None:
    authentication, identity = house.authentication(), await house.log_in()
    authentication.become(Authentication(house.clock, Tickets(30, house.clock, Random(1))))
    with pytest.raises(Unauthenticated):
        authentication.confirm(identity)


async def test_what_a_reload_changes_keeps_no_guess_from_counting(house: House) -> None:
    authentication = house.authentication()
    for _ in range(3):
        with pytest.raises(Unauthenticated):
            await house.logins.log_in("ann", "wrong", "a")
    authentication.become(newer_logins(house, ["k" * 32], **house.users), same_keys=True)
    assert authentication.logins is not None
    with pytest.raises(RateLimited):
        await authentication.logins.log_in("ann", "secret", "a")


def login(number: int) -> Login:
    return Login(f"{number}", float(number))


def test_ended_logins_are_bounded_and_beyond_that_older_ones_are_all_refused(
    clock: HandClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ended_logins, "MAXIMUM_ENDED", 3)
    ended = EndedLogins(clock)
    for number in (1, 3, 5, 7):
        ended.add("ann", login(number), clock.time() + 60)
        assert len(ended) <= 3
    assert [ended.has("ann", login(number)) for number in range(9)] == [
        True, True, False, True, False, True, False, True, False,
    ]  # fmt: skip
    assert not ended.has("bob", login(1))


def test_ended_logins_are_forgotten_once_their_cookies_have_expired(clock: HandClock) -> None:
    ended = EndedLogins(clock)
    ended.add("ann", login(1), clock.time() + 60)
    clock.advance(60)
    ended.add("ann", login(2), clock.time() + 60)
    assert len(ended) == 1


def caller(cookie: str | None = None, **more: object) -> Caller:
    shown = None if cookie is None else ShownCookie(cookie, False)
    return replace(Caller(None, "gateway", "192.0.2.1", cookie=shown, method="GET"), **more)  # type: ignore[arg-type]


async def test_a_header_counts_before_a_ticket_and_a_ticket_before_the_cookie(house: House) -> None:
    admission = house.admission()
    cookie = cookie_of(await house.log_in())
    ticket = admission.authentication.tickets.issue(await house.log_in("bob"))
    assert (await admission.require(caller(cookie, bearer=TOKEN, ticket="wrong"))).user == "ci"
    assert (await admission.require(caller(cookie, ticket=ticket))).user == "bob"
    assert (await admission.require(caller(cookie))).user == "ann"
    with pytest.raises(Unauthenticated):
        await admission.require(caller(cookie, bearer="wrong"))


async def test_where_only_users_are_known_a_token_is_wrong_and_a_ticket_is_not(house: House) -> None:
    authentication = Authentication(house.clock, Tickets(30, house.clock, Random(1)), logins=house.logins)
    identity = await house.log_in()
    with pytest.raises(Unauthenticated):
        authentication.of("token", None, cookie_of(identity))
    assert authentication.of(None, authentication.tickets.issue(identity)) == identity


async def test_a_wrong_cookie_is_not_taken_for_none_and_is_taken_away(house: House) -> None:
    admission = house.admission(ANONYMOUS)
    assert (await admission.require(caller())) is ANONYMOUS
    with pytest.raises(StaleCookie) as refused:
        await admission.require(caller("wrong"))
    status, headers, _ = problem(refused.value)
    assert status == 401
    assert [value.partition(b";")[0] for name, value in headers if name == b"set-cookie"] == [
        b"__Host-tidegate_session=",
        b"tidegate_session=",
    ]


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "PATCH"])
async def test_what_changes_something_needs_the_token_beside_the_cookie(house: House, method: str) -> None:
    admission, identity = house.admission(), await house.log_in()
    cookie, token = cookie_of(identity), house.logins.csrf_token(identity)
    assert (await admission.require(caller(cookie, method=method, csrf_token=token))).user == "ann"
    with pytest.raises(CsrfRefused):
        await admission.require(caller(cookie, method=method))
    assert (await admission.require(caller(cookie, method=method, bearer=TOKEN))).user == "ci"
    ticket = admission.authentication.tickets.issue(identity)
    assert (await admission.require(caller(cookie, method=method, ticket=ticket))).user == "ann"


async def test_a_websocket_with_the_cookie_says_which_page_opens_it(house: House) -> None:
    admission = house.admission()
    cookie = cookie_of(await house.log_in())
    assert (await admission.identify(caller(cookie, method=None, origin="http://gateway"))) is not None
    assert (await admission.identify(caller(method=None))) is None
    with pytest.raises(OriginRefused):
        await admission.identify(caller(cookie, method=None))


def test_the_cookie_and_the_token_are_read_from_the_request() -> None:
    scope = {
        "type": "http", "method": "POST", "scheme": "https", "client": ("192.0.2.1", 1), "query_string": b"",
        "headers": [(b"cookie", b"a=b; tidegate_session=x"), (b"cookie", b"__Host-tidegate_session=y"),
                    (b"x-csrf-token", b"t")],
    }  # fmt: skip
    found = Caller.of(scope)
    assert (found.cookie, found.csrf_token, found.method) == (("y", True), "t", "POST")
    assert found.by_cookie
    assert "'y'" not in repr(found)
    assert not Caller.of({**scope, "query_string": b"ticket=a"}).by_cookie
