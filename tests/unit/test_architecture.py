"""The layers: imports point one way only, `gateway.core` ← `bridges` ← `gateway`."""

import ast
import sys
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
ALLOWED_IN_CORE = {"orjson", "ormsgpack"}
"""What the core may import besides the standard library: how JSON is written is no framework."""
NO_IO = {"socket", "ssl", "subprocess", "http", "urllib.request", "threading", "multiprocessing", "selectors"}


def modules(folder: str) -> list[Path]:
    return sorted((ROOT / folder).rglob("*.py"))


def imports(path: Path) -> Iterator[str]:
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: a relative import"
            yield str(node.module)


def name(path: Path) -> str:
    return ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")


@cache
def third_party() -> frozenset[str]:
    return frozenset(
        module.partition(".")[0]
        for folder in ("gateway", "bridges")
        for path in modules(folder)
        for module in imports(path)
        if module.partition(".")[0] not in sys.stdlib_module_names | {"gateway", "bridges"}
    )


@pytest.mark.parametrize("path", modules("gateway/core"), ids=name)
def test_the_core_imports_no_framework_no_protocol_and_nothing_else_of_ours(path: Path) -> None:
    for module in imports(path):
        top = module.partition(".")[0]
        assert top not in third_party() - ALLOWED_IN_CORE, module
        assert module not in NO_IO, module
        if top in ("gateway", "bridges"):
            assert module.startswith("gateway.core"), module


def bridge(module: str) -> str:
    """The bridge that a module belongs to: `bridges.mqtt_client` is part of `bridges.mqtt`."""
    return module.split(".")[1].partition("_")[0]


CARRIER = "carrier"
"""What carries the protocols of several bridges, and knows none of them."""


@pytest.mark.parametrize("path", modules("bridges"), ids=name)
def test_bridges_import_the_core_and_never_one_another(path: Path) -> None:
    for module in imports(path):
        if module.startswith("gateway"):
            assert module.startswith("gateway.core"), module
        if module.startswith("bridges."):
            assert bridge(module) in (bridge(name(path)), CARRIER), module


def test_nothing_is_kept_at_the_level_of_a_module() -> None:
    for path in (*modules("gateway"), *modules("bridges")):
        for node in ast.parse(path.read_text()).body:
            if isinstance(node, ast.Assign):
                value, target = node.value, ast.unparse(node.targets[0])
            elif isinstance(node, ast.AnnAssign) and node.value is not None:
                value, target = node.value, ast.unparse(node.target)
            else:
                continue
            if isinstance(value, (ast.Dict, ast.List, ast.Set, ast.DictComp, ast.ListComp, ast.SetComp)):
                assert target.strip("_").isupper() or target == "__all__", f"{path}: {target} could be changed"
