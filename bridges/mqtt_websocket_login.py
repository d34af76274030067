"""Who a client of MQTT is: by what its handshake showed, or by the user name and password in CONNECT (MQTT 5 §3.1.3.5).

A password is a token, as anywhere else, whatever the user name; or it is the password of a user of `users_file`. Where
nobody has to show anything, and no credentials are known, what is shown is left unread: many clients send something.
"""

from bridges.mqtt_websocket_connect import Connect
from gateway.core.admission import Admission, Caller
from gateway.core.authentication import Authentication, KeyUnknown
from gateway.core.counters import Counters
from gateway.core.errors import Forbidden, Unauthenticated
from gateway.core.identity import Identity

__all__ = ["identify", "shows_something"]


def shows_something(connect: Connect, authentication: Authentication) -> bool:
    """Whether a CONNECT has credentials that are to be looked at."""
    knows = authentication.knows_tokens or authentication.logins is not None
    return knows and (connect.password is not None or connect.username is not None)


async def identify(
    connect: Connect, shown: Identity | None, caller: Caller, admission: Admission, counters: Counters
) -> Identity:
    """Who a client is that shows credentials in CONNECT, and showed `shown` in its handshake.

    Raises:
        Unauthenticated: they are wrong, or incomplete.
        Forbidden: they are somebody else's than those of the handshake.
        RateLimited, LoginsBusy: too many were tried.
    """
    if connect.password is None:
        found = _named(connect.username or "", shown)
    else:
        found = await _by_password(connect, caller, admission, counters)
    if shown is not None and shown.user is not None and found.user != shown.user:
        raise Forbidden(f"the handshake was {shown.user!r}'s: expected the same user's credentials in CONNECT")
    return found


def _named(username: str, shown: Identity | None) -> Identity:
    """Somebody who names a user and shows no password: that user, as the handshake has it, or anybody."""
    if shown is None or (shown.user is not None and shown.user != username):
        raise Unauthenticated("a user name alone: expected a token, or a user's password, as the password")
    return shown


async def _by_password(connect: Connect, caller: Caller, admission: Admission, counters: Counters) -> Identity:
    authentication = admission.authentication
    try:
        text = (connect.password or b"").decode()
    except UnicodeDecodeError:
        raise Unauthenticated("the password: expected UTF-8") from None
    logins = authentication.logins
    if authentication.knows_tokens:
        try:
            return await _by_token(authentication, text)
        except Unauthenticated:
            if logins is None or not connect.username:
                raise
    if logins is None or not connect.username:
        raise Unauthenticated("a password without a user name: expected both")
    try:
        identity = await logins.log_in(connect.username, text, caller.network)
    except Unauthenticated:
        counters.logins["refused"] += 1
        raise
    counters.logins["accepted"] += 1
    return identity


async def _by_token(authentication: Authentication, token: str) -> Identity:
    try:
        return authentication.identify(token)
    except KeyUnknown as unknown:
        await unknown.renew()
        return authentication.identify(token)
