"""Users with passwords: values only. What is known of a password is its hash."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from hashlib import sha256
from types import MappingProxyType
from typing import Any, Final

from gateway.core.identity import Identity, Login

__all__ = ["MAXIMUM_NAME_LENGTH", "User", "is_user_name"]

MAXIMUM_NAME_LENGTH: Final = 256


def is_user_name(text: str) -> bool:
    """Whether a user may be called that."""
    return 0 < len(text) <= MAXIMUM_NAME_LENGTH and text.isprintable() and text == text.strip()


@dataclass(frozen=True, slots=True)
class User:
    """Somebody who logs in by a password."""

    name: str
    password_hash: str = field(repr=False)
    roles: frozenset[str] = frozenset()
    claims: Mapping[str, Any] = field(default_factory=lambda: MappingProxyType({}), repr=False, hash=False)

    @property
    def fingerprint(self) -> str:
        """What tells a password's hash from an earlier one, and nothing of either: both are salted."""
        return sha256(self.password_hash.encode()).hexdigest()[:16]

    def identity(self, login: Login, expires_at: float) -> Identity:
        """Who the user is by a login."""
        return Identity(self.name, self.roles, self.claims, expires_at, login=login)
