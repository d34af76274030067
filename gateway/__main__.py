"""The entry point: minds signals before anything else, because what is imported next takes a while."""

import os
import signal
import sys
from types import FrameType
from typing import Final

__all__ = ["main"]

ENDLESS: Final = ("run", "demo", "sub")
"""Commands that go on until they are told to end; to end the others is to break them off."""


def main() -> None:
    """Run the command line."""
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, _leave)
    from gateway import cli

    cli.main()


def _leave(number: int, frame: FrameType | None) -> None:  # noqa: ARG001 - a signal handler
    """End at once: nothing has been started yet that would have to be ended."""
    os._exit(0 if sys.argv[1:2] and sys.argv[1] in ENDLESS else 128 + number)


if __name__ == "__main__":
    main()
