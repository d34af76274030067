"""Brokers as the configuration names them, as the upstream client takes them."""

from bridges.mqtt import UpstreamOptions
from gateway.config import UpstreamSettings

__all__ = ["upstream_options"]


def upstream_options(name: str, upstream: UpstreamSettings) -> UpstreamOptions:
    """The options of one upstream."""
    url = upstream.url
    return UpstreamOptions(
        name,
        url.host,
        url.port,
        transport="websockets" if url.websocket else "tcp",
        path=url.path,
        tls=url.encrypted,
        protocol=upstream.protocol,
        username=upstream.username,
        password=upstream.password_text(),
        ca_file=upstream.ca_file,
        certificate_file=upstream.certificate_file,
        key_file=upstream.key_file,
        insecure=upstream.insecure,
        client_id=upstream.client_id,
        keep_alive_seconds=upstream.keep_alive_seconds,
        persistent=upstream.session == "persistent",
        session_expiry_seconds=upstream.session_expiry_seconds,
        status_topic=upstream.status_topic,
        connect_timeout_seconds=upstream.connect_timeout_seconds,
        acknowledge_timeout_seconds=upstream.acknowledge_timeout_seconds,
        gather_seconds=upstream.gather_seconds,
        maximum_packet_bytes=upstream.maximum_packet_bytes,
        reconnect_min_seconds=upstream.reconnect_min_seconds,
        reconnect_max_seconds=upstream.reconnect_max_seconds,
    )
