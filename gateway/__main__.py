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
    _open_standard_streams()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, _leave)
    if sys.argv[1:2] == ["run"]:
        signal.signal(signal.SIGHUP, _wait)
    from gateway import cli

    cli.main()


def _open_standard_streams() -> None:
    """Lead nowhere what the shell closed (`>&-`): else the next file to be opened would be taken for it."""
    for descriptor, name, mode in ((0, "stdin", "r"), (1, "stdout", "w"), (2, "stderr", "w")):
        try:
            os.fstat(descriptor)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # takes the lowest that is free, which is this one
            setattr(sys, name, open(descriptor, mode, closefd=False))  # noqa: SIM115 - for as long as the process


def _leave(number: int, frame: FrameType | None) -> None:  # noqa: ARG001 - a signal handler
    """End at once: nothing has been started yet that would have to be ended."""
    os._exit(0 if sys.argv[1:2] and sys.argv[1] in ENDLESS else 128 + number)


def _wait(number: int, frame: FrameType | None) -> None:
    """Do nothing: the configuration is being read in any case. To ignore the signal would be handed on to children."""


if __name__ == "__main__":
    main()
