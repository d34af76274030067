"""`GET /metrics` for Prometheus: reads the core's counters when asked; counting costs the hot path an addition."""

import asyncio
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from operator import attrgetter
from typing import Final

from prometheus_client import CollectorRegistry, Histogram, ProcessCollector, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector
from starlette.requests import Request
from starlette.responses import Response

from bridges.mqtt_owned import OwnedUpstream
from gateway.cluster import Cluster
from gateway.core.clock import Clock
from gateway.core.counters import Counters
from gateway.core.intake import Intake
from gateway.core.namespace import Namespace
from gateway.core.offenders import Offenders
from gateway.core.webhook_retries import BreakerState
from gateway.core.webhooks import Webhook
from gateway.reload import Reloads
from gateway.supervisor import Supervisor
from gateway.upstreams import AnyUpstream

__all__ = ["Metrics"]

LAG_SAMPLE_SECONDS = 0.25
GONE: Final = "gone"
"""The state of a webhook whose endpoint wants nothing more; its breaker doesn't matter then."""
OF_NO_NAMESPACE: Final = ""
"""The label of what no namespace wanted: to Prometheus, an empty label is none."""

BY_NAMESPACE: Final[tuple[tuple[str, str, str, Callable[[Counters], Mapping[str, int]]], ...]] = (
    ("tidegate_published", "Messages that clients sent", "transport", attrgetter("published")),
    ("tidegate_received_bytes", "Bytes that clients sent", "transport", attrgetter("received_bytes")),
    ("tidegate_deliveries", "Messages written to clients", "transport", attrgetter("deliveries")),
    ("tidegate_delivered_bytes", "Bytes of those, framed", "transport", attrgetter("delivered_bytes")),
    ("tidegate_drops", "Messages not delivered", "cause", attrgetter("drops")),
    ("tidegate_bad_payloads", "Payloads that didn't decode", "payload", attrgetter("bad_payloads")),
    ("tidegate_refusals", "What clients were refused", "code", attrgetter("refusals")),
    ("tidegate_logins", "Passwords that were checked", "outcome", attrgetter("logins")),
    ("tidegate_limited", "What went over a limit, by the limit", "limit", attrgetter("limited")),
    ("tidegate_closed_sessions", "Sessions that the gateway ended", "code", attrgetter("closed")),
)
"""Counters that each namespace has: name, meaning, label besides `namespace`, and where they are."""

SIZES: Final[tuple[tuple[str, str, Callable[[Namespace], int]], ...]] = (
    (
        "tidegate_subscribed_rooms",
        "Rooms and patterns that have a subscriber",
        attrgetter("engine.holdings.watched"),
    ),
    (
        "tidegate_plain_rooms",
        "Rooms without a route that clients have sent into of late",
        lambda namespace: len(namespace.plain_rooms),
    ),
    ("tidegate_connections_limit", "Connections that it may have", attrgetter("limits.connections")),
    ("tidegate_last_values", "Last values kept", attrgetter("engine.holdings.last_values")),
    ("tidegate_history_messages", "Messages of history kept", attrgetter("engine.holdings.messages")),
    ("tidegate_log_bytes", "About what both take of memory", attrgetter("engine.holdings.size_bytes")),
    ("tidegate_requests", "Requests to devices under way", lambda namespace: len(namespace.requests)),
    (
        "tidegate_throttled_sessions",
        "Clients that have been sent all they may be for now",
        attrgetter("recovery.throttled"),
    ),
    ("tidegate_lagging_sessions", "Clients that don't read", lambda namespace: len(namespace.recovery)),
)
"""What each namespace holds: name, meaning, and how much it is."""


