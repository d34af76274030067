"""Where the log is kept, and what joins several gateways to one."""

from pathlib import Path
from typing import Any

from pydantic import ValidationInfo, field_validator

from gateway.config import values
from gateway.config.engine_url import RedisUrl, file_of
from gateway.config.section import Section

__all__ = ["ClusterSettings", "EngineSettings"]


class EngineSettings(Section):
    """Where the log is kept: history, last values, and what clients come back with."""

    url: values.EngineUrl = "memory:"
    """`memory:`, gone with the gateway; `sqlite:tidegate.db`, a file; `redis://host:6379`, shared by many gateways."""
    username: values.Text | None = None
    """The user name, for Redis."""
    password: values.Password | None = None
    """The password; better in a file or in the environment than here."""
    password_file: values.PasswordFromFile | None = None
    """A file with the password and nothing else; one newline at its end is left out. Instead of `password`."""
    ca_file: values.ReadableFile | None = None
    """The certificate authorities to trust (PEM) instead of the system's, for `rediss://`."""
    prefix: values.KeyPrefix = "tidegate"
    """What the names of all keys in Redis begin with."""

    @field_validator("username", "password", "password_file", "ca_file")
    @classmethod
    def _check_redis(cls, value: Any, info: ValidationInfo) -> Any:
        url = info.data.get("url", "redis")
        if value is not None and not url.startswith("redis"):
            raise ValueError(f"expected it only with a `url` of Redis, found `url: {url}`")
        if info.field_name == "password_file" and value is not None and info.data.get("password") is not None:
            raise ValueError("expected `password` or `password_file`, found both")
        if info.field_name == "ca_file" and value is not None and not url.startswith("rediss"):
            raise ValueError(f"expected it only with rediss://, found `url: {url}`")
        return value

    @property
    def path(self) -> Path | None:
        """The file, if there is one."""
        return file_of(self.url)

    @property
    def redis(self) -> RedisUrl | None:
        """Where Redis is, if that is the engine."""
        return RedisUrl.parse(self.url) if self.url.startswith("redis") else None

    def password_text(self) -> str | None:
        """The password, whichever key it was given by. The file was read when the configuration was."""
        secret = self.password_file.password if self.password_file is not None else self.password
        return None if secret is None else secret.get_secret_value()


class ClusterSettings(Section):
    """How several gateways with one Redis are one."""

    node: values.NodeName | None = None
    """The name of this gateway among them, which no other may have; by default a random one."""
    lease_seconds: values.Seconds = 5
    """How long one may be silent until it is taken for gone: others take over its upstreams, its clients have left."""
