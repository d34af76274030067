from pathlib import Path
from typing import Any

import pytest
import yaml

from gateway.config import (
    ConfigurationError,
    NamespaceSettings,
    Problem,
    RouteSettings,
    Settings,
    UpstreamSettings,
    load_settings,
)
from gateway.config.problems import Keys, dotted, shown
from gateway.config.shape import fields_of, inside


@pytest.fixture(autouse=True)
def in_a_folder_of_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def problems(text: str) -> list[str]:
    path = Path("config.yaml")
    path.write_text(text)
    with pytest.raises(ConfigurationError) as caught:
        load_settings(path, environment={})
    return list(map(str, caught.value.problems))


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("listen: {prot: 1}", "1:10: listen.prot: unknown key `prot`: did you mean `port`?"),
        ("listn: {}", "1:1: listn: unknown key `listn`: did you mean `listen`?"),
        ("listen:\n  PORT: 1", "2:3: listen.PORT: unknown key `PORT`: did you mean `port`?"),
        ("listen: {colour: 1}", "1:10: listen.colour: unknown key `colour`: expected one of host, port, "
             "tls_certificate_file, tls_key_file, hsts_seconds, trusted_proxies, proxy_header, compress_from_bytes"),
        ("_env_file: x\n", "1:1: _env_file: unknown key `_env_file`: expected one of listen, ops, broker, upstreams, "
         "engine, cluster, origins, hosts, identity, access, limits, offenders, heartbeat, mqtt, presence, peerjs, "
         "logging, drain_notice_seconds, drain_seconds, rooms, routes, webhooks, namespaces"),
        ("ops: {port: 8080}", "1:7: ops.port: expected another port than `listen.port`, found 8080 for both"),
        ("ops: {port: 1883}", "1:1: broker.port: expected another port than `ops.port`, found 1883 for both"),
        ("broker: {port: 8080}", "1:10: broker.port: expected another port than `listen.port`, found 8080 for both"),
        ("listen: {host: 0.0.0.0, port: 1883}",
         "1:1: broker.port: expected another port than `listen.port`, found 1883 for both"),
        ("limits: {by_role: {crew: {connections: 5}}}",
         "1:27: limits.by_role.crew.connections: unknown key `connections`: did you mean `connections_per_user`?"),
        ("limits: {by_role: {crew: {messages_per_second: 0}}}",
         "1:27: limits.by_role.crew.messages_per_second: expected a number above 0, at most 1000000000, found 0"),
        ("offenders: {offences: 0}",
         "1:13: offenders.offences: expected a whole number from 1 to 1000000000, found 0"),
        ("offenders: {exempt: [10.0.0.1/8]}",
         "1:22: offenders.exempt[0]: expected an IP address or a network such as 10.0.0.0/8 or fd00::/8, "
         "found '10.0.0.1/8'"),
        ("listen: 8080", "1:1: listen: expected a mapping (`key: value`), found text"),
        ("listen: [8080]", "1:1: listen: expected a mapping (`key: value`), found a list"),
        ("listen: {port: abc}", "1:10: listen.port: expected a whole number from 0 to 65535, found 'abc'"),
        ("listen: {port: 65536}", "1:10: listen.port: expected a whole number from 0 to 65535, found 65536"),
        ("listen: {port: -1}", "1:10: listen.port: expected a whole number from 0 to 65535, found -1"),
        ("listen: {port: 80.5}", "1:10: listen.port: expected a whole number from 0 to 65535, found 80.5"),
        ("listen: {port: }", "1:10: listen.port: expected a whole number from 0 to 65535, found nothing"),
        ("listen: {port: [1]}", "1:10: listen.port: expected a whole number from 0 to 65535, found a list"),
        ("listen: {host: '127.0.0.1:80'}", "1:10: listen.host: expected a host name or an IP address without a port, "
         "such as 127.0.0.1, found '127.0.0.1:80'"),
        ("limits: {message_bytes: 12 parsecs}", "1:10: limits.message_bytes: expected a size from 1 byte to 1024 GiB, "
         "such as 65536, 500 kB or 64 KiB, found '12 parsecs'"),
        ("limits: {message_bytes: 0}", "1:10: limits.message_bytes: expected a size from 1 byte to 1024 GiB, "
         "such as 65536, 500 kB or 64 KiB, found 0"),
        ("limits: {message_bytes: -64 KiB}", "1:10: limits.message_bytes: expected a size from 1 byte to 1024 GiB, "
         "such as 65536, 500 kB or 64 KiB, found '-64 KiB'"),
        ("limits: {message_bytes: 1.5}", "1:10: limits.message_bytes: expected a size from 1 byte to 1024 GiB, "
         "such as 65536, 500 kB or 64 KiB, found 1.5"),
        ("limits: {message_bytes: 1025 GiB}", "1:10: limits.message_bytes: expected a size from 1 byte to 1024 GiB, "
         "such as 65536, 500 kB or 64 KiB, found '1025 GiB'"),
        ("limits: {connections: 0}", "1:10: limits.connections: expected a whole number from 1 to 1000000000, found 0"),
        ("limits: {messages_burst: 0}",
         "1:10: limits.messages_burst: expected a whole number from 1 to 1000000000, found 0"),
        ("limits: {messages_per_second: 0}",
         "1:10: limits.messages_per_second: expected a number above 0, at most 1000000000, found 0"),
        ("heartbeat: {interval_seconds: .nan}", "1:13: heartbeat.interval_seconds: expected a number of seconds "
         "above 0, at most 86400 (a day), found '.nan'"),
        ("heartbeat: {interval_seconds: nan}", "1:13: heartbeat.interval_seconds: expected a number of seconds "
         "above 0, at most 86400 (a day), found 'nan'"),
        ("drain_seconds: -1", "1:1: drain_seconds: expected a number of seconds from 0 to 3600, found -1"),
        ("logging: {level: loud}",
         "1:11: logging.level: expected debug, info, warning or error, found 'loud'"),
        ("logging: {format: xml}", "1:11: logging.format: expected auto, console or json, found 'xml'"),
        ("origins: https://a.example", "1:1: origins: expected a list, found text"),
        ("origins: ['*']", "1:11: origins[0]: expected origins one by one, found '*': every page of the web could act "
         "with its visitors' browsers"),
        ("origins:\n  - https://a.example/", "2:5: origins[0]: expected scheme, host and no path, such as "
         "https://dashboard.example, found 'https://a.example/'"),
        ("origins: [a.example]", "1:11: origins[0]: expected scheme, host and no path, such as "
         "https://dashboard.example, found 'a.example'"),
        ("origins: ['http://a:70000']", "1:11: origins[0]: expected scheme, host and no path, such as "
         "https://dashboard.example, found 'http://a:70000'"),
        ("upstreams: [a]", "1:1: upstreams: expected a mapping (`name: …`), found a list"),
        ("upstreams: {a: {}}", "1:13: upstreams.a.url: missing: expected such as `url: mqtt://localhost:1883`"),
        ("upstreams: {Plant: {url: mqtt://h}}", "1:13: upstreams.Plant: expected a name of a-z, 0-9, _ and -, "
         "at most 64, the first a letter or digit, found 'Plant'"),
        ("upstreams: {a: {url: http://h}}", "1:17: upstreams.a.url: expected a URL such as mqtt://localhost:1883, "
         "with the scheme mqtt, mqtts, ws or wss, found 'http://h'"),
        ("upstreams: {a: {url: 'mqtt://h:99999'}}", "1:17: upstreams.a.url: expected a URL such as "
         "mqtt://localhost:1883, with the scheme mqtt, mqtts, ws or wss, found 'mqtt://h:99999'"),
        ("upstreams: {a: {url: 'mqtt://h/topic'}}", "1:17: upstreams.a.url: expected nothing after the host and port "
         "(ws and wss: a path), found 'mqtt://h/topic'"),
        ("upstreams: {a: {url: mqtt://h, protocol: 4}}", "1:32: upstreams.a.protocol: expected 3.1.1 or 5, found 4"),
        ("upstreams: {a: {url: mqtt://h, session: none}}",
         "1:32: upstreams.a.session: expected clean or persistent, found 'none'"),
        ("upstreams: {a: {url: mqtt://h, session: persistent}}", "1:32: upstreams.a.session: expected a `client_id` "
         "beside `persistent`, by which the broker knows the session again"),
        ("upstreams: {a: {url: mqtt://h, keep_alive_seconds: 0}}",
         "1:32: upstreams.a.keep_alive_seconds: expected a whole number of seconds from 1 to 65535, found 0"),
        ("upstreams: {a: {url: mqtt://h, client_id: ''}}",
         "1:32: upstreams.a.client_id: expected text of 1 to 65535 bytes, found ''"),
        ("upstreams: {a: {url: mqtt://h, status_topic: a/+}}", "1:32: upstreams.a.status_topic: 'a/+' has a wildcard: "
         "expected one name without + or #"),
        ("upstreams: {a: {url: mqtt://h, reconnect_max_seconds: 0.1}}", "1:32: upstreams.a.reconnect_max_seconds: "
         "expected at least `reconnect_min_seconds` (0.5), found 0.1"),
        ("upstreams: {a: {url: mqtt://h, password: x}}", "1:32: upstreams.a.password: expected `username` beside it: "
         "brokers take no password alone"),
        ("upstreams: {a: {url: mqtt://h, insecure: true}}", "1:32: upstreams.a.insecure: expected it only with "
         "mqtts:// or wss://, found `url: mqtt://h:1883`"),
        ("upstreams: {a: {url: mqtt://h, insecure: maybe}}",
         "1:32: upstreams.a.insecure: expected true or false, found 'maybe'"),
        ("upstreams: {a: {url: mqtts://h, certificate_file: config.yaml}}", "1:33: upstreams.a.certificate_file: "
         "expected `certificate_file` and `key_file` together, found one of them"),
        ("upstreams: {a: {url: mqtts://h, key_file: config.yaml}}", "1:13: upstreams.a.certificate_file: "
         "expected `certificate_file` and `key_file` together, found one of them"),
        ("upstreams: {a: {url: mqtts://h, ca_file: nowhere/ca.pem}}",
         "1:33: upstreams.a.ca_file: expected a file, found none: 'nowhere/ca.pem'"),
        ("upstreams: {a: {url: mqtts://h, ca_file: .}}",
         "1:33: upstreams.a.ca_file: expected a file, found a directory: '.'"),
        ("upstreams: {a: {url: mqtts://h, ca_file: [x]}}",
         "1:33: upstreams.a.ca_file: expected a file's name, found a list"),
        ('upstreams: {a: {url: mqtts://h, ca_file: "a\\0b"}}',
         "1:33: upstreams.a.ca_file: expected a file's name: 'a\\x00b'"),
        ("upstreams: {a: {url: mqtt://h, username: u, password_file: nowhere}}",
         "1:45: upstreams.a.password_file: expected a file, found none: 'nowhere'"),
        ("upstreams: {a: {url: mqtt://h, username: u, password_file: {}}}",
         "1:45: upstreams.a.password_file: expected a file's name, found a mapping"),
        ("upstreams: {a: {url: mqtt://h, username: u, password: x, password_file: config.yaml}}",
         "1:58: upstreams.a.password_file: expected `password` or `password_file`, found both"),
        ("routes: {topic: a}", "1:1: routes: expected a list, found a mapping"),
        ("routes:\n  - a", "2:5: routes[0]: expected a mapping (`key: value`), found text"),
        ("routes:\n  - {topic: a}",
         "2:5: routes[0].room: missing: expected such as `room: sites/{site}/{device}`"),
        ("routes:\n  - topic: a\n    room: b\n    sample: {seconds: 0.001}", "4:14: routes[0].sample.seconds: "
         "expected 0, or a number of seconds from 0.01 to 3600, found 0.001"),
        ("routes:\n  - topic: a\n    room: b\n    sample: {kep: mean}", "4:14: routes[0].sample.kep: "
         "unknown key `kep`: did you mean `keep`?"),
        ("routes:\n  - topic: a\n    room: b\n    qos: 3", "4:5: routes[0].qos: expected 0, 1 or 2, found 3"),
        ("routes:\n  - topic: a\n    room: b\n    retain: 2", "4:5: routes[0].retain: expected true or false, found 2"),
        ("routes:\n  - topic: a\n    room: b\n    direction: up",
         "4:5: routes[0].direction: expected to_browser, to_device or both, found 'up'"),
        ("routes:\n  - topic: a\n    room: b\n    payload: xml",
         "4:5: routes[0].payload: expected auto, json, text, bytes, cbor, msgpack, sparkplug, or "
         "`protobuf: {descriptor_file: plant.desc, message: plant.Reading}`, found 'xml'"),
        ("routes:\n  - {topic: a, room: b, presence: maybe}",
         "2:25: routes[0].presence: expected true, false, or a mapping such as "
         "{member: '{device}', online: [online], offline: [offline]}, found 'maybe'"),
        ("routes:\n  - {topic: a, room: b, presence: {online: [x]}}",
         "2:25: routes[0].presence: member: missing: expected a mapping such as "
         "{member: '{device}', online: [online], offline: [offline]}"),
        ("routes:\n  - topic: [a]\n    room: b",
         "2:5: routes[0].topic: expected text such as sites/{site}/{device}, found a list"),
    ],
)  # fmt: skip
def test_an_error_says_where_what_was_found_and_what_was_expected(text: str, problem: str) -> None:
    assert problems(text) == [f"config.yaml:{problem}"]


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("routes:\n  - topic: a/{b}\n    room: b/{c}",
         "3:5: routes[0].room: {c} is not in the topic 'a/{b}': expected only captures that it has ({b})"),
        ("routes:\n  - {topic: a, room: b, upstream: plant}",
         "2:25: routes[0].upstream: no upstream is called 'plant': expected embedded"),
        ("upstreams: {p: {url: mqtt://p}, q: {url: mqtt://q}}\nroutes:\n  - {topic: a, room: b, direction: both}",
         "3:5: routes[0].upstream: a route to devices must say which upstream it goes to: expected `upstream: p or q`"),
        ("routes:\n  - {topic: a, room: b}\n  - {topic: c, room: d}\n  - {topic: a, room: b}",
         "4:6: routes[2].topic: the same topic and room as another route: expected each translation once (see line 2)"),
        ("routes:\n  - {topic: 'a/{b}', room: r, presence: {member: '{c}'}}",
         "2:42: routes[0].presence.member: {c} is not in the topic 'a/{b}': expected only captures that it has ({b})"),
        ("routes:\n  - {topic: 'a/{b...}', room: r, presence: {member: '{b}'}}",
         "2:45: routes[0].presence.member: {b} is one level on one side and all that remains on the other"),
        ("routes:\n  - {topic: 'a/{b}', room: r, presence: {member: 'x-{b}'}}",
         "2:42: routes[0].presence.member: 'x-{b}': expected a whole level, {name} or {name...}, of letters, "
         "digits and _"),
        ("routes:\n  - {topic: a, room: r, presence: {member: x, online: []}}",
         "2:47: routes[0].presence.online: expected at least one payload"),
        ("routes:\n  - {topic: a, room: r, presence: {member: x, offline: [online]}}",
         "2:47: routes[0].presence.offline: 'online' stands in `online` too: expected one of the two"),
        ("routes:\n  - {topic: a, room: r, direction: to_device, presence: {member: x}}",
         "2:47: routes[0].presence: nothing comes in along a route `to_device`: expected `direction: to_browser` "
         "or `both`"),
    ],
)  # fmt: skip
def test_what_the_routing_table_refuses_has_its_place_too(text: str, problem: str) -> None:
    assert problems(text) == [f"config.yaml:{problem}"]


