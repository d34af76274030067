"""`auth` in `tidegate.v1.json`: who a client says it is. A part of `wire`, sans-I/O too."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from gateway.core.errors import BadMessage

__all__ = ["Authenticate", "read_auth"]

MAXIMUM_TOKEN_LENGTH: Final = 16_384


@dataclass(frozen=True, slots=True)
class Authenticate:
    """A client says who it is, or shows a newer token."""

    id: str | int | None
    token: str = field(repr=False)


def read_auth(identifier: str | int | None, value: Mapping[str, Any]) -> Authenticate:
    """The request in a client's object, whose type, fields and `id` have been seen to.

    Raises:
        BadMessage: there is no token in it, or none of a sensible length. It is never shown.
    """
    token = value.get("token")
    if not isinstance(token, str) or not 0 < len(token) <= MAXIMUM_TOKEN_LENGTH:
        raise BadMessage(f"token: expected a string of 1 to {MAXIMUM_TOKEN_LENGTH} characters")
    return Authenticate(identifier, token)
