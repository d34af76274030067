"""Reading the configuration anew: what is taken, what is told, how often."""

import logging
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest

from gateway.config import Settings, load_settings
from gateway.reload import Reload, Reloads
from tests.certificates import replace
from tests.unit.conftest import HandClock

RULES = "access: [{roles: [a], subscribe: [x]}]\n"


class Bench:
    """A configuration that is changed, and a gateway that only remembers what it was told."""

    def __init__(self, folder: Path, caplog: pytest.LogCaptureFixture) -> None:
        caplog.set_level(logging.INFO)
        self._log = caplog
        self.file = folder / "config.yaml"
        self.file.write_text(RULES)
        self.clock = HandClock()
        self.applied: list[Settings] = []
        self.reloads = Reloads(0)
        self._load = partial(load_settings, self.file, environment={"TIDEGATE_HOSTS": '["a.example"]'})
        self.meanwhile: Callable[[], object] = lambda: None
        self.reload = Reload(self.file, self.load, self._load(), self.applied.append, self.reloads, self.clock)

    def load(self) -> Settings:
        try:
            return self._load()
        finally:
            self.meanwhile()

    async def change(self, text: str, *, asked: bool = False) -> list[str]:
        """Another content, as the watch would tell of it; what is logged then."""
        self._log.clear()
        replace(self.file, text.encode())
        self.reload._watch.accept()
        await self.reload.reload(asked=asked)
        return [f"{record.levelname} {record.getMessage()}" for record in self._log.records]


@pytest.fixture
def bench(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> Bench:
    return Bench(tmp_path, caplog)


async def test_a_good_one_takes_effect_and_its_keys_are_told(bench: Bench) -> None:
    bench.clock.now = 5.0
    told = await bench.change(RULES + "origins: [https://a.example]\nlimits: {connections: 1}\n")
    assert told == [
        "INFO the changed configuration is in effect, also for who is connected: origins",
        "WARNING changed, but in effect only once the gateway is restarted: limits.connections",
    ]
    (applied,) = bench.applied
    assert (applied.origins, applied.hosts) == (("https://a.example",), ("a.example",))
    assert applied.limits == Settings().limits
    assert (bench.reloads.outcomes["taken"], bench.reloads.last_good) == (1, bench.clock.time())
    assert await bench.change(RULES + "origins: [https://a.example]\n") == []


async def test_a_bad_one_changes_nothing_and_is_told_with_its_places(bench: Bench) -> None:
    told = await bench.change("access: [{roles: a}]\nx: 1\n")
    assert told[0].startswith(
        f"ERROR the changed configuration is not taken, the old one stays in use: {bench.file}:1:"
    )
    assert f"{bench.file}:2:1: x" in told[1]
    assert (bench.applied, bench.reloads.last_good, bench.reloads.outcomes["refused"]) == ([], 0, 1)
    many = "".join(f"x{number}: 1\n" for number in range(50))
    told = await bench.change(many)
    assert (len(told), told[-1]) == (21, "ERROR 30 more problems: `tidegate check` tells all")


async def test_one_that_opens_all_is_a_bad_one(bench: Bench) -> None:
    elsewhere = "namespaces: {new: {access: [{roles: [a]}]}}"  # where no rule holds before a restart
    for text in ("", elsewhere):
        (told,) = await bench.change(text)
        assert told.endswith("to open everything to everybody, restart the gateway")
    assert bench.applied == []


async def test_nothing_new_is_told_of_only_to_who_asked(bench: Bench) -> None:
    assert await bench.change(RULES) == []
    assert bench.reloads.outcomes["unchanged"] == 0
    assert await bench.change(RULES, asked=True) == [f"INFO nothing has changed in the configuration {bench.file}"]
    assert bench.reloads.outcomes["unchanged"] == 1


@pytest.mark.parametrize("text", [RULES + "origins: [https://a.example]", "bad"])
async def test_what_is_written_while_it_is_read_is_left_for_later(bench: Bench, text: str) -> None:
    bench.meanwhile = lambda: replace(bench.file, b"more")
    assert await bench.change(text) == []
    assert await bench.change(text, asked=True) == [
        f"INFO {bench.file} is being written: it is read again once that is over"
    ]
    assert bench.applied == []
    assert bench.reloads.outcomes.total() == 0


async def test_a_file_that_was_lacking_is_noticed_once_it_is_there(bench: Bench) -> None:
    told = await bench.change(RULES + "identity: {users_file: users.yaml}\n")
    assert "users.yaml" in told[0]
    assert not bench.reload._watch.settled()
    (bench.file.parent / "users.yaml").write_text("{}")
    assert [bench.reload._watch.settled() for _ in range(3)] == [False, True, False]
    await bench.reload.reload(asked=False)
    assert len(bench.applied) == 1
