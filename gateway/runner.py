"""One run of the gateway, from taking the port to the exit code."""

import asyncio
import errno
import os
import sys
from contextlib import closing

import typer
import uvloop

from bridges.broker import BrokerUnavailable
from bridges.sqlite_journal import JournalUnavailable
from gateway import __version__
from gateway.app import Gateway, create_app
from gateway.config import Settings
from gateway.core.namespace import DEFAULT_NAMESPACE
from gateway.demo import run_demo
from gateway.server import Server, bind

__all__ = ["StartError", "run"]


class StartError(Exception):
    """The gateway can't start; the text says why and which setting to change."""


def run(settings: Settings, *, demo: bool) -> None:
    """Serve until SIGINT or SIGTERM, then end the process.

    Raises:
        StartError: a port is taken, or an address can't be had.
    """
    if demo and settings.upstreams:
        raise StartError("--demo needs the embedded broker: expected a configuration without `upstreams`")
    asyncio.Runner(loop_factory=uvloop.new_event_loop).run(_serve(settings, demo=demo))
    # All has ended in good order but, maybe, a thread that tries to reach a broker; nothing can interrupt it.
    sys.stdout.flush()
    os._exit(0)


async def _serve(settings: Settings, *, demo: bool) -> None:
    host, port = settings.listen.host, settings.listen.port
    try:
        listener = bind(host, port)
    except OSError as error:
        raise StartError(_explain(error, "listen", host, port, "or use --port")) from None
    with closing(listener):
        try:
            app = create_app(settings)
        except JournalUnavailable as error:
            raise StartError(f"{error}: see `engine.url`") from None
        gateway: Gateway = app.state.gateway
        server = Server(
            app,
            message_bytes=gateway.largest_message_bytes,
            heartbeat_seconds=settings.heartbeat.interval_seconds,
            heartbeat_timeout_seconds=settings.heartbeat.timeout_seconds,
            drain_seconds=settings.drain_seconds,
            drain=gateway.drain,
        )
        try:
            async with app.router.lifespan_context(app):
                if demo and gateway.broker is not None:
                    broker = gateway.broker
                    gateway.supervisor.start("demo", lambda: run_demo(settings.broker.host, broker.port))
                typer.echo(_banner(gateway, listener.getsockname()[1], demo=demo))
                await server.serve([listener])
        except BrokerUnavailable as error:
            if not isinstance(error.__cause__, OSError):
                raise StartError(str(error)) from None
            at = settings.broker
            or_else = "or name a broker of yours under `upstreams`"
            raise StartError(_explain(error.__cause__, "broker", at.host, at.port, or_else)) from None


def _explain(error: OSError, section: str, host: str, port: int, also: str) -> str:
    """Why an address can't be had, and what to set; `section` of the configuration names it."""
    setting = f"set `{section}.port` or TIDEGATE_{section.upper()}__PORT to another, {also}"
    if error.errno == errno.EADDRINUSE:
        return f"port {port} on {host} is taken by another program: {setting}"
    if error.errno == errno.EACCES:
        return f"port {port} on {host} needs rights that this user doesn't have: {setting}"
    return f"can't listen on {host}, port {port}: {error.strerror or error}: check `{section}.host`"


def _banner(gateway: Gateway, port: int, *, demo: bool) -> str:
    settings = gateway.settings
    host = settings.listen.host
    shown = "localhost" if host in ("127.0.0.1", "::1", "0.0.0.0", "::") else host
    lines = [f"Tidegate {__version__}", f"  dashboard  http://{shown}:{port}"]
    if gateway.broker is not None:
        lines.append(f"  MQTT       {settings.broker.host}:{gateway.broker.port} (embedded broker)")
    lines += [f"  MQTT       {name}: {upstream.url}" for name, upstream in settings.upstreams.items()]
    if demo:
        lines.append("  devices    simulated, over MQTT")
    names = settings.namespace_names()
    lines += [f"  namespace  {name}: /n/{name}/" for name in names if name != DEFAULT_NAMESPACE]
    if not any(settings.route_specs(name) for name in names):
        lines.append("  no routes: nothing from devices reaches browsers until the configuration names some")
    return "\n".join([*lines, "Ctrl-C ends it."])
