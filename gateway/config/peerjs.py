"""What can be configured of PeerJS signalling, and of the STUN and TURN servers that its clients are told of."""

from typing import Annotated, Literal, Self, TypeAlias

from pydantic import Field, model_validator

from gateway.config import values
from gateway.config.section import Section

__all__ = ["IceServerSettings", "PeerJsSettings"]

IceUrl: TypeAlias = Annotated[
    str,
    Field(pattern=r"\A(stuns?:[^\s?@/]+|turns?:[^\s?@/]+(\?transport=(udp|tcp))?)\z"),
    values.Expected("stun:, stuns:, turn: or turns: and a host, such as turn:turn.example:3478?transport=udp"),
]
PeerIds: TypeAlias = Annotated[Literal["any", "user"], values.Expected("any or user")]


class IceServerSettings(Section):
    """A STUN or TURN server."""

    urls: tuple[IceUrl, ...] = Field(examples=[["turn:turn.example:3478"]])
    """Its addresses: a list such as `[stun:stun.example:3478]`."""
    username: values.Text | None = None
    """The user name, if it is always the same."""
    credential: values.Password | None = None
    """The password that goes with it: every client is told it."""
    secret_file: values.SecretFromFile | None = None
    """A file with the secret of coturn's `static-auth-secret`; clients are told names and passwords made of it."""
    users_only: values.Flag = False
    """Tell only clients that have a user name of it."""

    @model_validator(mode="after")
    def _check_credentials(self) -> Self:
        if not self.urls:
            raise ValueError("urls: expected at least one")
        if self.secret_file is not None and not self.secret_file.password.get_secret_value():
            raise ValueError("secret_file: expected a file with a secret, found an empty one")
        given = self.username is not None and self.credential is not None
        if self.secret_file is not None and (self.username is not None or self.credential is not None):
            raise ValueError("expected either `secret_file`, or `username` and `credential`, found both")
        if any(url.startswith("turn") for url in self.urls) and not given and self.secret_file is None:
            raise ValueError("expected `secret_file`, or `username` and `credential`, for a TURN server")
        return self


class PeerJsSettings(Section):
    """Signalling for WebRTC under `/peerjs`, for unchanged PeerJS clients; see docs/peerjs.md."""

    enabled: values.Flag = True
    """Whether it is served, in all namespaces."""
    rooms: tuple[values.RoomFilter, ...] = ("peerjs",)
    """The rooms, or filters over rooms, that a client's `key` may name."""
    ids: PeerIds = "any"
    """`user`: a client needs a user name, and its id is that, or begins with it and `-`, `_` or a space."""
    peers_per_room: values.Count = 1000
    """Clients in one room."""
    expire_seconds: values.Seconds = 5.0
    """How long a call waits for a peer that is about to come."""
    queue_messages: values.Count = 100
    """How many messages of one client may wait so."""
    queue_bytes: values.Bytes = 256 * 1024
    """How large they may be together."""
    alive_seconds: values.Seconds = 90.0
    """How long a client may say nothing, not even `HEARTBEAT`, before it is disconnected."""
    turn_seconds: values.Seconds = 43_200
    """How long a name and password for TURN hold that are made of a `secret_file`."""
    ice_servers: tuple[IceServerSettings, ...] = ()
    """STUN and TURN servers, which `GET /peerjs/ice` tells clients: a list."""
