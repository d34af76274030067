"""How to reach an MQTT broker: the keys of one upstream, and which of them go together."""

from typing import Any

from pydantic import Field, ValidationInfo, field_validator

from gateway.config import values
from gateway.config.addresses import BrokerAddress
from gateway.config.section import Section

__all__ = ["UpstreamSettings"]


class UpstreamSettings(Section):
    """An MQTT broker that the gateway is a client of, by a name of your choice. If any is named, `broker` is unused."""

    url: BrokerAddress = Field(examples=["mqtt://localhost:1883"])
    """`mqtt://`, `mqtts://`, `ws://` or `wss://`, host, port (1883, 8883, 80, 443), for WebSocket a path (`/mqtt`)."""
    protocol: values.Protocol = "5"
    """The version of MQTT: `3.1.1` or `5`."""
    username: values.Text | None = None
    """The user name."""
    password: values.Password | None = None
    """The password; better in a file or in the environment than here."""
    password_file: values.PasswordFromFile | None = None
    """A file with the password and nothing else; one newline at its end is left out. Instead of `password`."""
    ca_file: values.ReadableFile | None = None
    """The certificate authorities to trust (PEM) instead of the system's."""
    key_file: values.ReadableFile | None = None
    """The key of the gateway's certificate (PEM)."""
    certificate_file: values.ReadableFile | None = None
    """The certificate that the gateway shows to the broker (PEM); needs `key_file`."""
    insecure: values.Flag = False
    """Accept any certificate of the broker, for trials: nobody knows then who answers."""
    client_id: values.Text | None = None
    """The client id; by default a random one, in a cluster `engine.prefix` and the upstream's name."""
    ingest: values.Ingest = "owned"
    """In a cluster, who receives: `owned`, one gateway at a time; `shared`, all, each a part (MQTT 5, `$share`)."""
    keep_alive_seconds: values.KeepAliveSeconds = 30
    """How long the connection may be silent before the gateway asks for a sign of life."""
    session: values.SessionKind | None = None
    """`persistent`: the broker keeps QoS 1 and 2 messages meanwhile, by the `client_id`; `clean`: it doesn't."""
    session_expiry_seconds: values.ExpirySeconds = 3600
    """How long the broker keeps a persistent session (MQTT 5 only)."""
    status_topic: values.StatusTopic | None = "tidegate/status"
    """Where `online` and, as the last will, `offline` are retained; `null` for nowhere."""
    connect_timeout_seconds: values.Seconds = 10
    """How long the broker may take to accept the connection."""
    acknowledge_timeout_seconds: values.Seconds = 8
    """How long the broker may take to acknowledge a message before who sent it is told `upstream_timeout`."""
    gather_seconds: values.GatherSeconds = 0.005
    """How long a message may wait for others when they come fast, to be delivered with them; 0 for not at all."""
    maximum_packet_bytes: values.PacketBytes = 16 * 1024 * 1024
    """The largest MQTT packet, in both directions; the broker is asked not to send larger ones (MQTT 5)."""
    reconnect_min_seconds: values.Seconds = 0.5
    """The first pause before connecting again; each further one is longer."""
    reconnect_max_seconds: values.Seconds = 30
    """The longest pause before connecting again."""

    @field_validator("password", "password_file")
    @classmethod
    def _check_password(cls, value: Any, info: ValidationInfo) -> Any:
        if value is None:
            return value
        if info.field_name == "password_file" and info.data.get("password") is not None:
            raise ValueError("expected `password` or `password_file`, found both")
        if info.data.get("username", "") is None:
            raise ValueError("expected `username` beside it: brokers take no password alone")
        return value

    @field_validator("ca_file", "certificate_file", "insecure")
    @classmethod
    def _check_encrypted(cls, value: Any, info: ValidationInfo) -> Any:
        url = info.data.get("url")
        if value and url is not None and not url.encrypted:
            raise ValueError(f"expected it only with mqtts:// or wss://, found `url: {url}`")
        return value

    @field_validator("certificate_file")
    @classmethod
    def _check_certificate_and_key(cls, value: Any, info: ValidationInfo) -> Any:
        if "key_file" in info.data and (value is None) != (info.data["key_file"] is None):
            raise ValueError("expected `certificate_file` and `key_file` together, found one of them")
        return value

    @field_validator("ingest")
    @classmethod
    def _check_ingest(cls, value: str, info: ValidationInfo) -> str:
        if value == "shared" and info.data.get("protocol") == "3.1.1":
            raise ValueError("expected `protocol: 5` beside `shared`: MQTT 3.1.1 has no shared subscriptions")
        return value

    @field_validator("reconnect_max_seconds")
    @classmethod
    def _check_reconnect(cls, value: float, info: ValidationInfo) -> float:
        least = info.data.get("reconnect_min_seconds", 0)
        if value < least:
            raise ValueError(f"expected at least `reconnect_min_seconds` ({least:g}), found {value:g}")
        return value

    def password_text(self) -> str | None:
        """The password, whichever key it was given by. The file was read when the configuration was."""
        secret = self.password_file.password if self.password_file is not None else self.password
        return None if secret is None else secret.get_secret_value()
