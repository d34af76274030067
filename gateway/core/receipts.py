"""Which packets are stored, though the broker may not know it yet: what makes a redelivery come once.

QoS 1 and 2 messages are acknowledged after they were stored. If the connection, or the gateway, is lost between the
two, the broker sends them again, with the DUP flag and the same identifier (MQTT 5 §4.4). Pure: whoever stores messages
asks `repeats` first and calls `take` in the same step; one that survives a restart keeps `entries` with its messages.
"""

from collections.abc import Iterable, Iterator

from gateway.core.delivery import MAXIMUM_PACKET_ID, Receipt

__all__ = ["Entry", "Receipts"]

Entry = tuple[str, int, bytes]
"""Upstream, packet identifier, digest."""


class Receipts:
    """The packets that are stored and not known to be acknowledged; at most 65,535 of one broker."""

    __slots__ = ("_digests",)

    def __init__(self, entries: Iterable[Entry] = ()) -> None:
        """Go on with the `entries` of an earlier one.

        Raises:
            ValueError: an identifier that none can have.
        """
        self._digests: dict[str, dict[int, bytes]] = {}
        for upstream, packet_id, digest in entries:
            self._keep(upstream, packet_id, digest)

    def repeats(self, upstream: str, receipt: Receipt) -> bool:
        """Whether this is a packet that is stored already: it is only to be acknowledged.

        Two equal messages under one identifier can't be told apart while the first isn't known to be acknowledged.
        """
        return receipt.duplicate and self._digests.get(upstream, {}).get(receipt.packet_id) == receipt.digest

    def take(self, entry: Entry) -> None:
        """A packet is stored. It takes the place of an earlier one with its identifier."""
        self._keep(*entry)

    def _keep(self, upstream: str, packet_id: int, digest: bytes) -> None:
        if not 1 <= packet_id <= MAXIMUM_PACKET_ID:
            raise ValueError(f"packet identifier {packet_id}: expected 1 to {MAXIMUM_PACKET_ID}")
        self._digests.setdefault(upstream, {})[packet_id] = digest

    def acknowledged(self, upstream: str, packet_id: int) -> bool:
        """The broker knows that the gateway has this packet; whether it was kept."""
        digests = self._digests.get(upstream, {})
        kept = digests.pop(packet_id, None) is not None
        if not digests:
            self._digests.pop(upstream, None)
        return kept

    def forget(self, upstream: str) -> bool:
        """The broker has begun a new session: none of its packets comes again; whether any was kept."""
        return self._digests.pop(upstream, None) is not None

    def entries(self) -> Iterator[Entry]:
        """All that is kept, for a constructor."""
        for upstream, digests in self._digests.items():
            for packet_id, digest in digests.items():
                yield upstream, packet_id, digest

    def __len__(self) -> int:
        """How many packets are kept."""
        return sum(len(digests) for digests in self._digests.values())
