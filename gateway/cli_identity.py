"""The command line about identity: `tidegate token make|check`, `tidegate ticket`."""

import asyncio
import json
from datetime import UTC, datetime
from random import SystemRandom
from typing import Annotated
from urllib.parse import quote, urlencode

import orjson
import typer

from gateway import client
from gateway.cli_common import DEFAULT_CONFIG, DEFAULT_URL, Config, TokenFile, Url, ask_token, fail, load
from gateway.config import IdentitySettings
from gateway.core.authentication import hash_token, make_token
from gateway.core.clock import SystemClock
from gateway.core.errors import Unauthenticated
from gateway.core.identity import Identity

__all__ = ["ticket", "token"]

token = typer.Typer(help="Make and check tokens.", no_args_is_help=True)


@token.command()
def make(
    name: Annotated[str, typer.Argument(help="The program's name.")] = "program",
    role: Annotated[list[str] | None, typer.Option(help="A role; may be given several times.")] = None,
) -> None:
    """Make an API token; print it, and what the configuration has to say of it."""
    made = make_token(SystemRandom())
    entry = {"name": name, "sha256": hash_token(made), "roles": role or []}
    typer.echo(
        f"{made}\n\nIt isn't kept anywhere. Put this into `identity.tokens`:\n\n  - {orjson.dumps(entry).decode()}"
    )


@token.command()
def check(config: Config = DEFAULT_CONFIG, token_file: TokenFile = None) -> None:
    """Say who shows a token, or why it is refused. It comes by a file, TIDEGATE_TOKEN or standard input.

    No gateway is asked; with `jwks_url`, the identity provider's keys are fetched.
    """
    settings = load(config)
    if not settings.identity.asks:
        fail(f"tidegate: {config} knows no tokens: expected `identity.jwt` or `identity.tokens`")
    try:
        identity = asyncio.run(_identify(settings.identity, ask_token(token_file)))
    except Unauthenticated as error:
        fail(f"tidegate: {error.message}")
    typer.echo(_described(identity))


async def _identify(settings: IdentitySettings, given: str) -> Identity:
    from gateway.doors import make_authentication, make_keys  # slow to import, and other commands don't need it

    clock = SystemClock()
    keys = make_keys(settings.jwt, clock)
    authentication = make_authentication(settings, clock, SystemRandom(), keys)
    if keys is not None:
        await keys.update()  # what is wrong is logged
    return authentication.identify(given)


def _described(identity: Identity) -> str:
    """A JSON object in ASCII: whatever a token says, it can't steer a terminal."""
    until = identity.expires_at
    try:
        expires = None if until is None else datetime.fromtimestamp(until, UTC).isoformat(timespec="seconds")
    except (ValueError, OverflowError):  # after the year 9999
        expires = "never"
    said = {**identity.fields(), "expires": expires, "claims": dict(identity.claims)}
    return json.dumps(said, indent=2)


def ticket(
    url: Url = DEFAULT_URL,
    token_file: TokenFile = None,
    room: Annotated[list[str] | None, typer.Option(help="A room of the stream's address; all, if left out.")] = None,
) -> None:
    """Fetch a ticket, which lets in once and not for long, for a token; print it, and addresses that have it."""
    try:
        made, seconds = client.fetch_ticket(url, ask_token(token_file))
        websocket, stream = client.endpoint(url, "ws"), client.endpoint(url, "sse")
    except client.ClientError as error:
        fail(f"tidegate: {error}")
    rooms = urlencode([("room", name) for name in room or ["#"]], quote_via=quote, safe="/")
    typer.echo(f"{made}\n{websocket}?ticket={made}\n{stream}?{rooms}&ticket={made}")
    typer.echo(f"It lets in once, within {seconds:g} s.", err=True)
