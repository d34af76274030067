"""What addresses may still send in requests that belong to no session. Which limits hold depends on who asks."""

from collections import OrderedDict
from collections.abc import Callable
from functools import partial
from hashlib import sha256
from typing import Final

from gateway.core.clock import Clock
from gateway.core.limits import Budget, Limits, Spent
from gateway.core.shared_limits import SharedLimits

__all__ = ["AddressBudgets"]

DIGEST_LENGTH: Final = 8
REMEMBERED: Final = 1000
"""How many different limits are known by what stands for them."""


class AddressBudgets:
    """A budget for each address and its limits. The least recently used are forgotten."""

    __slots__ = ("_budgets", "_capacity", "_clock", "_digests", "_known", "_spent")

    def __init__(self, clock: Clock, capacity: int = 10_000) -> None:
        self._clock = clock
        self._capacity = capacity
        self._budgets: OrderedDict[tuple[str, Limits], Budget] = OrderedDict()
        self._digests: dict[Limits, str] = {}
        """What stands for limits among nodes."""
        self._known: dict[str, Limits] = {}
        """The same, the other way round."""
        self._spent: tuple[Spent, Spent] | None = None
        """Told of messages, and of bytes."""

    def share(self, name: str, limits: Limits, shared: SharedLimits) -> None:
        """Have other nodes account for what is sent here, and the other way round; `limits` are the usual ones."""
        self._digest(limits)
        bounds = {
            "messages": (limits.messages_burst, limits.messages_burst / limits.messages_per_second),
            "bytes": (limits.bytes_burst, limits.bytes_burst / limits.bytes_per_second),
        }
        self._spent = (
            shared.rate(f"{name}/messages", *bounds["messages"], lambda key, amount: self._owe(key, amount, 0)),
            shared.rate(f"{name}/bytes", *bounds["bytes"], lambda key, amount: self._owe(key, 0, amount)),
        )

    def _owe(self, key: str, messages: float, size_bytes: float) -> None:
        digest, _, address = key.partition(" ")
        limits = self._known.get(digest)
        if limits is not None:  # else nobody who has them has come here yet
            self.of(address, limits).owe(messages, size_bytes)

    def of(self, address: str, limits: Limits) -> Budget:
        """The budget of those at `address` who have these limits."""
        key = (address, limits)
        budget = self._budgets.get(key)
        if budget is None:
            budget = self._budgets[key] = Budget(limits, self._clock, self._teller(address, limits))
            if len(self._budgets) > self._capacity:
                self._budgets.popitem(last=False)
        self._budgets.move_to_end(key)
        return budget

    def _teller(self, address: str, limits: Limits) -> Callable[[int], None] | None:
        """What tells other nodes of what is spent, if there are any."""
        if self._spent is None:
            return None
        messages, size_bytes = self._spent
        return partial(_tell, f"{self._digest(limits)} {address}", messages, size_bytes)

    def _digest(self, limits: Limits) -> str:
        digest = self._digests.get(limits)
        if digest is None:
            if len(self._digests) >= REMEMBERED:
                self._digests.clear()
                self._known.clear()
            digest = self._digests[limits] = sha256(repr(limits).encode()).hexdigest()[:DIGEST_LENGTH]
            self._known[digest] = limits
        return digest


def _tell(key: str, messages: Spent, bytes_spent: Spent, size_bytes: int) -> None:
    messages(key, 1)
    bytes_spent(key, size_bytes)
