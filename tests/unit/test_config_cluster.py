"""What of upstreams goes together with one gateway, and what with several."""

from pathlib import Path

import pytest

from gateway.config import ConfigurationError, Settings, load_settings

REDIS = "engine: {url: 'redis://h'}\n"
NODE = "cluster: {node: one}\n"


def load(text: str, tmp_path: Path) -> Settings:
    path = tmp_path / "config.yaml"
    path.write_text(text)
    return load_settings(path, environment={})


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        (REDIS, "1:10: engine.url: expected `upstreams` beside it: the embedded broker is one gateway's own, out of "
         "reach for the others"),
        ("upstreams: {a: {url: mqtt://h, ingest: shared}}", "1:32: upstreams.a.ingest: expected `shared` only with an "
         "`engine.url` of Redis, which joins several gateways"),
        (REDIS + NODE + "upstreams: {a: {url: mqtt://h, protocol: 3.1.1, ingest: shared}}",
         "3:49: upstreams.a.ingest: expected `protocol: 5` beside `shared`: MQTT 3.1.1 has no shared subscriptions"),
        (REDIS + "upstreams: {a: {url: mqtt://h, ingest: shared}}", "2:32: upstreams.a.ingest: expected `cluster.node` "
         "beside `shared`, by which the broker knows this gateway's session again, or `session: clean`"),
        (REDIS + "upstreams: {a: {url: mqtt://h, ingest: both}}",
         "2:32: upstreams.a.ingest: expected owned or shared, found 'both'"),
    ],
)  # fmt: skip
def test_what_cant_be_is_said_with_its_place(tmp_path: Path, text: str, problem: str) -> None:
    with pytest.raises(ConfigurationError) as found:
        load(text, tmp_path)
    assert [str(each).rpartition("config.yaml:")[2] for each in found.value.problems] == [problem]


@pytest.mark.parametrize(
    "text",
    [
        REDIS + "upstreams: {a: {url: mqtt://h, session: persistent}}",
        REDIS + "upstreams: {a: {url: mqtt://h, protocol: 3.1.1}}",
        REDIS + "upstreams: {a: {url: mqtt://h, ingest: shared, session: clean}}",
        REDIS + NODE + "upstreams: {a: {url: mqtt://h, ingest: shared}}",
    ],
)
def test_what_can_be_is_taken(tmp_path: Path, text: str) -> None:
    assert load(text, tmp_path).is_cluster
