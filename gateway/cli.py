"""The command line: `tidegate run|check|routes|access|token|ticket|user|nodes|sub|pub|demo`.

A user's mistake is one sentence, never a traceback.
"""

import asyncio
import contextlib
import os
import signal
import sys
from collections.abc import Coroutine
from functools import partial
from pathlib import Path
from random import SystemRandom
from typing import Annotated, Any, Final

import orjson
import typer

from gateway import __version__, cli_identity, client
from gateway.cli_common import DEFAULT_CONFIG, DEFAULT_URL, Config, TokenFile, Url, given_token
from gateway.cli_common import fail as _fail
from gateway.cli_common import load as _load
from gateway.cli_nodes import nodes
from gateway.config import Settings, load_settings
from gateway.config.show import show
from gateway.core.codec import name_of
from gateway.core.identity import Identity
from gateway.core.namespace import DEFAULT_NAMESPACE
from gateway.core.routing import Explanation, RoutingTable
from gateway.core.topics import InvalidName, check_filter, check_topic
from gateway.demo import DemoBroker, run_demo
from gateway.explain import explain_access, known_identity
from gateway.logs import configure_logging
from gateway.user_cli import user

__all__ = ["main"]

app = typer.Typer(
    name="tidegate",
    help="A real-time gateway between MQTT devices and browsers.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
routes = typer.Typer(help="Ask the routing table.", no_args_is_help=True)
app.add_typer(routes, name="routes")
access = typer.Typer(help="Ask the rules of access.", no_args_is_help=True)
app.add_typer(access, name="access")
app.add_typer(cli_identity.token, name="token")
app.command()(cli_identity.ticket)
app.command()(nodes)
app.add_typer(user, name="user")

FAREWELL_SECONDS: Final = 1.0
"""How long a conversation may take to end when it is told to."""
MOST_WORKERS: Final = 256
INTERRUPTED: Final = 130
"""The exit code of what a signal broke off."""


def _version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"tidegate {__version__}")
        raise typer.Exit


