"""The scripts for presence, by what they do; each says at its head what it takes and answers."""

from dataclasses import dataclass, fields
from typing import Self

from bridges.redis_link import RedisLink, Script
from bridges.redis_scripts import load

__all__ = ["PresenceScripts"]


@dataclass(frozen=True, slots=True)
class PresenceScripts:
    """All of them."""

    change: Script
    expire: Script
    hello: Script
    reap: Script
    restore: Script
    restored: Script

    @classmethod
    def load(cls, link: RedisLink) -> Self:
        """Read them, and have the link load them into Redis."""
        scripts = [load("presence", f"presence_{field.name}") for field in fields(cls)]
        for script in scripts:
            link.add_script(script)
        return cls(*scripts)
