"""From a file and the environment to `Settings`, or to a list of all that is wrong, each with its place.

Pydantic finds most of it; its findings are told in the product's words, with what was found and what was expected.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path
from typing import Any, get_args

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails
from pydantic_settings import (
    BaseSettings,
    EnvSettingsSource,
    InitSettingsSource,
    PydanticBaseSettingsSource,
    SettingsError,
)

from gateway.config import ENVIRONMENT_PREFIX, Settings
from gateway.core.routing import RouteProblem, RoutingError, RoutingTable
from gateway.yaml_source import KeyPath, Located, YamlError, read_yaml

__all__ = ["ConfigurationError", "Problem", "load_settings"]

SECRETS = ("password",)
FILES = ("password_file", "ca_file", "certificate_file", "key_file")


@dataclass(frozen=True, slots=True)
class Problem:
    """One thing that is wrong with a configuration, and where."""

    source: str
    """The file, or the environment variable."""
    line: int | None
    column: int | None
    key: str
    message: str

    def __str__(self) -> str:
        place = ":".join(str(part) for part in (self.source, self.line, self.column) if part is not None)
        return f"{place}: {self.key}: {self.message}" if self.key else f"{place}: {self.message}"


class ConfigurationError(Exception):
    """A configuration that can't be used, with all that is wrong with it."""

    def __init__(self, problems: tuple[Problem, ...]) -> None:
        super().__init__("\n".join(map(str, problems)))
        self.problems = problems


def load_settings(
    path: Path | None, *, environment: Mapping[str, str], overrides: Mapping[str, Any] | None = None
) -> Settings:
    """Read the configuration: overrides win over the environment, which wins over the file.

    Raises:
        ConfigurationError: it can't be used.

    """
    return _Loader(path, environment, overrides or {}).load()


class _Loader:
    """One load: what was given, so that each finding can be traced to its place."""

    def __init__(self, path: Path | None, environment: Mapping[str, str], overrides: Mapping[str, Any]) -> None:
        self._path = path
        self._variables = {
            name: value for name, value in environment.items() if name.upper().startswith(ENVIRONMENT_PREFIX)
        }
        self._overrides = dict(overrides)
        self._file = Located()

    def load(self) -> Settings:
        problems = self._read_file()
        problems += self._unknown_variables()
        settings = self._validate(problems)
        if settings is None or problems:
            raise ConfigurationError(tuple(problems))
        return settings

    def _read_file(self) -> list[Problem]:
        if self._path is None:
            return []
        try:
            self._file = read_yaml(self._path)
        except YamlError as error:
            found = tuple(self._problem_at(position, path, text) for position, path, text in error.problems)
            raise ConfigurationError(found) from None
        if self._file.data is None:
            self._file.data = {}
        if not isinstance(self._file.data, dict):
            raise ConfigurationError((Problem(str(self._path), 1, 1, "", "expected keys such as `routes:`"),))
        _resolve_files(self._file.data, self._path.parent)
        return []

    def _problem_at(self, position: Any, path: KeyPath, message: str) -> Problem:
        line, column = (position.line, position.column) if position else (None, None)
        return Problem(str(self._path), line, column, _dotted(path), message)

    def _unknown_variables(self) -> list[Problem]:
        """What pydantic-settings passes over: variables whose first part is no key."""
        problems = []
        for name in self._variables:
            first, *others = name[len(ENVIRONMENT_PREFIX) :].lower().split("__")
            if first not in Settings.model_fields:
                close = get_close_matches(first, Settings.model_fields, 1)
                meant = "__".join([ENVIRONMENT_PREFIX + close[0].upper(), *map(str.upper, others)]) if close else ""
                problems.append(Problem(name, None, None, "", "unknown variable" + _suggest([meant] if meant else [])))
        return problems

    def _validate(self, problems: list[Problem]) -> Settings | None:
        try:
            settings = self._settings_class()(**self._overrides)
        except SettingsError:
            problems += self._unreadable_variables()
            return None
        except ValidationError as error:
            problems += (self._told(details) for details in error.errors())
            return None
        try:
            RoutingTable(settings.route_specs(), settings.upstream_names())
        except RoutingError as error:
            problems += map(self._route_problem, error.problems)
        return settings

    def _settings_class(self) -> type[Settings]:
        variables, data = self._variables, self._file.data or {}

        class Environment(EnvSettingsSource):
            def _load_env_vars(self) -> Mapping[str, str | None]:
                return {name.lower(): value for name, value in variables.items()}

        class Loaded(Settings):
            @classmethod
            def settings_customise_sources(
                cls,
                settings_cls: type[BaseSettings],
                init_settings: PydanticBaseSettingsSource,
                env_settings: PydanticBaseSettingsSource,  # noqa: ARG003
                dotenv_settings: PydanticBaseSettingsSource,  # noqa: ARG003
                file_secret_settings: PydanticBaseSettingsSource,  # noqa: ARG003
            ) -> tuple[PydanticBaseSettingsSource, ...]:
                return init_settings, Environment(settings_cls), InitSettingsSource(settings_cls, data)

        return Loaded

    def _unreadable_variables(self) -> Iterator[Problem]:
        """Variables that hold a list or mapping, but no JSON; pydantic-settings names only the field."""
        for name in self._variables:
            try:
                _Loader(None, {name: self._variables[name]}, {})._settings_class()()
            except SettingsError:
                yield Problem(name, None, None, "", "expected JSON, as for every key that holds a list or mapping")
            except ValidationError:
                continue

    def _route_problem(self, problem: RouteProblem) -> Problem:
        message = problem.message
        if problem.other_index is not None:
            other = self._file.position(("routes", problem.other_index))
            message += f" (see line {other.line})" if other else f" (see routes[{problem.other_index}])"
        return self._locate(("routes", problem.index, problem.key), message)

    def _told(self, details: ErrorDetails) -> Problem:
        path = tuple(part for part in details["loc"] if part != "[key]")
        return self._locate(path, _in_our_words(details, path))

    def _locate(self, path: KeyPath, message: str) -> Problem:
        for length in range(len(path), 0, -1):
            wanted = ENVIRONMENT_PREFIX + "__".join(str(part) for part in path[:length]).upper()
            for name in self._variables:
                if name.upper() == wanted:
                    return Problem(name, None, None, _dotted(path), message)
        if self._path is None or _lookup(self._overrides, path):
            return Problem(
                "command line" if _lookup(self._overrides, path) else "configuration",
                None,
                None,
                _dotted(path),
                message,
            )
        return self._problem_at(self._file.position(path), path, message)


