"""Which engine a namespace has, by the `engine.url` of the configuration."""

from pathlib import Path
from random import Random

from bridges.redis import RedisEngine
from bridges.redis_link import RedisLink
from bridges.sqlite import SqliteEngine
from bridges.sqlite_journal import Journal
from gateway.core.clock import Clock
from gateway.core.counters import Counters
from gateway.core.engine import Engine
from gateway.core.engine_memory import MemoryEngine
from gateway.core.log import Log, LogBounds
from gateway.core.namespace import DEFAULT_NAMESPACE

__all__ = ["make_engine"]


def make_engine(
    path: Path | None,
    link: RedisLink | None,
    namespace: str,
    bounds: LogBounds,
    clock: Clock,
    random: Random,
    counters: Counters,
) -> Engine:
    """The engine in memory; with a path, one that keeps its log in that file; with a link, one that does so in Redis.

    Each namespace has a file of its own: `tidegate.db`, `tidegate.factory-b.db`.

    Raises:
        JournalUnavailable: the file can't be used.
    """
    if link is not None:
        return RedisEngine(link, bounds, clock, random, counters)
    epoch = f"{random.getrandbits(40):x}"
    memory = MemoryEngine(epoch, Log(bounds, clock, counters), clock, counters)
    if path is None:
        return memory
    if namespace != DEFAULT_NAMESPACE:
        path = path.with_name(f"{path.stem}.{namespace}{path.suffix}")
    return SqliteEngine(memory, Journal(path, epoch), counters)
