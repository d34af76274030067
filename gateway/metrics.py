"""`GET /metrics` for Prometheus: reads the core's counters when asked; counting costs the hot path an addition."""

import asyncio
from collections import Counter
from collections.abc import Iterator, Mapping

from prometheus_client import CollectorRegistry, Histogram, ProcessCollector, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector
from starlette.requests import Request
from starlette.responses import Response

from bridges.mqtt import Upstream, UpstreamState
from gateway.core.clock import Clock
from gateway.core.counters import Counters
from gateway.core.namespace import Namespace
from gateway.supervisor import Supervisor

__all__ = ["Metrics"]

LAG_SAMPLE_SECONDS = 0.25


class Metrics(Collector):
    """All that is measured of one gateway."""

    def __init__(
        self,
        counters: Counters,
        namespace: Namespace,
        upstreams: Mapping[str, Upstream],
        supervisor: Supervisor,
        clock: Clock,
    ) -> None:
        self._counters = counters
        self._namespace = namespace
        self._upstreams = upstreams
        self._supervisor = supervisor
        self._clock = clock
        self._registry = CollectorRegistry()
        self._registry.register(self)
        ProcessCollector(registry=self._registry)
        self._lag = Histogram(
            "tidegate_event_loop_lag_seconds",
            "How much later than asked the event loop woke a sleeper",
            buckets=(0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5),
            registry=self._registry,
        )

    async def watch_event_loop(self) -> None:
        """Measure how busy the event loop is; never returns."""
        while True:
            before = self._clock.monotonic()
            await asyncio.sleep(LAG_SAMPLE_SECONDS)
            self._lag.observe(max(0.0, self._clock.monotonic() - before - LAG_SAMPLE_SECONDS))

    async def serve(self, request: Request) -> Response:  # noqa: ARG002 - an endpoint
        """Answer `GET /metrics`."""
        return Response(generate_latest(self._registry), media_type="text/plain; version=0.0.4; charset=utf-8")

    def collect(self) -> Iterator[Metric]:
        """Read everything, for the registry."""
        counters = self._counters
        transports = Counter({"websocket": 0, "sse": 0})
        transports.update(session.transport for session in self._namespace.sessions.values())
        yield _gauge("tidegate_sessions", "Connected clients", "transport", transports)
        yield _counter("tidegate_device_messages", "Messages from devices", "upstream", counters.device_messages)
        yield CounterMetricFamily("tidegate_device_bytes", "Bytes of those", value=counters.device_bytes)
        yield _counter("tidegate_published", "Messages that clients sent", "transport", counters.published)
        yield _counter("tidegate_received_bytes", "Bytes that clients sent", "transport", counters.received_bytes)
        yield _counter("tidegate_deliveries", "Messages written to clients", "transport", counters.deliveries)
        yield _counter("tidegate_delivered_bytes", "Bytes of those, framed", "transport", counters.delivered_bytes)
        yield _counter("tidegate_drops", "Messages not delivered", "cause", counters.drops)
        yield _counter("tidegate_refusals", "What clients were refused", "code", counters.refusals)
        yield _counter("tidegate_closed_sessions", "Sessions that the gateway ended", "code", counters.closed)
        yield _counter("tidegate_task_restarts", "Background tasks started again", "task", self._supervisor.restarts)
        yield GaugeMetricFamily("tidegate_last_values", "Last values kept", value=self._namespace.last_values)
        up = {name: int(upstream.state is UpstreamState.UP) for name, upstream in self._upstreams.items()}
        yield _gauge("tidegate_upstream_up", "Whether the MQTT broker can be reached", "upstream", up)
        faults = {name: upstream.receive_faults for name, upstream in self._upstreams.items()}
        oversized = {name: upstream.oversized for name, upstream in self._upstreams.items()}
        yield _counter(
            "tidegate_oversized_messages", "Messages of devices dropped for their size", "upstream", oversized
        )
        yield _counter("tidegate_receive_faults", "Messages that met a fault of the gateway", "upstream", faults)


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
