"""Logins that have ended, in Redis until their cookies have expired: each node knows all of them.

They stand in one sorted set, by when they can be forgotten. A node reads it whenever it has connected, adds what it
knows and doesn't find there, and hears of the others' on a channel; so Redis may lose them as long as a node is there.
That a login lasts longer is told on another channel and kept nowhere: its cookie says so.
"""

import asyncio
import logging
from collections.abc import Callable, Iterable
from typing import Any, Final

import orjson

from bridges.redis_link import RedisLink, RedisRefused
from bridges.redis_options import RedisUnavailable
from gateway.core.clock import Clock
from gateway.core.ended_logins import Ended, EndedLogins
from gateway.core.errors import EngineUnavailable
from gateway.core.identity import Login

__all__ = ["RedisLogins"]

logger = logging.getLogger(__name__)

PATIENCE_SECONDS: Final = 5.0
"""How long who shows a cookie waits until it is known which logins have ended."""
PAGE: Final = 1000


class RedisLogins:
    """One node's part of it.

    Args:
        link: That of what belongs to no namespace.
        end_sessions: Ends the live sessions of a login, by its id.
        prolong: Has those of a user's login last until then.
    """

    def __init__(
        self,
        link: RedisLink,
        ended: EndedLogins,
        end_sessions: Callable[[str], None],
        prolong: Callable[[str, Login, float], None],
        clock: Clock,
    ) -> None:
        self._link = link
        self._ended = ended
        self._end_sessions = end_sessions
        self._prolong = prolong
        self._clock = clock
        self._key, self._channel = link.key("ended_logins"), link.key("ended_logins_channel")
        self._lacking: set[bytes] = set()
        """What is known here, and hasn't been found in Redis so far."""
        self._all_known = asyncio.Event()
        self._prolonged = link.key("renewed_logins_channel")
        ended.told = self._tell
        ended.prolonged = self._tell_prolonged
        ended.learn = self._learn
        link.subscribe(self._channel, self._hear)
        link.subscribe(self._prolonged, self._hear_prolonged)
        link.connected.append(self._read)

    async def _learn(self) -> None:
        try:
            await asyncio.wait_for(self._all_known.wait(), PATIENCE_SECONDS)
        except TimeoutError:
            raise EngineUnavailable("it can't be known which logins have ended: expected Redis to answer") from None

    def _tell(self, new: list[Ended], needless: list[Ended]) -> None:
        """Keep and tell what has ended here. What can't be told now is, once there is a connection again."""
        added = [_packed(each) for each in new]
        self._add(added)
        if needless:
            self._send("ZREM", self._key, *map(_packed, needless))
        self._send("ZREMRANGEBYSCORE", self._key, "-inf", self._clock.time())

    def _add(self, added: Iterable[bytes]) -> None:
        for each in added:
            self._send("ZADD", self._key, _unpacked(each).until, each)
            self._send("SPUBLISH", self._channel, each)

    def _read(self, cursor: bytes = b"0") -> None:
        if cursor == b"0":
            self._lacking = {_packed(each) for each in self._ended.all()}
        self._link.send(self._take, "ZSCAN", self._key, cursor, "COUNT", PAGE)

    def _take(self, reply: Any) -> None:
        if isinstance(reply, RedisUnavailable):
            return  # it is read again with the next connection
        if isinstance(reply, RedisRefused):
            logger.error("Redis doesn't say which logins have ended: %s", reply)
            return
        cursor, found = reply
        for member in found[::2]:
            self._lacking.discard(member)
            self._hear(member)
        if cursor != b"0":
            self._link.send(self._take, "ZSCAN", self._key, cursor, "COUNT", PAGE)
            return
        now = self._clock.time()
        self._add(each for each in self._lacking if _unpacked(each).until > now)
        self._lacking.clear()
        self._ended.learn = None
        self._all_known.set()

    def _tell_prolonged(self, user: str, login: Login, until: float) -> None:
        self._send("SPUBLISH", self._prolonged, _packed(Ended(user, login.id, login.since, until)))

    def _hear_prolonged(self, told: bytes) -> None:
        login = self._read_told(told)
        if login is not None and login.id is not None:
            self._prolong(login.user, Login(login.id, login.since), login.until)

    def _hear(self, told: bytes) -> None:
        ended = self._read_told(told)
        if ended is not None and self._ended.hear(ended) and ended.id is not None:
            self._end_sessions(ended.id)

    def _read_told(self, told: bytes) -> Ended | None:
        try:
            return _unpacked(told)
        except (TypeError, ValueError):
            logger.warning("what another node tells of logins can't be read: is it of another version?")
            return None

    def _send(self, *command: str | bytes | float) -> None:
        self._link.send(self._log_refusal, *command)

    def _log_refusal(self, reply: Any) -> None:
        if isinstance(reply, RedisRefused):
            logger.error("Redis doesn't keep which logins have ended: %s", reply)


def _packed(ended: Ended) -> bytes:
    return orjson.dumps(list(ended))


def _unpacked(packed: bytes) -> Ended:
    user, login, since, until = orjson.loads(packed)
    return Ended(str(user), login, float(since), float(until))
