"""Errors of logins and their cookies: more of `errors`."""

from gateway.core.errors import TidegateError, Unauthenticated

__all__ = ["CsrfRefused", "LoginsBusy", "StaleCookie"]


class CsrfRefused(TidegateError):
    """A request that changes something shows the session cookie, but not its token in `X-CSRF-Token`."""

    code = "csrf_refused"
    http_status = 403


class LoginsBusy(TidegateError):
    """As many passwords wait to be checked as may; come back."""

    code = "logins_busy"
    http_status = 503
    retry = True


class StaleCookie(Unauthenticated):
    """The session cookie is none, or holds no more; the answer has the browser drop it. Told as `unauthenticated`."""
