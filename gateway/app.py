"""The composition root: the only place that knows every part. `create_app(settings)` works under any ASGI server."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from random import Random, SystemRandom

from starlette.applications import Starlette
from starlette.routing import BaseRoute, Route

from bridges.broker import BrokerOptions, EmbeddedBroker
from bridges.mqtt import UpstreamOptions
from bridges.mqtt_owned import OwnedUpstream
from bridges.socketio import SocketIoBridge
from gateway.cluster import Cluster
from gateway.config import Settings
from gateway.core.clock import Clock, SystemClock
from gateway.core.counters import Counters
from gateway.core.errors import TidegateError
from gateway.core.intake import Intake
from gateway.core.limit_errors import AddressRefused
from gateway.core.log import LogBounds
from gateway.core.namespace import DEFAULT_NAMESPACE, Namespace
from gateway.core.origins import Origins, is_loopback
from gateway.core.plain_http import HttpRequests
from gateway.core.presence import PresenceBounds, Roster
from gateway.core.presence_memory import MemoryPresence, Presence
from gateway.core.room_rules import RoomRules
from gateway.core.routing import RoutingTable
from gateway.doors import LoginRecords, make_authentication, make_doorkeeper, make_keys, make_logins
from gateway.drain import Drain
from gateway.endpoints import BridgeOptions, Endpoints, namespace_routes
from gateway.engines import make_engine
from gateway.entrance import HeadBounds
from gateway.health import Health
from gateway.heartbeats import Heartbeats
from gateway.metrics import Metrics
from gateway.middleware import middleware
from gateway.mqtt_websocket import tunnel_to
from gateway.pages import no_such_endpoint, page_routes
from gateway.reload import Reloads
from gateway.shared import SharedState
from gateway.supervisor import Supervisor
from gateway.upstreams import AnyUpstream, Membership, Upstreams
from gateway.webhooks import Webhooks

__all__ = ["Gateway", "create_app"]

FLUSH_SECONDS = 0.5
"""How long the engines may take to write what waits; what isn't written was not acknowledged either."""

STOP_SECONDS = 0.8
"""How long background tasks may take to end; the broker's farewell is one exchange."""


