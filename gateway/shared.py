"""What all nodes of a cluster know of clients together: limits, tickets, and which logins have ended."""

from collections.abc import Callable, Iterator, Mapping
from typing import Final

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from bridges.redis_limits import REPORT_SECONDS, RedisLimits
from bridges.redis_logins import RedisLogins
from gateway.cluster import Cluster
from gateway.config import Settings
from gateway.core.clock import Clock
from gateway.core.doorkeeper import Doorkeeper
from gateway.core.identity import Login
from gateway.core.logins import Logins
from gateway.core.plain_http import HttpRequests
from gateway.core.shared_limits import SharedLimits
from gateway.doors import LoginRecords
from gateway.endpoints import Endpoints
from gateway.supervisor import Supervisor

__all__ = ["SharedState"]

FEWEST_REPORTS: Final = 3
"""So many reports in a row have to be missing before a node is taken to be gone."""


class SharedState(Collector):
    """One node's part of it, over the link of what belongs to no namespace; for metrics, too.

    Args:
        logins: Gives the users as they are by then, if there are any.
    """

    def __init__(
        self,
        cluster: Cluster,
        settings: Settings,
        records: LoginRecords,
        logins: Callable[[], Logins | None],
        clock: Clock,
    ) -> None:
        from bridges.redis_tickets import RedisTickets  # slow to import, and most configurations don't need it

        silence_seconds = max(settings.cluster.lease_seconds, FEWEST_REPORTS * REPORT_SECONDS)
        self.limits = SharedLimits(cluster.node, silence_seconds, clock)
        self.tickets = RedisTickets(cluster.common)
        self._logins = logins
        RedisLogins(cluster.common, records.ended, self._end_sessions, self._prolong, clock)
        self._told = RedisLimits(cluster.common, self.limits)
        records.attempts.share(self.limits)

    def _end_sessions(self, login: str) -> None:
        logins = self._logins()
        if logins is not None:
            logins.end_sessions(login)

    def _prolong(self, user: str, login: Login, expires_at: float) -> None:
        logins = self._logins()
        if logins is not None:
            logins.prolong(user, login, expires_at)

    def share(self, doorkeeper: Doorkeeper, requests: HttpRequests, endpoints: Mapping[str, Endpoints]) -> None:
        """Let the limits that these keep be those of all nodes together."""
        doorkeeper.share(self.limits)
        requests.share("http_requests", self.limits)
        for each in endpoints.values():
            each.share(self.limits)

    def start(self, supervisor: Supervisor) -> None:
        """Tell other nodes, from now on."""
        supervisor.start("shared limits", self._told.run)

    def collect(self) -> Iterator[Metric]:
        """What is told of limits, for metrics."""
        told = CounterMetricFamily(
            "tidegate_shared_limits",
            "Addresses, users and rooms of whose limits nodes told each other",
            labels=["outcome"],
        )
        for outcome, number in {**self.limits.outcomes, "dropped": self.limits.dropped}.items():
            told.add_metric([outcome], number)
        yield told
        nodes = self.limits.nodes
        yield GaugeMetricFamily(
            "tidegate_shared_limits_nodes", "Nodes that share limits, this one included", value=nodes
        )

    def leave(self) -> None:
        """Have other nodes count nothing of this one any more."""
        self._told.leave()
