"""Leases in Redis: a key for each that expires by the server's clock, and beside it the last token that was given.

Tokens only ever grow. Where the last one is lost with Redis' data, or forgotten since nobody has held the lease for a
month, the next is made of the time in milliseconds, and is larger than any that the node which asks has seen.
"""

import logging
from collections.abc import Callable
from functools import partial
from typing import Any, Final

from bridges.redis_link import RedisLink, RedisRefused, Script
from bridges.redis_options import RedisUnavailable
from gateway.core.lease import Granted, Taken

__all__ = ["RedisLeases"]

logger = logging.getLogger(__name__)

_NAMES: Final = """
local base = string.sub(KEYS[1], 1, -5)
local name, holder = ARGV[1], ARGV[2]
local lease = base .. 'lease:' .. name
"""

_ACQUIRE: Final = Script(
    _NAMES
    + """
local ms, least = ARGV[3], tonumber(ARGV[4])
local held = redis.call('GET', lease)
if held then
  local token, other = string.match(held, '^(%d+) (.*)$')
  if other ~= holder then
    return {0, tonumber(token), other, redis.call('PTTL', lease)}
  end
end
local last, now = base .. 'lease-token:' .. name, redis.call('TIME')
local token = math.max(tonumber(redis.call('GET', last) or 0) + 1, least + 1, now[1] * 1000 + math.floor(now[2] / 1000))
redis.call('SET', last, string.format('%.0f', token), 'EX', 2592000)
redis.call('SET', lease, string.format('%.0f %s', token, holder), 'PX', ms)
return {1, token}
"""
)

_RENEW: Final = Script(
    _NAMES
    + """
if redis.call('GET', lease) ~= ARGV[3] .. ' ' .. holder then
  return 0
end
redis.call('EXPIRE', base .. 'lease-token:' .. name, 2592000)
return redis.call('PEXPIRE', lease, ARGV[4])
"""
)

_RELEASE: Final = Script(
    _NAMES
    + """
if redis.call('GET', lease) ~= ARGV[3] .. ' ' .. holder then
  return 0
end
redis.call('DEL', lease)
redis.call('SPUBLISH', base .. 'leases', name)
return 1
"""
)


class RedisLeases:
    """The leases of one node, over the link that has the keys of the cluster as a whole."""

    def __init__(self, link: RedisLink, seconds: float, instance: str) -> None:
        """Before the link runs; `instance` tells this process from an earlier one with the same name of its node."""
        self._link = link
        self._milliseconds = max(1, round(seconds * 1000))
        self._holder = f"{link.options.node} {instance}"
        self._hurry: dict[str, Callable[[], None]] = {}
        for script in (_ACQUIRE, _RENEW, _RELEASE):
            link.add_script(script)
        link.connected.append(self._connected)
        link.subscribe(link.key("leases"), self._released)

    def follow(self, name: str, hurry: Callable[[], None]) -> None:
        """Call back when a lease was given back, and when there is a connection again."""
        self._hurry[name] = hurry

    def unfollow(self, name: str) -> None:
        """Don't, any more."""
        self._hurry.pop(name, None)

    def _connected(self) -> None:
        for hurry in tuple(self._hurry.values()):
            hurry()

    def _released(self, name: bytes) -> None:
        hurry = self._hurry.get(name.decode())
        if hurry is not None:
            hurry()

    def acquire(self, name: str, least: int, done: Callable[[Granted | Taken | None], None]) -> None:
        """Take a lease that is free, or this process' own anew."""
        self._run(_ACQUIRE, name, self._milliseconds, least, done=partial(_acquired, done))

    def renew(self, name: str, token: int, done: Callable[[bool | None], None]) -> None:
        """Let a lease last for its whole time again."""
        self._run(
            _RENEW, name, token, self._milliseconds, done=lambda answer: done(None if answer is None else answer == 1)
        )

    def release(self, name: str, token: int) -> None:
        """Give a lease back. If Redis can't be reached, it ends by itself."""
        self._run(_RELEASE, name, token, done=lambda _: None)
        self._link.flush()  # nothing may be sent any more at the end of this turn

    def _run(self, script: Script, name: str, *more: int, done: Callable[[Any], None]) -> None:
        def answered(answer: Any) -> None:
            if isinstance(answer, RedisRefused):
                logger.warning("lease %s: Redis refused: %s", name, answer)
            done(None if isinstance(answer, (RedisRefused, RedisUnavailable)) else answer)

        self._link.evaluate(script, (name, self._holder, *more), answered)


def _acquired(done: Callable[[Granted | Taken | None], None], answer: Any) -> None:
    match answer:
        case None:
            done(None)
        case [1, token]:
            done(Granted(token))
        case [_, token, holder, milliseconds]:
            done(Taken(holder.decode().partition(" ")[0], token, max(0, milliseconds) / 1000))
