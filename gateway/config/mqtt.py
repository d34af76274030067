"""What can be configured of MQTT over WebSocket. Units are in the names."""

from collections.abc import Mapping
from typing import Annotated, Literal, TypeAlias

from gateway.config import values
from gateway.config.section import Section
from gateway.config.upstreams import UpstreamSettings

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

    def problem_with(self, upstreams: Mapping[str, UpstreamSettings]) -> str | None:
        """Why clients can't be let through to an upstream, if they can't."""
        known = ", ".join(upstreams) or "embedded"
        if self.upstream is None and len(upstreams) > 1:
            return f"expected one of {known}, found none"
        name = self.upstream or known
        upstream = upstreams.get(name)
        if upstream is None:
            return None if name == known else f"expected one of {known}, found {name!r}"
        return "expected an upstream with mqtt:// or mqtts://, found WebSocket" if upstream.url.websocket else None
