"""Logins by password, and the cookies that stand for them: made, read, renewed, ended.

A cookie is signed, not kept: it names the user, the login and its times. What isn't in it is looked up: roles, whether
the password is still the one of then, and whether the login was ended. How a cookie is sealed and how passwords are
checked is known elsewhere (`Seals`, `PasswordCheck`).
"""

import logging
from collections.abc import Awaitable, Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from random import Random
from typing import Any, Final, Protocol

from gateway.core.clock import Clock
from gateway.core.cookies import MAXIMUM_COOKIE_LENGTH
from gateway.core.ended_logins import EndedLogins
from gateway.core.errors import TidegateError, Unauthenticated
from gateway.core.identity import Credential, Identity, Login
from gateway.core.login_attempts import LoginAttempts
from gateway.core.login_errors import CsrfRefused, LoginsBusy, StaleCookie
from gateway.core.session import Session
from gateway.core.users import User

__all__ = ["COOKIE", "LiveSessions", "LoginTimes", "Logins", "PasswordCheck", "Seals"]

logger = logging.getLogger(__name__)

COOKIE: Final = "cookie"
"""The kind of credential that a session cookie is."""


class Seals(Protocol):
    """Signs what browsers keep for the gateway, so that nobody else can make or change it."""

    def seal(self, fields: Mapping[str, Any]) -> str:
        """The text that a cookie holds."""
        ...

    def open(self, text: str) -> Mapping[str, Any]:
        """What was sealed.

        Raises:
            ValueError: nothing was: the text is somebody else's.
        """
        ...

    def mark(self, text: str) -> str:
        """A text that only the gateway can make of another one."""
        ...

    def is_mark(self, mark: str, text: str) -> bool:
        """Whether it is, found out in a time that says nothing of how much of it is right."""
        ...


class PasswordCheck(Protocol):
    """Says whether passwords are right."""

    async def check(self, password_hash: str | None, password: str, network: str) -> bool:
        """Whether a password is that of a hash; for no hash it takes as long, and is wrong.

        Raises:
            LoginsBusy: too many wait to be checked, in all or from this network.
        """
        ...


class LiveSessions(Protocol):
    """Where sessions are that come from logins."""

    def sessions_of(self, login: str) -> list[Session]:
        """Those of one login."""
        ...

    def identify(self, session: Session, identity: Identity) -> None:
        """One of them has shown a newer cookie."""
        ...


@dataclass(frozen=True, slots=True)
class LoginTimes:
    """How long logins last."""

    seconds: float = 28_800.0
    """Without being used: a cookie of which more than half is over is renewed when it is."""
    maximum_seconds: float = 604_800.0
    """Altogether, however much it is used."""


