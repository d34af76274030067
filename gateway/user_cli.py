"""`tidegate user add|password|check|list|remove`: who may log in. Passwords are asked for, and stand in no command."""

import getpass
import re
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import Annotated, Final, NoReturn

import typer

from gateway.core.users import MAXIMUM_NAME_LENGTH, User, is_user_name
from gateway.user_file import UserFile, UserFileError

__all__ = ["user"]

MINIMUM_PASSWORD_LENGTH: Final = 8
"""What NIST SP 800-63B §5.1.1.1 asks for at least; it advises against asking for kinds of characters."""
MAXIMUM_PASSWORD_LENGTH: Final = 1024
INTERRUPTED: Final = 130
_ROLE = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.:@/-]{0,63}")

user = typer.Typer(help="Users who log in by a password.", no_args_is_help=True)

Name = Annotated[str, typer.Argument(help="The user's name.")]
File = Annotated[Path, typer.Option("--file", "-f", help="The users file, as `identity.users_file` names it.")]
Stdin = Annotated[bool, typer.Option("--password-stdin", help="Read the password from standard input.")]
DEFAULT_FILE: Final = Path("users.yaml")


def _fail(text: str) -> NoReturn:
    typer.echo(f"tidegate: {text}", err=True)
    raise typer.Exit(1)


@contextmanager
def _told() -> Iterator[None]:
    """Say what is wrong with the file, and end."""
    try:
        yield
    except UserFileError as error:
        _fail(str(error))


def _users(file: UserFile) -> dict[str, User]:
    with _told():
        return dict(file.users())


def _user(file: UserFile, path: Path, name: str) -> User:
    found = _users(file).get(name)
    if found is None:
        _fail(f"no user in {path} is called {name!r}")
    return found


def _ask(prompt: str) -> str:
    """What is typed, unseen. A signal meanwhile leaves the terminal as it was: `__main__` would end at once."""

    def leave(number: int, frame: FrameType | None) -> None:  # noqa: ARG001 - a signal handler
        raise KeyboardInterrupt

    before = {number: signal.signal(number, leave) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        return getpass.getpass(prompt)
    except EOFError:
        typer.echo(err=True)
        _fail("no password was given")
    except KeyboardInterrupt:
        typer.echo(err=True)
        raise typer.Exit(INTERRUPTED) from None
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _password(*, from_stdin: bool, twice: bool) -> str:
    if from_stdin:
        try:
            return sys.stdin.buffer.read().decode().removesuffix("\n").removesuffix("\r")
        except UnicodeDecodeError:
            _fail("the password is no UTF-8 text")
    if not sys.stdin.isatty():
        _fail("there is no terminal to ask for the password on: expected --password-stdin")
    given = _ask("Password: ")
    if twice and _ask("Once more: ") != given:
        _fail("the two passwords differ: nothing was changed")
    return given


def _new_password(*, from_stdin: bool) -> str:
    password = _password(from_stdin=from_stdin, twice=True)
    if not MINIMUM_PASSWORD_LENGTH <= len(password) <= MAXIMUM_PASSWORD_LENGTH:
        expected = f"{MINIMUM_PASSWORD_LENGTH} to {MAXIMUM_PASSWORD_LENGTH} characters"
        _fail(f"expected a password of {expected}, found {len(password) or 'none'}")
    if not password.isprintable():
        _fail("expected a password of one line, without control characters")
    return password


def _hash(password: str) -> str:
    from bridges.passwords import hash_password  # slow to import, and other commands don't need it

    return hash_password(password)


@user.command()
def add(
    name: Name,
    role: Annotated[list[str] | None, typer.Option(help="A role; may be given several times.")] = None,
    claim: Annotated[
        list[str] | None, typer.Option(metavar="NAME=VALUE", help="What rules call {claims.NAME}.")
    ] = None,
    file: File = DEFAULT_FILE,
    password_stdin: Stdin = False,
) -> None:
    """Add a user to the file, which is made if it isn't there; the password is asked for twice."""
    target = UserFile(file)
    if not is_user_name(name):
        _fail(f"NAME: expected 1 to {MAXIMUM_NAME_LENGTH} printable characters, no space around them")
    for each in role or ():
        if not _ROLE.fullmatch(each):
            _fail(f"--role {each}: expected letters, digits and _.:@/-, at most 64")
    claims: dict[str, str | tuple[str, ...]] = {}
    for each in claim or ():
        key, equals, value = each.partition("=")
        if not (key and equals and value):
            _fail(f"--claim {each}: expected such as site=oslo")
        claims[key] = value
    if file.exists() and name in _users(target):
        _fail(f"{name!r} is in {file} already: `tidegate user password` gives another password")
    given = _new_password(from_stdin=password_stdin)
    with _told():
        target.put(name, _hash(given), role or [], claims)
    typer.echo(f"{name} is in {file} now; a gateway that uses it notices")


@user.command()
def password(name: Name, file: File = DEFAULT_FILE, password_stdin: Stdin = False) -> None:
    """Give a user another password; whoever is logged in by the old one has to log in again."""
    target = UserFile(file)
    _user(target, file, name)
    given = _new_password(from_stdin=password_stdin)
    with _told():
        target.give_password(name, _hash(given))
    typer.echo(f"{name} has another password now; a gateway that uses {file} notices, and ends logins by the old one")


@user.command()
def check(name: Name, file: File = DEFAULT_FILE, password_stdin: Stdin = False) -> None:
    """Ask for a user's password; say whether it is right, and which roles the user has. Exit code 1 if it is wrong."""
    from bridges.passwords import verify_password  # slow to import, and other commands don't need it

    known = _user(UserFile(file), file, name)
    if not verify_password(known.password_hash, _password(from_stdin=password_stdin, twice=False)):
        typer.echo("wrong")
        raise typer.Exit(1)
    typer.echo(f"right; roles: {', '.join(sorted(known.roles)) or 'none'}")


@user.command("list")
def list_users(file: File = DEFAULT_FILE) -> None:
    """Say who is in the file, with which roles."""
    users = _users(UserFile(file))
    width = max(map(len, users), default=0)
    for name, known in sorted(users.items()):
        typer.echo(f"{name:<{width}}  {', '.join(sorted(known.roles)) or '(no roles)'}")


@user.command()
def remove(name: Name, file: File = DEFAULT_FILE) -> None:
    """Take a user out of the file."""
    target = UserFile(file)
    _user(target, file, name)
    with _told():
        target.remove(name)
    typer.echo(f"{name} is in {file} no more; a gateway that uses it notices, and ends the user's logins")
