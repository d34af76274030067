"""What the core counts as it goes: plain numbers, read when somebody asks for metrics."""

from collections import Counter
from dataclasses import dataclass, field

from gateway.core.errors import TidegateError

__all__ = ["Counters"]


@dataclass(slots=True)
class Counters:
    """Totals since the start. Whoever does a thing adds to its number."""

    device_messages: Counter[str] = field(default_factory=Counter)
    """Messages that came from devices, by upstream."""
    device_bytes: int = 0
    published: Counter[str] = field(default_factory=Counter)
    """Messages that browsers sent, by transport."""
    received_bytes: Counter[str] = field(default_factory=Counter)
    """Bytes of clients' frames and bodies, by transport."""
    deliveries: Counter[str] = field(default_factory=Counter)
    """Messages written to sessions, by transport."""
    delivered_bytes: Counter[str] = field(default_factory=Counter)
    """Bytes of those, framing included, by transport."""
    drops: Counter[str] = field(default_factory=Counter)
    """Messages not delivered, by cause."""
    gaps: int = 0
    """How often a message was missing when the next one came, and was read from the log."""
    bad_payloads: Counter[str] = field(default_factory=Counter)
    """Those of them that weren't what their route says, by what it says."""
    refusals: Counter[str] = field(default_factory=Counter)
    """Requests, messages and connections refused, by error code."""
    logins: Counter[str] = field(default_factory=Counter)
    """Passwords that were checked, by outcome."""
    limited: Counter[str] = field(default_factory=Counter)
    """Those of them, and of the sessions that ended, that went over a limit, by its key in the configuration."""
    closed: Counter[str] = field(default_factory=Counter)
    """Sessions that the gateway ended, by error code."""

    def refuse(self, error: TidegateError) -> None:
        """Count a refusal."""
        self.refusals[error.code] += 1
        self._over(error)

    def close(self, error: TidegateError) -> None:
        """Count a session that ended with an error."""
        self.closed[error.code] += 1
        self._over(error)

    def _over(self, error: TidegateError) -> None:
        if error.limit is not None and not error.counted:
            error.counted = True
            self.limited[error.limit] += 1