def test_a_loop_names_the_other_route() -> None:
    (problem,) = problems(
        "routes:\n  - {topic: a, room: r, direction: to_device}\n  - {topic: a, room: r, direction: to_browser}\n"
    )

    assert problem.startswith("config.yaml:2:6: routes[0].topic: a loop: ")
    assert problem.endswith(" (see line 3)")


def test_all_errors_come_at_once_in_the_order_of_the_file() -> None:
    found = problems("""
listen: {port: x}
limits:
  connections: 1
  connections: 0
routes:
  - {topic: a, room: 'b/{c}'}
  - {topic: a}
  - {topic: q, room: r}
  - {topic: q, room: r}
colour: red
""")
    assert [problem.partition(": ")[0] for problem in found] == [
        f"config.yaml:{place}" for place in ("2:10", "5:3", "5:3", "7:16", "8:5", "10:6", "11:1")
    ]
    assert found[5].endswith("(see line 9)")


def test_routes_are_checked_against_upstreams_that_are_wrong_themselves() -> None:
    found = problems("upstreams: {plant: {url: x}}\nroutes:\n  - {topic: a, room: b, upstream: plant}\n")

    assert len(found) == 1
    assert problems("upstreams: plant\nroutes:\n  - {topic: a, room: b, upstream: plant}\n") == [
        "config.yaml:1:1: upstreams: expected a mapping (`name: …`), found text"
    ]


