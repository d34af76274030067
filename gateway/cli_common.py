"""What the parts of the command line share: options, how a mistake is told, and how a token is given.

A token is never an argument: all users of a machine can read those.
"""

import os
import sys
from pathlib import Path
from typing import Annotated, Any, Final, NoReturn

import typer

from gateway.config import ConfigurationError, Settings, load_settings

__all__ = ["DEFAULT_CONFIG", "DEFAULT_URL", "Config", "TokenFile", "Url", "ask_token", "fail", "given_token", "load"]

Config = Annotated[Path, typer.Option("--config", "-c", help="The configuration file.")]
Url = Annotated[str, typer.Option("--url", "-u", help="Where the gateway listens.")]
TokenFile = Annotated[
    Path | None, typer.Option(help="A file with a token to show; without, the variable TIDEGATE_TOKEN.")
]
DEFAULT_CONFIG = Path("config.yaml")
DEFAULT_URL = "http://localhost:8080"
VARIABLE: Final = "TIDEGATE_TOKEN"
MAXIMUM_TOKEN_BYTES: Final = 65_536


def fail(*lines: str) -> NoReturn:
    """End with exit code 1, having said why."""
    for line in lines:
        typer.echo(line, err=True)
    raise typer.Exit(1)


def load(path: Path, overrides: dict[str, Any] | None = None) -> Settings:
    """The configuration, or all that is wrong with it and the end."""
    try:
        return load_settings(path, environment=os.environ, overrides=overrides or {})
    except ConfigurationError as error:
        hint = "Name one with --config, or start from the example in docs/getting-started.md."
        fail(*map(str, error.problems), *([] if path.exists() else [hint]))


def given_token(file: Path | None) -> str | None:
    """The token in a file, or else in the environment, if there is one."""
    if file is None:
        text = os.environ.get(VARIABLE, "").strip()
        return _checked(text, VARIABLE) if text else None
    try:
        with file.open("rb") as opened:
            content = opened.read(MAXIMUM_TOKEN_BYTES + 1)
    except OSError as error:
        fail(f"tidegate: --token-file {file}: {error.strerror}")
    return _checked(content.decode("latin-1").strip(), str(file))


def ask_token(file: Path | None) -> str:
    """The token that is given, or else one from standard input; on a terminal it is asked for, and doesn't show."""
    given = given_token(file)
    if given is not None:
        return given
    if sys.stdin.isatty():
        text: str = typer.prompt("Token", hide_input=True, err=True)
    else:
        text = sys.stdin.buffer.read(MAXIMUM_TOKEN_BYTES + 1).decode("latin-1")
    return _checked(text.strip(), "standard input")


def _checked(token: str, where: str) -> str:
    """A token as it fits into a header."""
    if not (0 < len(token) <= MAXIMUM_TOKEN_BYTES and token.isascii() and token.isprintable() and " " not in token):
        fail(f"tidegate: {where}: expected a token and nothing else")
    return token
