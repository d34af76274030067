"""What is to be seen to before a gateway serves, and what is said if it can't."""

import errno
import logging
import resource
import socket
from typing import Final

from gateway.config import Settings
from gateway.core.origins import is_loopback
from gateway.core.plain_http import HTTP_SHARE
from gateway.server import bind

__all__ = ["StartError", "explain", "listener_of", "operators_listener_of", "prepare"]

FILES_OF_OUR_OWN: Final = 100
"""Files that are open besides clients' connections, and some to spare."""

logger = logging.getLogger(__name__)


class StartError(Exception):
    """The gateway can't start; the text says why and which setting to change."""


def prepare(settings: Settings) -> None:
    """Raise what the system allows, and warn of what is set up so that it may do harm."""
    _allow_open_files(sum(settings.core_limits(name).connections for name in settings.namespace_names()))
    _warn_of_any_host(settings)
    _warn_of_clear_passwords(settings)


def listener_of(settings: Settings, shared_port: int | None = None) -> socket.socket:
    """A socket for browsers; with a port, one of several that share it.

    Raises:
        StartError: the address can't be had.
    """
    host, port = settings.listen.host, settings.listen.port if shared_port is None else shared_port
    try:
        return bind(host, port, shared=shared_port is not None)
    except OSError as error:
        raise StartError(explain(error, "listen", host, port, "or use --port")) from None


def operators_listener_of(settings: Settings, worker: int = 0) -> socket.socket | None:
    """A socket for operators, if they have one of their own.

    Raises:
        StartError: the address can't be had.
    """
    host, port = settings.ops.host, settings.ops.port
    if port is None:
        return None
    port = port + worker if port else 0
    try:
        return bind(host, port)
    except OSError as error:
        raise StartError(explain(error, "ops", host, port, "or leave it out")) from None


def explain(error: OSError, section: str, host: str, port: int, also: str) -> str:
    """Why an address can't be had, and what to set; `section` of the configuration names it."""
    setting = f"set `{section}.port` or TIDEGATE_{section.upper()}__PORT to another, {also}"
    if error.errno == errno.EADDRINUSE:
        return f"port {port} on {host} is taken by another program: {setting}"
    if error.errno == errno.EACCES:
        return f"port {port} on {host} needs rights that this user doesn't have: {setting}"
    return f"can't listen on {host}, port {port}: {error.strerror or error}: check `{section}.host`"


def _warn_of_any_host(settings: Settings) -> None:
    """Say that pages of anybody's may act with the browsers that reach this gateway, if nothing else keeps them out."""
    if not (settings.hosts or settings.identity.is_configured or is_loopback(settings.listen.host)):
        logger.warning(
            "without `hosts` and `identity`, any page can make its name lead to %s and act here (DNS rebinding): "
            "name the gateway's own names under `hosts`",
            settings.listen.host,
        )


def _warn_of_clear_passwords(settings: Settings) -> None:
    """Say that passwords can be read on their way, as far as is known here."""
    listen = settings.listen
    safe = listen.tls_files or listen.trusted_proxies or is_loopback(listen.host)
    if settings.identity.users_file is not None and not safe:
        logger.warning("passwords may come in the clear: expected TLS, by `listen` or by one of its `trusted_proxies`")


def _allow_open_files(connections: int) -> None:
    """Raise the limit of open files as far as this user may: each connection is one."""
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    needed = HTTP_SHARE * connections + connections + FILES_OF_OUR_OWN
    if most != resource.RLIM_INFINITY and most < needed:
        logger.warning(
            "%d open files are allowed, too few for `limits.connections` (%d), with those of plain HTTP: "
            "allow %d with `ulimit -Hn`",
            most,
            connections,
            needed,
        )
