"""The users file: who may log in by a password. It is read with the configuration, and its problems are told with it.

A mapping from names to users, in a file of its own, since `tidegate user` writes it.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Final, TypeAlias

from pydantic import AfterValidator, Field, PlainValidator, SecretStr, TypeAdapter, ValidationError
from pydantic_core import ErrorDetails

from gateway.config import values
from gateway.config.files import path_of
from gateway.config.problems import ConfigurationError, Problem
from gateway.config.section import Section
from gateway.config.yaml_source import read_yaml_file
from gateway.core.users import MAXIMUM_NAME_LENGTH, User, is_user_name

__all__ = ["UnfitFile", "UserSettings", "UsersFile", "UsersFromFile", "read_users", "session_keys"]

MAXIMUM_PROBLEMS: Final = 100


class UnfitFile(ValueError):
    """A file that the configuration names has problems of its own, at places of its own."""

    def __init__(self, problems: tuple[Problem, ...]) -> None:
        super().__init__("; ".join(map(str, problems)))
        self.problems = problems


def _check_hash(value: SecretStr) -> SecretStr:
    from bridges.passwords import check_hash  # slow to import, and most configurations don't need it

    check_hash(value.get_secret_value())
    return value


def _check_name(name: str) -> str:
    if not is_user_name(name):
        raise ValueError(f"expected a name of 1 to {MAXIMUM_NAME_LENGTH} printable characters, no space around it")
    return name


class UserSettings(Section):
    """A user who logs in by a password."""

    password_hash: Annotated[values.Password, AfterValidator(_check_hash)] = Field(examples=["$argon2id$v=19$…"])
    """The password's argon2id hash, as `tidegate user add` makes it."""
    roles: tuple[values.Role, ...] = ()
    """The user's roles."""
    claims: dict[values.Text, values.Text | tuple[values.Text, ...]] = Field({})
    """What rules call `{claims.name}`: text, or a list of texts."""


_Users: TypeAlias = dict[Annotated[str, AfterValidator(_check_name)], UserSettings]


@dataclass(frozen=True, slots=True)
class UsersFile:
    """A file, and the users that were read from it."""

    path: Path
    users: Mapping[str, User] = field(repr=False)


def read_users(path: Path) -> UsersFile:
    """Read and check a users file.

    Raises:
        ConfigurationError: it can't be used, with all that is wrong with it.
    """
    from gateway.config.explain import explain  # it knows all settings, and so this file too

    tree, problems = read_yaml_file(path)
    found: Mapping[str, UserSettings] = {}
    try:
        found = TypeAdapter(_Users).validate_python(tree.plain())
    except ValidationError as error:
        errors = [each for each in error.errors(include_url=False) if not _is_torn_hash(each)]
        problems += [explain(each, tree, _Users) for each in errors[:MAXIMUM_PROBLEMS]]
    if problems:
        raise ConfigurationError(sorted(problems, key=lambda problem: (problem.line or 0, problem.column or 0)))
    return UsersFile(path, {name: _user(name, settings) for name, settings in found.items()})


def _is_torn_hash(error: ErrorDetails) -> bool:
    """Whether it is about a part of a hash, which has commas in it: between braces YAML takes them for keys."""
    return error["type"] == "extra_forbidden" and "=" in str(error["loc"][-1])


def _user(name: str, settings: UserSettings) -> User:
    return User(name, settings.password_hash.get_secret_value(), frozenset(settings.roles), settings.claims)


def _read(value: object) -> UsersFile:
    path = path_of(value)
    try:
        return read_users(path)
    except ConfigurationError as error:
        if not path.exists():
            raise ValueError(f"expected a file, found none: {str(path)!r}: make one with `tidegate user add`") from None
        raise UnfitFile(error.problems) from None


UsersFromFile: TypeAlias = Annotated[UsersFile, PlainValidator(_read)]


def session_keys(text: str) -> tuple[str, ...]:
    """The keys in a file of `identity.session_secret_file`, one on each line, the newest last."""
    return tuple(line.strip() for line in text.splitlines() if line.strip())
