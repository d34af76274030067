"""How the parent of several processes sees to them, whatever they do."""

import os
import signal
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.real import Running, wait_until

Start = Callable[[str], Running]


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Start]:
    """Starts two workers that behave as a mode says."""
    running: list[Running] = []

    def start(mode: str) -> Running:
        running.append(Running([sys.executable, "-m", "tests.worker_program", mode], tmp_path / "workers.log"))
        return running[-1]

    yield start
    for each in running:
        each.stop()


def children_of(parent: Running) -> list[int]:
    pid = parent.process.pid
    return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def says(parent: Running, text: str) -> None:
    wait_until(lambda: text in parent.text, f"it says {text!r}")


def kill_one(parent: Running) -> None:
    os.kill(children_of(parent)[-1], signal.SIGKILL)


def test_each_word_goes_to_all_workers(start: Start) -> None:
    parent = start("good")
    says(parent, "all serve")
    parent.send_signal(signal.SIGHUP)
    says(parent, "worker 0 reloads")
    says(parent, "worker 1 reloads")
    parent.send_signal(signal.SIGTERM)
    assert parent.wait() == 0
    assert "is killed" not in parent.text


def test_one_that_ends_by_itself_is_started_again(start: Start) -> None:
    parent = start("good")
    says(parent, "all serve")
    before = set(children_of(parent))
    kill_one(parent)
    says(parent, "serves again")
    assert len(before & set(children_of(parent))) == 1
    parent.send_signal(signal.SIGINT)
    assert parent.wait() == 0
    assert parent.text.count("all serve") == 1


def test_one_that_cant_be_started_again_is_tried_after_growing_pauses(start: Start) -> None:
    parent = start("no place again")
    says(parent, "all serve")
    kill_one(parent)
    says(parent, "ended by SIGKILL; it is started again in 1.0 s")
    says(parent, "can't start: there is no place for it any more; it is started again in 2.0 s")
    assert len(children_of(parent)) == 1  # which goes on
    parent.send_signal(signal.SIGTERM)
    assert parent.wait() == 0


def test_one_that_doesnt_end_is_killed_and_that_is_no_good_order(start: Start) -> None:
    parent = start("stubborn")
    says(parent, "all serve")
    parent.send_signal(signal.SIGTERM)
    assert parent.wait() == 1
    assert "worker 1 takes too long to end, and is killed" in parent.text


@pytest.mark.parametrize(
    ("mode", "told"),
    [
        ("crash at once", "failed: worker 0 ended with exit code 3 before it served: its log says why"),
        ("no place", "failed: there is no place for it"),
    ],
)
def test_what_can_never_start_isnt_started_again(start: Start, mode: str, told: str) -> None:
    parent = start(mode)
    assert parent.wait() == 1
    assert parent.text.splitlines() == [told]


def test_one_that_is_told_to_end_as_it_starts_is_no_fault(start: Start) -> None:
    parent = start("told to end")
    assert parent.wait() == 0
    assert parent.text == ""
