"""The gateway under a stock uvicorn: no open connections, only ASGI's `send`. Stands in for any ASGI server."""

import asyncio
import signal
import sys
from functools import partial
from pathlib import Path

import uvicorn

from gateway.app import create_app
from gateway.config import load_settings
from gateway.core.clock import SystemClock
from gateway.hangup import on_hangup
from gateway.logs import configure_logging
from gateway.reload import Reload
from gateway.server import bind


async def main() -> None:
    path = Path(sys.argv[1])
    load = partial(load_settings, path, environment={})
    settings = load()
    configure_logging(settings.logging.level, settings.logging.format)
    app = create_app(settings)
    gateway = app.state.gateway
    reload = Reload(path, load, settings, gateway.reconfigure, gateway.reloads, SystemClock())
    on_hangup(reload.ask, partial(signal.raise_signal, signal.SIGTERM))
    gateway.supervisor.start("configuration watch", reload.run)
    config = uvicorn.Config(
        app,
        http="h11",
        ws="websockets-sansio",
        ws_max_size=gateway.largest_message_bytes,
        ws_ping_interval=settings.heartbeat.interval_seconds,
        ws_ping_timeout=settings.heartbeat.timeout_seconds,
        timeout_graceful_shutdown=1,
        log_level="warning",
    )
    listener = bind(settings.listen.host, settings.listen.port)
    print(f"  dashboard  http://localhost:{listener.getsockname()[1]}\nCtrl-C ends it.", flush=True)
    await uvicorn.Server(config).serve([listener])


if __name__ == "__main__":
    asyncio.run(main())
