"""Which `Host` a request may have: names can be made to lead here by whoever owns them, addresses can't."""

from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from gateway.config import Settings, load_settings
from gateway.core.errors import BadMessage, HostRefused
from gateway.core.origins import Origins
from gateway.start import _warn_of_any_host, _warn_of_clear_passwords

LISTED = ["https://listed.example:8443"]


@pytest.mark.parametrize(
    ("name", "hosts", "local", "known"),
    [
        ("evil.example:8080", [], False, True),
        ("evil.example:8080", ["gate.example"], False, False),
        ("gate.example:8080", ["gate.example"], False, True),
        ("gate.example", ["gate.example"], True, True),
        ("gate.example:", ["gate.example"], False, True),
        ("Gate.example.:80", ["gate.Example"], False, True),
        ("gate.example.evil.example", ["gate.example"], False, False),
        ("evil-gate.example", ["gate.example"], False, False),
        ("listed.example", ["gate.example"], False, True),
        ("listed.example", [], True, True),
        ("localhost:8080", ["gate.example"], False, True),
        ("evil.example:8080", [], True, False),
        ("localhost.evil.example:8080", [], True, False),
        ("127.0.0.1.evil.example", [], True, False),
        ("2130706433", [], True, False),
        ("LOCALHOST:8080", [], True, True),
        ("tidegate.localhost", [], True, True),
        ("127.1.2.3:8080", [], True, True),
        ("[::1]:8080", [], True, True),
        ("192.0.2.1:8080", [], True, True),
        ("192.0.2.1", ["gate.example"], False, True),
    ],
)
def test_the_gateway_is_asked_only_by_its_names_where_they_are_known(
    name: str, hosts: list[str], local: bool, known: bool
) -> None:
    origins = Origins(LISTED, hosts, local=local)
    if known:
        origins.check_host([name], required=True)
    else:
        with pytest.raises(HostRefused, match="expected a name listed in `hosts`"):
            origins.check_host([name], required=True)


@pytest.mark.parametrize(
    "name",
    ["", " ", "a b", "a@gate.example", "gate.example/", "gate.example, evil.example", "[::1", "::1", "gate.example:80a",
     "gate.example:800000", "gate\x00.example", "gäte.example", ".", "[gate.example]", "a" * 300, "gate.example\n"],
)  # fmt: skip
@pytest.mark.parametrize("hosts", [[], ["gate.example"]])
def test_what_is_no_host_is_refused_whatever_the_names_are(name: str, hosts: list[str]) -> None:
    with pytest.raises(BadMessage, match="Host: expected one name or address"):
        Origins(LISTED, hosts).check_host([name], required=True)


def test_one_host_is_required_of_http_1_1_and_more_are_never_taken() -> None:
    origins = Origins()
    origins.check_host([], required=False)
    with pytest.raises(BadMessage, match="found 0"):
        origins.check_host([], required=True)
    for required in (True, False):
        with pytest.raises(BadMessage, match="found 2"):
            origins.check_host(["gate.example", "gate.example"], required=required)


@given(st.text())
def test_no_text_is_taken_for_a_name_that_is_not_listed(text: str) -> None:
    try:
        Origins((), ["gate.example"]).check_host([text], required=True)
    except (BadMessage, HostRefused):
        return
    assert text.lower().startswith("gate.example") or "localhost" in text.lower() or any(map(str.isdigit, text))


@pytest.mark.parametrize(
    ("settings", "warned"),
    [
        ({"listen": {"host": "192.0.2.1"}}, True),
        ({"listen": {"host": "192.0.2.1"}, "hosts": ["gate.example"]}, False),
        ({"listen": {"host": "192.0.2.1"}, "identity": {"anonymous": {"roles": ["guest"]}}}, False),
        ({"listen": {"host": "127.0.0.1"}}, False),
    ],
)
def test_it_is_said_at_the_start_if_any_page_may_act_here(
    settings: dict[str, Any], warned: bool, caplog: pytest.LogCaptureFixture
) -> None:
    _warn_of_any_host(Settings(**settings))
    assert ("DNS rebinding" in caplog.text) == warned


@pytest.mark.parametrize(
    ("listen", "warned"),
    [
        ({"host": "192.0.2.1"}, True),
        ({"host": "192.0.2.1", "trusted_proxies": ["192.0.2.2"]}, False),
        ({"host": "127.0.0.1"}, False),
    ],
)
def test_it_is_said_at_the_start_if_passwords_may_come_in_the_clear(
    tmp_path: Path, listen: dict[str, Any], warned: bool, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "users.yaml").write_text("{}")
    config = tmp_path / "config.yaml"
    config.write_text(yaml.safe_dump({"listen": listen, "identity": {"users_file": "users.yaml"}}))
    _warn_of_clear_passwords(load_settings(config, environment={}))
    assert ("passwords may come in the clear" in caplog.text) == warned
