"""What the durable engine still knows after a restart, in good order and after a crash; and files that it can't use."""

import asyncio
import shutil
import sqlite3
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bridges.sqlite import SqliteEngine
from bridges.sqlite_journal import Batch, Journal, JournalUnavailable
from gateway.core.counters import Counters
from gateway.core.engine import Publication, Reading, Wanted
from gateway.core.engine_memory import MemoryEngine
from gateway.core.errors import EngineUnavailable, TidegateError
from gateway.core.log import Log, LogBounds
from gateway.core.message import Cursor, Message
from gateway.core.payload import Payload
from gateway.core.retention import NOTHING, Retention
from tests.unit.conftest import HandClock


@dataclass
class Run:
    """One life of an engine."""

    engine: SqliteEngine
    journal: Journal
    loop: asyncio.AbstractEventLoop
    counters: Counters
    delivered: list[Message] = field(default_factory=list)
    said: list[TidegateError | None] = field(default_factory=list)

    def publish(self, room: str, data: bytes = b"1", receipt: Any = None, **more: Any) -> None:
        publication = Publication(room, Payload(data), **{"retention": Retention(messages=3), **more})
        self.engine.publish([publication], self.said.append, receipt)

    def settle(self) -> None:
        while self.engine._waiting:
            self.loop.run_until_complete(asyncio.sleep(0.001))

    def after(self, room: str, position: int) -> tuple[list[int], bool]:
        messages, complete = self.engine._memory.log.after(room, position)
        return sorted(message.sequence for message in messages), complete

    def last(self, room: str) -> list[bytes]:
        found: list[bytes] = []
        self.engine.last(room, lambda _, values: found.extend(message.data for message in values))
        return found


@contextmanager
def life(path: Path, epoch: str, bounds: LogBounds | None = None, *, later_seconds: float = 0) -> Iterator[Run]:
    clock, counters, loop = HandClock(), Counters(), asyncio.new_event_loop()
    clock.now += later_seconds
    memory = MemoryEngine(epoch, Log(bounds or LogBounds(), clock, counters), clock, counters)
    journal = Journal(path, epoch)
    run = Run(SqliteEngine(memory, journal, counters), journal, loop, counters)
    run.engine.attach(run.delivered.append)

    async def start() -> None:
        run.engine.start()

    loop.run_until_complete(start())
    try:
        yield run
    finally:
        run.engine.close(5)
        loop.close()


def crashed(path: Path) -> Path:
    """The file as a crash now would leave it."""
    copy = path.with_name("crashed.db")
    for suffix in ("", "-wal"):
        if Path(f"{path}{suffix}").exists():
            shutil.copyfile(f"{path}{suffix}", f"{copy}{suffix}")
    return copy


def test_a_message_is_delivered_only_once_it_is_in_the_file(tmp_path: Path) -> None:
    with life(tmp_path / "log.db", "a") as run:
        run.publish("x")
        assert (run.delivered, run.said, run.engine.head) == ([], [], 0)
        run.settle()
        assert (len(run.delivered), run.said, run.engine.head) == (1, [None], 1)


def test_history_last_values_and_cursors_survive_a_restart(tmp_path: Path) -> None:
    with life(tmp_path / "log.db", "a") as run:
        for number in range(5):
            run.publish("x", b"%d" % number)
        run.publish("y", b"last", topic="t", retention=Retention())
        run.publish("z", retention=NOTHING)
        run.settle()
    with life(tmp_path / "log.db", "b") as run:
        assert run.engine.head == 7
        assert run.after("x", 2) == ([3, 4, 5], True)
        assert run.after("x", 1) == ([3, 4, 5], False)
        assert (run.last("y"), run.last("x")) == ([b"last"], [b"4"])
        assert (run.after("z", 6)[1], run.after("z", 7)[1]) == (False, True)
        assert run.after("#", 6) == ([], False)
        assert run.after("never/written", 0) == ([], True)
        for cursor, place in (("a-7", 7), ("a-8", None), ("b-7", 7), ("c-1", None)):
            assert run.engine.position(Cursor.parse(cursor)) == place, cursor
        run.publish("x", b"5")
        run.settle()
        assert run.delivered[0].cursor == "b-8"
    with life(tmp_path / "log.db", "c") as run:
        assert run.after("x", 5) == ([8], True)
        assert run.engine.position(Cursor.parse("a-8")) is None
        assert run.engine.position(Cursor.parse("b-8")) == 8


