"""Changes to a users file: one user at a time, everything else in it left as it is, comments too.

The text is changed, not written anew from its meaning; and what comes out is read again before it takes the old one's
place, so that a file that is written otherwise than expected is refused and never spoiled.
"""

import fcntl
import os
import re
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

import yaml

from gateway.config.problems import ConfigurationError, shown
from gateway.config.users import read_users
from gateway.config.yaml_source import read_yaml
from gateway.core.users import User

__all__ = ["UserFile", "UserFileError"]

PRIVATE: Final = 0o600
_KEY = re.compile(r"[^\s#]")
"""How a line begins that begins a user."""


class UserFileError(Exception):
    """Why a users file can't be read or changed, in lines for the person at the terminal."""


class UserFile:
    """A users file that may be changed; it need not be there yet."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def users(self) -> Mapping[str, User]:
        """Who is in it.

        Raises:
            UserFileError: it can't be read, or something in it is wrong.
        """
        try:
            return read_users(self._path).users
        except ConfigurationError as error:
            raise UserFileError(str(error)) from None

    def put(self, name: str, password_hash: str, roles: Sequence[str], claims: Mapping[str, Any]) -> None:
        """Add a user, or write one of that name anew.

        Raises:
            UserFileError: the file can't be changed.
        """
        self._change(name, lambda _: _block(name, password_hash, roles, claims))

    def give_password(self, name: str, password_hash: str) -> None:
        """Write another hash for a user, whose roles and claims stay what they are by now.

        Raises:
            UserFileError: the file can't be changed, or nobody of that name is in it.
        """

        def block(users: Mapping[str, User]) -> list[str]:
            if name not in users:
                raise UserFileError(f"no user in {self._path} is called {shown(name)} any more: nothing was changed")
            return _block(name, password_hash, sorted(users[name].roles), users[name].claims)

        self._change(name, block)

    def remove(self, name: str) -> None:
        """Take a user away.

        Raises:
            UserFileError: the file can't be changed.
        """
        self._change(name, lambda _: [])

    def _change(self, name: str, block: Callable[[Mapping[str, User]], list[str]]) -> None:
        try:
            path = self._path.resolve()
            with _alone(path.parent):
                users = self.users() if self._path.exists() else {}
                text = path.read_text(encoding="utf-8-sig") if path.exists() else ""
                _replace(path, _with(text, name, block(users)), self._check_same(text, name))
        except OSError as error:
            raise UserFileError(f"{self._path}: {error.strerror or error}") from None

    def _check_same(self, before: str, name: str) -> Callable[[Path], None]:
        """What looks whether only one user is another one in a changed file."""

        def check(changed: Path) -> None:
            try:
                read_users(changed)
                old, new = (read_yaml(text, "")[0].plain() for text in (before, changed.read_text(encoding="utf-8")))
            except ConfigurationError:
                old, new = {}, {"": None}
            if {**old, name: None} != {**new, name: None}:
                raise UserFileError(
                    f"{self._path}: nothing was changed: expected each user to begin in a line of its own, as in "
                    f"`ann:`, so that {shown(name)} can be changed without the others"
                )

        return check


def _block(name: str, password_hash: str, roles: Sequence[str], claims: Mapping[str, Any]) -> list[str]:
    """The lines of a user."""
    fields: dict[str, Any] = {"password_hash": password_hash, "roles": list(roles)}
    if claims:
        fields["claims"] = {key: _plain(value) for key, value in claims.items()}
    text = yaml.safe_dump({name: fields}, sort_keys=False, allow_unicode=True, width=1000)
    return text.splitlines(keepends=True)


def _plain(value: Any) -> Any:
    return list(value) if isinstance(value, tuple) else value


def _with(text: str, name: str, block: list[str]) -> str:
    """The text with a user's lines replaced, or with lines added at its end."""
    lines = text.splitlines(keepends=True)
    if lines and not lines[-1].endswith("\n"):
        lines[-1] += "\n"
    tree, _ = read_yaml(text, "")
    assert isinstance(tree.value, dict)
    if not tree.value:
        lines = [line for line in lines if not _KEY.match(line)]  # `{}`, `---`
    if name not in tree.value:
        return "".join([*lines, *block])
    start = (tree.value[name].place.line or 1) - 1
    end = start + 1
    while end < len(lines) and not _KEY.match(lines[end]):
        end += 1
    while end > start + 1 and (not lines[end - 1].strip() or lines[end - 1].startswith("#")):
        end -= 1  # what stands before the next user is about that one
    return "".join([*lines[:start], *block, *lines[end:]])


@contextmanager
def _alone(folder: Path) -> Iterator[None]:
    """Let no other change in this folder come between; held by the system, so it ends with the process."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


def _replace(path: Path, text: str, check: Callable[[Path], None]) -> None:
    """Put a text in a file's place at once, readable to its owner only; nothing changes if `check` raises."""
    descriptor, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")  # mode 0600
    changed = Path(name)
    try:
        with os.fdopen(descriptor, "w", encoding="utf-8") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
            os.fchmod(file.fileno(), PRIVATE)
            if path.exists():
                _give(file.fileno(), path.stat())
        check(changed)
        changed.replace(path)
    finally:
        changed.unlink(missing_ok=True)


def _give(descriptor: int, before: os.stat_result) -> None:
    """Leave a file with the one whose it was: root changes a file that the gateway's own user reads."""
    if (before.st_uid, before.st_gid) != (os.getuid(), os.getgid()) and os.getuid() == 0:
        os.fchown(descriptor, before.st_uid, before.st_gid)
