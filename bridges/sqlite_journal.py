"""The file behind the durable engine: its tables, one transaction for each batch, and the thread that writes them.

Nothing is read after the start. The thread takes all that waits at once, so the busier it is the more goes into one
transaction. A write that fails is tried again until it succeeds: the disk may have room later.
"""

import logging
import sqlite3
import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from operator import itemgetter
from pathlib import Path
from typing import Final

from gateway.core.message import Message
from gateway.core.receipts import Entry
from gateway.core.retention import Retention

__all__ = ["Batch", "Journal", "JournalUnavailable", "Kept", "Recorded"]

logger = logging.getLogger(__name__)

VERSION: Final = 2
"""Of the tables; a file with an earlier one is brought up to it, one with a later one refused."""
EPOCHS: Final = 1000
"""How many earlier starts' cursors are known."""
RETRY_SECONDS: Final = 0.5
SCHEMA: Final = """
CREATE TABLE IF NOT EXISTS epochs (epoch TEXT PRIMARY KEY, number INTEGER NOT NULL, last INTEGER NOT NULL);
CREATE TABLE IF NOT EXISTS messages (
    sequence INTEGER PRIMARY KEY, room TEXT NOT NULL, topic TEXT, data BLOB NOT NULL, time REAL NOT NULL, sender TEXT,
    retained INTEGER NOT NULL, binary INTEGER NOT NULL,
    keep_last INTEGER NOT NULL, keep_messages INTEGER NOT NULL, keep_seconds REAL NOT NULL,
    user TEXT);
CREATE TABLE IF NOT EXISTS floors (room TEXT PRIMARY KEY, floor INTEGER NOT NULL) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS receipts (
    upstream TEXT, packet_id INTEGER, digest BLOB NOT NULL, PRIMARY KEY (upstream, packet_id)) WITHOUT ROWID;
"""


class JournalUnavailable(Exception):
    """The file can't be used; the text says which and why."""


@dataclass(frozen=True, slots=True)
class Kept:
    """A message with what is to be kept of its room."""

    message: Message
    retention: Retention


@dataclass(slots=True)
class Batch:
    """What goes into one transaction."""

    head: int = 0
    messages: list[Kept] = field(default_factory=list)
    cleared: list[tuple[str, str | None, int]] = field(default_factory=list)
    """Room and topic whose last value was taken back, and the place in the sequence of what did so."""
    receipts: list[Entry] = field(default_factory=list)
    dropped: list[int] = field(default_factory=list)
    floors: dict[str, int | None] = field(default_factory=dict)
    """The floor of each room; None for a room that is forgotten."""
    floor: int = 0
    """The floor of all rooms that are forgotten."""
    acknowledged: list[tuple[str, int]] = field(default_factory=list)
    forgotten: list[str] = field(default_factory=list)
    """Upstreams whose receipts mean nothing any more."""
    stored: list[Callable[[], None]] = field(default_factory=list)
    """Called after the transaction, in order, in the event loop."""


@dataclass(frozen=True, slots=True)
class Recorded:
    """What a file held when it was opened."""

    epochs: dict[str, int]
    """The last place in the sequence of each earlier epoch."""
    head: int
    floor: int
    floors: list[tuple[str, int]]
    """The floor of each room, the lowest first."""
    messages: list[Kept]
    receipts: list[Entry]


