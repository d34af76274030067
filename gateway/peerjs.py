"""From what is configured of PeerJS to what its bridge takes."""

from bridges.peerjs import PeerJsOptions
from bridges.peerjs_ice import IceServer
from bridges.peerjs_switchboard import SwitchboardBounds
from gateway.config.peerjs import IceServerSettings, PeerJsSettings

__all__ = ["peerjs_options"]


def peerjs_options(settings: PeerJsSettings) -> PeerJsOptions | None:
    """What the bridge takes; None if it isn't to be."""
    if not settings.enabled:
        return None
    bounds = SwitchboardBounds(
        settings.peers_per_room, settings.expire_seconds, settings.queue_messages, settings.queue_bytes
    )
    servers = tuple(_ice_server(server) for server in settings.ice_servers)
    return PeerJsOptions(settings.rooms, settings.ids, settings.alive_seconds, bounds, servers, settings.turn_seconds)


def _ice_server(server: IceServerSettings) -> IceServer:
    credential = None if server.credential is None else server.credential.get_secret_value()
    secret = None if server.secret_file is None else server.secret_file.password.get_secret_value()
    return IceServer(server.urls, server.username, credential, secret, server.users_only)