def test_a_crash_takes_only_what_nobody_has_seen(tmp_path: Path) -> None:
    with life(tmp_path / "log.db", "a") as run:
        for number in range(3):
            run.publish("x", b"%d" % number, receipt=("plant", number + 1, b"digest"))
        run.settle()
        run.publish("x", b"unwritten")
        copy = crashed(tmp_path / "log.db")
    with life(copy, "b") as run:
        assert run.after("x", 0) == ([1, 2, 3], True)
        assert len(list(run.engine.receipts.entries())) == 3
        assert run.engine.position(Cursor.parse("a-4")) is None


def test_a_crash_before_the_delivery_doesnt_hide_that_what_is_never_kept_is_gone(tmp_path: Path) -> None:
    with life(tmp_path / "log.db", "a") as run:
        run.publish("kept")
        run.settle()
        run.publish("plain", retention=NOTHING)
        run.publish("cleared", clears=True, retention=NOTHING)
        run.engine._flush()
        deadline = time.monotonic() + 10
        while len(run.said) == 1 and run.journal._waiting and time.monotonic() < deadline:
            time.sleep(0.001)
        run.engine._journal.write(Batch(head=3))
        copy = None
        while copy is None or not _holds(copy, 3):
            copy = crashed(tmp_path / "log.db")
    with life(copy, "b") as run:
        assert run.engine.head == 3
        assert [run.after(room, 1)[1] for room in ("plain", "cleared", "kept")] == [False, False, True]


def _holds(copy: Path, head: int) -> bool:
    with closing(sqlite3.connect(copy)) as database:
        return bool(database.execute("SELECT 1 FROM epochs WHERE last = ?", (head,)).fetchone())


def test_last_values_that_outlived_their_history_survive_every_restart(tmp_path: Path) -> None:
    kept = Retention(last=True, messages=10, seconds=60)
    with life(tmp_path / "log.db", "a") as run:
        run.publish("x", b"1", retention=kept)
        run.settle()
    for epoch in "bcd":
        with life(tmp_path / "log.db", epoch, later_seconds=100) as run:
            assert run.last("x") == [b"1"]
            run.publish("elsewhere")
            run.settle()


def test_receipts_survive_until_they_are_acknowledged(tmp_path: Path) -> None:
    with life(tmp_path / "log.db", "a") as run:
        for packet_id in (1, 2, 3):
            run.publish("x", receipt=("plant", packet_id, b"digest"))
        run.settle()
        run.engine.acknowledged("plant", 2)
    with life(tmp_path / "log.db", "b") as run:
        assert [packet_id for _, packet_id, _ in run.engine.receipts.entries()] == [1, 3]
        run.engine.forget("plant")
    with life(tmp_path / "log.db", "c") as run:
        assert len(run.engine.receipts) == 0


def test_a_last_value_that_was_taken_back_stays_gone(tmp_path: Path) -> None:
    with life(tmp_path / "log.db", "a") as run:
        run.publish("x", b"1", topic="t")
        run.publish("x", b"null", topic="t", clears=True, retention=Retention(last=False, messages=3))
        run.publish("y", b"1", topic="t", retention=Retention())
        run.publish("y", b"null", topic="t", clears=True, retention=NOTHING)
        run.settle()
    with life(tmp_path / "log.db", "b") as run:
        assert (run.last("x"), run.last("y")) == ([], [])
        assert run.after("x", 0) == ([1, 2], True)


STEP = st.tuples(
    st.sampled_from(["x", "y", "z/1", "z/2"]),
    st.sampled_from([NOTHING, Retention(), Retention(messages=2), Retention(last=False, messages=4)]),
    st.sampled_from(["t", "u"]),
    st.sampled_from(["publish", "publish", "publish", "restart", "clear"]),
)


BOUNDS = st.sampled_from([LogBounds(), LogBounds(last_values=2, rooms=1), LogBounds(bytes=2000)])