class Journal:
    """One file, used by one process alone."""

    def __init__(self, path: Path, epoch: str) -> None:
        """Open or create it.

        Raises:
            JournalUnavailable: it can't be opened, is no journal, or another process uses it.
        """
        self.path = path
        self.problem: str | None = None
        """Why writes fail, while they do."""
        self._epoch = epoch
        self._waiting: deque[Batch] = deque()
        self._wake = threading.Condition()
        self._closing = False
        try:
            self._database = sqlite3.connect(path, check_same_thread=False, isolation_level=None, timeout=0.5)
            self._prepare()
            self.recorded = self._read()
        except sqlite3.Error as error:
            raise JournalUnavailable(_explain(error, path)) from None
        self._thread = threading.Thread(target=self._run, name=f"journal {path.name}", daemon=True)

    def _prepare(self) -> None:
        database = self._database
        database.execute("PRAGMA locking_mode=EXCLUSIVE")
        database.execute("PRAGMA journal_mode=WAL")
        database.execute("PRAGMA synchronous=NORMAL")
        (version,) = database.execute("PRAGMA user_version").fetchone()
        if version not in (0, 1, VERSION):
            raise JournalUnavailable(f"{self.path} is of version {version}: expected {VERSION}, or another file")
        with database:
            database.execute("BEGIN EXCLUSIVE")
            if version == 1:
                database.execute("ALTER TABLE messages ADD COLUMN user TEXT")
            for statement in SCHEMA.split(";"):
                database.execute(statement)
            database.execute(f"PRAGMA user_version={VERSION}")

    def _read(self) -> Recorded:
        database = self._database
        epochs = dict(database.execute("SELECT epoch, last FROM epochs ORDER BY number"))
        head = max(epochs.values(), default=0)
        floors = dict(database.execute("SELECT room, floor FROM floors"))
        floor = floors.pop("", 0)  # no room is called so
        messages = [_kept(row, self._epoch) for row in database.execute("SELECT * FROM messages ORDER BY sequence")]
        receipts = list(database.execute("SELECT upstream, packet_id, digest FROM receipts"))
        with database:
            database.execute("BEGIN")
            numbered = database.execute("SELECT coalesce(max(number), 0) + 1 FROM epochs").fetchone()
            database.execute("INSERT INTO epochs VALUES (?, ?, ?)", (self._epoch, *numbered, head))
            database.execute("DELETE FROM epochs WHERE number <= ? - ?", (*numbered, EPOCHS))
        return Recorded(epochs, head, floor, sorted(floors.items(), key=itemgetter(1)), messages, receipts)

    def start(self) -> None:
        """Begin to write."""
        self._thread.start()

    def write(self, batch: Batch) -> None:
        """Have a batch written, after those before it."""
        with self._wake:
            self._waiting.append(batch)
            self._wake.notify()

    def close(self, timeout_seconds: float) -> bool:
        """Write what waits, and close the file; whether that was done in time."""
        with self._wake:
            self._closing = True
            self._wake.notify()
        self._thread.join(timeout_seconds)
        return not self._thread.is_alive()

    def _run(self) -> None:
        with closing(self._database):
            while True:
                with self._wake:
                    while not self._waiting and not self._closing:
                        self._wake.wait()
                    batches = list(self._waiting)
                    self._waiting.clear()
                if not batches:
                    return
                self._persist(batches)

    def _persist(self, batches: Sequence[Batch]) -> None:
        """Write batches in one transaction, however often it takes; given up only when all is to end."""
        while True:
            try:
                self._transact(batches)
            except Exception as error:
                if self.problem is None:
                    fault = None if isinstance(error, sqlite3.Error) else error  # a full disk is no fault of ours
                    logger.error("%s; it is tried again", _explain(error, self.path), exc_info=fault)  # noqa: TRY400
                self.problem = str(error)
                with self._wake:
                    if self._closing:
                        return
                    self._wake.wait(RETRY_SECONDS)
                continue
            if self.problem is not None:
                logger.info("%s can be written again", self.path)
                self.problem = None
            for batch in batches:
                for stored in batch.stored:
                    stored()
            return

    def _transact(self, batches: Sequence[Batch]) -> None:
        with self._database as database:
            database.execute("BEGIN IMMEDIATE")
            for batch in batches:
                self._write(database, batch)
            database.execute("UPDATE epochs SET last = ? WHERE epoch = ?", (batches[-1].head, self._epoch))

    def _write(self, database: sqlite3.Connection, batch: Batch) -> None:
        database.executemany("INSERT INTO messages VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)", _rows(batch.messages))
        unlast = "UPDATE messages SET keep_last = 0 WHERE room = ? AND topic IS ? AND sequence < ?"
        database.executemany(unlast, batch.cleared)
        database.executemany("DELETE FROM messages WHERE sequence = ?", ((sequence,) for sequence in batch.dropped))
        floors = {**batch.floors, **({"": batch.floor} if batch.floor else {})}
        kept = ((room, floor) for room, floor in floors.items() if floor is not None)
        database.executemany("INSERT OR REPLACE INTO floors VALUES (?, ?)", kept)
        gone = ((room,) for room, floor in floors.items() if floor is None)
        database.executemany("DELETE FROM floors WHERE room = ?", gone)
        database.executemany("DELETE FROM receipts WHERE upstream = ?", ((name,) for name in batch.forgotten))
        database.executemany("DELETE FROM receipts WHERE upstream = ? AND packet_id = ?", batch.acknowledged)
        database.executemany("INSERT OR REPLACE INTO receipts VALUES (?, ?, ?)", batch.receipts)


def _rows(kept: Iterable[Kept]) -> Iterator[tuple[object, ...]]:
    for each in kept:
        message, retention = each.message, each.retention
        yield (
            *(message.sequence, message.room, message.topic, message.data, message.time, message.sender),
            *(message.retained, message.binary, retention.last, retention.messages, retention.seconds),
            message.user,
        )


def _kept(row: tuple[object, ...], epoch: str) -> Kept:
    sequence, room, topic, data, time, sender, retained, binary, last, messages, seconds, user = row
    given = (room, data, epoch, sequence, time, topic, sender, bool(retained), bool(binary))
    message = Message(*given, user=user)  # type: ignore[arg-type]
    return Kept(message, Retention(bool(last), messages, seconds))  # type: ignore[arg-type]


def _explain(error: Exception, path: Path) -> str:
    reason = str(error)
    if "locked" in reason:
        return f"{path} is in use by another program: give each gateway a file of its own"
    if "not a database" in reason:
        return f"{path} is no SQLite database: expected one that a gateway made, or a name that is free"
    return f"{path} can't be written: {reason}"
