"""What came of each fault: by the clients' ledgers, the publishers' books and the log."""

from collections import Counter
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Final

from benchmarks.faults.crowd import LATE_SECONDS, UNAIDED, Crowd, Phase
from benchmarks.faults.evidence import Evidence
from benchmarks.faults.ledger import Counts, Log, key_of, number_of

__all__ = ["Report", "Row"]

HEAD: Final = (
    "| what happens | lost | doubled | out of order | told of a gap | had to come back | for | all had all after |\n"
    "|---|---|---|---|---|---|---|---|"
)


@dataclass
class Row:
    """What came of one phase."""

    name: str
    phase: Phase
    counts: Counts = field(default_factory=Counts)
    never_stored: int = 0
    """What was acknowledged and isn't in the log."""
    told: int = 0
    """Clients that were told that they may lack messages."""
    not_told: int = 0
    """Those that should have been told, since Redis has lost its data."""
    lasted_seconds: float = 0.0
    recovered_seconds: float = 0.0

    @property
    def lost(self) -> int:
        """All that somebody should have had."""
        return self.counts.lost + self.counts.unknown + self.never_stored

    @property
    def is_flawless(self) -> bool:
        """Whether nothing was lost, doubled or in another order, and only the right ones were told of a gap."""
        told_rightly = not self.not_told if self.phase.is_data_lost else not self.told
        return self.counts.is_flawless and not self.never_stored and told_rightly

    def __str__(self) -> str:
        counts = self.counts
        recovered = f"{self.recovered_seconds:.1f} s" if self.recovered_seconds else f"< {LATE_SECONDS:g} s"
        return (
            f"| {self.name} | {self.lost} | {counts.duplicated} | {counts.out_of_order} | {self.told} | "
            f"{len(self.phase.returned)} | {self.lasted_seconds:.1f} s | {recovered} |"
        )


@dataclass
class Report:
    """All that came of a run."""

    rows: list[Row] = field(default_factory=list)
    heard: int = 0
    published: int = 0
    unanswered: int = 0
    """What browsers published and got no answer about."""
    copies: int = 0
    """What devices sent twice, as they got no acknowledgement, and the broker took twice."""
    gone: int = 0
    """What was acknowledged and went with Redis' data."""
    unaided: Counter[str] = field(default_factory=Counter)
    """What clients without a cursor missed between two connections."""
    came_back: Counter[str] = field(default_factory=Counter)
    kept_sessions: Counter[str] = field(default_factory=Counter)
    """How often the client's session was there still, or not."""
    problems: Counter[str] = field(default_factory=Counter)

    @property
    def is_flawless(self) -> bool:
        """Whether all that the log has came once and in order."""
        return self.heard > 0 and all(row.is_flawless for row in self.rows)

    def judge(self, crowd: Crowd, evidence: Evidence) -> None:
        """Compare what clients were told with the log, and the log with what was acknowledged."""
        last = self.rows[crowd.phase.number]
        logs = {room: self._judge_log(room, evidence, crowd) for room in evidence.logs}
        for client in crowd.clients:
            for phase, counts in client.ledger.audit(logs, last.phase.number).items():
                self.rows[phase].counts.add(counts)
                self.rows[phase].told += client.ledger.was_told(phase)
                self.unaided[client.kind] += counts.unaided
                if not counts.is_flawless:
                    self.problems[f"{client.kind}, {self.rows[phase].name}: {counts}"] += 1
            if last.phase.is_data_lost and client.kind not in UNAIDED:
                last.not_told += not client.ledger.was_told(last.phase.number)
            self.heard += sum(len(heard.keys) for heard in client.ledger.rooms.values())
        self.published, self.unanswered = len(evidence.phases), evidence.unanswered
        self._count_returns(crowd)

    def _judge_log(self, room: str, evidence: Evidence, crowd: Crowd) -> Log:
        """Whether the log is right by itself; with what has gone with Redis' data, which some clients had before."""
        since, last = evidence.since.get(room, -1), self.rows[crowd.phase.number]
        keys = [key for key in evidence.logs[room] if number_of(key) > since]
        log = Log(keys)
        there = log.numbers
        acknowledged = sorted(number for number in evidence.acknowledged[room] if number > since)
        places = [there[number] for number in acknowledged if number in there]
        missing = [number for number in acknowledged if number not in there]
        last.counts.duplicated += log.duplicated
        last.counts.out_of_order += sum(one > other for one, other in pairwise(places))
        self.copies += len(log) - len(there)
        if not last.phase.is_data_lost:
            for number in missing:
                self.rows[evidence.phases[room, number]].never_stored += 1
            return log
        begin = min(there, default=1 << 60)
        late = sum(number > begin for number in missing)
        last.never_stored += late
        self.gone += len(missing) - late
        rooms = (client.ledger.rooms.get(room) for client in crowd.clients)
        heard = {key for each in rooms if each is not None for key in each.keys}
        gone = {key_of(number, 1) for number in missing} | {key for key in heard if key not in log.place}
        return Log([*sorted(gone), *keys])

    def _count_returns(self, crowd: Crowd) -> None:
        self.came_back = Counter(client.kind for row in self.rows for client in row.phase.returned)
        self.kept_sessions.clear()
        for client in crowd.clients:
            for name in ("present", "absent", "restored"):
                self.kept_sessions[f"{client.kind}: {name}"] += client.visitor.memory.get(name, 0)
        self.problems |= crowd.problems

    def __str__(self) -> str:
        lacking = sum(row.counts.lacking for row in self.rows)
        lines = [
            HEAD,
            *map(str, self.rows),
            "",
            f"published {self.published:,}, of which {self.unanswered} posts got no answer; heard {self.heard:,}",
            f"taken twice by the broker from devices that got no acknowledgement: {self.copies}",
            f"acknowledged and gone with Redis' data: {self.gone}; not told to clients that were told so: {lacking}",
            f"came back, by transport: {_shown(self.came_back)}",
            f"sessions that were kept: {_shown(self.kept_sessions)}",
            f"missed while away by clients without a cursor: {_shown(self.unaided)}",
            f"problems: {_shown(self.problems)}",
        ]
        return "\n".join(lines)


def _shown(counts: Counter[str]) -> str:
    return ", ".join(f"{name} {count}" for name, count in sorted(counts.items()) if count) or "none"
