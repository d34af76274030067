"""What the keys of `limits` and `offenders` come to be in the core."""

from dataclasses import fields
from pathlib import Path

import pytest

from gateway.config import ConfigurationError, Settings, load_settings
from gateway.core.identity import Identity
from gateway.core.limit_errors import TooManyHandshakes
from gateway.core.limits import Limits
from gateway.core.offenders import OffenceBounds
from gateway.core.role_limits import RoleLimits
from gateway.doors import make_doorkeeper
from tests.unit.conftest import HandClock

MAY_BE_NULL = ("idle_seconds", "bytes_per_second_out")
CREW = Identity("ann", frozenset({"crew"}))


@pytest.fixture(autouse=True)
def in_a_folder_of_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def load(text: str, **environment: str) -> Settings:
    Path("config.yaml").write_text(text)
    return load_settings(Path("config.yaml"), environment=environment)


def problems(text: str) -> list[str]:
    with pytest.raises(ConfigurationError) as caught:
        load(text)
    return list(map(str, caught.value.problems))


def of_crew(text: str, namespace: str = "default") -> Limits:
    return load(text).role_limits(namespace).of(CREW)


def test_a_role_changes_what_it_names_and_nothing_else() -> None:
    text = "limits: {messages_burst: 7, by_role: {crew: {message_bytes: 1 KiB, connections_per_user: 3}}}"
    assert of_crew(text) == Limits(messages_burst=7, message_bytes=1024, connections_per_user=3)
    assert load(text).role_limits().general == Limits(messages_burst=7)


def test_null_frees_a_role_of_a_limit_that_may_be_null() -> None:
    text = "limits: {bytes_per_second_out: 5 kB, by_role: {crew: {idle_seconds: null, bytes_per_second_out: null}}}"
    assert of_crew(text) == Limits(idle_seconds=None, bytes_per_second_out=None)
    assert load(text).core_limits().bytes_per_second_out == 5000


def test_null_leaves_a_limit_that_is_a_number_as_it_is_in_general() -> None:
    assert problems("limits: {by_role: {crew: {message_bytes: null}}}") == [
        "config.yaml:1:27: limits.by_role.crew.message_bytes: expected a size from 1 byte to 1024 GiB, "
        "such as 65536, 500 kB or 64 KiB, found nothing"
    ]


def test_a_namespace_has_the_roles_of_the_top_unless_it_names_its_own() -> None:
    text = (
        "limits: {by_role: {crew: {messages_burst: 9}}}\n"
        "namespaces: {x: {limits: {messages_burst: 5}}, y: {limits: {by_role: {crew: {refusals: 3}}}}}"
    )
    assert of_crew(text, "x").messages_burst == 9
    assert of_crew(text, "y") == Limits(refusals=3)


@pytest.mark.parametrize("key", [field.name for field in fields(Limits) if field.name not in MAY_BE_NULL])
def test_no_limit_but_two_may_be_nothing_or_null(key: str) -> None:
    for value in ("0", "-1", "null", "many"):
        (problem,) = problems(f"limits: {{{key}: {value}}}")
        assert problem.startswith(f"config.yaml:1:10: limits.{key}: expected ")


@pytest.mark.parametrize("key", MAY_BE_NULL)
def test_two_limits_may_be_null_for_none(key: str) -> None:
    assert getattr(load(f"limits: {{{key}: null}}").core_limits(), key) is None
    assert len(problems(f"limits: {{{key}: 0}}")) == 1


def test_offenders_are_as_the_core_has_them_and_nobody_is_where_that_is_null() -> None:
    assert Settings().offenders.bounds() == OffenceBounds()
    text = "offenders: {offences: 5, window_seconds: 30, refuse_seconds: 2, refuse_max_seconds: 9}"
    assert load(text).offenders.bounds() == OffenceBounds(5, 30, 2, 9)
    assert load("offenders: {offences: null}").offenders.bounds().offences is None


@pytest.mark.parametrize("key", ["window_seconds", "refuse_seconds", "refuse_max_seconds"])
def test_no_time_of_offenders_may_be_nothing_null_or_longer_than_a_day(key: str) -> None:
    for value, found in (("0", "0"), ("null", "nothing"), ("86401", "86401")):
        (problem,) = problems(f"offenders: {{{key}: {value}}}")
        assert problem == (
            f"config.yaml:1:13: offenders.{key}: expected a number of seconds above 0, at most 86400 (a day), "
            f"found {found}"
        )


@pytest.mark.parametrize("address", ["127.0.0.1", "127.9.9.9", "::1", "::ffff:127.0.0.1", "10.0.0.7"])
def test_this_machine_and_trusted_proxies_are_never_refused(address: str, clock: HandClock) -> None:
    settings = load("listen: {trusted_proxies: [10.0.0.0/8]}\noffenders: {offences: 1}")
    offenders = make_doorkeeper(settings, [RoleLimits(Limits())], clock).offenders
    for _ in range(9):
        offenders.offend(address)
    assert offenders.refused_for(address) == 0


def test_who_is_exempt_can_be_said_and_then_this_machine_is_not(clock: HandClock) -> None:
    settings = load("offenders: {offences: 1, exempt: [192.0.2.0/24]}")
    offenders = make_doorkeeper(settings, [RoleLimits(Limits())], clock).offenders
    for address in ("192.0.2.1", "127.0.0.1") * 2:
        offenders.offend(address)
    assert [offenders.refused_for(address) for address in ("192.0.2.1", "127.0.0.1")] == [0, 10]


@pytest.mark.parametrize("turned", [False, True])
def test_new_connections_may_come_as_fast_as_any_namespace_takes_them(turned: bool, clock: HandClock) -> None:
    limits = [
        Limits(handshakes_per_address_per_second=1, handshakes_burst=9),
        Limits(handshakes_per_address_per_second=4, handshakes_burst=2),
    ]
    role_limits = [RoleLimits(each) for each in (limits[::-1] if turned else limits)]
    keeper = make_doorkeeper(Settings(), role_limits, clock)
    for _ in range(9):
        keeper.admit("192.0.2.1")
    with pytest.raises(TooManyHandshakes) as refused:
        keeper.admit("192.0.2.1")
    assert refused.value.retry_after_seconds == 0.25
