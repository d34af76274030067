"""What is logged, and how: readable lines on a terminal, one JSON object a line elsewhere."""

import logging
import sys

import structlog

__all__ = ["configure_logging"]


def configure_logging(level: str, style: str) -> None:
    """Send the logs of all libraries and of our own to standard error.

    Args:
        level: `debug`, `info`, `warning` or `error`.
        style: `console`, `json`, or `auto`: console on a terminal, JSON elsewhere.
    """
    readable = style == "console" or (style == "auto" and sys.stderr.isatty())
    shared: list[structlog.typing.Processor] = [
        structlog.stdlib.add_log_level,
        structlog.stdlib.add_logger_name,
        structlog.processors.TimeStamper(fmt="%H:%M:%S" if readable else "iso", utc=not readable),
    ]
    renderer: structlog.typing.Processor = (
        structlog.dev.ConsoleRenderer(colors=sys.stderr.isatty(), pad_event_to=0)
        if readable
        else structlog.processors.JSONRenderer()
    )
    faults = [] if readable else [structlog.processors.format_exc_info]
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
    for chatty, least in (("uvicorn", logging.ERROR), ("mqtt", logging.WARNING), ("asyncio", logging.WARNING)):
        logging.getLogger(chatty).setLevel(max(least, root.level))  # uvicorn's warnings are clients' to cause
