"""What the comparison found, as Markdown and as JSON: medians, ratios of one run, what wasn't measured and why."""

import os
import platform
import statistics
import subprocess
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Final

from benchmarks.bench import Result, Size
from benchmarks.workloads import Workload

__all__ = ["Found", "Report", "machine", "median", "ratio"]

BUSY_SHARE: Final = 0.9
"""Of one core: a generator that is busier may be what is measured."""
LATE_SHARE: Final = 0.05
"""Of its publications: a generator that is late more often may be what is measured."""
OTHERS_SHARE: Final = 0.25
"""Of one core: other programs that use more disturb what is measured."""
FULL_SHARE: Final = 0.9
"""Of all cores: where more is used, there is nothing left."""
WAITING_SHARE: Final = 0.5
"""Of the time: where some process waits for a core for longer, there are too few of them."""
BUSY: Final = {
    r"\*": "The load generator had more than 90 % of a core to do, or was late: it may be what is measured.",
    "†": "Other programs used more than a quarter of a core meanwhile.",
    "‡": "All cores were in use, or processes waited for one half of the time: the machine may be what is measured.",
}
"""What is wrong with a row, by its mark."""


def machine() -> dict[str, Any]:
    """Where all this is measured, and how busy that is already."""
    memory_bytes = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    return {
        "time": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        "processor": _processor(),
        "cores": os.cpu_count(),
        "memory_gib": round(memory_bytes / 2**30, 1),
        "kernel": f"{platform.system()} {platform.release()}",
        "python": platform.python_version(),
        "commit": _commit(),
        "load_average": round(os.getloadavg()[0], 2),
    }


def _processor() -> str:
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        name, _, value = line.partition(":")
        if name.strip() == "model name":
            return value.strip()
    return platform.machine()


def _commit() -> str | None:
    asked = ["git", "describe", "--always", "--dirty"]
    try:
        done = subprocess.run(asked, cwd=Path(__file__).parent, capture_output=True, text=True, check=False)  # noqa: S603
    except FileNotFoundError:
        return None
    return done.stdout.strip() or None


def median(results: Sequence[Result]) -> Result:
    """Of each figure that all rounds have: one that found nothing has fewer."""
    keys = [key for key in results[0] if all(key in result for result in results)]
    return {key: statistics.median(result[key] for result in results) for key in keys}


def ratio(workload: Workload[Any], ours: Sequence[Result], theirs: Sequence[Result]) -> float | None:
    """How many times as good the gateway is as another, the median of the rounds that both took."""
    pairs = [(one[workload.key], other[workload.key]) for one, other in zip(ours, theirs, strict=False)]
    if workload.less_is_better:
        pairs = [(other, one) for one, other in pairs]
    quotients = [one / other for one, other in pairs if other > 0]
    return statistics.median(quotients) if quotients else None


@dataclass
class Found:
    """What one server did under one workload."""

    rounds: list[Result] = field(default_factory=list)
    problem: str | None = None
    """Why there are fewer rounds than were asked for."""


@dataclass
class Report:
    """Everything that a run found."""

    machine: Mapping[str, Any]
    versions: Mapping[str, str]
    absent: Mapping[str, str]
    rounds: int
    size: Size
    compared_with: Mapping[str, str]
    """The row that a row is compared with, both by name."""
    found: dict[str, dict[str, Found]] = field(default_factory=dict)
    """By the workload's name, then by the server's."""

    alike: str = "over the same transport"
    """What rows that are compared have in common."""

    def head(self) -> str:
        """The machine and the versions, as Markdown."""
        lines = [", ".join(f"{name.replace('_', ' ')} {value}" for name, value in self.machine.items()), ""]
        lines += [f"- {name}: {version}" for name, version in self.versions.items()]
        lines += [f"- {name}: not on this machine, {why}" for name, why in self.absent.items()]
        said = "one round" if self.rounds == 1 else f"medians of {self.rounds} rounds"
        lines += ["", f"Each load takes {self.size.seconds:g} s, with {self.size.share:.0%} of the clients."]
        lines += [f"Figures are {said}; × says how many times as good Tidegate is, {self.alike}."]
        return "\n".join(lines)

    def table(self, workload: Workload[Any]) -> str:
        """One workload, as Markdown."""
        found = self.found[workload.name]
        columns = (workload.key, *workload.columns)
        head = ["server", "×", *(column.replace("_", " ") for column in columns)]
        lines = [f"### {workload.title}", "", f"| {' | '.join(head)} |", f"|{'---|' * len(head)}"]
        used: set[str] = set()
        for name, each in found.items():
            if each.rounds:
                row = median(each.rounds)
                marks = _marks(row)
                used.update(marks)
                compared = self._ratio(workload, name)
                cells = [" ".join([name, *marks]), "" if compared is None else f"{compared:.2f}"]
                cells += [_figure(row.get(column)) for column in columns]
                lines.append(f"| {' | '.join(cells)} |")
        notes = [f"{mark} {meaning}" for mark, meaning in BUSY.items() if mark in used]
        notes += [f"{name}: {each.problem}." for name, each in found.items() if each.problem is not None]
        return "\n".join([*lines, *([""] if notes else []), *(f"- {note}" for note in notes)])

    def _ratio(self, workload: Workload[Any], name: str) -> float | None:
        reference = self.found[workload.name].get(self.compared_with.get(name, ""))
        if reference is None:
            return None
        return ratio(workload, reference.rounds, self.found[workload.name][name].rounds)

    def as_json(self) -> dict[str, Any]:
        """All figures of all rounds."""
        return {
            "machine": self.machine,
            "versions": self.versions,
            "absent": self.absent,
            "rounds": self.rounds,
            "size": asdict(self.size),
            "workloads": {name: self._workload(name) for name in self.found},
        }

    def _workload(self, name: str) -> dict[str, Any]:
        return {
            server: {
                "rounds": each.rounds,
                "median": median(each.rounds) if each.rounds else None,
                "problem": each.problem,
            }
            for server, each in self.found[name].items()
        }


def _marks(row: Result) -> list[str]:
    busy = row.get("generator_cpu_share", 0) > BUSY_SHARE or row.get("generator_late_share", 0) > LATE_SHARE
    disturbed = row.get("others_cpu_share", 0) > OTHERS_SHARE
    full = row.get("machine_cpu_share", 0) > FULL_SHARE or row.get("waiting_share", 0) > WAITING_SHARE
    return [mark for mark, holds in zip(BUSY, (busy, disturbed, full), strict=True) if holds]


def _figure(value: float | None) -> str:
    if value is None:
        return ""
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.3g}"
