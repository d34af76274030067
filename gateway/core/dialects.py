"""The dialects that a namespace's routes speak: each message is heard once, whatever number of routes want it."""

from collections.abc import Iterable, Mapping
from types import MappingProxyType
from typing import Final, TypeAlias

from gateway.core.codec import Dialect, PayloadError, Told
from gateway.core.counters import Counters
from gateway.core.delivery import Delivery
from gateway.core.routes import Route

__all__ = ["NOTHING", "Dialects", "Heard"]

Heard: TypeAlias = Mapping[str, Told]
"""What a message says, by the dialect's name; what is none of it isn't there."""

NOTHING: Final[Heard] = MappingProxyType({})


class Dialects:
    """The listeners of one namespace."""

    def __init__(self, routes: Iterable[Route], counters: Counters) -> None:
        spoken = {dialect.name: dialect for route in routes if isinstance(dialect := route.spec.payload, Dialect)}
        self._listeners = {name: dialect.listen(counters) for name, dialect in spoken.items()}

    @property
    def any(self) -> bool:
        """Whether there is one."""
        return bool(self._listeners)

    def hear(self, delivery: Delivery) -> Heard:
        """What a device's message says in each of them."""
        heard: dict[str, Told] = {}
        for name, listener in self._listeners.items():
            try:
                told = listener.hear(delivery.upstream, delivery.topic, delivery.payload)
            except PayloadError as error:
                heard[name] = Told(error=error)
            else:
                if told is not None:
                    heard[name] = told
        return heard
