"""No version of a dependency that is installed, or that may be, has a vulnerability that is known."""

from importlib.metadata import version

from hypothesis import given
from hypothesis import strategies as st
from packaging.utils import canonicalize_name
from packaging.version import Version

from tests.security.advisories import Advisories, Advisory, closure, requirements


def test_of_every_dependency_it_is_known_what_is_wrong_with_it() -> None:
    assert closure("tidegate") <= Advisories.load().packages, "see tests/security/advisories.py"


def test_no_installed_dependency_has_a_known_vulnerability() -> None:
    known = Advisories.load()
    found = {name: known.of(name, Version(version(name))) for name in closure("tidegate")}
    assert {name: vulnerabilities for name, vulnerabilities in found.items() if vulnerabilities} == {}


def test_no_version_that_the_lower_bounds_allow_has_a_known_vulnerability() -> None:
    known = Advisories.load()
    for requirement in requirements("tidegate"):
        (bound,) = requirement.specifier
        assert bound.operator == ">=", requirement
        name = canonicalize_name(requirement.name)
        for advisory in known.advisories:
            if advisory.package == name:
                assert not any(advisory.affects(each) for each in versions_from(Version(bound.version), advisory))


def versions_from(least: Version, advisory: Advisory) -> list[Version]:
    """The versions from a bound on at which an advisory may say something else than before."""
    return [least, *(at for _, text in advisory.events if (at := Version(text)) > least)]


def test_a_vulnerable_version_is_found() -> None:
    known = Advisories.load()
    assert known.of("pyyaml", Version("5.3.1")) == ["PYSEC-2021-142"]
    assert known.of("pyyaml", Version("5.4")) == []


@given(st.integers(0, 9), st.integers(0, 9), st.integers(0, 9))
def test_a_vulnerability_reaches_from_where_it_came_to_where_it_was_mended(came: int, mended: int, asked: int) -> None:
    advisory = Advisory("x", "p", (("introduced", f"{came}"), ("fixed", f"{mended}")))
    last = Advisory("x", "p", (("introduced", f"{came}"), ("last_affected", f"{mended}")))
    assert advisory.affects(Version(f"{asked}")) == (came <= asked < mended)
    assert last.affects(Version(f"{asked}")) == (came <= asked <= mended)
