"""Who is let in, put together from the configuration."""

from random import Random

from bridges.jwks import Jwks, JwksOptions
from bridges.jwks_fetch import Fetcher
from gateway.config import IdentitySettings, JwtSettings
from gateway.core.authentication import Authentication, Tickets, Verifier
from gateway.core.clock import Clock
from gateway.core.identity import Identity

__all__ = ["make_authentication", "make_keys"]


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
    settings: IdentitySettings, clock: Clock, random: Random, keys: Jwks | None = None
) -> Authentication:
    """What finds out who clients are. Who shows nothing is let in if nobody can show anything, or if it has roles."""
    roles = frozenset(settings.anonymous.roles)
    return Authentication(
        clock,
        Tickets(settings.ticket_seconds, clock, random, bound=settings.ticket_bound_to_address),
        {token.sha256: Identity(token.name, frozenset(token.roles)) for token in settings.tokens},
        _verifier(settings.jwt, keys) if settings.jwt.algorithms else None,
        Identity(roles=roles) if roles or not settings.asks else None,
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
