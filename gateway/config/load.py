"""From a file, the environment and a command line to `Settings`, or to all that is wrong with them at once."""

from collections.abc import Iterator, Mapping, Sequence
from itertools import combinations
from pathlib import Path
from types import MappingProxyType
from typing import Any, Final

from pydantic import ValidationError
from pydantic.fields import FieldInfo
from pydantic_core import ErrorDetails
from pydantic_settings import PydanticBaseSettingsSource

from gateway.config.cluster import cluster_problems
from gateway.config.environment import read_environment
from gateway.config.explain import explain
from gateway.config.problems import ConfigurationError, Keys, Place, Problem, dotted
from gateway.config.settings import RouteSettings, Settings
from gateway.config.tree import Node, Scalar
from gateway.config.users import UnfitFile
from gateway.config.webhooks import webhook_problems
from gateway.config.yaml_source import read_yaml_file
from gateway.core.routing import RouteProblem, RouteSpec, RoutingError, RoutingTable

__all__ = ["load_settings", "named_files"]

MAXIMUM_PROBLEMS: Final = 100
"""Who has more is told so, and corrects these first."""
COMMAND_LINE: Final = Place("command line")
NO_OVERRIDES: Final[Mapping[str, Any]] = MappingProxyType({})


def load_settings(
    path: Path | None, *, environment: Mapping[str, str], overrides: Mapping[str, Any] = NO_OVERRIDES
) -> Settings:
    """Read the configuration: `overrides` win over the environment, which wins over the file.

    Args:
        path: A YAML file; None for none. Files that it names are relative to its folder.
        environment: Variables, such as `os.environ`; those that begin with `TIDEGATE_` count.
        overrides: Nested as the file is, such as `{"listen": {"port": 9000}}`.

    Raises:
        ConfigurationError: it can't be used.
    """
    variables, problems = read_environment(environment)
    tree = Node(Place("defaults"), {})
    if path is not None:
        try:
            tree, found = read_yaml_file(path)
        except ConfigurationError as error:
            raise ConfigurationError((*error.problems, *problems)) from None
        problems += found
        tree = _anchored(tree, path.parent)
    tree = tree.overlaid(variables).overlaid(Node.of(overrides, COMMAND_LINE))
    settings, found = _validate(tree)
    problems += found
    if settings is None or problems:
        raise ConfigurationError(_bounded(sorted(problems, key=_order)))
    return settings


def _anchored(tree: Node, folder: Path) -> Node:
    """Names of files made relative to the folder of the file that names them."""

    def anchor(keys: Keys, value: Scalar) -> Scalar:
        if not keys or not isinstance(value, str):
            return value
        if keys == ("engine", "url") and value.startswith("sqlite:"):
            return f"sqlite:{folder / value.removeprefix('sqlite:')}"
        return str(folder / value) if _names_file(keys) else value

    return tree.rewritten(anchor)


def _names_file(keys: Keys) -> bool:
    return str(keys[-1]).endswith("_file") or (keys[-3:-2], keys[-1]) == (("routes",), "schema")


def named_files(path: Path) -> tuple[Path, ...]:
    """The files that a configuration file names, though it may be none that can be used."""
    found: list[Path] = []

    def note(keys: Keys, value: Scalar) -> Scalar:
        if keys and isinstance(value, str) and _names_file(keys):
            found.append(path.parent / value)
        return value

    try:
        read_yaml_file(path)[0].rewritten(note)
    except ConfigurationError:
        return ()
    return tuple(found)


def _validate(tree: Node) -> tuple[Settings | None, list[Problem]]:
    settings, errors = None, []
    try:
        settings = Settings(_build_sources=((_Tree(tree),), {}))  # type: ignore[call-arg]  # BaseSettings has it
    except ValidationError as error:
        errors = error.errors(include_url=False)
    problems = [problem for error in errors[: MAXIMUM_PROBLEMS + 1] for problem in _problems_of(error, tree)]
    if settings is not None:
        problems += [*_check_ports(settings, tree), *_check_mqtt(settings, tree), *cluster_problems(settings, tree)]
        problems += [*_check_logins(settings, tree), *webhook_problems(settings, tree, ())]
        for name, namespace in settings.namespaces.items():
            problems += webhook_problems(namespace, tree, ("namespaces", name))
    return settings, problems + list(_check_routes(tree, [error["loc"] for error in errors]))


def _problems_of(error: ErrorDetails, tree: Node) -> Sequence[Problem]:
    """What is wrong: at a place of the configuration, or at places of a file that it names."""
    cause = error.get("ctx", {}).get("error")
    return cause.problems if isinstance(cause, UnfitFile) else [explain(error, tree)]


