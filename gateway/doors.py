"""Who is let in, put together from the configuration."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from random import Random
from typing import Self

from bridges.jwks import Jwks, JwksOptions
from bridges.jwks_fetch import Fetcher
from gateway.config import IdentitySettings, JwtSettings, Settings
from gateway.core.addresses import TrustedProxies
from gateway.core.authentication import Authentication, Verifier
from gateway.core.clock import Clock
from gateway.core.doorkeeper import Doorkeeper, Handshakes
from gateway.core.ended_logins import EndedLogins
from gateway.core.identity import Identity
from gateway.core.login_attempts import LoginAttempts, LoginLimits
from gateway.core.logins import LiveSessions, Logins, LoginTimes
from gateway.core.offenders import Offenders
from gateway.core.plain_http import HttpConnections
from gateway.core.role_limits import RoleLimits
from gateway.core.tickets import Tickets, TicketStore

__all__ = ["LoginRecords", "make_authentication", "make_doorkeeper", "make_keys", "make_logins"]


@dataclass(frozen=True, slots=True)
class LoginRecords:
    """What is remembered of logins, whatever becomes of the configuration."""

    attempts: LoginAttempts
    ended: EndedLogins

    @classmethod
    def begin(cls, settings: Settings, clock: Clock) -> Self:
        """Nothing yet."""
        limits = settings.core_limits()
        tries = (limits.failed_logins, limits.failed_login_delay_seconds, limits.failed_login_delay_max_seconds)
        return cls(LoginAttempts(LoginLimits(*tries), clock), EndedLogins(clock))


def make_keys(settings: JwtSettings, clock: Clock) -> Jwks | None:
    """The keys of an identity provider, if they are to be fetched; whoever makes them lets them `run`."""
    if settings.jwks_url is None:
        return None
    fetcher = Fetcher(settings.jwks_url, settings.jwks_ca_file)
    options = JwksOptions(
        settings.jwks_url,
        settings.algorithms,
        settings.jwks_refresh_seconds,
        settings.jwks_cooldown_seconds,
        fetcher.timeout_seconds,
    )
    return Jwks(options, fetcher, clock)


def make_authentication(
    settings: IdentitySettings,
    clock: Clock,
    random: Random,
    keys: Jwks | None = None,
    logins: Logins | None = None,
    store: TicketStore | None = None,
) -> Authentication:
    """What finds out who clients are. Who shows nothing is let in if nobody can show anything, or if it has roles."""
    roles = frozenset(settings.anonymous.roles)
    return Authentication(
        clock,
        Tickets(settings.ticket_seconds, clock, random, bound=settings.ticket_bound_to_address, store=store),
        {token.sha256: Identity(token.name, frozenset(token.roles)) for token in settings.tokens},
        _verifier(settings.jwt, keys) if settings.jwt.algorithms else None,
        Identity(roles=roles) if roles or not settings.asks else None,
        logins,
    )


def make_logins(
    settings: Settings, records: LoginRecords, clock: Clock, random: Random, live: Iterable[LiveSessions]
) -> Logins | None:
    """Users with passwords, if there is a file of them; without a secret, cookies end with the process."""
    identity = settings.identity
    if identity.users_file is None:
        return None
    from bridges.cookies import SignedCookies  # both slow to import, and most configurations don't need them
    from bridges.passwords import PasswordChecker

    users = identity.users_file.users
    return Logins(
        users,
        PasswordChecker([user.password_hash for user in users.values()]),
        SignedCookies(identity.session_keys() or [f"{random.getrandbits(256):064x}"]),
        records.attempts,
        LoginTimes(identity.session_seconds, identity.session_max_seconds),
        clock,
        random,
        live,
        records.ended,
    )


def _verifier(settings: JwtSettings, keys: Jwks | None) -> Verifier:
    from bridges.jwt import JwtOptions, JwtVerifier  # slow to import, and most configurations don't need it

    return JwtVerifier(
        JwtOptions(
            settings.algorithms,
            settings.key(),
            settings.audience,
            settings.issuer,
            settings.leeway_seconds,
            settings.user_claim,
            settings.roles_claim,
        ),
        keys,
    )


def make_doorkeeper(settings: Settings, role_limits: Sequence[RoleLimits], clock: Clock) -> Doorkeeper:
    """What judges addresses, for all namespaces: as many new connections may come as any of them takes."""
    limits, proxies = [each.general for each in role_limits], settings.listen.trusted_proxies
    offenders = Offenders(settings.offenders.bounds(), clock, (*settings.offenders.exempt, *proxies))
    trusted = TrustedProxies(proxies)
    most = replace(
        limits[0],
        handshakes_per_address_per_second=max(each.handshakes_per_address_per_second for each in limits),
        handshakes_burst=max(each.handshakes_burst for each in limits),
    )
    return Doorkeeper(
        Handshakes(most, offenders, clock), offenders, trusted, HttpConnections.within(role_limits, trusted)
    )