@app.callback()
def _options(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    pass


@app.command()
def run(
    config: Config = DEFAULT_CONFIG,
    host: Annotated[str | None, typer.Option(help="Listen on this address instead of `listen.host`.")] = None,
    port: Annotated[int | None, typer.Option(help="Listen on this port instead of `listen.port`.")] = None,
    demo: Annotated[bool, typer.Option("--demo", help="Simulate devices too.")] = False,
    workers: Annotated[
        int,
        typer.Option(min=1, max=MOST_WORKERS, help="Serve by so many processes, joined by the Redis of `engine.url`."),
    ] = 1,
) -> None:
    """Start the gateway; Ctrl-C ends it, once more at once."""
    # The server's libraries are slow to import, and other commands don't need them.
    from gateway.run_workers import run_workers
    from gateway.runner import Program
    from gateway.runner import run as run_one
    from gateway.start import StartError

    listen = {key: value for key, value in (("host", host), ("port", port)) if value is not None}
    overrides = {"listen": listen} if listen else {}
    settings = _load(config, overrides)
    configure_logging(settings.logging.level, settings.logging.format)
    load = partial(load_settings, config, environment=os.environ, overrides=overrides)
    program = Program(settings, config, load, demo)
    try:
        if workers == 1:
            run_one(program)
        else:
            run_workers(program, workers)
    except StartError as error:
        _fail(*(f"tidegate: {line}" for line in str(error).splitlines()))


@app.command()
def check(
    config: Annotated[Path, typer.Argument(help="The configuration file.")] = DEFAULT_CONFIG,
    shown: Annotated[bool, typer.Option("--show", help="Print all that takes effect, without secrets.")] = False,
) -> None:
    """Say what is wrong with a configuration, all at once, or `ok`."""
    settings = _load(config)
    typer.echo(show(settings) if shown else "ok", nl=not shown)


@routes.command()
def explain(
    name: Annotated[str, typer.Argument(metavar="TOPIC_OR_ROOM", help="A topic of a device, or a room.")],
    config: Config = DEFAULT_CONFIG,
    namespace: Annotated[str, typer.Option("--namespace", help="Whose routes to ask.")] = DEFAULT_NAMESPACE,
) -> None:
    """Say which routes a topic or room takes, and what comes out."""
    settings = _load(config)
    try:
        check_topic(name)
    except InvalidName as error:
        _fail(f"tidegate: {error}")
    _check_namespace(settings, namespace)
    found = RoutingTable(settings.route_specs(namespace), settings.upstream_names()).explain(name)
    where = "" if namespace == DEFAULT_NAMESPACE else f"namespaces.{namespace}."
    for explanation in found:
        typer.echo(_describe(explanation, where))
    if not found:
        _fail(f"no route takes {name}")


def _check_namespace(settings: Settings, namespace: str) -> None:
    if namespace not in settings.namespace_names():
        _fail(f"tidegate: no namespace is called {namespace!r}: expected {' or '.join(settings.namespace_names())}")


@access.command("explain")
def explain_rules(
    room: Annotated[str, typer.Argument(help="A room, or a pattern such as sites/#.")],
    user: Annotated[
        str | None, typer.Option(help="Whose: with no roles or claims given, those of the users file.")
    ] = None,
    role: Annotated[list[str] | None, typer.Option(help="A role; may be given several times.")] = None,
    claim: Annotated[list[str] | None, typer.Option(metavar="NAME=VALUE", help="A claim of the token.")] = None,
    config: Config = DEFAULT_CONFIG,
    namespace: Annotated[str, typer.Option("--namespace", help="Whose rules to ask.")] = DEFAULT_NAMESPACE,
) -> None:
    """Say what somebody may do in a room, and which rule decides."""
    settings = _load(config)
    try:
        check_filter(room)
    except InvalidName as error:
        _fail(f"tidegate: {error}")
    _check_namespace(settings, namespace)
    claims = dict(text.partition("=")[::2] for text in claim or ())
    identity = Identity(user, frozenset(role or ()), claims)
    if not role and not claim:
        identity = known_identity(settings, user) or identity
    for line in explain_access(settings, namespace, identity, room):
        typer.echo(line)


def _describe(explanation: Explanation, where: str) -> str:
    route, spec = explanation.route, explanation.route.spec
    way = "room → topic" if explanation.to_device else "topic → room"
    details = (
        f"{spec.direction.value}, payload {name_of(spec.payload)}, qos {spec.qos}, upstream {explanation.upstream}"
    )
    if explanation.to_device and spec.reply is not None:
        details += f", answers on {spec.reply}"
    return f"{way}  {explanation.output}\n    {where}routes[{route.index}]: {spec.topic} | {spec.room} ({details})"


@app.command()
def sub(
    rooms: Annotated[list[str], typer.Argument(metavar="ROOM...", help="Rooms, or patterns such as sites/#.")],
    url: Url = DEFAULT_URL,
    count: Annotated[int | None, typer.Option("--count", "-n", min=1, help="End after so many messages.")] = None,
    token_file: TokenFile = None,
) -> None:
    """Print the last values of rooms, then their messages as they come: one JSON object a line.

    If the gateway goes away, it connects again, and goes on where it was.
    """

    def notice(text: str) -> None:
        typer.echo(f"tidegate: {text}", err=True)

    async def print_messages() -> None:
        left = count
        wanted = [_checked("ROOM", room) for room in rooms]
        subscription = client.subscribe(url, wanted, given_token(token_file), notice, SystemRandom())
        async with contextlib.aclosing(subscription) as messages:
            async for message in messages:
                typer.echo(orjson.dumps(message).decode())
                left = None if left is None else left - 1
                if left == 0:
                    return

    _talk(print_messages())


@app.command()
def pub(
    room: Annotated[str, typer.Argument(help="The room.")],
    data: Annotated[str, typer.Argument(help="JSON, or with --text any text; - reads standard input.")],
    url: Url = DEFAULT_URL,
    text: Annotated[bool, typer.Option("--text", help="Send the data as a string.")] = False,
    token_file: TokenFile = None,
) -> None:
    """Publish into a room, and end once the gateway has acknowledged it."""
    given = _checked("DATA", sys.stdin.buffer.read().decode(errors="surrogateescape") if data == "-" else data)
    try:
        value = given if text else orjson.loads(given)
    except orjson.JSONDecodeError as error:
        _fail(f"tidegate: DATA is no JSON ({error}): expected such as '{{\"switch\": true}}', or --text")
    _talk(client.publish(url, _checked("ROOM", room), value, given_token(token_file)), endless=False)


@app.command()
def demo(
    host: Annotated[str, typer.Option(help="The MQTT broker's address.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(help="The MQTT broker's port.", min=1, max=65535)] = 1883,
    username: Annotated[str | None, typer.Option(help="The user name of all devices.")] = None,
    password_file: Annotated[Path | None, typer.Option(help="A file with their password.")] = None,
    interval_seconds: Annotated[float, typer.Option(help="How often each device reports.", min=0.01)] = 0.5,
) -> None:
    """Simulate a dozen devices at three sites, over real MQTT; Ctrl-C ends it."""
    configure_logging("info", "auto")
    try:
        password = None if password_file is None else password_file.read_text().strip()
    except (OSError, UnicodeDecodeError) as error:
        _fail(f"tidegate: --password-file {password_file}: {error}")
    broker = DemoBroker(host, port, username, password)
    _talk(run_demo(broker, interval_seconds=interval_seconds))


def _checked(what: str, text: str) -> str:
    """Text that was given as bytes: what isn't UTF-8 in it shows as surrogates."""
    try:
        text.encode()
    except UnicodeEncodeError:
        _fail(f"tidegate: {what} is no UTF-8 text")
    return text


def _talk(conversation: Coroutine[Any, Any, None], *, endless: bool = True) -> None:
    """Run a conversation to its end, or until a signal, which is how an endless one is meant to end."""
    try:
        asyncio.run(_until_signal(conversation))
    except client.ClientError as error:
        _fail(f"tidegate: {error}")
    except asyncio.CancelledError:
        raise typer.Exit(0 if endless else INTERRUPTED) from None
    except BrokenPipeError:  # the reader of our output left
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


async def _until_signal(conversation: Coroutine[Any, Any, None]) -> None:
    loop, task = asyncio.get_running_loop(), asyncio.ensure_future(conversation)
    signalled = asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, signalled.set)
    waiting = asyncio.ensure_future(signalled.wait())
    await asyncio.wait((task, waiting), return_when=asyncio.FIRST_COMPLETED)
    if not signalled.is_set():
        waiting.cancel()
        return await task
    task.cancel()
    await asyncio.wait((task,), timeout=FAREWELL_SECONDS)
    raise asyncio.CancelledError  # `asyncio.run` cancels again what has missed it: `wait_for` of Python 3.11 may


def main() -> None:
    """The entry point."""
    app()


if __name__ == "__main__":
    main()
