"""The gateway under a stock uvicorn: no open connections, only ASGI's `send`. Stands in for any ASGI server."""

import asyncio
import sys
from pathlib import Path

import uvicorn

from gateway.app import create_app
from gateway.config import load_settings
from gateway.server import bind


async def main() -> None:
    settings = load_settings(Path(sys.argv[1]), environment={})
    app = create_app(settings)
    config = uvicorn.Config(
        app,
        http="h11",
        ws="websockets-sansio",
        ws_max_size=app.state.gateway.largest_message_bytes,
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
