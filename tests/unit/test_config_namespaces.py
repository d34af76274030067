from pathlib import Path

import pytest

from gateway.config import ConfigurationError, Settings, load_settings
from gateway.core.limits import Limits
from gateway.core.routing import RouteSpec


@pytest.fixture(autouse=True)
def in_a_folder_of_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def load(text: str, **environment: str) -> Settings:
    path = Path("config.yaml")
    path.write_text(text)
    return load_settings(path, environment=environment)


def problems(text: str, **environment: str) -> list[str]:
    with pytest.raises(ConfigurationError) as caught:
        load(text, **environment)
    return list(map(str, caught.value.problems))


def test_each_namespace_has_its_own_routes() -> None:
    settings = load("routes:\n  - {topic: a, room: b}\nnamespaces: {x: {routes: [{topic: c, room: d}]}, y: {}}")

    assert settings.namespace_names() == ("default", "x", "y")
    assert [settings.route_specs(name) for name in settings.namespace_names()] == [
        [RouteSpec("a", "b")],
        [RouteSpec("c", "d")],
        [],
    ]


def test_limits_that_a_namespace_leaves_out_are_those_at_the_top() -> None:
    settings = load(
        "limits: {connections: 5, messages_burst: 6}\n"
        "namespaces: {x: {limits: {connections: 7, message_bytes: 1 KiB}}, y: {}}"
    )

    assert settings.core_limits() == Limits(connections=5, messages_burst=6)
    assert settings.core_limits("x") == Limits(connections=7, messages_burst=6, message_bytes=1024)
    assert settings.core_limits("y") == settings.core_limits()


def test_a_namespace_may_set_a_limit_back_to_its_default() -> None:
    settings = load("limits: {connections: 5}\nnamespaces: {x: {limits: {connections: 10000}}}")

    assert settings.core_limits("x").connections == 10_000


def test_sections_whose_keys_are_all_commented_out_are_left_out() -> None:
    settings = load("namespaces:\n  x:\n    limits:\n      # connections: 1\n    routes:\n")

    assert settings.core_limits("x") == Limits()
    assert load("namespaces:\n").namespace_names() == ("default",)


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("namespaces: [x]", "1:1: namespaces: expected a mapping (`name: …`), found a list"),
        ("namespaces: {x: [1]}", "1:14: namespaces.x: expected a mapping (`key: value`), found a list"),
        ("namespaces: {Plant: {}}", "1:14: namespaces.Plant: expected a name of a-z, 0-9, _ and -, at most 64, "
         "the first a letter or digit, found 'Plant'"),
        ("namespaces: {a/b: {}}", "1:14: namespaces.'a/b': expected a name of a-z, 0-9, _ and -, at most 64, "
         "the first a letter or digit, found 'a/b'"),
        ("namespaces: {default: {}}", "1:14: namespaces.default: expected another name than 'default', which is the "
         "namespace of the keys at the top"),
        ("namespaces: {x: {route: []}}", "1:18: namespaces.x.route: unknown key `route`: did you mean `routes`?"),
        ("namespaces: {x: {limits: {connection: 1}}}",
         "1:27: namespaces.x.limits.connection: unknown key `connection`: did you mean `connections`?"),
        ("namespaces: {x: {limits: {connections: 0}}}", "1:27: namespaces.x.limits.connections: expected a whole "
         "number from 1 to 1000000000, found 0"),
        ("namespaces:\n  factory-b:\n    routes:\n      - {topic: a}", "4:9: namespaces.factory-b.routes[0].room: "
         "missing: expected such as `room: sites/{site}/{device}`"),
        ("namespaces:\n  factory-b:\n    routes:\n      - topic: a/{b}\n        room: b/{c}",
         "5:9: namespaces.factory-b.routes[0].room: {c} is not in the topic 'a/{b}': expected only captures that it "
         "has ({b})"),
        ("upstreams: {p: {url: mqtt://p}}\nnamespaces: {x: {routes: [{topic: a, room: b, upstream: q}]}}",
         "2:47: namespaces.x.routes[0].upstream: no upstream is called 'q': expected p"),
        ("namespaces:\n  x:\n    routes:\n      - {topic: a, room: b}\n      - {topic: a, room: b}",
         "5:10: namespaces.x.routes[1].topic: the same topic and room as another route: expected each translation "
         "once (see line 4)"),
        ("namespaces: {x: {routes: {topic: a}}}", "1:18: namespaces.x.routes: expected a list, found a mapping"),
    ],
)  # fmt: skip
def test_an_error_says_where_what_was_found_and_what_was_expected(text: str, problem: str) -> None:
    assert problems(text) == [f"config.yaml:{problem}"]


def test_the_errors_of_all_namespaces_come_at_once_in_the_order_of_the_file() -> None:
    found = problems("""
routes:
  - {topic: a, room: 'b/{c}'}
namespaces:
  x:
    routes:
      - {topic: a, room: 'b/{d}', qos: 3}
  y:
    routes:
      - {topic: a, room: 'b/{e}'}
""")

    assert [problem.split(": ")[1] for problem in found] == [
        "routes[0].room",
        "namespaces.x.routes[0].room",
        "namespaces.x.routes[0].qos",
        "namespaces.y.routes[0].room",
    ]


def test_routes_of_different_namespaces_are_neither_repeated_nor_a_loop() -> None:
    settings = load(
        "routes:\n  - {topic: a, room: r, direction: to_device}\n  - {topic: b, room: s}\n"
        "namespaces: {x: {routes: [{topic: a, room: r}, {topic: b, room: s}]}}"
    )

    assert len(settings.route_specs("x")) == 2


def test_a_variable_holds_namespaces_as_json() -> None:
    routes = '{"factory-b": {"routes": [{"topic": "c", "room": "d"}]}}'

    settings = load("namespaces: {factory-b: {limits: {connections: 3}}}", TIDEGATE_NAMESPACES=routes)

    assert settings.route_specs("factory-b") == [RouteSpec("c", "d")]
    assert settings.core_limits("factory-b").connections == 3


def test_a_variable_sets_one_key_of_a_namespace() -> None:
    settings = load(
        "namespaces: {x: {limits: {connections: 3}}}",
        TIDEGATE_NAMESPACES__X__LIMITS__MESSAGE_BYTES="2 KiB",
        TIDEGATE_NAMESPACES__X__ROUTES='[{"topic": "c", "room": "d"}]',
    )

    assert settings.core_limits("x") == Limits(connections=3, message_bytes=2048)
    assert settings.route_specs("x") == [RouteSpec("c", "d")]


def test_what_is_wrong_in_a_variable_has_the_variables_name() -> None:
    assert problems("", TIDEGATE_NAMESPACES='{"x": {"routes": [{"topic": "a", "room": "{b}"}]}}') == [
        "TIDEGATE_NAMESPACES: namespaces.x.routes[0].room: {b} is not in the topic 'a': expected only captures that "
        "it has (none)"
    ]
    assert problems("", TIDEGATE_NAMESPACES__X__LIMIT__CONNECTIONS="1") == [
        "TIDEGATE_NAMESPACES__X__LIMIT__CONNECTIONS: unknown variable: did you mean "
        "TIDEGATE_NAMESPACES__X__LIMITS__CONNECTIONS?"
    ]


def test_an_endless_list_of_problems_in_many_namespaces_has_an_end() -> None:
    found = problems(
        "namespaces:\n" + "".join(f"  n{n}: {{routes: [{{topic: a, room: '{{b}}'}}]}}\n" for n in range(300))
    )

    assert len(found) == 101
