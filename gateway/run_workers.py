"""`tidegate run --workers N`: what a gateway of several processes needs, and what each of them is to be."""

import os
import sys
from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace
from functools import partial
from random import SystemRandom
from typing import Final

import typer

from gateway.banner import banner
from gateway.config import ConfigurationError, Settings
from gateway.config.changes import opens, with_rules_of
from gateway.core.clock import SystemClock
from gateway.logs import configure_logging
from gateway.runner import Program, serve
from gateway.server import reserve
from gateway.start import StartError, explain, prepare
from gateway.worker import Worker
from gateway.workers import Workers

__all__ = ["run_workers"]

LAST_PORT: Final = 65_535


def run_workers(program: Program, count: int) -> None:
    """Serve by so many processes until SIGINT or SIGTERM, then end this one.

    Raises:
        StartError: the configuration isn't one for several processes, or none of them can start.
    """
    settings = program.settings
    problems = ["can't be combined with --demo"] if program.demo else list(_problems(settings, count))
    if problems:
        raise StartError("\n".join(f"--workers {count} {problem}" for problem in problems))
    prepare(settings)
    host, port = settings.listen.host, settings.listen.port
    try:
        held = reserve(host, port)
    except OSError as error:
        raise StartError(explain(error, "listen", host, port, "or use --port")) from None
    with closing(held):
        port = held.getsockname()[1]

        def started(ops_port: int | None) -> None:
            typer.echo(banner(settings, port, ops_port, workers=count))

        leave_seconds = settings.drain_notice_seconds + settings.drain_seconds
        workers = Workers(count, port, partial(_be, program), started, leave_seconds, SystemClock(), SystemRandom())
        code = workers.run()
    sys.stdout.flush()
    os._exit(code)


def _problems(settings: Settings, count: int) -> Iterator[str]:
    """Why a configuration can't be that of several processes."""
    if settings.engine.redis is None:
        found = settings.engine.url.partition(":")[0]
        yield f"needs a Redis that joins them: expected `engine.url` such as redis://localhost:6379, found {found}:"
    if not settings.upstreams:
        yield "needs a broker of yours under `upstreams`: the embedded one belongs to one process"
    for name, upstream in settings.upstreams.items():
        if (
            upstream.ingest == "shared" and upstream.session == "persistent"
        ):  # a worker that is started again is another
            yield f"leaves what a worker that dies was to receive in its session: expected `session: clean` of {name}"
    if (settings.ops.port or 0) + count - 1 > LAST_PORT:
        yield f"needs a port for the operators of each: expected `ops.port` of at most {LAST_PORT - count + 1}"


def _be(program: Program, worker: Worker) -> None:
    """Be a worker, in its own process.

    Raises:
        StartError: it can't be one.
    """
    settings = program.settings
    configure_logging(settings.logging.level, settings.logging.format, worker=worker.index)
    own = replace(program, settings=_named(settings, worker), load=lambda: _named(program.load(), worker))
    serve(_renewed(own) if worker.restarts else own, worker)


def _renewed(program: Program) -> Program:
    """A program with the rules that hold by now, as the other workers have them."""
    try:
        settings = with_rules_of(program.settings, program.load())
    except ConfigurationError as error:
        raise StartError(str(error)) from None
    reason = opens(program.settings, settings)
    if reason is not None:
        raise StartError(reason)
    return replace(program, settings=settings)


def _named(settings: Settings, worker: Worker) -> Settings:
    """The settings of one worker: no two nodes may have the same name, nor one that may be taken for one that died."""
    node = settings.cluster.node
    if node is None:
        return settings
    name = f"{node}-{worker.index}" + (f".{worker.restarts}" if worker.restarts else "")
    return settings.model_copy(update={"cluster": settings.cluster.model_copy(update={"node": name})})