class Logins:
    """The users, and their logins."""

    def __init__(
        self,
        users: Mapping[str, User],
        passwords: PasswordCheck,
        seals: Seals,
        attempts: LoginAttempts,
        times: LoginTimes,
        clock: Clock,
        random: Random,
        live: Iterable[LiveSessions] = (),
        ended: EndedLogins | None = None,
    ) -> None:
        self._users = users
        self._passwords = passwords
        self._seals = seals
        self._attempts = attempts
        self._times = times
        self._longest = times
        """The longest times that have held: cookies may be of then."""
        self._clock = clock
        self._random = random
        self._live = tuple(live)
        self._ended = EndedLogins(clock) if ended is None else ended

    @property
    def learn_ended(self) -> Callable[[], Awaitable[None]] | None:
        """What is to be awaited before a cookie can be believed; None if it is known which logins have ended."""
        return self._ended.learn

    async def log_in(self, name: str, password: str, network: str) -> Identity:
        """Who logs in; a login of its own, whatever the browser had before.

        Raises:
            RateLimited: too many failed before.
            LoginsBusy: too many are being checked.
            Unauthenticated: there is no such user, or that isn't the password; which of both isn't told.
        """
        attempt = self._attempts.begin(name, network)
        user = self._users.get(name)
        try:
            right = await self._passwords.check(None if user is None else user.password_hash, password, network)
        except LoginsBusy:
            self._attempts.withdraw(attempt)
            raise
        if user is None or not right:
            who = "nobody known" if user is None else repr(name)  # what is typed there by mistake may be a password
            logger.warning("a login of %s from %s failed", who, network)
            raise Unauthenticated("the login is refused: expected the name of a user, and the password")
        self._attempts.succeeded(attempt)
        logger.info("%r logged in from %s", name, network)
        login = Login(f"{self._random.getrandbits(128):032x}", self._clock.time())
        return self._with_cookie(user, login, self._expiry(login))

    def become(self, newer: "Logins", *, same_keys: bool) -> None:
        """Have the users and times of a newer one; with other keys, cookies of before hold as far as it knows those."""
        self._users, self._passwords, self._times = newer._users, newer._passwords, newer._times
        times, longest = newer._times, self._longest
        self._longest = LoginTimes(
            max(times.seconds, longest.seconds), max(times.maximum_seconds, longest.maximum_seconds)
        )
        if not same_keys:
            self._seals = newer._seals

    def _expiry(self, login: Login, times: LoginTimes | None = None) -> float:
        times = times or self._times
        return min(self._clock.time() + times.seconds, login.since + times.maximum_seconds)

    def _with_cookie(self, user: User, login: Login, expires_at: float) -> Identity:
        fields = {
            "login": login.id,
            "since": login.since,
            "user": user.name,
            "password": user.fingerprint,
            "expires_at": expires_at,
        }
        return replace(user.identity(login, expires_at), credential=Credential(COOKIE, self._seals.seal(fields)))

    def identify(self, cookie: str) -> Identity:
        """Whose cookie it is.

        Raises:
            StaleCookie: it holds no more, or never did.
        """
        try:
            fields = self._seals.open(cookie) if len(cookie) <= MAXIMUM_COOKIE_LENGTH else {}
            login = Login(fields["login"], fields["since"])
            name, fingerprint, expires_at = fields["user"], fields["password"], fields["expires_at"]
        except (ValueError, KeyError):
            raise _stale("it isn't one that this gateway made, or was made before it was started anew") from None
        user = self._users.get(name)
        if user is None or user.fingerprint != fingerprint:
            raise _stale("the user is gone or has another password")
        identity = replace(user.identity(login, expires_at), credential=Credential(COOKIE, cookie))
        if identity.is_expired(self._clock.time()):
            raise _stale("it has expired")
        if self._ended.has(name, login):
            raise _stale("this login has ended")
        return identity

    def check(self, identity: Identity) -> None:
        """Check that the login of somebody who was known a moment ago hasn't ended.

        Raises:
            Unauthenticated: it has.
        """
        if identity.login is not None and self._ended.has(identity.user or "", identity.login):
            raise Unauthenticated("this login has ended: log in again")

    def confirm(self, cookie: str) -> Identity:
        """Whose cookie it was that was shown earlier: by now the browser may have another one, not to be dropped.

        Raises:
            Unauthenticated: it holds no more.
        """
        try:
            return self.identify(cookie)
        except StaleCookie as error:
            raise Unauthenticated(error.message) from None

    def renewed(self, identity: Identity) -> Identity | None:
        """The same login for longer, if more than half of its time is over; live sessions last longer, too."""
        login, now = identity.login, self._clock.time()
        if login is None or identity.expires_at is None or identity.expires_at - now > self._times.seconds / 2:
            return None
        user, expires_at = self._users[identity.user or ""], self._expiry(login)
        if expires_at <= identity.expires_at:
            return None  # it has lasted as long as a login may
        newer = self._with_cookie(user, login, expires_at)
        self._each_of(login.id, lambda where, session: _renew(where, session, newer))
        if self._ended.prolonged is not None:
            self._ended.prolonged(user.name, login, expires_at)
        return newer

    def prolong(self, name: str, login: Login, expires_at: float) -> None:
        """A login was renewed at another node: its live sessions here last longer, too."""
        user = self._users.get(name)
        if user is not None and not self._ended.has(name, login):
            newer = self._with_cookie(user, login, expires_at)
            self._each_of(login.id, lambda where, session: _renew(where, session, newer))

    def end(self, identity: Identity) -> None:
        """End a login: its cookies and tickets are refused from now on, and its live sessions end."""
        login = identity.login
        if login is not None:
            self._ended.add(identity.user or "", login, self._expiry(login, self._longest))
            self.end_sessions(login.id)

    def end_sessions(self, login: str) -> None:
        """End the live sessions of a login that has ended, here or at another node."""
        self._each_of(login, lambda _, session: session.end(Unauthenticated("this login has ended: log in again")))

    def _each_of(self, login: str, act: Callable[[LiveSessions, Session], None]) -> None:
        for where in self._live:
            for session in where.sessions_of(login):
                if not session.ended:  # by what was done to one before
                    act(where, session)

    def csrf_token(self, identity: Identity) -> str | None:
        """What a page has to show that makes a browser send the cookie; None without a login."""
        return None if identity.login is None else self._seals.mark(identity.login.id)

    def check_csrf(self, identity: Identity, token: str | None) -> None:
        """Check that a page knows what only pages of this gateway can have read.

        Raises:
            CsrfRefused: it doesn't.
        """
        if identity.login is None or token is None or not self._seals.is_mark(token, identity.login.id):
            raise CsrfRefused("expected the header `X-CSRF-Token` with the token of this login: see `GET /session`")


def _renew(where: LiveSessions, session: Session, identity: Identity) -> None:
    known = session.identity
    if known is not None and (known.expires_at or 0) >= (identity.expires_at or 0):
        return  # by news of several nodes at once
    try:
        where.identify(session, identity)
    except TidegateError as error:  # the request that brought the newer cookie isn't to blame
        session.end(error)


def _stale(reason: str) -> StaleCookie:
    return StaleCookie(f"the session cookie is refused: {reason}: expected none, or that of a new login")
