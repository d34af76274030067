"""What came of attacks: the figures of each, and the table that shows them."""

from dataclasses import dataclass, field
from statistics import mean, median

__all__ = ["Measure", "Report", "Round"]


@dataclass(frozen=True)
class Measure:
    """One stretch of time."""

    p50_seconds: float
    p99_seconds: float
    cpu_share: float
    resident_bytes: int
    """The most that was seen."""


@dataclass
class Round:
    """One attack, with the time before and after it."""

    before: Measure
    under: Measure
    after: Measure
    control: Measure | None
    did: dict[str, int]

    @property
    def alone_p99_seconds(self) -> float:
        """Without the attack."""
        return mean((self.before.p99_seconds, self.after.p99_seconds))

    @property
    def ratio(self) -> float:
        """How many times as long the 99th percentile is."""
        return self.under.p99_seconds / self.alone_p99_seconds

    @property
    def control_ratio(self) -> float | None:
        """The same where only the machine is attacked."""
        return None if self.control is None else self.control.p99_seconds / self.alone_p99_seconds


@dataclass
class Report:
    """What came of it."""

    rounds: dict[str, list[Round]] = field(default_factory=dict)
    lost: int = 0
    gone: int = 0
    """Healthy clients whose connection ended."""
    alive: bool = False
    """Whether the gateway still runs at the end."""
    first_resident_bytes: int = 0
    last_resident_bytes: int = 0
    most_resident_bytes: int = 0

    def __str__(self) -> str:
        lines = [
            "| attack | p50 alone | p50 under | p99 alone | p99 under | ratio | control | memory before, under, after "
            "| CPU alone, under | each attacker did |",
            "|---|---|---|---|---|---|---|---|---|---|",
            *(_row(name, rounds) for name, rounds in self.rounds.items()),
            "",
            f"deliveries lost {self.lost}, healthy connections lost {self.gone}; the gateway's memory "
            f"{_mib(self.first_resident_bytes)} at the start, {_mib(self.most_resident_bytes)} at most, "
            f"{_mib(self.last_resident_bytes)} at the end",
        ]
        return "\n".join(lines)


def _row(name: str, rounds: list[Round]) -> str:
    def middle(*values: float) -> float:
        return median(values)

    control = [r.control_ratio for r in rounds if r.control_ratio is not None]
    did = {what: round(median(r.did.get(what, 0) for r in rounds)) for what in rounds[0].did}
    cells = [
        name,
        f"{middle(*(mean((r.before.p50_seconds, r.after.p50_seconds)) for r in rounds)) * 1000:.1f} ms",
        f"{middle(*(r.under.p50_seconds for r in rounds)) * 1000:.1f} ms",
        f"{middle(*(r.alone_p99_seconds for r in rounds)) * 1000:.1f} ms",
        f"{middle(*(r.under.p99_seconds for r in rounds)) * 1000:.1f} ms",
        f"{middle(*(r.ratio for r in rounds)):.1f}",
        f"{median(control):.1f}" if control else "",
        ", ".join(_mib(middle(*sizes)) for sizes in zip(*(_sizes(r) for r in rounds), strict=True)),
        f"{middle(*(r.before.cpu_share for r in rounds)):.0%}, {middle(*(r.under.cpu_share for r in rounds)):.0%}",
        ", ".join(f"{count:,} {what}" for what, count in did.items()),
    ]
    return f"| {' | '.join(cells)} |"


def _sizes(found: Round) -> tuple[int, int, int]:
    return found.before.resident_bytes, found.under.resident_bytes, found.after.resident_bytes


def _mib(size_bytes: float) -> str:
    return f"{size_bytes / 2**20:.0f} MiB"
