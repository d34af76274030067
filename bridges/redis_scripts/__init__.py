"""The scripts that run inside Redis, one file for each; docs/cluster.md says what keys they use."""

from importlib.resources import files

from bridges.redis_link import Script

__all__ = ["load"]


def load(name: str) -> Script:
    """The script of this name."""
    return Script(files(__name__).joinpath(f"{name}.lua").read_text())
