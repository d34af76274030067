"""Known vulnerabilities of what the gateway depends on, checked without a network.

`advisories.json` is an extract of the Python Packaging Advisory Database (https://github.com/pypa/advisory-database, CC
BY 4.0). `python -m tests.security.advisories FOLDER` makes it anew from a checkout of that.
"""

import json
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from importlib.metadata import requires
from pathlib import Path
from typing import Any, Final, Self

import yaml
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version

EXTRACT: Final = Path(__file__).with_name("advisories.json")


@dataclass(frozen=True)
class Advisory:
    """One vulnerability of a package, in the words of OSV (https://ossf.github.io/osv-schema/)."""

    id: str
    package: str
    events: tuple[tuple[str, str], ...]
    """`introduced`, `fixed` or `last_affected`, and the version, in the order of the versions."""

    def affects(self, version: Version) -> bool:
        """Whether a version has it."""
        affected = False
        for kind, text in self.events:
            at = Version(text)
            match kind:
                case "introduced" if version >= at:
                    affected = True
                case "fixed" if version >= at:
                    affected = False
                case "last_affected" if version > at:
                    affected = False
        return affected


@dataclass(frozen=True)
class Advisories:
    """What is known, until when, and of which packages it was asked."""

    until: str
    packages: frozenset[str]
    advisories: tuple[Advisory, ...]

    @classmethod
    def load(cls) -> Self:
        read = json.loads(EXTRACT.read_text())
        found = tuple(
            Advisory(entry["id"], entry["package"], tuple(map(tuple, entry["events"]))) for entry in read["advisories"]
        )
        return cls(read["until"], frozenset(read["packages"]), found)

    def of(self, package: str, version: Version) -> list[str]:
        """The vulnerabilities of one version of a package."""
        return [each.id for each in self.advisories if each.package == package and each.affects(version)]


def requirements(distribution: str, extras: frozenset[str] = frozenset()) -> Iterator[Requirement]:
    """What an installed distribution needs at run time, here, with these of its extras."""
    for text in requires(distribution) or ():
        requirement = Requirement(text)
        marker = requirement.marker
        if marker is None or any(marker.evaluate({"extra": extra}) for extra in ("", *extras)):
            yield requirement


def closure(distribution: str) -> frozenset[str]:
    """The names of all that a distribution needs at run time, and of what that needs."""
    found: set[str] = set()
    waiting = list(requirements(distribution))
    while waiting:
        requirement = waiting.pop()
        name = canonicalize_name(requirement.name)
        if name not in found or requirement.extras:
            found.add(name)
            waiting += [each for each in requirements(name, frozenset(requirement.extras)) if each.name not in found]
    return frozenset(found)


def read(folder: Path, package: str) -> Iterator[dict[str, Any]]:
    """The database's entries for a package."""
    for path in sorted((folder / "vulns" / package).glob("*.yaml")):
        entry = yaml.safe_load(path.read_text())
        for affected in [] if "withdrawn" in entry else entry["affected"]:
            for span in affected.get("ranges", ()):
                if span["type"] == "ECOSYSTEM":
                    events = [pair for event in span["events"] for pair in event.items()]
                    yield {"id": entry["id"], "package": package, "events": events}


def extract(folder: Path) -> None:
    """Make the extract anew from a checkout of the database."""
    packages = sorted(closure("tidegate"))
    date = subprocess.run(
        ["git", "-C", folder, "log", "-1", "--format=%cs"], check=True, capture_output=True, text=True
    ).stdout.strip()
    entries = [entry for package in packages for entry in read(folder, package)]
    EXTRACT.write_text(json.dumps({"until": date, "packages": packages, "advisories": entries}, indent=1) + "\n")


if __name__ == "__main__":
    extract(Path(sys.argv[1]))
