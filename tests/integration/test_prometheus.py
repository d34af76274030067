"""The Prometheus and the dashboard of docker/: rules as promtool tests them, names as gateways really expose them."""

import json
import re
import subprocess
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import httpx
import pytest
import yaml

from tests.deployment import DOCKER, GATEWAYS, Deployment
from tests.real import DEADLINE_SECONDS, wait_until

RULES = [
    rule
    for group in yaml.safe_load((DOCKER / "prometheus" / "rules.yml").read_text())["groups"]
    for rule in group["rules"]
]
ALERTS = [rule["alert"] for rule in RULES if "alert" in rule]
DASHBOARD: dict[str, Any] = json.loads((DOCKER / "grafana" / "dashboards" / "tidegate.json").read_text())
PANELS = [panel for panel in DASHBOARD["panels"] if panel["type"] != "row"]
EXPRESSIONS = [target["expr"] for panel in PANELS for target in panel["targets"]]


@pytest.fixture(scope="module")
def deployed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Deployment]:
    """Two gateways that have had something to do, and a Prometheus that watches them."""
    with Deployment(tmp_path_factory.mktemp("prometheus")) as running:
        running.start_redis()
        running.start_mosquitto()
        for name in GATEWAYS:
            gateway = running.start_gateway(name)
            assert httpx.post(f"{gateway.url}/publish?room=chat/x", json=1).status_code == 200
            assert httpx.post(f"{gateway.url}/publish?room=", json=1).status_code == 400
        running.start("prometheus", f"--web.listen-address=127.0.0.1:{running.ports['prometheus']}")
        yield running


@pytest.fixture(scope="module")
def ask(deployed: Deployment) -> Iterator[Callable[..., Any]]:
    """Asks Prometheus."""
    url = f"http://127.0.0.1:{deployed.ports['prometheus']}/api/v1/"
    with httpx.Client(base_url=url, timeout=DEADLINE_SECONDS) as http:

        def ask(path: str, **query: str) -> Any:
            answer = http.get(path, params=query).json()
            assert answer["status"] == "success", answer
            return answer["data"]

        yield ask


def metrics_in(expression: str) -> set[str]:
    """The metrics of gateways that an expression names."""
    return {name.removesuffix("_bucket") for name in re.findall(r"(?<![\w:])(?:tidegate|process)_\w+", expression)}


def value(ask: Callable[..., Any], expression: str) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = ask("query", query=expression)["result"]
    return found


@pytest.mark.parametrize(
    "arguments",
    [
        ["check", "config", "prometheus.yml"],
        ["check", "rules", "--lint-fatal", "rules.yml"],
        ["test", "rules", "rules.test.yml"],
    ],
    ids=" ".join,
)
def test_promtool_finds_the_files_in_order(arguments: list[str]) -> None:
    ended = subprocess.run(
        ["promtool", *arguments], cwd=DOCKER / "prometheus", capture_output=True, text=True, timeout=60
    )
    assert ended.returncode == 0, ended.stdout + ended.stderr


def test_each_alert_has_an_example_of_when_it_fires() -> None:
    tests = yaml.safe_load((DOCKER / "prometheus" / "rules.test.yml").read_text())["tests"]
    fired = {test["alertname"] for each in tests for test in each.get("alert_rule_test", ()) if test.get("exp_alerts")}
    assert set(ALERTS) == fired


def test_each_alert_is_documented() -> None:
    text = (DOCKER.parent / "docs" / "deployment.md").read_text()
    assert [name for name in ALERTS if f"`{name}`" not in text] == []


def test_prometheus_watches_each_gateway_that_compose_starts(ask: Callable[..., Any]) -> None:
    wait_until(lambda: len(value(ask, 'up{job="tidegate"} == 1')) == len(GATEWAYS), "both are scraped")
    assert {found["metric"]["instance"] for found in value(ask, "up")} == set(GATEWAYS)


def test_every_metric_that_rules_and_panels_name_is_one_that_gateways_expose(deployed: Deployment) -> None:
    named = set().union(*map(metrics_in, EXPRESSIONS + [rule["expr"] for rule in RULES]))
    for gateway in deployed.gateways.values():
        assert named - set(re.findall("^# TYPE ([a-z_]+) ", gateway.get("/metrics").text, re.MULTILINE)) == set()


def test_what_panels_and_rules_ask_for_has_values_as_soon_as_gateways_have(ask: Callable[..., Any]) -> None:
    asked = {each.replace("$__rate_interval", "1m").replace("$namespace", ".*"): each for each in EXPRESSIONS}
    asked |= {rule["record"]: rule["expr"] for rule in RULES if "record" in rule}
    for query, expression in asked.items():
        if all(value(ask, f"{{__name__=~'{name}(_bucket)?'}}") for name in metrics_in(expression)):
            wait_until(partial(value, ask, query), query)
        else:
            assert value(ask, query) == []


def test_no_alert_fires_while_all_is_well(ask: Callable[..., Any]) -> None:
    wait_until(lambda: value(ask, "instance:tidegate_sessions:sum"), "the rules are evaluated")
    rules = [rule for group in ask("rules", type="alert")["groups"] for rule in group["rules"]]
    assert [rule["name"] for rule in rules] == ALERTS
    assert [rule for rule in rules if rule["state"] == "firing"] == []


def test_the_dashboard_is_what_grafana_provisions() -> None:
    (source,) = yaml.safe_load((DOCKER / "grafana" / "datasources" / "prometheus.yml").read_text())["datasources"]
    (provider,) = yaml.safe_load((DOCKER / "grafana" / "dashboards" / "dashboards.yml").read_text())["providers"]
    compose = yaml.safe_load((DOCKER / "compose.yaml").read_text())["services"]
    assert source["url"] == "http://prometheus:9090"
    folders = dict(volume.split(":")[:2][::-1] for volume in compose["grafana"]["volumes"])
    assert folders[str(Path(provider["options"]["path"]).parent)] == "./grafana"
    used = {json.dumps(each["datasource"], sort_keys=True) for panel in PANELS for each in (panel, *panel["targets"])}
    assert used == {json.dumps({"type": "prometheus", "uid": source["uid"]}, sort_keys=True)}
    assert len({panel["id"] for panel in DASHBOARD["panels"]}) == len(DASHBOARD["panels"])
    places = [tuple(panel["gridPos"].values()) for panel in DASHBOARD["panels"]]
    assert len(set(places)) == len(places)
