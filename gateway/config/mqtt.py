"""What can be configured of MQTT over WebSocket. Units are in the names."""

from typing import Annotated, Literal, TypeAlias

from gateway.config import values
from gateway.config.section import Section

__all__ = ["MqttSettings"]

Mode: TypeAlias = Annotated[Literal["gateway", "passthrough", "off"], values.Expected("gateway, passthrough or off")]


class MqttSettings(Section):
    """MQTT over WebSocket, at `/mqtt`: of every namespace, but with `passthrough` at the top alone."""

    mode: Mode = "gateway"
    """`gateway`: topics are rooms, under the same rules; `passthrough`: the broker's own business; or `off`."""
    upstream: values.UpstreamReference | None = None
    """With `passthrough`: the upstream that clients are connected to; none stands for the only one."""
    sessions: values.Count = 10_000
    """Sessions of clients that are away, in each namespace; beyond, those who are away longest are forgotten."""
    session_expiry_max_seconds: values.ExpirySeconds = 3600
    """For how long at most such a session is kept."""
    keep_alive_max_seconds: values.KeepAliveSeconds = 300
    """The longest keep-alive of an MQTT 5 client; WebSocket's own heartbeat comes besides."""
