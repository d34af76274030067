"""What one connection owes the broker: PUBACK and PUBREC in the order of receipt, and which of them have arrived.

Sans-I/O: packets' identifiers in, identifiers out. A new connection has a new one; what was owed on an old one isn't
any more, since the broker sends it again.
"""

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass

from gateway.core.delivery import MAXIMUM_PACKET_ID

__all__ = ["Acknowledgements", "TooManyUnacknowledged"]


class TooManyUnacknowledged(Exception):
    """The broker has sent more packets without waiting than there are identifiers."""


@dataclass(slots=True, eq=False)
class _Owed:
    packet_id: int
    qos: int
    stored: bool = False


class Acknowledgements:
    """Acknowledges what is stored, in order, and notices when the broker must have read that.

    `send(packet_id, qos)` writes a PUBACK or PUBREC; `confirmed(packet_id)` is called when the broker has it: at the
    PUBREL for QoS 2, and for QoS 1, which has no answer, at the answer to a ping that was sent afterwards.
    """

    def __init__(self, send: Callable[[int, int], None], confirmed: Callable[[int], object]) -> None:
        self._send = send
        self._confirmed = confirmed
        self._owed: deque[_Owed] = deque()
        self._sent: set[int] = set()
        self._asked: set[int] = set()
        self._closed = False

    @property
    def unconfirmed(self) -> bool:
        """Whether there is something that a ping would tell."""
        return bool(self._sent)

    def __len__(self) -> int:
        """How many packets aren't acknowledged yet."""
        return len(self._owed)

    def owe(self, packet_id: int, qos: int) -> Callable[[], None]:
        """A packet has come; call the result as soon as it is stored. Only its first call counts.

        Raises:
            TooManyUnacknowledged: against the protocol; the connection is to be ended.
        """
        if len(self._owed) >= MAXIMUM_PACKET_ID:
            raise TooManyUnacknowledged(f"{len(self._owed)} packets aren't acknowledged yet")
        owed = _Owed(packet_id, qos)
        self._owed.append(owed)
        self._sent.discard(packet_id)  # its number means this packet now
        self._asked.discard(packet_id)

        def stored() -> None:
            owed.stored = True
            self._settle()

        return stored

    def _settle(self) -> None:
        """Send what is stored and has nothing unstored before it (MQTT 5 §4.6: in the order of the packets)."""
        while self._owed and self._owed[0].stored and not self._closed:
            owed = self._owed.popleft()
            if owed.qos == 1:
                self._sent.add(owed.packet_id)
            self._send(owed.packet_id, owed.qos)

    def asked(self) -> None:
        """A ping was sent: the broker reads it after all that was sent before."""
        self._asked |= self._sent
        self._sent.clear()

    def answered(self) -> None:
        """The ping was answered."""
        confirmed, self._asked = self._asked, set()
        for packet_id in confirmed:
            self._confirmed(packet_id)

    def released(self, packet_id: int) -> None:
        """A PUBREL has come: the broker has our PUBREC."""
        self._confirmed(packet_id)

    def close(self) -> None:
        """The connection has ended: send nothing more."""
        self._closed = True
        self._owed.clear()
