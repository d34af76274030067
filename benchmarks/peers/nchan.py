"""nchan, nginx's module: subscribers over WebSocket or Server-Sent Events, publishers over HTTP."""

import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from benchmarks.generator import Absent, Step
from benchmarks.peers.peer import Peer, Started, Transport, Unfit, debian_version
from benchmarks.peers.speech import http_post, upgrade
from tests.real import Mosquitto, Running, free_port, listens, wait_until

__all__ = ["NchanPeer"]

MODULE: Final = Path("/usr/lib/nginx/modules/ngx_nchan_module.so")
LONGEST_IDS: Final = 1024
"""Bytes of the ids of all channels that one subscriber has."""
CONFIG: Final = """\
daemon off; master_process on; worker_processes 1; pid {folder}/nginx.pid; error_log {folder}/error.log;
worker_rlimit_nofile 20000;
load_module {module};
events {{ worker_connections 15000; }}
http {{
  access_log off; client_body_temp_path {folder}; proxy_temp_path {folder}; fastcgi_temp_path {folder};
  uwsgi_temp_path {folder}; scgi_temp_path {folder}; keepalive_requests 100000000; large_client_header_buffers 4 32k;
  nchan_shared_memory_size 128M;
  server {{
    listen 127.0.0.1:{port} backlog=2048;
    location = /sub {{
      nchan_subscriber websocket eventsource; nchan_channel_id $arg_id; nchan_channel_id_split_delimiter ",";
      nchan_subscriber_first_message newest;
    }}
    location = /pub {{ nchan_publisher; nchan_channel_id $arg_id; nchan_message_buffer_length 1; }}
  }}
}}
"""


class NchanPeer(Peer):
    """Topics are channels; several of them are multiplexed."""

    product = "nchan"

    def __init__(self, transport: Transport = "WebSocket") -> None:
        self.transport = transport

    def version(self) -> str:
        """Its version."""
        if not MODULE.exists():
            raise Absent("expected Debian's package libnginx-mod-nchan")
        return debian_version("libnginx-mod-nchan")

    @contextmanager
    def started(self, folder: Path, broker: Mosquitto) -> Iterator[Started]:  # noqa: ARG002
        """Start nginx with it."""
        own, port = folder / "nchan", free_port()
        own.mkdir()
        (own / "nginx.conf").write_text(CONFIG.format(folder=own, port=port, module=MODULE))
        command: list[str | Path] = ["/usr/sbin/nginx", "-c", own / "nginx.conf", "-p", own, "-g", "user root;"]
        with Running(command, own / "log") as nginx:
            wait_until(lambda: listens(port), "nginx listens")
            yield Started((nginx,), port, port)

    def subscribe(self, topics: Sequence[str]) -> list[Step]:
        """Subscribe to channels."""
        ids = ",".join(map(_channel, topics))
        if len(ids) > LONGEST_IDS:
            raise Unfit(f"the ids of one subscriber's channels have at most {LONGEST_IDS} bytes")
        path = f"/sub?id={ids}"
        if self.transport == "WebSocket":
            return upgrade(path)
        head = f"GET {path} HTTP/1.1\r\nHost: 127.0.0.1\r\nAccept: text/event-stream\r\n\r\n"
        return [("send", head.encode()), ("await", b" 200 OK"), ("await", b"\r\n\r\n")]

    def message(self, topic: str, payload: bytes, qos: int, number: int) -> bytes:  # noqa: ARG002
        """A POST, the next one without waiting for the answer."""
        if qos:
            raise Unfit("it takes no MQTT")
        return http_post(f"/pub?id={_channel(topic)}", payload)


def _channel(topic: str) -> str:
    """As short as can be, as there is a limit: `3.1` of `sensors/bench/device-3/value-1`."""
    return ".".join(re.findall(r"\d+", topic)) or "all"
