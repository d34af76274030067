"""How gateways find the keeper of an upstream, and what they say to each other: two channels, and a lease.

Who has the lease listens to `ask:<upstream>`, each gateway to `answer:<instance>`. What is said is a line of JSON and
the payload as it is.
"""

import asyncio
import logging
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any, Final, TypeAlias

import orjson

from bridges.redis_link import RedisLink, RedisRefused
from bridges.redis_options import RedisUnavailable
from gateway.core.clock import Clock, Timer
from gateway.core.errors import (
    BadMessage,
    ReplyAmbiguous,
    RequestTimeout,
    TidegateError,
    UpstreamRefused,
    UpstreamTimeout,
    UpstreamUnavailable,
)
from gateway.core.keeper import Ask, Keeper
from gateway.core.lease import Lease, LeaseStore
from gateway.core.limit_errors import TooManyRequests
from gateway.core.upstream import ReplyTo

__all__ = ["RedisKeepers", "TakeAnswer"]

logger = logging.getLogger(__name__)

RETRY_SECONDS: Final = 0.1
"""How long after nobody listened it is asked again: a keeper may just be following another."""

POLL_SECONDS: Final = 0.01

ERRORS: Final[dict[str, type[TidegateError]]] = {
    error.code: error
    for error in (
        BadMessage,
        ReplyAmbiguous,
        RequestTimeout,
        TooManyRequests,
        UpstreamRefused,
        UpstreamTimeout,
        UpstreamUnavailable,
    )
}

UNREADABLE: Final = (KeyError, TypeError, ValueError)

TakeAnswer: TypeAlias = Callable[[str, str, bytes, bytes | None], object]
"""Takes an answer, as an upstream brings it: upstream, topic, payload, correlation data."""


@dataclass(slots=True)
class _Asked:
    """A request that another gateway was asked to send."""

    ask: Ask
    failed: Callable[[TidegateError], None]
    patience_ends: float
    """Until when a keeper is looked for."""
    timer: Timer


