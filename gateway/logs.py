"""What is logged, and how: readable lines on a terminal, one JSON object a line elsewhere."""

import logging
import sys
from types import MappingProxyType
from typing import Any, Final

import structlog

__all__ = ["configure_logging"]


def _tame(logger: Any, method: str, event: structlog.typing.EventDict) -> structlog.typing.EventDict:  # noqa: ARG001
    """Escape what clients, devices and brokers could forge lines with, or steer a terminal; JSON does so by itself."""
    event["event"] = _printable(str(event["event"]))
    if "exception" in event:
        event["exception"] = "\n    ".join(map(_printable, event["exception"].split("\n")))
    return event


CHATTY: Final = MappingProxyType(
    {
        "uvicorn": logging.ERROR,  # its warnings are clients' to cause
        "mqtt": logging.WARNING,
        "asyncio": logging.WARNING,
        "httpx": logging.WARNING,  # it tells whole addresses, and some of webhooks are secret
        "httpcore": logging.WARNING,
    }
)
"""The least that is logged of some libraries."""


def _printable(text: str) -> str:
    if text.isprintable():
        return text
    return "".join(sign if sign.isprintable() else ascii(sign)[1:-1] for sign in text)


def configure_logging(level: str, style: str, *, worker: int | None = None) -> None:
    """Send the logs of all libraries and of our own to standard error.

    Args:
        level: `debug`, `info`, `warning` or `error`.
        style: `console`, `json`, or `auto`: console on a terminal, JSON elsewhere.
        worker: The number of this process, if it is one of several: each line has it.
    """

    def mark(logger: Any, method: str, event: structlog.typing.EventDict) -> structlog.typing.EventDict:  # noqa: ARG001
        event["worker"] = worker
        return event

    readable = style == "console" or (style == "auto" and sys.stderr.isatty())
    shared: list[structlog.typing.Processor] = [
        structlog.stdlib.add_log_level,
        structlog.stdlib.add_logger_name,
        structlog.processors.TimeStamper(fmt="%H:%M:%S" if readable else "iso", utc=not readable),
        *([] if worker is None else [mark]),
    ]
    renderer: structlog.typing.Processor = (
        structlog.dev.ConsoleRenderer(
            colors=sys.stderr.isatty(),
            pad_event_to=0,
            exception_formatter=structlog.dev.plain_traceback,  # the usual one shows variables, and so passwords
        )
        if readable
        else structlog.processors.JSONRenderer()
    )
    faults: list[structlog.typing.Processor] = [structlog.processors.format_exc_info]
    if readable:
        faults.append(_tame)
    handler = logging.StreamHandler()
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=shared,
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, *faults, renderer],
        )
    )
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(level.upper())
    for chatty, least in CHATTY.items():
        logging.getLogger(chatty).setLevel(max(least, root.level))
