"""Which limits hold for whom: those of a namespace, but for what a client's roles change.

Found once for each identity; nobody asks on the way of a message.
"""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any, Final, Protocol, TypeVar

from gateway.core.identity import Identity
from gateway.core.limits import Limits

__all__ = ["BY_ROLE", "RoleLimits"]

BY_ROLE: Final = (
    "connections_per_address",
    "connections_per_user",
    "idle_seconds",
    "subscriptions_per_connection",
    "rooms_per_address",
    "message_bytes",
    "messages_per_second",
    "messages_burst",
    "bytes_per_second",
    "bytes_burst",
    "refusals",
    "requests_in_flight",
    "request_timeout_max_seconds",
    "presence_state_bytes",
    "bytes_per_second_out",
)
"""The limits of one client, which roles may change; the others are those of a namespace as a whole."""

REMEMBERED: Final = 1000
"""For how many sets of roles the limits are remembered; then all are found anew."""


class _Ordered(Protocol):
    def __lt__(self, other: Any, /) -> bool: ...


T = TypeVar("T", bound=_Ordered)


class RoleLimits:
    """The limits of a namespace.

    Args:
        general: What holds where no role says something else.
        by_role: For each role, what it changes: keys of `BY_ROLE` with their values.
    """

    __slots__ = ("_by_role", "_found", "general")

    def __init__(self, general: Limits, by_role: Mapping[str, Mapping[str, Any]] | None = None) -> None:
        self.general = general
        self._by_role = {role: dict(changes) for role, changes in (by_role or {}).items()}
        self._found: dict[frozenset[str], Limits] = {}

    def of(self, identity: Identity | None) -> Limits:
        """The limits of somebody; of one who hasn't said who it is, the general ones.

        For each key, the most generous of the roles that name it says what holds, be it more or less than in general.
        """
        if not self._by_role or identity is None:
            return self.general
        roles = identity.roles.intersection(self._by_role)
        if not roles:
            return self.general
        limits = self._found.get(roles)
        if limits is None:
            if len(self._found) >= REMEMBERED:
                self._found.clear()
            limits = self._found[roles] = self._combine(roles)
        return limits

    def _combine(self, roles: frozenset[str]) -> Limits:
        changes = [self._by_role[role] for role in roles]
        keys = {key for named in changes for key in named}
        most: dict[str, Any] = {key: _most_generous([named[key] for named in changes if key in named]) for key in keys}
        return replace(self.general, **most)

    @property
    def largest_message_bytes(self) -> int:
        """The largest message that anybody may send."""
        most: int = self._most("message_bytes")
        return most

    @property
    def most_connections_per_address(self) -> int:
        """The most connections that anybody may have from one address."""
        most: int = self._most("connections_per_address")
        return most

    @property
    def most_messages_per_second(self) -> float:
        """The most messages that anybody may send, on the long run."""
        most: float = self._most("messages_per_second")
        return most

    @property
    def most_messages_at_once(self) -> int:
        """The most messages that anybody may send at once."""
        most: int = self._most("messages_burst")
        return most

    def least(self, key: str) -> int:
        """The least of a limit that anybody has."""
        usual = getattr(self.general, key)
        least: int = min([usual, *(named[key] for named in self._by_role.values() if key in named)])
        return least

    def _most(self, key: str) -> Any:
        return max(getattr(self.general, key), *(named.get(key, 0) for named in self._by_role.values()), 0)


def _most_generous(values: list[T | None]) -> T | None:
    """None stands for no bound."""
    bounds = [value for value in values if value is not None]
    return max(bounds) if len(bounds) == len(values) else None