class RedisKeepers:
    """One gateway's way to the keepers, itself perhaps among them."""

    def __init__(
        self,
        link: RedisLink,
        leases: LeaseStore,
        lease_seconds: float,
        keeper: Keeper,
        take: TakeAnswer,
        clock: Clock,
        instance: str,
    ) -> None:
        self._link = link
        self._leases = leases
        self._lease_seconds = lease_seconds
        self._keeper = keeper
        self._take = take
        self._clock = clock
        self._instance = instance
        self._kept: dict[str, Lease] = {}
        self._asked: dict[bytes, _Asked] = {}
        self._left = False
        link.subscribe(link.key(f"answer:{instance}"), self._answered)

    def reachable(self, upstream: str, up: bool) -> None:
        """Say that this gateway can reach a broker, and so be the keeper; or can't any more."""
        lease = self._kept.get(upstream)
        if lease is None:
            lease = self._kept[upstream] = self._lease(upstream)
        if up and not self._left:
            lease.seek()
        elif not up:
            self._end(upstream)
            lease.resign()

    async def leave(self, timeout_seconds: float) -> None:
        """Keep nothing any more: at first take no further requests, and give the leases back once all is answered."""
        self._left = True
        for upstream in self._kept:
            self._end(upstream)
        end = self._clock.monotonic() + timeout_seconds
        while len(self._keeper) and self._clock.monotonic() < end:  # noqa: ASYNC110 - only at the end of a run
            await asyncio.sleep(POLL_SECONDS)
        for lease in self._kept.values():
            lease.resign()

    def _lease(self, upstream: str) -> Lease:
        name = f"{upstream}:replies"
        channel = self._link.key(f"ask:{upstream}")
        begin = partial(self._link.subscribe, channel, self._ask_for)
        return Lease(
            name, self._lease_seconds, self._leases, self._clock, lambda _: begin(), lambda _: self._end(upstream)
        )

    def _end(self, upstream: str) -> None:
        self._link.unsubscribe(self._link.key(f"ask:{upstream}"))

    def keeps(self, upstream: str) -> bool:
        """Whether this gateway is the keeper of an upstream."""
        lease = self._kept.get(upstream)
        return lease is not None and lease.held

    def ask(self, ask: Ask, failed: Callable[[TidegateError], None]) -> None:
        """Have a request sent by the keeper."""
        correlation, seconds = ask.reply_to.correlation, ask.reply_to.expires_seconds
        patience_ends = self._clock.monotonic() + min(seconds, 2 * self._lease_seconds)
        timer = self._clock.call_later(seconds, partial(self._expire, correlation))
        self._asked[correlation] = _Asked(ask, failed, patience_ends, timer)
        self._send(correlation)

    def _expire(self, correlation: bytes) -> None:
        del self._asked[correlation]  # who asked knows by itself that it has been too long

    def _forget(self, correlation: bytes) -> _Asked | None:
        asked = self._asked.pop(correlation, None)
        if asked is not None:
            asked.timer.cancel()
        return asked

    def _send(self, correlation: bytes) -> None:
        asked = self._asked.get(correlation)
        if asked is None:
            return
        if self.keeps(asked.ask.upstream):
            self._keeper.ask(self._instance, asked.ask, partial(self._told, correlation))
            return
        if not self._link.is_up:
            self._sent(correlation, 0)
            return
        channel, words = self._link.key(f"ask:{asked.ask.upstream}"), _ask_words(asked.ask, self._instance)
        self._link.send(partial(self._sent, correlation), "SPUBLISH", channel, words)

    def _sent(self, correlation: bytes, heard_by: Any) -> None:
        """Ask again if nobody has heard it; never if somebody may have, or the device would be asked twice."""
        asked = self._asked.get(correlation)
        if asked is None:
            return
        if isinstance(heard_by, (RedisRefused, RedisUnavailable)):
            self._told(correlation, UpstreamTimeout(f"nobody knows whether the request was sent: {heard_by}"))
        elif heard_by:
            return
        elif self._clock.monotonic() < asked.patience_ends:
            self._clock.call_later(RETRY_SECONDS, partial(self._send, correlation))
        else:
            reason = f"no gateway asks devices of upstream {asked.ask.upstream} for all of them now"
            self._told(correlation, UpstreamUnavailable(reason, retry_after_seconds=1.0))

    def _told(self, correlation: bytes, found: bytes | TidegateError) -> None:
        asked = self._forget(correlation)
        if asked is None:
            return
        if isinstance(found, TidegateError):
            asked.failed(found)
        else:
            self._take(asked.ask.upstream, asked.ask.reply_to.topic, found, correlation)

    def _ask_for(self, raw: bytes) -> None:
        """Another gateway asks the keeper; who isn't it any more leaves that to the one who is."""
        try:
            asker, ask = _read_ask(raw)
        except UNREADABLE:
            logger.warning("what another gateway asks the keeper can't be read: is it of another version?")
            return
        if self.keeps(ask.upstream):
            self._keeper.ask(asker, ask, partial(self._say, asker, ask.reply_to.correlation))

    def _say(self, asker: str, correlation: bytes, found: bytes | TidegateError) -> None:
        channel = self._link.key(f"answer:{asker}")
        self._link.send(lambda _: None, "SPUBLISH", channel, _answer_words(correlation, found))

    def _answered(self, raw: bytes) -> None:
        try:
            correlation, found = _read_answer(raw)
        except UNREADABLE:
            logger.warning("what the keeper answers can't be read: is it of another version?")
            return
        self._told(correlation, found)


def _ask_words(ask: Ask, asker: str) -> bytes:
    to = ask.reply_to
    head = (asker, ask.upstream, ask.topic, ask.qos, to.topic, to.correlation.hex(), to.expires_seconds)
    return orjson.dumps(head) + b"\n" + ask.payload


def _read_ask(raw: bytes) -> tuple[str, Ask]:
    head, _, payload = raw.partition(b"\n")
    asker, upstream, topic, qos, reply_topic, correlation, seconds = orjson.loads(head)
    return asker, Ask(upstream, topic, payload, qos, ReplyTo(reply_topic, bytes.fromhex(correlation), seconds))


def _answer_words(correlation: bytes, found: bytes | TidegateError) -> bytes:
    if isinstance(found, TidegateError):
        head = (correlation.hex(), found.code, found.message, found.retry_after_seconds)
        return orjson.dumps(head) + b"\n"
    return orjson.dumps((correlation.hex(),)) + b"\n" + found


def _read_answer(raw: bytes) -> tuple[bytes, bytes | TidegateError]:
    head, _, payload = raw.partition(b"\n")
    correlation, *error = orjson.loads(head)
    if not error:
        return bytes.fromhex(correlation), payload
    code, message, retry_after_seconds = error
    return bytes.fromhex(correlation), ERRORS[code](message, retry_after_seconds=retry_after_seconds)
