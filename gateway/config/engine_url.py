"""Where the log is kept, as a URL: in memory, in a file, or in Redis."""

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Self

from gateway.config.problems import shown

__all__ = ["RedisUrl", "check_engine_url", "file_of"]

REDIS_PORT: Final = 6379
SENTINEL_PORT: Final = 26_379

_REDIS = re.compile(r"(?P<scheme>rediss?)(?P<sentinel>\+sentinel)?://(?P<hosts>[^/?#\s]+)(?P<path>/[^?#\s]*)?")
_HOST = re.compile(r"(?P<host>[^\s/?#@\[\]\\%:,]+|\[[0-9A-Fa-f:.]+\])(?::(?P<port>[0-9]{1,5}))?")
_SERVICE = re.compile(r"/([A-Za-z0-9_.-]+)(?:/([0-9]{1,4}))?")


@dataclass(frozen=True, slots=True)
class RedisUrl:
    """How to find a Redis: one server, any nodes of a cluster, or the sentinels that know which server it is."""

    addresses: tuple[tuple[str, int], ...]
    tls: bool
    service: str | None
    """What the sentinels call it; None if the addresses are Redis' own."""
    database: int

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read `redis://host:port/0` and its kin.

        Raises:
            ValueError: it isn't one.
        """
        if "@" in text:  # the text isn't shown, since it may hold a password
            raise ValueError("expected no user name or password in a URL: use `username` and `password_file`")
        found = _REDIS.fullmatch(text)
        hosts = [_HOST.fullmatch(each) for each in found["hosts"].split(",")] if found else []
        if found is None or not all(hosts):
            raise ValueError(f"expected such as redis://localhost:6379, found {shown(text)}")
        port = SENTINEL_PORT if found["sentinel"] else REDIS_PORT
        addresses = tuple((each["host"].strip("[]"), int(each["port"] or port)) for each in hosts if each)
        if not all(1 <= each <= 65_535 for _, each in addresses):
            raise ValueError(f"expected ports from 1 to 65535, found {shown(text)}")
        service, database = cls._path(text, found["path"] or "", sentinel=bool(found["sentinel"]))
        return cls(addresses, found["scheme"] == "rediss", service, database)

    @staticmethod
    def _path(text: str, path: str, *, sentinel: bool) -> tuple[str | None, int]:
        if sentinel:
            named = _SERVICE.fullmatch(path)
            if named is None:
                raise ValueError(
                    f"expected the name of the service, such as redis+sentinel://host:26379/main, found {shown(text)}"
                )
            return named[1], int(named[2] or 0)
        number = path.removeprefix("/")
        if number and not re.fullmatch(r"[0-9]{1,4}", number):
            raise ValueError(f"expected the number of a database after the host, or nothing, found {shown(text)}")
        return None, int(number or 0)


def check_engine_url(value: object) -> str:
    """Check an engine's URL.

    Raises:
        ValueError: it is none.
    """
    text = value if isinstance(value, str) else ""
    if text == "memory:" or (text.startswith("sqlite:") and len(text) > len("sqlite:") and "\0" not in text):
        return text
    if not text.startswith("redis"):
        usual = "`memory:`, `sqlite:` and a file's name, or `redis://` and a host"
        raise ValueError(f"expected {usual}, found {shown(value)}")
    RedisUrl.parse(text)
    return text


def file_of(url: str) -> Path | None:
    """The file of an engine's URL, if it names one."""
    scheme, _, rest = url.partition(":")
    return Path(rest) if scheme == "sqlite" else None