class Metrics(Collector):
    """All that is measured of one gateway."""

    def __init__(
        self,
        intake: Intake,
        namespaces: Mapping[str, Namespace],
        upstreams: Mapping[str, AnyUpstream],
        supervisor: Supervisor,
        reloads: Reloads,
        clock: Clock,
        offenders: Offenders,
        webhooks: Sequence[Webhook] = (),
        cluster: Cluster | None = None,
    ) -> None:
        self._intake = intake
        self._namespaces = namespaces
        self._upstreams = upstreams
        self._supervisor = supervisor
        self._reloads = reloads
        self._clock = clock
        self._registry = CollectorRegistry()
        self._offenders = offenders
        self._webhooks = webhooks
        self._cluster = cluster
        self.worker: tuple[int, int] | None = None
        """The number of this process among several, and how often one with that number was started again."""
        self._registry.register(self)
        ProcessCollector(registry=self._registry)
        self._lag = Histogram(
            "tidegate_event_loop_lag_seconds",
            "How much later than asked the event loop woke a sleeper",
            buckets=(0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5),
            registry=self._registry,
        )

    def add(self, collector: Collector) -> None:
        """Measure something that not every gateway has."""
        self._registry.register(collector)

    async def watch_event_loop(self) -> None:
        """Measure how busy the event loop is; never returns."""
        while True:
            before = self._clock.monotonic()
            await asyncio.sleep(LAG_SAMPLE_SECONDS)
            self._lag.observe(max(0.0, self._clock.monotonic() - before - LAG_SAMPLE_SECONDS))

    async def serve(self, request: Request) -> Response:  # noqa: ARG002 - an endpoint
        """Answer `GET /metrics`."""
        media_type = "text/plain; version=0.0.4; charset=utf-8"
        return Response(generate_latest(self._registry), media_type=media_type, headers={"cache-control": "no-store"})

    def collect(self) -> Iterator[Metric]:
        """Read everything, for the registry."""
        devices = self._intake.counters
        yield _counter("tidegate_device_messages", "Messages from devices", "upstream", devices.device_messages)
        yield CounterMetricFamily("tidegate_device_bytes", "Bytes of those", value=devices.device_bytes)
        yield from self._collect_namespaces()
        yield from _webhook_metrics(self._webhooks)
        if self._cluster is not None:
            nodes = len(self._cluster.nodes.lives)
            yield GaugeMetricFamily("tidegate_nodes", "Gateways that share the Redis, as this one knows", value=nodes)
            links = {link.tag: int(link.is_up) for link in self._cluster.links}
            yield _gauge("tidegate_redis_up", "Whether the Redis that has these keys can be reached", "tag", links)
        yield _counter("tidegate_task_restarts", "Background tasks started again", "task", self._supervisor.restarts)
        if self.worker is not None:
            index, restarts = self.worker
            yield _counter("tidegate_worker_restarts", "Workers started again", "worker", {str(index): restarts})
        yield _counter("tidegate_reloads", "Configurations read while running", "outcome", self._reloads.outcomes)
        yield GaugeMetricFamily(
            "tidegate_last_good_configuration_timestamp_seconds",
            "When the configuration was last read and found good",
            value=self._reloads.last_good,
        )
        yield from self._collect_upstreams()

        refusals, refused = self._offenders.refusals, self._offenders.refused
        yield CounterMetricFamily(
            "tidegate_address_refusals", "How often an address came to be refused", value=refusals
        )
        yield GaugeMetricFamily("tidegate_refused_addresses", "Addresses that are refused now", value=refused)

    def _collect_upstreams(self) -> Iterator[Metric]:
        up = {name: int(upstream.state.is_well) for name, upstream in self._upstreams.items()}
        yield _gauge("tidegate_upstream_up", "Whether the MQTT broker can be reached", "upstream", up)
        faults = {
            name: upstream.receive_faults + self._intake.faults[name] for name, upstream in self._upstreams.items()
        }
        oversized = {name: upstream.oversized for name, upstream in self._upstreams.items()}
        yield _counter(
            "tidegate_oversized_messages", "Messages of devices dropped for their size", "upstream", oversized
        )
        yield _counter("tidegate_receive_faults", "Messages that met a fault of the gateway", "upstream", faults)
        owned = {name: each for name, each in self._upstreams.items() if isinstance(each, OwnedUpstream)}
        if owned:
            owns = {name: int(each.owns) for name, each in owned.items()}
            takeovers = {name: each.takeovers for name, each in owned.items()}
            fenced = {name: each.fenced for name, each in owned.items()}
            yield _gauge("tidegate_upstream_owned", "Whether this node receives", "upstream", owns)
            yield _counter("tidegate_upstream_takeovers", "How often this node came to receive", "upstream", takeovers)
            yield _counter(
                "tidegate_upstream_fenced", "What was refused since another node had taken over", "upstream", fenced
            )

    def _collect_namespaces(self) -> Iterator[Metric]:
        sessions = GaugeMetricFamily("tidegate_sessions", "Connected clients", labels=["transport", "namespace"])
        for name, namespace in self._namespaces.items():
            transports = Counter({"websocket": 0, "sse": 0})
            transports.update(session.transport for session in namespace.sessions.values())
            for transport, count in transports.items():
                sessions.add_metric([transport, name], count)
        yield sessions
        members = GaugeMetricFamily("tidegate_presence_members", "Members of rooms", labels=["kind", "namespace"])
        for name, namespace in self._namespaces.items():
            for kind, count in namespace.attendance.presence.kinds.items():
                members.add_metric([kind, name], count)
        yield members
        for metric, documentation, size_of in SIZES:
            gauge = GaugeMetricFamily(metric, documentation, labels=["namespace"])
            for name, namespace in self._namespaces.items():
                gauge.add_metric([name], size_of(namespace))
            yield gauge
        yield from self._collect_engines()
        counted = {name: namespace.counters for name, namespace in self._namespaces.items()}
        counted[OF_NO_NAMESPACE] = self._intake.counters
        for metric, documentation, label, values_of in BY_NAMESPACE:
            family = CounterMetricFamily(metric, documentation, labels=[label, "namespace"])
            for name, counters in counted.items():
                for key, value in values_of(counters).items():
                    family.add_metric([key, name], value)
            yield family

    def _collect_engines(self) -> Iterator[Metric]:
        up = GaugeMetricFamily("tidegate_engine_up", "Whether what is published can be stored", labels=["namespace"])
        gaps = CounterMetricFamily(
            "tidegate_gaps", "Messages that were missed, then read from the log", labels=["namespace"]
        )
        for name, namespace in self._namespaces.items():
            up.add_metric([name], int(namespace.engine.problem is None))
            gaps.add_metric([name], namespace.counters.gaps)
        yield from (up, gaps)