@settings(max_examples=40)
@given(
    st.lists(STEP, max_size=25),
    st.sampled_from([LogBounds(), LogBounds(last_values=2, rooms=1), LogBounds(bytes=2000)]),
)
def test_a_restart_changes_nothing_that_clients_are_told(
    tmp_path_factory: pytest.TempPathFactory, steps: list[tuple[str, Retention, str, str]], bounds: LogBounds
) -> None:
    folder = tmp_path_factory.mktemp("log")
    clock, counters = HandClock(), Counters()
    straight = MemoryEngine("m", Log(bounds, clock, counters), clock, counters)
    lives, remaining = 0, list(steps)
    while True:
        with life(folder / "log.db", f"e{lives}", bounds) as run:
            while remaining and remaining[0][3] != "restart":
                room, retention, topic, what = remaining.pop(0)
                publication = Publication(room, Payload(b"1"), retention, topic, clears=what == "clear")
                run.engine.publish([publication], run.said.append)
                straight.publish([publication], lambda _: None)
                run.settle()
            if not remaining:
                break
        remaining.pop(0)
        lives += 1
    assert run.engine.head == straight.head
    for room in ("x", "y", "z/1", "#", "z/+"):
        for position in range(straight.head + 1):
            found, complete = straight.log.after(room, position)
            ours, ours_complete = run.after(room, position)
            assert ours == sorted(message.sequence for message in found)
            assert ours_complete <= complete, "it claims to have what it lacks"
            assert ours_complete == complete or bounds.rooms == 1  # what is forgotten is forgotten on the safe side


def test_a_full_disk_is_said_and_nothing_is_lost_when_there_is_room_again(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with life(tmp_path / "log.db", "a") as run:
        (pages,) = run.journal._database.execute("PRAGMA page_count").fetchone()
        run.journal._database.execute(f"PRAGMA max_page_count={pages}")
        run.publish("x", b"x" * 100_000)
        while run.engine.problem is None:
            run.loop.run_until_complete(asyncio.sleep(0.001))
        assert "full" in str(run.engine.problem)
        assert run.delivered == []
        run.journal._database.execute("PRAGMA max_page_count=100000")
        run.settle()
        assert len(run.delivered) == 1
        assert not run.engine.problem
    assert "is tried again" in caplog.text


def test_who_publishes_faster_than_the_disk_is_told_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("bridges.sqlite.MAXIMUM_WAITING", 2)
    with life(tmp_path / "log.db", "a") as run:
        for _ in range(3):
            run.publish("x")
        assert isinstance(run.said[0], EngineUnavailable)
        assert run.counters.drops["engine_unavailable"] == 1
        run.settle()
        assert len(run.delivered) == 2


def test_a_file_of_another_gateway_or_another_kind_is_refused_in_a_sentence(tmp_path: Path) -> None:
    with life(tmp_path / "log.db", "a"), pytest.raises(JournalUnavailable, match="in use by another program"):
        Journal(tmp_path / "log.db", "b")
    (tmp_path / "text.db").write_text("no database, but text that is long enough to have no header " * 30)
    with pytest.raises(JournalUnavailable, match="no SQLite database"):
        Journal(tmp_path / "text.db", "a")
    with pytest.raises(JournalUnavailable, match="unable to open"):
        Journal(tmp_path / "nowhere" / "log.db", "a")
    with sqlite3.connect(tmp_path / "later.db") as later:
        later.execute("PRAGMA user_version=99")
    later.close()
    with pytest.raises(JournalUnavailable, match="version 99"):
        Journal(tmp_path / "later.db", "a")


def test_reading_is_that_of_the_engine_in_memory(tmp_path: Path) -> None:
    with life(tmp_path / "log.db", "a") as run:
        for _ in range(3):
            run.publish("x")
        run.settle()
        found: list[Reading] = []
        run.engine.read({"x": Wanted(1, 1)}, 10, found.append)
        assert [message.sequence for message in found[0].messages] == [2, 3]


def test_a_file_of_before_users_were_kept_is_brought_up_to_date(tmp_path: Path) -> None:
    with life(tmp_path / "log.db", "a") as run:
        run.publish("x", b"old")
        run.settle()
    with sqlite3.connect(tmp_path / "log.db") as before:
        before.execute("ALTER TABLE messages DROP COLUMN user")
        before.execute("PRAGMA user_version=1")
    before.close()
    for epoch in ("b", "c"):
        with life(tmp_path / "log.db", epoch) as run:
            run.publish("x", b"new", user="ann")
            run.settle()
    with life(tmp_path / "log.db", "d") as run:
        messages, _ = run.engine._memory.log.after("x", 0)
        assert sorted((message.data, message.user or "") for message in messages) == [
            (b"new", "ann"),
            (b"new", "ann"),
            (b"old", ""),
        ]
