"""How much clients may use: the keys of `limits`."""

from typing import Final

from gateway.config import values
from gateway.config.section import Section

__all__ = ["LimitsSettings"]

KIB: Final = 1024


class LimitsSettings(Section):
    """How much one client, and all together, may use."""

    connections: values.Count = 10_000
    """Connections in all."""
    connections_per_address: values.Count = 100
    """Connections from one IP address."""
    handshake_seconds: values.Seconds = 10.0
    """How long a new connection has for its first request; the longest time of all namespaces holds."""
    subscriptions_per_connection: values.Count = 100
    """Rooms and patterns that one connection subscribes to."""
    message_bytes: values.Bytes = 64 * KIB
    """The largest message or request body that a client may send."""
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
