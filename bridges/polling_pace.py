"""How many bytes a second are told to who polls: to a user, or to an address of those who have no name.

A poll's session is over with its answer, so what it was sent is kept in mind here. Who is owed nothing yet is told when
to ask again.
"""

from collections import OrderedDict
from collections.abc import Callable
from typing import Final

from gateway.core.clock import Clock
from gateway.core.limit_errors import RateLimited
from gateway.core.limits import TokenBucket, rounded_up

__all__ = ["Outflow"]

CAPACITY: Final = 10_000
"""How many of those who poll are kept in mind; who polled least recently is forgotten."""


class Outflow:
    """Holds polls to `limits.bytes_per_second_out`."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._buckets: OrderedDict[tuple[str, int], TokenBucket] = OrderedDict()

    def of(self, who: str, bytes_per_second: int | None) -> Callable[[int], None] | None:
        """Where to account for what somebody is told; None if there is nothing to be accounted for.

        Raises:
            RateLimited: it has been told more than it may be; it says when to ask again.
        """
        if bytes_per_second is None:
            return None
        bucket = self._bucket((who, bytes_per_second))
        wait_seconds = bucket.spend(0)
        if wait_seconds:
            raise RateLimited(
                f"told too much: expected at most {bytes_per_second} bytes a second",
                retry_after_seconds=rounded_up(wait_seconds),
                limit="bytes_per_second_out",
            )

        def account(size_bytes: int) -> None:
            bucket.spend(size_bytes)

        return account

    def _bucket(self, key: tuple[str, int]) -> TokenBucket:
        bucket = self._buckets.get(key)
        if bucket is None:
            bucket = self._buckets[key] = TokenBucket(key[1], key[1], self._clock)
            if len(self._buckets) > CAPACITY:
                self._buckets.popitem(last=False)
        self._buckets.move_to_end(key)
        return bucket

    def __len__(self) -> int:
        """How many are kept in mind."""
        return len(self._buckets)
