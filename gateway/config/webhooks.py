"""Webhooks as they are configured: who is told of what happens, and how hard it is tried."""

import binascii
from base64 import b64decode
from collections.abc import Iterator, Mapping, Sequence
from typing import Final, Protocol, Self

from pydantic import Field, model_validator

from gateway.config import values
from gateway.config.problems import Keys, Problem, shown
from gateway.config.section import Section
from gateway.config.tree import Node
from gateway.core.topics import Pattern
from gateway.core.webhook_retries import RetryOptions
from gateway.core.webhooks import WebhookOptions

__all__ = ["WebhookSettings", "webhook_options", "webhook_problems"]

KIB: Final = 1024
SECRET_BYTES: Final = 24
"""The shortest secret, as the Standard Webhooks have it."""
SECRET_PREFIX: Final = "whsec_"  # noqa: S105 - what stands before one
OF_ROOMS: Final = ("message", "joined", "left")


class WebhookSettings(Section):
    """An HTTP address that is told what happens, by a name of your choice."""

    url: values.WebhookUrl = Field(examples=["https://example.org/hooks/tidegate"])
    """`https://…`, or `http://…` in a network that you trust. It is called as it stands: no redirect is followed."""
    events: tuple[values.WebhookEvent, ...] = ("message",)
    """What it is told: `message`, `joined`, `left` (of rooms with presence), `connect`, `disconnect` (of sessions)."""
    rooms: tuple[values.RoomFilter, ...] = ()
    """Rooms, or filters, whose messages and presence it is told, besides the rooms of routes that name it."""
    secret_file: values.SecretFromFile | None = None
    """A file with what signs calls, at least 24 bytes, or `whsec_` and base64; of several lines each signs."""
    ca_file: values.ReadableFile | None = None
    """The certificate authorities to trust (PEM) instead of the system's."""
    timeout_seconds: values.Seconds = 10
    """How long a call may take."""
    batch_events: values.Count = 100
    """Events in one call, at most, if so many wait."""
    queue_events: values.Count = 1000
    """Events that wait, at most: half of it messages, of which more wait in the log, half others, which are dropped."""
    queue_bytes: values.Bytes = 4 * KIB * KIB
    """Their size, at most, halved the same way."""
    retry_min_seconds: values.Seconds = 0.5
    """The shortest pause before a call that failed is made again."""
    retry_max_seconds: values.Seconds = 30
    """The longest."""
    give_up_seconds: values.Seconds = 3600
    """How long one call is tried before its events are dropped."""
    breaker_failures: values.Count = 5
    """Failures in a row after which nothing is sent for a while."""
    breaker_seconds: values.Seconds = 30
    """How long that is; then one call is let through."""

    @model_validator(mode="after")
    def _check(self) -> Self:
        if self.retry_max_seconds < self.retry_min_seconds:
            raise ValueError(f"retry_max_seconds: expected at least `retry_min_seconds` ({self.retry_min_seconds:g})")
        if self.ca_file is not None and not self.url.startswith("https:"):
            raise ValueError("ca_file: expected it only with an https:// address")
        if self.secret_file is not None and min(map(len, self.secrets()), default=0) < SECRET_BYTES:
            raise ValueError(f"secret_file: expected at least {SECRET_BYTES} bytes on each line")
        return self

    def secrets(self) -> tuple[bytes, ...]:
        """What signs calls; none if nothing does.

        Raises:
            ValueError: one isn't what its beginning says.
        """
        lines = [] if self.secret_file is None else self.secret_file.password.get_secret_value().split("\n")
        return tuple(_secret(line.strip()) for line in lines if line.strip())

    def options(self, name: str, rooms: Sequence[str]) -> WebhookOptions:
        """As the core takes it, with the rooms of routes that name it."""
        return WebhookOptions(
            name,
            frozenset(self.events),
            tuple(dict.fromkeys((*self.rooms, *rooms))),
            self.batch_events,
            self.queue_events,
            self.queue_bytes,
            self.give_up_seconds,
            RetryOptions(self.retry_min_seconds, self.retry_max_seconds, self.breaker_failures, self.breaker_seconds),
        )


def _secret(line: str) -> bytes:
    if not line.startswith(SECRET_PREFIX):
        return line.encode()
    try:
        return b64decode(line.removeprefix(SECRET_PREFIX), validate=True)
    except binascii.Error:
        raise ValueError(f"secret_file: expected base64 after {SECRET_PREFIX!r}") from None


class _Route(Protocol):
    """What is to be known of a route."""

    @property
    def room(self) -> str: ...

    @property
    def webhook(self) -> str | None: ...


class _Namespace(Protocol):
    """What is to be known of a namespace."""

    @property
    def routes(self) -> Sequence[_Route]: ...

    @property
    def webhooks(self) -> Mapping[str, WebhookSettings]: ...


def webhook_options(namespace: _Namespace, name: str) -> WebhookOptions:
    """What a namespace's webhook of this name is told: a route that names it stands for all its rooms."""
    rooms = [Pattern.parse(route.room).filter for route in namespace.routes if route.webhook == name]
    return namespace.webhooks[name].options(name, rooms)


def webhook_problems(namespace: _Namespace, tree: Node, where: Keys) -> Iterator[Problem]:
    """Routes that name a webhook which isn't there, and webhooks that want to know of rooms, but of none."""
    for index, route in enumerate(namespace.routes):
        if route.webhook is not None and route.webhook not in namespace.webhooks:
            keys = (*where, "routes", index, "webhook")
            known = ", ".join(namespace.webhooks) or "none"
            message = f"expected one of `webhooks` ({known}), found {shown(route.webhook)}"
            yield Problem.at(tree.find(*keys).place, keys, message)
    named = {route.webhook for route in namespace.routes}
    for name, webhook in namespace.webhooks.items():
        wanted = [event for event in webhook.events if event in OF_ROOMS]
        if wanted and not webhook.rooms and name not in named:
            keys = (*where, "webhooks", name, "rooms")
            message = (
                f'missing, for {wanted[0]}: expected such as `rooms: ["sites/#"]`, or a route with `webhook: {name}`'
            )
            yield Problem.at(tree.find(*keys).place, keys, message)