class Gateway:
    """All parts of one running gateway, put together."""

    def __init__(self, settings: Settings) -> None:
        clock, random = SystemClock(), SystemRandom()  # identifiers and correlation data are not to be guessed
        self.settings = settings
        self.supervisor = Supervisor(clock, random)
        self.cluster = Cluster.of(settings, clock, random)
        self.namespaces = {
            name: _namespace(name, settings, self.cluster, clock, random) for name in settings.namespace_names()
        }
        self.intake = Intake(tuple(self.namespaces.values()), Counters())
        self.broker = (
            None if settings.upstreams else EmbeddedBroker(BrokerOptions(settings.broker.host, settings.broker.port))
        )
        self._clock, self._random = clock, random
        self.upstreams: dict[str, AnyUpstream] = {}
        self._makes = Upstreams(self.intake, clock, random, Membership.of(self.cluster, settings))
        self._leaving: list[asyncio.Task[None]] = []
        self.keys = make_keys(settings.identity.jwt, clock)
        engines = {name: each.engine for name, each in self.namespaces.items()}
        nodes = None if self.cluster is None else self.cluster.nodes
        self.health = Health(self.upstreams, engines, self.keys, nodes)
        self.reloads = Reloads(clock.time())
        limits = [namespace.limits for namespace in self.namespaces.values()]
        self.head = HeadBounds.of(limits)
        role_limits = [namespace.role_limits for namespace in self.namespaces.values()]
        self.doorkeeper = make_doorkeeper(settings, role_limits, clock)
        offenders = self.doorkeeper.offenders
        self.requests = HttpRequests.within(role_limits, offenders, clock)
        self.webhooks = Webhooks(settings, self.namespaces, clock, random)
        measured = (self.intake, self.namespaces, self.upstreams, self.supervisor, self.reloads, clock, offenders)
        self.metrics = Metrics(*measured, self.webhooks.all, self.cluster)
        self.origins = _origins(settings)
        beat = settings.heartbeat
        self.heartbeats = Heartbeats(beat.interval_seconds, beat.timeout_seconds, clock, random)
        self._login_records = LoginRecords.begin(settings, clock)
        self.shared = (
            None
            if self.cluster is None
            else SharedState(self.cluster, settings, self._login_records, lambda: self._authentication.logins, clock)
        )
        logins = make_logins(settings, self._login_records, clock, random, self.namespaces.values())
        store = None if self.shared is None else self.shared.tickets
        self._authentication = make_authentication(settings.identity, clock, random, self.keys, logins, store)
        self.endpoints = self._make_endpoints()
        if self.shared is not None:
            self.shared.share(self.doorkeeper, self.requests, self.endpoints)
            self.metrics.add(self.shared)
        doors = {name: (each.namespace, each.admission) for name, each in self.endpoints.items()}
        self.socketio = SocketIoBridge(doors, clock, random, beat.interval_seconds, beat.timeout_seconds)
        times = (settings.drain_notice_seconds, settings.drain_seconds)
        self.drain = Drain(self.endpoints, self.socketio, self.health, self._hand_over, *times, clock, random)

    def _make_endpoints(self) -> dict[str, Endpoints]:
        options, offenders, broker = BridgeOptions.of(self.settings), self.doorkeeper.offenders, self.broker
        parts = (self.origins, self._clock, self._random, self._authentication, offenders, options)
        tunnel = tunnel_to(self.settings, lambda: 0 if broker is None else broker.port)
        return {  # what topics mean behind the tunnel is no namespace's, so it is the default one's
            name: Endpoints(namespace, *parts, tunnel if name == DEFAULT_NAMESPACE else None)
            for name, namespace in self.namespaces.items()
        }

    @property
    def largest_message_bytes(self) -> int:
        """The largest message that any namespace takes: a server need not read more."""
        return max(namespace.role_limits.largest_message_bytes for namespace in self.namespaces.values())

    def operator_routes(self) -> list[BaseRoute]:
        """What is served to operators."""
        return [
            Route("/healthz", self.health.healthz),
            Route("/readyz", self.health.readyz),
            Route("/metrics", self.metrics.serve),
        ]

    def reconfigure(self, settings: Settings) -> None:
        """Let other rules hold for all who are there and all who come: identity, access, origins and hosts.

        All else of the settings is to be as before; see `gateway.config.changes.with_rules_of`.
        """
        clock, random, before = self._clock, self._random, self.settings.identity
        logins = make_logins(settings, self._login_records, clock, random, self.namespaces.values())
        self._authentication.become(
            make_authentication(settings.identity, clock, random, self.keys, logins),
            same_verifier=before.jwt == settings.identity.jwt,
            same_keys=before.session_keys() == settings.identity.session_keys(),
        )
        self.settings = settings
        self.origins.become(_origins(settings))
        for name, namespace in self.namespaces.items():
            namespace.reconfigure(settings.access_of(name), self._authentication.confirm)

    def refused(self, error: TidegateError, address: str | None = None) -> None:
        """Count a client that was refused before it said which namespace it wants; `address` is to blame, if any."""
        self.intake.counters.refuse(error)
        if address is not None and not isinstance(error, AddressRefused):
            self.doorkeeper.offenders.offend(address)

    async def start(self) -> None:
        """Start the broker, if it is the gateway's own, then everything that runs beside the requests.

        Raises:
            BrokerUnavailable: the embedded broker can't be had.
            NodeNameTaken: another gateway that runs has this one's name.
        """
        engines = [namespace.engine for namespace in self.namespaces.values()]
        for engine in engines:
            engine.start()
        if self.cluster is not None:
            await self.cluster.start(self.supervisor, engines)
        if self.shared is not None:
            self.shared.start(self.supervisor)
        self.webhooks.start(self.supervisor)
        if self.broker is not None:
            await self.broker.start()
            self.supervisor.start("broker", self._keep_broker)
        self.upstreams.update(self._make_upstreams())
        self._makes.connect(self.upstreams)
        for name, upstream in self.upstreams.items():
            self.supervisor.start(f"upstream {name}", upstream.run)
        for name, namespace in self.namespaces.items():
            namespace.connect(self.upstreams, self._makes.keepers)
            self.supervisor.start(f"sse heartbeat {name}", self.endpoints[name].sse.beat)
        if self.keys is not None:
            self.supervisor.start("keys", self.keys.run)
        self.supervisor.start("event loop watch", self.metrics.watch_event_loop)

    def _make_upstreams(self) -> dict[str, AnyUpstream]:
        if self.broker is None:
            return {name: self._makes.make(name, each) for name, each in self.settings.upstreams.items()}
        (name,) = self.settings.upstream_names()
        options = UpstreamOptions(
            name,
            self.settings.broker.host,
            self.broker.port,
            protocol="3.1.1",
            reconnect_min_seconds=0.1,
            reconnect_max_seconds=2,
        )
        return {name: self._makes.make_single(options)}

    async def _keep_broker(self) -> None:
        assert self.broker is not None
        if self.broker.pid is None:
            await self.broker.start()
        await self.broker.wait()

    def _hand_over(self) -> None:
        """Let other nodes receive in place of this one, while it still sends."""
        if not self._leaving:
            owned = [each for each in self.upstreams.values() if isinstance(each, OwnedUpstream)]
            leaving = [each.leave() for each in owned]
            if self._makes.keepers is not None:
                leaving.append(self._makes.keepers.leave(STOP_SECONDS))
            self._leaving = [asyncio.create_task(each) for each in leaving]

    async def stop(self) -> None:
        """End all that `start` started."""
        self.drain.finish()
        await self.webhooks.finish(at_once=self.drain.hurried)
        if self._leaving:
            await asyncio.wait(self._leaving, timeout=STOP_SECONDS)
        for namespace in self.namespaces.values():
            namespace.paces.flush()  # what came since the goodbye, while Redis can still be reached
        if self.cluster is not None:
            await self.cluster.finish(FLUSH_SECONDS)
        if self.shared is not None:
            self.shared.leave()
        await self.supervisor.stop(STOP_SECONDS)
        for namespace in self.namespaces.values():
            namespace.paces.flush()
            namespace.engine.close(FLUSH_SECONDS)
        if self.broker is not None:
            await self.broker.stop()


