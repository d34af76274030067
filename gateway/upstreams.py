"""Brokers as the configuration names them, as the upstream clients take them; and who of several gateways receives."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import partial
from random import Random
from typing import Self, TypeAlias
from uuid import uuid4

from bridges.mqtt import Changed, Upstream, UpstreamOptions
from bridges.mqtt_owned import OwnedUpstream
from bridges.mqtt_replies import Replies, TakeReply, response_topic
from bridges.redis_keepers import RedisKeepers, TakeAnswer
from bridges.redis_lease import RedisLeases
from bridges.redis_link import RedisLink
from gateway.cluster import Cluster
from gateway.config import Settings, UpstreamSettings
from gateway.core.clock import Clock
from gateway.core.delivery import Settle
from gateway.core.intake import Intake
from gateway.core.keeper import Keeper
from gateway.core.lease import Lease

__all__ = ["AnyUpstream", "Membership", "Upstreams", "options_of", "options_of_a_member"]

AnyUpstream: TypeAlias = Upstream | OwnedUpstream


@dataclass(frozen=True, slots=True)
class Membership:
    """What one of several gateways needs to share upstreams with the others."""

    node: str
    instance: str
    """Tells this process from an earlier one with the same name of its node."""
    link: RedisLink
    leases: RedisLeases
    lease_seconds: float
    group: str
    """What they are called together: where `$share` asks for it, and at the beginning of client ids."""

    @classmethod
    def of(cls, cluster: Cluster | None, settings: Settings) -> Self | None:
        """That of this gateway; None if there can be no other. Before the cluster is started."""
        if cluster is None:
            return None
        seconds, instance, link = settings.cluster.lease_seconds, uuid4().hex, cluster.common
        leases = RedisLeases(link, seconds, instance)
        return cls(cluster.node, instance, link, leases, seconds, settings.engine.prefix)

    def keepers(self, keeper: Keeper, take: TakeAnswer, clock: Clock) -> RedisKeepers:
        """The way to those who send requests for all."""
        return RedisKeepers(self.link, self.leases, self.lease_seconds, keeper, take, clock, self.instance)


class Upstreams:
    """Makes the upstreams of one gateway."""

    def __init__(self, intake: Intake, clock: Clock, random: Random, membership: Membership | None = None) -> None:
        self._intake = intake
        self._clock = clock
        self._random = random
        self._membership = membership
        self._keeper = Keeper(clock, random, intake.counters)
        self.keepers = (
            None if membership is None else membership.keepers(self._keeper, intake.take_shared_answer, clock)
        )
        """Who sends requests whose answers have no correlation data, if there are other gateways."""

    def connect(self, upstreams: Mapping[str, AnyUpstream]) -> None:
        """Say how to reach devices, by the upstreams' names."""
        self._keeper.connect(upstreams)

    def make(self, name: str, settings: UpstreamSettings) -> AnyUpstream:
        """One broker, as it is configured."""
        if self._membership is None:
            return self.make_single(options_of(name, settings))
        node, group = self._membership.node, self._membership.group
        return self._make_owned(options_of_a_member(name, settings, node, group), self._membership)

    def make_single(self, options: UpstreamOptions) -> Upstream:
        """One connection for all, where there are no other gateways."""
        intake = self._intake
        intake.changed(options.name, up=False)
        replies = self._replies(options, partial(intake.take_answer, options.name), intake.lost)
        return self._make(options, intake.subscriptions(options.name), intake.changed, replies)

    def _make_owned(self, options: UpstreamOptions, membership: Membership) -> OwnedUpstream:
        intake, name, seconds = self._intake, options.name, membership.lease_seconds
        intake.changed(name, up=False)
        sending = replace(options, client_id=None, session=None, share=None, persistent=False, status_topic=None)
        replies = self._replies(sending, partial(self._take_answer, name), self._lost)
        return OwnedUpstream(
            lambda changed: self._make(sending, intake.reply_filters(name), changed, replies, _Unsettled()),
            lambda changed, may_read: self._make(
                options, intake.room_filters(name), changed, role="receiver", may_read=may_read
            ),
            partial(Lease, options.session or name, seconds, membership.leases, self._clock),
            intake,
            self._changed,
            self._clock,
            membership.node,
            max(seconds, options.connect_timeout_seconds),
        )

    def _make(
        self,
        options: UpstreamOptions,
        filters: Mapping[str, int],
        changed: Changed,
        replies: Replies | None = None,
        settle: Settle | None = None,
        role: str = "",
        may_read: Callable[[], bool] = lambda: True,
    ) -> Upstream:
        intake = self._intake
        return Upstream(
            options,
            filters,
            intake.receive,
            settle or intake,
            changed,
            self._clock,
            self._random,
            replies,
            intake.burst,
            role,
            may_read,
        )

    def _replies(self, options: UpstreamOptions, take: TakeReply, lost: Callable[[str], None]) -> Replies:
        name = options.name
        topic, listen = response_topic(options, self._random), self._intake.needs_response_topic(name)
        return Replies(topic, take, partial(lost, name), listen=listen)

    def _take_answer(self, name: str, topic: str, raw: bytes, correlation: bytes | None) -> bool:
        self._keeper.receive(name, topic, raw, correlation)
        return self._intake.take_shared_answer(name, topic, raw, correlation)

    def _lost(self, name: str) -> None:
        self._keeper.lost(name)
        self._intake.lost(name)

    def _changed(self, name: str, up: bool) -> None:
        self._intake.changed(name, up)
        if self.keepers is not None and self._intake.reply_filters(name):
            self.keepers.reachable(name, up)


class _Unsettled:
    """What becomes of packets that bring nothing to be stored."""

    def acknowledged(self, upstream: str, packet_id: int) -> None:
        """It was of a device's answer."""

    def forget(self, upstream: str) -> None:
        """The session is a new one each time."""


def options_of_a_member(name: str, settings: UpstreamSettings, node: str, group: str) -> UpstreamOptions:
    """How one of several gateways receives: by the one session of all, or by one of its own."""
    client_id = settings.client_id or f"{group}-{name}"
    options = replace(options_of(name, settings), client_id=client_id, persistent=settings.session != "clean")
    if settings.ingest == "owned":
        return options
    topic = options.status_topic
    return replace(
        options,
        client_id=f"{client_id}-{node}",
        session=f"{name}/{node}",
        share=group,
        status_topic=None if topic is None else f"{topic}/{node}",
    )


def options_of(name: str, upstream: UpstreamSettings) -> UpstreamOptions:
    """How a gateway that is alone reaches a broker."""
    url = upstream.url
    return UpstreamOptions(
        name,
        url.host,
        url.port,
        transport="websockets" if url.websocket else "tcp",
        path=url.path,
        tls=url.encrypted,
        protocol=upstream.protocol,
        username=upstream.username,
        password=upstream.password_text(),
        ca_file=upstream.ca_file,
        certificate_file=upstream.certificate_file,
        key_file=upstream.key_file,
        insecure=upstream.insecure,
        client_id=upstream.client_id,
        keep_alive_seconds=upstream.keep_alive_seconds,
        persistent=upstream.session == "persistent",
        session_expiry_seconds=upstream.session_expiry_seconds,
        status_topic=upstream.status_topic,
        connect_timeout_seconds=upstream.connect_timeout_seconds,
        acknowledge_timeout_seconds=upstream.acknowledge_timeout_seconds,
        gather_seconds=upstream.gather_seconds,
        maximum_packet_bytes=upstream.maximum_packet_bytes,
        reconnect_min_seconds=upstream.reconnect_min_seconds,
        reconnect_max_seconds=upstream.reconnect_max_seconds,
    )
