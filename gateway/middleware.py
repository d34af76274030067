"""What stands in front of all endpoints."""

from collections.abc import Callable

from starlette.middleware import Middleware

from gateway.config import ListenSettings
from gateway.core.addresses import TrustedProxies
from gateway.core.errors import TidegateError
from gateway.core.offenders import Offenders
from gateway.core.origins import Origins
from gateway.core.plain_http import HttpRequests
from gateway.cors import Cors
from gateway.entrance import Entrance, HeadBounds
from gateway.forwarded import Forwarded
from gateway.hosts import HostCheck
from gateway.response_headers import ResponseHeaders, headers_for

__all__ = ["middleware"]


def middleware(
    listen: ListenSettings,
    origins: Origins,
    head: HeadBounds,
    offenders: Offenders,
    requests: HttpRequests,
    refused: Callable[[TidegateError, str | None], None],
) -> list[Middleware]:
    """All of it, the outermost first; `refused` is told of what is turned away, and of the address."""
    found = [Middleware(ResponseHeaders, headers=headers_for(listen))]
    if listen.trusted_proxies:
        standard = listen.proxy_header == "forwarded"
        found.append(Middleware(Forwarded, proxies=TrustedProxies(listen.trusted_proxies), standard=standard))
    return [
        *found,
        Middleware(Entrance, bounds=head, offenders=offenders, requests=requests, refused=refused),
        Middleware(HostCheck, origins=origins, refused=lambda error: refused(error, None)),
        Middleware(Cors, origins=origins),
    ]
