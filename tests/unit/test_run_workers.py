"""What each of several processes of a gateway is to be."""

import json
import logging
import socket
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from gateway.banner import banner
from gateway.config import ConfigurationError, Problem, Settings
from gateway.logs import configure_logging
from gateway.run_workers import _named, _renewed
from gateway.runner import Program
from gateway.start import StartError
from gateway.worker import Worker

RULES = {"identity": {"anonymous": {"roles": ["guest"]}}, "access": [{"roles": ["guest"], "subscribe": ["a"]}]}


def settings(**changes: Any) -> Settings:
    return Settings.model_validate({**RULES, **changes})


def program(load: Callable[[], Settings]) -> Program:
    return Program(settings(), Path("config.yaml"), load)


def test_one_that_is_started_again_has_the_rules_of_now_and_all_else_of_then() -> None:
    access = [{"roles": ["guest"], "subscribe": ["b"]}]
    newer = settings(access=access, limits={"connections": 7})
    renewed = _renewed(program(lambda: newer)).settings
    assert renewed.access == newer.access
    assert renewed.limits == settings().limits


def test_it_isnt_started_while_the_configuration_is_wrong() -> None:
    def load() -> Settings:
        raise ConfigurationError([Problem("config.yaml", 3, 1, "access", "expected a list, found text")])

    with pytest.raises(StartError, match="expected a list, found text"):
        _renewed(program(load))


def test_nor_if_it_would_let_in_everybody() -> None:
    with pytest.raises(StartError, match="to open everything to everybody, restart the gateway"):
        _renewed(program(lambda: Settings()))


def test_no_two_have_the_same_name_in_the_cluster_nor_that_of_one_that_died() -> None:
    def name(config: Settings, index: int, restarts: int = 0) -> str | None:
        with socket.socket() as line:
            return _named(config, Worker(index, restarts, 8080, line)).cluster.node

    named = settings(cluster={"node": "oslo"})
    assert [name(named, 0), name(named, 1), name(named, 1, 2)] == ["oslo-0", "oslo-1", "oslo-1.2"]
    assert name(settings(), 1) is None  # which makes it a random one


def test_each_line_of_the_log_says_whose_it_is(capsys: pytest.CaptureFixture[str]) -> None:
    root = logging.getLogger()
    before = root.handlers[:], root.level
    try:
        for worker in (None, 2):
            configure_logging("info", "json", worker=worker)
            logging.getLogger("gateway.test").info("here")
    finally:
        root.handlers[:], root.level = before
    alone, one_of_several = map(json.loads, capsys.readouterr().err.splitlines())
    assert "worker" not in alone
    assert one_of_several["worker"] == 2


def test_the_banner_says_where_operators_ask() -> None:
    several = banner(settings(ops={"port": 9090}), 8080, 9090, workers=4)
    assert "  workers    4, joined by Redis\n" in several
    assert "  operations http://localhost:9090/metrics to 9093, one for each worker\n" in several
    one = banner(settings(ops={"port": 0, "host": "10.0.0.5"}), 8080, 40_123)
    assert "  operations http://10.0.0.5:40123/metrics\n" in one
    assert "operations" not in banner(settings(), 8080)