def _webhook_metrics(webhooks: Sequence[Webhook]) -> Iterator[Metric]:
    labels = ["webhook", "namespace"]
    events = CounterMetricFamily("tidegate_webhook_events", "What became of events", labels=["outcome", *labels])
    failures = CounterMetricFamily("tidegate_webhook_failures", "Calls that failed, each time", labels=labels)
    pending = GaugeMetricFamily("tidegate_webhook_pending", "Events that wait to be told", labels=labels)
    breaker = GaugeMetricFamily("tidegate_webhook_breaker", "Which state it is in: 1", labels=["state", *labels])
    for webhook in webhooks:
        of_it = [webhook.options.name, webhook.namespace]
        for outcome, count in webhook.outcomes.items():
            events.add_metric([outcome, *of_it], count)
        failures.add_metric(of_it, webhook.failures)
        pending.add_metric(of_it, len(webhook))
        now = GONE if webhook.gone else webhook.breaker.value
        for state in (*(each.value for each in BreakerState), GONE):
            breaker.add_metric([state, *of_it], int(state == now))
    yield from (events, failures, pending, breaker)


def _counter(name: str, documentation: str, label: str, values: Mapping[str, int]) -> Metric:
    family = CounterMetricFamily(name, documentation, labels=[label])
    for key, value in values.items():
        family.add_metric([key], value)
    return family


def _gauge(name: str, documentation: str, label: str, values: Mapping[str, int]) -> Metric:
    family = GaugeMetricFamily(name, documentation, labels=[label])
    for key, value in values.items():
        family.add_metric([key], value)
    return family