def _lookup(data: Any, path: KeyPath) -> bool:
    for part in path:
        if not isinstance(data, Mapping) or part not in data:
            return False
        data = data[part]
    return True


def _resolve_files(data: dict[str, Any], folder: Path) -> None:
    """Paths in the file are relative to the file."""
    upstreams = data.get("upstreams")
    for upstream in upstreams.values() if isinstance(upstreams, dict) else ():
        for key in FILES:
            if isinstance(upstream, dict) and isinstance(upstream.get(key), str):
                upstream[key] = str(folder / upstream[key])


def _dotted(path: KeyPath) -> str:
    text = ""
    for part in path:
        text += f"[{part}]" if isinstance(part, int) else f".{part}" if text else part
    return text


def _suggest(close: list[str]) -> str:
    return f": did you mean `{close[0]}`?" if close else ""


def _in_our_words(details: ErrorDetails, path: KeyPath) -> str:
    context: dict[str, Any] = details.get("ctx") or {}
    kind = details["type"]
    if kind == "extra_forbidden":
        known = _known_keys(path[:-1])
        close = get_close_matches(str(path[-1]), known, 1)
        return "unknown key" + (_suggest(close) if close else f": expected one of {', '.join(known)}")
    if kind == "missing":
        return f"lacking: expected `{path[-1]}`"
    if kind == "value_error":
        return f"{context['error']}"
    expected = _expected(kind, context)
    if expected is None:
        expected = details["msg"].replace("Input should be", "expected").replace("String should", "expected it to")
    else:
        expected = f"expected {expected}"
    return expected if path and path[-1] in SECRETS else f"{expected}, found {_shown(details['input'])}"


def _expected(kind: str, context: Mapping[str, Any]) -> str | None:
    match kind:
        case "int_type" | "int_parsing" | "int_from_float" | "int_parsing_size":
            return "a whole number"
        case "float_type" | "float_parsing" | "finite_number":
            return "a number"
        case "bool_type" | "bool_parsing":
            return "true or false"
        case "string_type" | "path_type":
            return "text"
        case "list_type" | "tuple_type":
            return "a list"
        case "dict_type" | "model_type" | "model_attributes_type":
            return "keys with values"
        case "greater_than":
            return f"more than {context['gt']:g}"
        case "greater_than_equal":
            return f"{context['ge']:g} or more"
        case "less_than_equal":
            return f"{context['le']:g} or less"
        case "literal_error" | "enum":
            return str(context["expected"]).replace("'", "")
        case "string_pattern_mismatch":
            return "a name of small letters, digits, - and _"
        case "string_too_short":
            return "some text"
    return None


def _shown(value: object) -> str:
    if isinstance(value, (dict, list, tuple)):
        return "keys" if isinstance(value, dict) else "a list"
    if value is None:
        return "nothing"
    if isinstance(value, bool):
        return str(value).lower()
    text = repr(value) if isinstance(value, str) else str(value)
    return text if len(text) <= 60 else f"{text[:60]}…"


def _known_keys(path: KeyPath) -> list[str]:
    """The keys that may stand at `path`."""
    model: Any = Settings
    for part in path:
        if isinstance(part, int) or not (isinstance(model, type) and issubclass(model, BaseModel)):
            continue
        annotation: Any = model.model_fields[part].annotation if part in model.model_fields else None
        model = next((found for found in _models(annotation)), model)
    return list(model.model_fields)


def _models(annotation: Any) -> Iterator[type[BaseModel]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        yield annotation
    for argument in get_args(annotation):
        yield from _models(argument)
