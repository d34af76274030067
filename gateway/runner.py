"""One run of the gateway, from taking the port to the exit code."""

import asyncio
import errno
import gc
import logging
import os
import resource
import signal
import socket
import sys
from collections.abc import Callable
from contextlib import closing
from functools import partial
from pathlib import Path
from typing import Final

import typer
import uvloop
from starlette.applications import Starlette

from bridges.broker import BrokerUnavailable
from bridges.sqlite_journal import JournalUnavailable
from gateway import __version__
from gateway.app import Gateway, create_app
from gateway.certificates import Certificates
from gateway.config import Settings
from gateway.config.addresses import host_and_port
from gateway.core.clock import SystemClock
from gateway.core.namespace import DEFAULT_NAMESPACE
from gateway.core.origins import is_loopback
from gateway.core.plain_http import HTTP_SHARE
from gateway.demo import DemoBroker, run_demo
from gateway.hangup import on_hangup
from gateway.reload import Reload
from gateway.server import Server, bind

__all__ = ["StartError", "run"]

FILES_OF_OUR_OWN: Final = 100
"""Files that are open besides clients' connections, and some to spare."""

FULL_SEARCH_AFTER: Final = 50
"""So many searches of what isn't new come before one of all; each is due after 7,000 objects more."""

logger = logging.getLogger(__name__)


class StartError(Exception):
    """The gateway can't start; the text says why and which setting to change."""


def run(settings: Settings, path: Path, load: Callable[[], Settings], *, demo: bool) -> None:
    """Serve until SIGINT or SIGTERM, then end the process.

    Args:
        settings: What was read from `path` by `load`, which reads it anew when it has changed.
        path: The configuration's file.
        load: Raises ConfigurationError.
        demo: Whether devices are simulated.

    Raises:
        StartError: a port is taken, or an address can't be had.
    """
    if demo and settings.upstreams:
        raise StartError("--demo needs the embedded broker: expected a configuration without `upstreams`")
    asyncio.Runner(loop_factory=uvloop.new_event_loop).run(_serve(settings, path, load, demo=demo))
    # All has ended in good order but, maybe, a thread that tries to reach a broker; nothing can interrupt it.
    sys.stdout.flush()
    os._exit(0)


async def _serve(settings: Settings, path: Path, load: Callable[[], Settings], *, demo: bool) -> None:
    _allow_open_files(sum(settings.core_limits(name).connections for name in settings.namespace_names()))
    _warn_of_any_host(settings)
    _warn_of_clear_passwords(settings)
    with closing(_listener(settings)) as listener:
        certificates = _certificates(settings)
        try:
            app = create_app(settings)
        except JournalUnavailable as error:
            raise StartError(f"{error}: see `engine.url`") from None
        gateway: Gateway = app.state.gateway
        server = _server(gateway, app, certificates)
        run = asyncio.current_task()
        assert run is not None
        server.end_on_signals(run)
        try:
            async with app.router.lifespan_context(app):
                if demo and gateway.broker is not None:
                    broker = gateway.broker
                    gateway.supervisor.start("demo", lambda: run_demo(DemoBroker(settings.broker.host, broker.port)))
                if certificates is not None:
                    gateway.supervisor.start("certificate watch", certificates.watch)
                reload = Reload(path, load, settings, gateway.reconfigure, gateway.reloads, SystemClock())
                gateway.supervisor.start("configuration watch", reload.run)
                on_hangup(reload.ask, partial(signal.raise_signal, signal.SIGTERM))
                _search_garbage_seldom()
                typer.echo(_banner(gateway, listener.getsockname()[1], demo=demo))
                await server.serve([listener])
        except asyncio.CancelledError:
            if not server.should_exit:
                raise
        except BrokerUnavailable as error:
            if not isinstance(error.__cause__, OSError):
                raise StartError(str(error)) from None
            at = settings.broker
            or_else = "or name a broker of yours under `upstreams`"
            raise StartError(_explain(error.__cause__, "broker", at.host, at.port, or_else)) from None