def _origins(settings: Settings) -> Origins:
    return Origins(settings.origins, settings.hosts, local=is_loopback(settings.listen.host))


def _namespace(name: str, settings: Settings, cluster: Cluster | None, clock: Clock, random: Random) -> Namespace:
    routing = RoutingTable(settings.route_specs(name), settings.upstream_names())
    role_limits = settings.role_limits(name)
    limits, counters, rules = role_limits.general, Counters(), RoomRules(settings.room_rules(name))
    log_bounds = LogBounds(limits.last_values, limits.log_bytes)
    link = None if cluster is None else cluster.link(name)
    engine = make_engine(settings.engine.path, link, name, log_bounds, clock, random, counters)
    bounds = PresenceBounds(settings.presence.grace_seconds, limits.presence_members_told, limits.presence_members)
    presence: Presence = MemoryPresence(Roster(bounds, clock, counters), clock)
    if cluster is not None:
        presence = cluster.presence(name, bounds, counters)
    access = settings.access_of(name)
    return Namespace(name, routing, rules, engine, role_limits, clock, random, counters, presence, access)


def create_app(settings: Settings) -> Starlette:
    """The ASGI application; its lifespan starts and stops everything. `app.state.gateway` is the `Gateway`."""
    gateway = Gateway(settings)

    @asynccontextmanager
    async def lifespan(app: Starlette) -> AsyncIterator[None]:  # noqa: ARG001
        try:
            await gateway.start()
            yield
        finally:
            await gateway.stop()

    app = Starlette(
        lifespan=lifespan,
        routes=[
            *gateway.socketio.routes(),
            *namespace_routes(gateway.endpoints),
            *gateway.endpoints[DEFAULT_NAMESPACE].login_routes(),
            *([] if settings.ops.port is not None else gateway.operator_routes()),
            *page_routes(),
        ],
        middleware=middleware(
            settings.listen,
            gateway.origins,
            gateway.head,
            gateway.doorkeeper.offenders,
            gateway.requests,
            gateway.refused,
        ),
        exception_handlers={404: no_such_endpoint, 405: no_such_endpoint},
    )
    app.state.gateway = gateway
    return app
