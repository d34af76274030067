"""All webhooks of a gateway, put together from the configuration. Where there are none, nothing is loaded or run."""

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass
from random import Random
from typing import TYPE_CHECKING

from gateway.config import Settings
from gateway.core.clock import Clock
from gateway.core.namespace import Namespace
from gateway.core.webhook_tap import Tap
from gateway.core.webhooks import Webhook
from gateway.supervisor import Supervisor

if TYPE_CHECKING:
    from bridges.webhooks import WebhookBridge

__all__ = ["Webhooks"]

FINISH_SECONDS = 2.0
"""How long webhooks are told what waits once the gateway ends."""


@dataclass(frozen=True, slots=True)
class _Hook:
    webhook: Webhook
    tap: Tap
    bridge: "WebhookBridge"


class Webhooks:
    """The webhooks of all namespaces."""

    def __init__(self, settings: Settings, namespaces: Mapping[str, Namespace], clock: Clock, random: Random) -> None:
        self._hooks: list[_Hook] = []
        self._started = False
        for name, namespace in namespaces.items():
            for configured, options in settings.webhooks_of(name).values():
                from bridges.webhooks import Endpoint, WebhookBridge  # httpx is slow to import, and seldom needed

                webhook = Webhook(options, name, clock, random, namespace.counters)
                endpoint = Endpoint(
                    configured.url, configured.secrets(), configured.timeout_seconds, configured.ca_file
                )
                bridge = WebhookBridge(webhook, endpoint, clock)
                self._hooks.append(_Hook(webhook, Tap(namespace, webhook, clock, random), bridge))

    @property
    def all(self) -> list[Webhook]:
        """Each of them, for metrics."""
        return [hook.webhook for hook in self._hooks]

    def start(self, supervisor: Supervisor) -> None:
        """Tell what happens from now on."""
        self._started = True
        for hook in self._hooks:
            hook.tap.open()
            supervisor.start(f"webhook {hook.webhook.namespace}/{hook.webhook.options.name}", hook.bridge.run)

    async def finish(self, *, at_once: bool) -> None:
        """Tell what waits, for a bounded time, and nothing any more; before the supervisor stops."""
        if not self._started:
            return
        for hook in self._hooks:
            hook.tap.close()
        seconds = 0.0 if at_once else FINISH_SECONDS
        await asyncio.gather(*(hook.bridge.finish(seconds) for hook in self._hooks))
