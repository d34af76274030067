"""Who is let in, put together from the configuration."""

from collections.abc import Sequence
from random import Random

from gateway.config import IdentitySettings, JwtSettings, Settings
from gateway.core.addresses import TrustedProxies
from gateway.core.authentication import Authentication, Tickets, Verifier
from gateway.core.clock import Clock
from gateway.core.doorkeeper import Doorkeeper, Handshakes
from gateway.core.identity import Identity
from gateway.core.limits import Limits
from gateway.core.offenders import Offenders

__all__ = ["make_authentication", "make_doorkeeper"]


def make_authentication(settings: IdentitySettings, clock: Clock, random: Random) -> Authentication:
    """What finds out who clients are. Who shows nothing is let in if nobody can show anything, or if it has roles."""
    roles = frozenset(settings.anonymous.roles)
    return Authentication(
        clock,
        Tickets(settings.ticket_seconds, clock, random),
        {token.sha256: Identity(token.name, frozenset(token.roles)) for token in settings.tokens},
        _verifier(settings.jwt) if settings.jwt.algorithms else None,
        Identity(roles=roles) if roles or not settings.asks else None,
    )


def _verifier(settings: JwtSettings) -> Verifier:
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
        )
    )


def make_doorkeeper(settings: Settings, limits: Sequence[Limits], clock: Clock) -> Doorkeeper:
    """What judges addresses, for all namespaces: those with the most handshakes a second say how many may be."""
    proxies = settings.listen.trusted_proxies
    offenders = Offenders(settings.offenders.bounds(), clock, (*settings.offenders.exempt, *proxies))
    fastest = max(limits, key=lambda each: each.handshakes_per_address_per_second)
    return Doorkeeper(Handshakes(fastest, offenders, clock), offenders, TrustedProxies(proxies))
