"""What `tidegate run` says once it serves: where everything is."""

from gateway import __version__
from gateway.config import Settings
from gateway.config.addresses import host_and_port
from gateway.core.namespace import DEFAULT_NAMESPACE

__all__ = ["banner"]


def banner(
    settings: Settings,
    port: int,
    ops_port: int | None = None,
    broker_port: int | None = None,
    *,
    demo: bool = False,
    workers: int = 1,
) -> str:
    """The lines.

    Args:
        settings: What runs.
        port: The one that browsers find.
        ops_port: Where operators ask, if that is another one; that of the first worker.
        broker_port: That of the embedded broker, if there is one.
        demo: Whether devices are simulated.
        workers: How many processes serve.
    """
    scheme = "https" if settings.listen.tls_files else "http"
    lines = [f"Tidegate {__version__}", f"  dashboard  {scheme}://{host_and_port(_shown(settings.listen.host), port)}"]
    if workers > 1:
        lines.append(f"  workers    {workers}, joined by Redis")
    if ops_port is not None:
        others = "" if workers == 1 or not settings.ops.port else f" to {ops_port + workers - 1}, one for each worker"
        lines.append(f"  operations http://{host_and_port(_shown(settings.ops.host), ops_port)}/metrics{others}")
    if broker_port is not None:
        lines.append(f"  MQTT       {host_and_port(settings.broker.host, broker_port)} (embedded broker)")
    lines += [f"  MQTT       {name}: {upstream.url}" for name, upstream in settings.upstreams.items()]
    if demo:
        lines.append("  devices    simulated, over MQTT")
    names = settings.namespace_names()
    lines += [f"  namespace  {name}: /n/{name}/" for name in names if name != DEFAULT_NAMESPACE]
    if not any(settings.route_specs(name) for name in names):
        lines.append("  no routes: nothing from devices reaches browsers until the configuration names some")
    return "\n".join([*lines, "Ctrl-C ends it."])


def _shown(host: str) -> str:
    return "localhost" if host in ("127.0.0.1", "::1", "0.0.0.0", "::") else host  # noqa: S104 - only shown
