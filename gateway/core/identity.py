"""Who a client is: values only. How that is found out is in `authentication`, what it may do in `access`."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any, Final

__all__ = ["ANONYMOUS", "Credential", "Identity", "Login"]


@dataclass(frozen=True, slots=True)
class Credential:
    """What showed who somebody is, kept so that it can be asked again when the configuration has changed."""

    kind: str
    """What it is, and so who is to be asked: see `authentication`."""
    value: str = field(repr=False)
    """What that needs; it may be a secret."""


@dataclass(frozen=True, slots=True)
class Login:
    """One login of a user, in one browser, until it ends; what a session cookie stands for."""

    id: str
    since: float
    """When the password was given, in seconds since the Unix epoch."""


@dataclass(frozen=True, slots=True)
class Identity:
    """A user with roles and claims; without a name, anybody."""

    user: str | None = None
    roles: frozenset[str] = frozenset()
    claims: Mapping[str, Any] = field(default_factory=lambda: MappingProxyType({}), repr=False, hash=False)
    """What the token says besides; rules name them as `{claims.site}`."""
    expires_at: float | None = None
    """When what proves it expires, in seconds since the Unix epoch."""
    credential: Credential | None = field(default=None, repr=False, compare=False)
    """What proved it; None for who showed nothing."""
    login: Login | None = field(default=None, repr=False)
    """The login that it comes from, if it does: by the session cookie, or by a ticket that was given for that."""

    def is_expired(self, now: float) -> bool:
        """Whether it holds no more at `now` (RFC 7519 §4.1.4: on or after that moment)."""
        return self.expires_at is not None and now >= self.expires_at

    def fields(self) -> dict[str, Any]:
        """What `welcome.identity` says of it: no claims, which may be others' business."""
        known: dict[str, Any] = {"user": self.user, "roles": sorted(self.roles)}
        return known if self.expires_at is None else {**known, "expires_at": self.expires_at}


ANONYMOUS: Final = Identity()
