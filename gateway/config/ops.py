"""Where operators find the gateway: the keys of `ops`."""

from gateway.config import values
from gateway.config.section import Section

__all__ = ["OpsSettings"]


class OpsSettings(Section):
    """A listener of its own for `/healthz`, `/readyz` and `/metrics`, which `listen` doesn't serve then."""

    host: values.Host = "127.0.0.1"
    """The address to listen on; without TLS, and open to whoever reaches it."""
    port: values.Port | None = None
    """The port; none stands for no such listener, 0 for a free port. With `--workers` each has the next one."""