def _listener(settings: Settings) -> socket.socket:
    host, port = settings.listen.host, settings.listen.port
    try:
        return bind(host, port)
    except OSError as error:
        raise StartError(_explain(error, "listen", host, port, "or use --port")) from None


def _search_garbage_seldom() -> None:
    """A search for garbage that goes in circles stops all: 20 ms for 100,000 objects, and each client has some 50.

    Connections that end leave none, so it needn't be often; and what is there from the start stays.
    """
    gc.collect()
    gc.freeze()
    young, middle, _ = gc.get_threshold()
    gc.set_threshold(young, middle, FULL_SEARCH_AFTER)


def _server(gateway: Gateway, app: Starlette, certificates: Certificates | None) -> Server:
    settings = gateway.settings
    return Server(
        app,
        message_bytes=gateway.largest_message_bytes,
        inflate=settings.listen.compress_from_bytes is not None,
        heartbeats=gateway.heartbeats,
        head=gateway.head,
        drain_seconds=settings.drain_seconds,
        admit=gateway.doorkeeper.admit,
        refused=gateway.refused,
        drain=gateway.drain,
        tls=None if certificates is None else certificates.context,
    )


def _certificates(settings: Settings) -> Certificates | None:
    files = settings.listen.tls_files
    try:
        return None if files is None else Certificates(files)
    except ValueError as error:  # changed since the configuration was read
        raise StartError(f"{error}: see `listen.tls_certificate_file`") from None


def _warn_of_any_host(settings: Settings) -> None:
    """Say that pages of anybody's may act with the browsers that reach this gateway, if nothing else keeps them out."""
    if not (settings.hosts or settings.identity.is_configured or is_loopback(settings.listen.host)):
        logger.warning(
            "without `hosts` and `identity`, any page can make its name lead to %s and act here (DNS rebinding): "
            "name the gateway's own names under `hosts`",
            settings.listen.host,
        )


def _warn_of_clear_passwords(settings: Settings) -> None:
    """Say that passwords can be read on their way, as far as is known here."""
    listen = settings.listen
    safe = listen.tls_files or listen.trusted_proxies or is_loopback(listen.host)
    if settings.identity.users_file is not None and not safe:
        logger.warning("passwords may come in the clear: expected TLS, by `listen` or by one of its `trusted_proxies`")


def _allow_open_files(connections: int) -> None:
    """Raise the limit of open files as far as this user may: each connection is one."""
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    needed = HTTP_SHARE * connections + connections + FILES_OF_OUR_OWN
    if most != resource.RLIM_INFINITY and most < needed:
        logger.warning(
            "%d open files are allowed, too few for `limits.connections` (%d), with those of plain HTTP: "
            "allow %d with `ulimit -Hn`",
            most,
            connections,
            needed,
        )


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
    shown = "localhost" if host in ("127.0.0.1", "::1", "0.0.0.0", "::") else host  # noqa: S104 - only shown
    scheme = "https" if settings.listen.tls_files else "http"
    lines = [f"Tidegate {__version__}", f"  dashboard  {scheme}://{host_and_port(shown, port)}"]
    if gateway.broker is not None:
        lines.append(f"  MQTT       {host_and_port(settings.broker.host, gateway.broker.port)} (embedded broker)")
    lines += [f"  MQTT       {name}: {upstream.url}" for name, upstream in settings.upstreams.items()]
    if demo:
        lines.append("  devices    simulated, over MQTT")
    names = settings.namespace_names()
    lines += [f"  namespace  {name}: /n/{name}/" for name in names if name != DEFAULT_NAMESPACE]
    if not any(settings.route_specs(name) for name in names):
        lines.append("  no routes: nothing from devices reaches browsers until the configuration names some")
    return "\n".join([*lines, "Ctrl-C ends it."])
