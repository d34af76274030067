"""How to reach a Redis, and how its keys are called."""

from dataclasses import dataclass, field
from pathlib import Path

__all__ = ["RedisOptions", "RedisUnavailable"]


@dataclass(frozen=True, slots=True)
class RedisOptions:
    """Where Redis is: one server, nodes of a cluster, or sentinels."""

    addresses: tuple[tuple[str, int], ...]
    tls: bool = False
    service: str | None = None
    """What sentinels call the server; None if the addresses are Redis' own."""
    database: int = 0
    username: str | None = None
    password: str | None = field(default=None, repr=False)
    ca_file: Path | None = None
    prefix: str = "tidegate"
    node: str = ""
    """The name of this gateway among those that share the Redis."""
    connect_timeout_seconds: float = 5
    silence_seconds: float = 5
    """How long a command may be without an answer before the connection is taken for lost."""
    reconnect_min_seconds: float = 0.1
    reconnect_max_seconds: float = 2

    def key(self, tag: str, name: str) -> str:
        """The name of a key; those with one tag are at one server of a cluster (hash tags)."""
        return f"{self.prefix}:{{{tag}}}:{name}"


class RedisUnavailable(Exception):
    """There is no connection to Redis, or it was lost before the answer came; the text says why."""
