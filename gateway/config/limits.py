"""How much clients may use: the keys of `limits` and `offenders`."""

from typing import Any, Final

from pydantic import Field

from gateway.config import values
from gateway.config.section import Section
from gateway.core.offenders import OffenceBounds

__all__ = ["LimitsSettings", "OffendersSettings", "RoleLimitsSettings"]

KIB: Final = 1024

LOOPBACK: Final[Any] = ("127.0.0.0/8", "::1")
LEFT_OUT: Final[Any] = Field(None, validate_default=False)
"""A key that changes nothing unless it is there."""


class RoleLimitsSettings(Section):
    """What is otherwise for clients with a role, be it more or less. Of several roles, the most generous holds."""

    connections_per_address: values.Count = LEFT_OUT
    """Connections from one address."""
    connections_per_user: values.Count = LEFT_OUT
    """Connections of one user."""
    idle_seconds: values.Seconds | None = LEFT_OUT
    """How long a WebSocket may be of no use; null for any time."""
    subscriptions_per_connection: values.Count = LEFT_OUT
    """Subscriptions of one connection."""
    rooms_per_address: values.Count = LEFT_OUT
    """Rooms brought into use from one address."""
    message_bytes: values.Bytes = LEFT_OUT
    """The largest message or request body."""
    messages_per_second: values.Rate = LEFT_OUT
    """Messages of one connection, on the long run."""
    messages_burst: values.Count = LEFT_OUT
    """Messages of one connection, at once."""
    bytes_per_second: values.Bytes = LEFT_OUT
    """Bytes of one connection, on the long run."""
    bytes_burst: values.Bytes = LEFT_OUT
    """Bytes of one connection, at once."""
    refusals: values.Count = LEFT_OUT
    """Refused messages in a row after which a connection is closed."""
    requests_in_flight: values.Count = LEFT_OUT
    """Requests of one connection, or over HTTP from one address, that wait for an answer."""
    request_timeout_max_seconds: values.Seconds = LEFT_OUT
    """The longest that a request may wait."""
    presence_state_bytes: values.Bytes = LEFT_OUT
    """The largest state of a member."""
    bytes_per_second_out: values.Bytes | None = LEFT_OUT
    """Bytes that one connection is sent, on the long run; null for any number."""

    def changes(self) -> dict[str, Any]:
        """What it names, as the core takes it."""
        return {key: getattr(self, key) for key in self.model_fields_set}


class OffendersSettings(Section):
    """Addresses whose clients go over limits too often, and how long nothing is taken from them then."""

    offences: values.Count | None = 100
    """So many are put up with: a connection that had to be closed is one, ten refused ones are; null for any number."""
    window_seconds: values.Seconds = 60.0
    """In so many seconds as many are forgotten."""
    refuse_seconds: values.Seconds = 10.0
    """How long an address is refused the first time; each further time twice as long."""
    refuse_max_seconds: values.Seconds = 3600.0
    """How long at most; and who offends no more for so long begins anew."""
    exempt: tuple[values.Network, ...] = LOOPBACK
    """Addresses and networks that are never refused, besides `listen.trusted_proxies`."""

    def bounds(self) -> OffenceBounds:
        """As the core takes it."""
        return OffenceBounds(self.offences, self.window_seconds, self.refuse_seconds, self.refuse_max_seconds)


class LimitsSettings(Section):
    """How much one client, and all together, may use."""

    connections: values.Count = 10_000
    """Connections in all."""
    connections_per_address: values.Count = 100
    """Connections from one IP address; of IPv6, from one /64."""
    connections_per_user: values.Count = 100
    """Connections of one user, wherever they come from."""
    handshakes_per_address_per_second: values.Rate = 50
    """New connections from one address, on the long run, whether TCP's, a WebSocket's or a stream's."""
    handshakes_burst: values.Count = 500
    """New connections from one address, at once."""
    handshake_seconds: values.Seconds = 10.0
    """How long a new connection has for its first request; the longest time of all namespaces holds."""
    header_bytes: values.HeadBytes = 64 * KIB
    """The largest request line with headers; the largest of all namespaces holds."""
    url_bytes: values.HeadBytes = 16 * KIB
    """The longest path with query; the largest of all namespaces holds."""
    idle_seconds: values.Seconds | None = 600.0
    """How long a WebSocket may send nothing while it is subscribed to nothing; null for any time."""
    subscriptions_per_connection: values.Count = 100
    """Rooms and patterns that one connection subscribes to."""
    rooms: values.Count = 20_000
    """Rooms without a route into which clients have sent in the last 10 minutes."""
    rooms_per_address: values.Count = 1000
    """Those of them that clients of one address were the first to send into."""
    publishes_per_room_per_second: values.Rate = 200
    """Messages and requests of all clients together into one room, on the long run."""
    publishes_per_room_burst: values.Count = 400
    """Messages and requests of all clients together into one room, at once."""
    message_bytes: values.Bytes = 64 * KIB
    """The largest message or request body that a client may send."""
    batch_bytes: values.Bytes = KIB * KIB
    """The largest body of a batch, in which each message may be as large as `message_bytes` says."""
    batch_messages: values.Count = 1000
    """Messages in one batch."""
    messages_per_second: values.Rate = 20
    """Messages of one connection, on the long run."""
    messages_burst: values.Count = 120
    """Messages of one connection, at once."""
    bytes_per_second: values.Bytes = 256 * KIB
    """Bytes of one connection, on the long run."""
    bytes_burst: values.Bytes = 512 * KIB
    """Bytes of one connection, at once."""
    refusals: values.Count = 10
    """Refused messages in a row after which a connection is closed."""
    write_buffer_bytes: values.Bytes = 48 * KIB
    """What may wait for one client that reads slowly; beyond, it is told later, from the log."""
    lag_seconds: values.Seconds = 30.0
    """How long a client may take nothing before it is disconnected."""
    requests_in_flight: values.Count = 100
    """Requests to devices of one connection, or over HTTP from one address, that wait for an answer."""
    request_timeout_max_seconds: values.Seconds = 60
    """The longest that a client may let a request wait for the device's answer."""
    failed_logins: values.Count = 5
    """Wrong passwords for one user from one address before the next try has to wait; only at the top."""
    failed_login_delay_seconds: values.Seconds = 1.0
    """The first wait; each further one is twice as long; only at the top."""
    failed_login_delay_max_seconds: values.Seconds = 900.0
    """The longest wait, and half of how long failures are remembered; only at the top."""
    last_values: values.Count = 100_000
    """Last values kept, one for each room and topic; beyond, the stalest is forgotten."""
    log_bytes: values.Bytes = 64 * KIB * KIB
    """Memory for history and last values; beyond, the oldest history is forgotten, then the stalest last values."""
    presence_members: values.Count = 100_000
    """Members of rooms with presence, over all rooms; beyond, newcomers aren't shown."""
    presence_members_told: values.Count = 100
    """Members of one room; beyond, only their number is told."""
    presence_state_bytes: values.Bytes = KIB
    """The largest state that a member may have."""
    bytes_per_second_out: values.Bytes | None = None
    """Bytes that one connection is sent, on the long run; beyond, it is told the newest of each topic only."""
    by_role: dict[values.NamedRole, RoleLimitsSettings] = Field(default={})
    """What roles change, by the role's name."""
