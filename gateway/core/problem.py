"""Errors as problem details (RFC 9457): what all bridges that speak HTTP answer."""

import math

import orjson

from gateway.core.cookies import CLEARED
from gateway.core.errors import MethodNotAllowed, TidegateError, Unauthenticated
from gateway.core.login_errors import StaleCookie

__all__ = ["problem"]


def problem(error: TidegateError, **more: object) -> tuple[int, list[tuple[bytes, bytes]], bytes]:
    """Status, headers and body of the response to a request that met `error`; `more` are members besides."""
    details: dict[str, object] = {
        "type": "about:blank",
        "title": error.code.replace("_", " ").capitalize(),
        "status": error.http_status,
        "detail": error.message,
        "code": error.code,
        **more,
    }
    headers = [(b"content-type", b"application/problem+json"), (b"cache-control", b"no-store")]
    if error.retry_after_seconds is not None:
        details["retry_after_seconds"] = error.retry_after_seconds
        headers.append((b"retry-after", str(math.ceil(error.retry_after_seconds)).encode()))
    if isinstance(error, Unauthenticated):
        headers.append((b"www-authenticate", b"Bearer"))  # RFC 9110 §15.5.2
    if isinstance(error, StaleCookie):
        headers += CLEARED
    if isinstance(error, MethodNotAllowed):
        headers.append((b"allow", ", ".join(error.allowed).encode()))
    body = orjson.dumps(details)
    headers.append((b"content-length", str(len(body)).encode()))
    return error.http_status, headers, body
