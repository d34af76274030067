"""Who is let in, put together from the configuration."""

from random import Random

from gateway.config import IdentitySettings, JwtSettings
from gateway.core.authentication import Authentication, Tickets, Verifier
from gateway.core.clock import Clock
from gateway.core.identity import Identity

__all__ = ["make_authentication", "renew_authentication"]


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


def renew_authentication(
    authentication: Authentication, before: IdentitySettings, after: IdentitySettings, clock: Clock, random: Random
) -> None:
    """Let an authentication decide by other settings, for all who hold it."""
    authentication.become(make_authentication(after, clock, random), same_verifier=before.jwt == after.jwt)


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