def test_after_a_hundred_errors_there_is_an_end() -> None:
    found = problems("".join(f"key_{number}: 1\n" for number in range(1000)))

    assert len(found) == 101
    assert found[-1] == "config.yaml: more than 100 problems: these are the first"


EVERY_KEY = [
    *((key,) for key in Settings.model_fields),
    *((key, inner) for key in Settings.model_fields for inner in fields_of(inside(Settings, key))),
    *(("upstreams", "plant", key) for key in UpstreamSettings.model_fields),
    *(("routes", 0, key) for key in fields_of(RouteSettings)),
    *(("namespaces", "factory-b", key) for key in NamespaceSettings.model_fields),
]


@pytest.mark.parametrize("keys", EVERY_KEY, ids=dotted)
def test_every_key_has_words_for_what_it_expects(keys: Keys) -> None:
    for value in ({"x": ["y"]}, [["y"]]):
        data: Any = value
        for key in reversed(keys):
            data = [data] if key == 0 else {str(key): data}
        found = problems(yaml.safe_dump(data))
        about_it = [problem for problem in found if f": {dotted(keys)}" in problem]

        assert about_it
        assert not any("another value" in problem for problem in about_it)


def test_a_problem_without_key_or_line_is_shown_without() -> None:
    assert str(Problem("config.yaml", 12, 5, "routes[2].qos", "no")) == "config.yaml:12:5: routes[2].qos: no"
    assert str(Problem("config.yaml", 12, 5, "", "no")) == "config.yaml:12:5: no"
    assert str(Problem("TIDEGATE_X", None, None, "", "no")) == "TIDEGATE_X: no"