def _check_ports(settings: Settings, tree: Node) -> Iterator[Problem]:
    """Whether two listeners are to have one port, of addresses that include each other."""
    places: list[tuple[str, str, int | None]] = [
        ("listen", settings.listen.host, settings.listen.port),
        ("ops", settings.ops.host, settings.ops.port),
    ]
    if not settings.upstreams:
        places.append(("broker", settings.broker.host, settings.broker.port))
    for (first, host, port), (second, other_host, other_port) in combinations(places, 2):
        if port and port == other_port and _meet(host, other_host):
            keys = (second, "port")
            message = f"expected another port than `{first}.port`, found {port} for both"
            yield Problem.at(tree.find(*keys).place, keys, message)


def _meet(*hosts: str) -> bool:
    names, all_of_them = set(hosts), {"0.0.0.0", "::"}  # noqa: S104 - is asked about, not listened on
    return len(names) == 1 or bool(names & all_of_them) or names == {"localhost", "127.0.0.1"}


def _check_mqtt(settings: Settings, tree: Node) -> Iterator[Problem]:
    """Whether there is a broker that clients of MQTT can be let through to."""
    if settings.mqtt.mode == "passthrough":
        message = settings.mqtt.problem_with(settings.upstreams)
        if message is not None:
            keys = ("mqtt", "upstream")
            yield Problem.at(tree.find(*keys).place, keys, message)


def _check_logins(settings: Settings, tree: Node) -> Iterator[Problem]:
    """Whether gateways that are one read each other's cookies."""
    identity = settings.identity
    if settings.engine.redis is not None and identity.users_file is not None and identity.session_secret_file is None:
        keys = ("identity", "session_secret_file")
        message = "missing: expected the same file at all gateways that have this Redis, so that a login is one at each"
        yield Problem.at(tree.find(*keys).place, keys, message)


class _Tree(PydanticBaseSettingsSource):
    """The merged tree as the one source of the settings."""

    def __init__(self, tree: Node) -> None:
        super().__init__(Settings)
        self._tree = tree

    def get_field_value(self, field: FieldInfo, field_name: str) -> tuple[Any, str, bool]:  # noqa: ARG002
        """Never asked: all is given at once."""
        return None, field_name, False

    def __call__(self) -> dict[str, Any]:
        data: dict[str, Any] = self._tree.plain()
        return data


def _check_routes(tree: Node, wrong: list[Keys]) -> Iterator[Problem]:
    """What the routing table refuses, though other parts of the configuration may be wrong too."""
    assert isinstance(tree.value, dict)
    nothing = Node(tree.place, None)
    upstreams = tree.value.get("upstreams", nothing).value or {}
    if not isinstance(upstreams, dict):
        return
    namespaces = tree.value.get("namespaces", nothing).value
    for name in (None, *namespaces) if isinstance(namespaces, dict) else (None,):
        where: Keys = () if name is None else ("namespaces", name)
        section = tree.find(*where).value
        routes = section.get("routes", nothing).value if isinstance(section, dict) else None
        if not isinstance(routes, list):
            continue
        of_this = [keys[len(where) :] for keys in wrong if keys[: len(where)] == where]
        specs = _specs(routes, of_this)
        try:
            RoutingTable(list(specs.values()), tuple(upstreams) or Settings().upstream_names())
        except RoutingError as error:
            for problem in error.problems[: MAXIMUM_PROBLEMS + 1]:
                yield _route_problem(problem, list(specs), tree, where)


def _specs(routes: list[Node], wrong: list[Keys]) -> dict[int, RouteSpec]:
    """The routes that say enough to be checked, by their place in the list; what is wrong in them is left out."""
    wrong_keys: dict[Any, set[Any]] = {}
    for keys in wrong:
        if keys[:1] == ("routes",) != keys:
            wrong_keys.setdefault(keys[1], set()).add(keys[2] if len(keys) > 2 else None)
    specs = {}
    for index, route in enumerate(routes):
        left_out = set(wrong_keys.get(index, ()))
        if not left_out & {None, "topic", "room", "direction", "upstream"}:
            left_out |= {"schema", "transform", "transform_to_device"}  # no matter of the table: not compiled again
            data = {key: value for key, value in route.plain().items() if key not in left_out}
            specs[index] = RouteSettings.model_validate(data).spec()
    return specs


def _route_problem(problem: RouteProblem, places: list[int], tree: Node, where: Keys) -> Problem:
    keys = (*where, "routes", places[problem.index], *problem.key.split("."))
    message = problem.message
    if problem.other_index is not None:
        other = places[problem.other_index]
        earlier = (*where, "routes", other)
        line = tree.find(*earlier).place.line
        message += f" (see {dotted(earlier)})" if line is None else f" (see line {line})"
    return Problem.at(tree.find(*keys).place, keys, message)


def _order(problem: Problem) -> tuple[bool, int, int, str]:
    return problem.line is None, problem.line or 0, problem.column or 0, problem.source


def _bounded(problems: list[Problem]) -> list[Problem]:
    if len(problems) <= MAXIMUM_PROBLEMS:
        return problems
    told = problems[:MAXIMUM_PROBLEMS]
    more = f"more than {MAXIMUM_PROBLEMS} problems: these are the first"
    return [*told, Problem(told[-1].source, None, None, "", more)]
