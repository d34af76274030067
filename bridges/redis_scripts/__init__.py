"""The scripts that run inside Redis, one file for each; docs/cluster.md says what keys they use."""

from importlib.resources import files

from bridges.redis_link import Script

__all__ = ["load"]


def load(*names: str) -> Script:
    """The script of this name; of several, the earlier ones are what it begins with."""
    return Script("".join(files(__name__).joinpath(f"{name}.lua").read_text() for name in names))
