"""One run of the gateway, from taking the port to the exit code."""

import asyncio
import gc
import os
import sys
from collections.abc import Callable
from contextlib import ExitStack, closing
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import typer
import uvloop
from starlette.applications import Starlette

from bridges.broker import BrokerUnavailable
from bridges.redis_nodes import NodeNameTaken
from bridges.sqlite_journal import JournalUnavailable
from gateway.app import Gateway, create_app
from gateway.banner import banner
from gateway.certificates import Certificates
from gateway.config import Settings
from gateway.core.clock import SystemClock
from gateway.demo import DemoBroker, run_demo
from gateway.hangup import on_hangup
from gateway.operations import serving_operators
from gateway.reload import Reload
from gateway.server import Server
from gateway.start import StartError, explain, listener_of, operators_listener_of, prepare
from gateway.worker import Worker

__all__ = ["Program", "run", "serve"]

FULL_SEARCH_AFTER: Final = 50
"""So many searches of what isn't new come before one of all; each is due after 7,000 objects more."""


@dataclass(frozen=True, slots=True)
class Program:
    """What is to be run: what was read from `path` by `load`, which reads it anew and raises ConfigurationError."""

    settings: Settings
    path: Path
    load: Callable[[], Settings]
    demo: bool = False
    """Whether devices are simulated."""


def run(program: Program) -> None:
    """Serve until SIGINT or SIGTERM, then end the process.

    Raises:
        StartError: a port is taken, or an address can't be had.
    """
    if program.demo and program.settings.upstreams:
        raise StartError("--demo needs the embedded broker: expected a configuration without `upstreams`")
    prepare(program.settings)
    serve(program)
    # All has ended in good order but, maybe, a thread that tries to reach a broker; nothing can interrupt it.
    sys.stdout.flush()
    os._exit(0)


def serve(program: Program, worker: Worker | None = None) -> None:
    """Serve until a signal ends it, as one of several processes if it is a worker.

    Raises:
        StartError: as `run`.
    """
    asyncio.Runner(loop_factory=uvloop.new_event_loop).run(_serve(program, worker))


async def _serve(program: Program, worker: Worker | None) -> None:
    settings = program.settings
    with ExitStack() as open_:
        listener = open_.enter_context(closing(listener_of(settings, None if worker is None else worker.port)))
        for_operators = operators_listener_of(settings, 0 if worker is None else worker.index)
        if for_operators is not None:
            open_.enter_context(closing(for_operators))
        certificates = _certificates(settings)
        try:
            app = create_app(settings)
        except JournalUnavailable as error:
            raise StartError(f"{error}: see `engine.url`") from None
        gateway: Gateway = app.state.gateway
        server = _server(gateway, app, certificates)
        reload = Reload(program.path, program.load, settings, gateway.reconfigure, gateway.reloads, SystemClock())
        _obey(server, reload, worker)
        try:
            async with serving_operators(gateway, for_operators), app.router.lifespan_context(app):
                _start_tasks(program, gateway, reload, certificates)
                _search_garbage_seldom()
                ops_port = None if for_operators is None else for_operators.getsockname()[1]
                if worker is None:
                    broker_port = None if gateway.broker is None else gateway.broker.port
                    where = (listener.getsockname()[1], ops_port, broker_port)
                    typer.echo(banner(settings, *where, demo=program.demo))
                else:
                    gateway.metrics.worker = worker.index, worker.restarts
                    worker.serves(ops_port)
                await server.serve([listener])
        except asyncio.CancelledError:
            if not server.should_exit:
                raise
        except NodeNameTaken as error:
            raise StartError(str(error)) from None
        except BrokerUnavailable as error:
            raise _start_error(error, settings) from None


def _obey(server: Server, reload: Reload, worker: Worker | None) -> None:
    """End and reload on signals, and if the parent says so."""
    run = asyncio.current_task()
    assert run is not None
    server.end_on_signals(run)
    on_hangup(reload.ask, server.leave)
    if worker is not None:
        worker.obey(drain=server.leave, end=server.hurry, reload=reload.ask)


def _start_tasks(program: Program, gateway: Gateway, reload: Reload, certificates: Certificates | None) -> None:
    broker, host = gateway.broker, program.settings.broker.host
    if program.demo and broker is not None:
        gateway.supervisor.start("demo", lambda: run_demo(DemoBroker(host, broker.port)))
    if certificates is not None:
        gateway.supervisor.start("certificate watch", certificates.watch)
    gateway.supervisor.start("configuration watch", reload.run)


def _start_error(error: BrokerUnavailable, settings: Settings) -> StartError:
    if not isinstance(error.__cause__, OSError):
        return StartError(str(error))
    at, or_else = settings.broker, "or name a broker of yours under `upstreams`"
    return StartError(explain(error.__cause__, "broker", at.host, at.port, or_else))


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
        admit=gateway.doorkeeper.admit,
        refused=gateway.refused,
        leaving=gateway.drain,
        tls=None if certificates is None else certificates.context,
    )


def _certificates(settings: Settings) -> Certificates | None:
    files = settings.listen.tls_files
    try:
        return None if files is None else Certificates(files)
    except ValueError as error:  # changed since the configuration was read
        raise StartError(f"{error}: see `listen.tls_certificate_file`") from None
