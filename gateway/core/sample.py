"""Sampling, as pure values: how many messages of a topic are made into one.

Where that is done for a route is in `pacing`, for subscriptions in `sampling`.
"""

import math
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Final, TypeAlias

import orjson

from gateway.core.errors import BadMessage

__all__ = ["MAXIMUM_SECONDS", "MINIMUM_SECONDS", "Keep", "Sample", "Values", "rank_of", "read_sample"]

MINIMUM_SECONDS: Final = 0.01
MAXIMUM_SECONDS: Final = 3600
MAXIMUM_FIELDS: Final = 1000
"""Of how many fields of one topic's objects numbers are remembered; of others the last value is taken."""

Number: TypeAlias = int | float


class Keep(StrEnum):
    """What is made of the values of a period."""

    LAST = "last"
    MEAN = "mean"
    MIN = "min"
    MAX = "max"


@dataclass(frozen=True, slots=True)
class Sample:
    """At most one message for each room and topic in so many seconds."""

    seconds: float
    keep: Keep = Keep.LAST


def rank_of(sample: Sample | None) -> float:
    """The lower, the finer; 0 is for what isn't sampled. Of subscriptions that overlap the finest holds."""
    return 0.0 if sample is None else sample.seconds + 1e-9 * list(Keep).index(sample.keep)


def read_sample(value: object) -> Sample | None:
    """The sample in a client's `{"seconds": …, "keep": …}`; None for null.

    Raises:
        BadMessage: it isn't one.
    """
    if value is None:
        return None
    if not isinstance(value, dict) or not set(value) <= {"seconds", "keep"}:
        raise BadMessage('sample: expected {"seconds": 0.5, "keep": "last"}, or null')
    seconds: Any = value.get("seconds")
    keep = value.get("keep", Keep.LAST)
    if not _is_number(seconds) or not MINIMUM_SECONDS <= seconds <= MAXIMUM_SECONDS:
        raise BadMessage(f"sample.seconds: expected a number from {MINIMUM_SECONDS} to {MAXIMUM_SECONDS}")
    if keep not in list(Keep):
        raise BadMessage(f"sample.keep: expected {', '.join(Keep)}")
    return Sample(float(seconds), Keep(keep))


class Values:
    """The values of one room and topic in a period, each a JSON text, made into one.

    Mean, minimum and maximum are of numbers, and of the numbers at the top of objects: the newest object's other fields
    stay as they are. What holds no number is kept as it came last.
    """

    __slots__ = ("_keep", "_newest", "_numbers")

    def __init__(self, keep: Keep, data: bytes) -> None:
        self._keep = keep
        self._newest = data
        self._numbers: dict[str | None, tuple[int, Number]] | None = None
        """Of each field, or of the value itself (None): how many numbers, and their sum, minimum or maximum."""

    def add(self, data: bytes) -> None:
        """Take one more."""
        if self._keep is not Keep.LAST:
            if self._numbers is None:
                self._numbers = {}
                self._count(self._newest)
            self._count(data)
        self._newest = data

    def data(self) -> bytes:
        """What they make together; of one alone, that one as it came."""
        if self._numbers is None:
            return self._newest
        value = orjson.loads(self._newest)
        if _is_number(value):
            return orjson.dumps(self._made(None, value))
        if isinstance(value, dict):
            return orjson.dumps({name: self._made(name, found) for name, found in value.items()})
        return self._newest

    def _count(self, data: bytes) -> None:
        assert self._numbers is not None
        value = orjson.loads(data)
        for name, number in value.items() if isinstance(value, dict) else [(None, value)]:
            if not _is_number(number):
                continue
            if name in self._numbers:
                count, so_far = self._numbers[name]
                self._numbers[name] = (count + 1, self._joined(so_far, number))
            elif len(self._numbers) < MAXIMUM_FIELDS:
                self._numbers[name] = (1, number)

    def _joined(self, one: Number, other: Number) -> Number:
        match self._keep:
            case Keep.MIN:
                return min(one, other)
            case Keep.MAX:
                return max(one, other)
            case _:
                return one + other

    def _made(self, name: str | None, newest: Any) -> Any:
        assert self._numbers is not None
        if not _is_number(newest) or name not in self._numbers:
            return newest
        count, joined = self._numbers[name]
        made = joined / count if self._keep is Keep.MEAN else joined
        return made if math.isfinite(made) else newest  # a sum beyond all floats


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)