def test_keys_and_values_are_shown_short_and_on_one_line() -> None:
    assert dotted(("routes", 2, "qos")) == "routes[2].qos"
    assert dotted(("a\nb", "c d")) == "'a\\nb'.'c d'"
    assert shown("a\nb") == "'a\\nb'"
    assert shown("x" * 100) == repr("x" * 60 + "…")
    assert shown("mqtt://u:p@h") == "'mqtt://…@h'"
    assert [shown(value) for value in (None, True, 1.5, [], {}, object())] == [
        "nothing", "true", "1.5", "a list", "a mapping", "object",
    ]  # fmt: skip


def test_a_reply_that_is_wrong_is_named_with_its_place() -> None:
    routes = "routes:\n  - {topic: 'a/{b}', room: 'c/{b}', direction: to_device, reply: 'a/{x}/y'}"
    assert problems(routes) == [
        "config.yaml:2:59: routes[0].reply: {x} is not in the room 'c/{b}': expected only captures that it has ({b})"
    ]


def test_a_route_is_checked_even_if_other_keys_of_it_are_wrong() -> None:
    assert problems("routes:\n  - {topic: 'a/{b}', room: 'c/{d}', qos: 3, colour: red}") == [
        "config.yaml:2:22: routes[0].room: {d} is not in the topic 'a/{b}': expected only captures that it has ({b})",
        "config.yaml:2:37: routes[0].qos: expected 0, 1 or 2, found 3",
        "config.yaml:2:45: routes[0].colour: unknown key `colour`: expected one of topic, room, direction, payload, "
        "qos, retain, last, history, upstream, reply, presence, sample, webhook, schema, transform, "
        "transform_to_device",
    ]
