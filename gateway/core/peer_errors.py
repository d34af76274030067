"""Errors of peers that call one another through the gateway: more of `errors`."""

from gateway.core.errors import TidegateError

__all__ = ["IdTaken", "InvalidKey", "PeerUnavailable", "TooManyPeers"]


class InvalidKey(TidegateError):
    """A PeerJS client's `key` is no room of those that `peerjs.rooms` lists."""

    code = "invalid_key"
    http_status = 404


class PeerUnavailable(TidegateError):
    """The peer that is called didn't come within `peerjs.expire_seconds`."""

    code = "peer_unavailable"
    http_status = 404


class IdTaken(TidegateError):
    """Another PeerJS client, with another token, has this id in the room."""

    code = "id_taken"
    http_status = 409


class TooManyPeers(TidegateError):
    """More PeerJS clients in the room than `peerjs.peers_per_room`, or more waiting for a peer than is kept."""

    code = "too_many_peers"
    http_status = 503
