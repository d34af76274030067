"""A route's sampling: at most one publication for each room and topic in a period, for everybody and for the log.

The first goes out at once, what follows within the period waits for its end and becomes one. What waits always goes
out: the last value of a topic is never left out.
"""

from collections import OrderedDict
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from typing import Final, TypeAlias

from gateway.core.clock import Clock, Timer
from gateway.core.counters import Counters
from gateway.core.engine import Publication
from gateway.core.routes import Route
from gateway.core.sample import Sample, Values

__all__ = ["Pace", "Paces"]

MAXIMUM_TOPICS: Final = 65_536
"""How many topics may be within their period; beyond, the one that is longest in it is let go early."""
TOLERANCE_SECONDS: Final = 1e-6

Key: TypeAlias = tuple[str, str | None]


Publish: TypeAlias = Callable[[Publication], None]


class Paces:
    """All routes' paces; a route that isn't sampled has none."""

    def __init__(self, routes: Iterable[Route], publish: Publish, clock: Clock, counters: Counters) -> None:
        self._paces = {
            route.index: Pace(route.spec.sample, publish, clock, counters)
            for route in routes
            if route.spec.sample is not None
        }

    def admits(self, route: Route, publication: Publication) -> bool:
        """Whether a publication goes out now; else it is held, and published when its time has come."""
        pace = self._paces.get(route.index)
        return pace is None or pace.admits(publication)

    def flush(self) -> None:
        """Publish now all that is held."""
        for pace in self._paces.values():
            pace.flush()


@dataclass(slots=True)
class _Held:
    newest: Publication
    values: Values


@dataclass(slots=True)
class _Period:
    end: float
    held: _Held | None = None


class Pace:
    """The pace of one route."""

    def __init__(self, sample: Sample, publish: Publish, clock: Clock, counters: Counters) -> None:
        self._sample = sample
        self._publish = publish
        self._clock = clock
        self._counters = counters
        self._periods: OrderedDict[Key, _Period] = OrderedDict()
        """Of topics that were published within the last period, in the order of their ends."""
        self._timer: Timer | None = None

    def admits(self, publication: Publication) -> bool:
        """Whether it goes out now; else it is held, in memory alone: whoever brought it has done their part."""
        key = (publication.room, publication.topic)
        period = self._periods.get(key)
        if period is None:
            self._begin(key)
            return True
        if period.held is None:
            period.held = _Held(publication, Values(self._sample.keep, publication.payload.data))
        else:
            period.held.newest = publication
            period.held.values.add(publication.payload.data)
            self._counters.drops["conflated"] += 1
        return False

    def _begin(self, key: Key) -> None:
        self._periods[key] = _Period(self._clock.monotonic() + self._sample.seconds)
        if len(self._periods) > MAXIMUM_TOPICS:
            self._let_go(self._periods.popitem(last=False)[1])
        if self._timer is None:
            self._timer = self._clock.call_later(self._sample.seconds, self._end)

    def _end(self) -> None:
        """End the periods that are due; with what was held, the next one begins."""
        self._timer = None
        now = self._clock.monotonic()
        due: list[tuple[Key, _Period]] = []
        while self._periods and next(iter(self._periods.values())).end <= now + TOLERANCE_SECONDS:
            due.append(self._periods.popitem(last=False))
        if self._periods:
            self._timer = self._clock.call_later(next(iter(self._periods.values())).end - now, self._end)
        for key, period in due:
            if period.held is not None:
                self._begin(key)
                self._let_go(period)

    def flush(self) -> None:
        """End all periods now, and publish what was held."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        while self._periods:
            self._let_go(self._periods.popitem(last=False)[1])

    def _let_go(self, period: _Period) -> None:
        if period.held is not None:
            newest = period.held.newest
            payload = replace(newest.payload, data=period.held.values.data())
            self._publish(replace(newest, payload=payload))
