"""Webhooks over HTTP: one call after the other for each, signed as the Standard Webhooks have it.

What is told and when it is tried again is in `gateway.core.webhooks`; here it is posted, and the answer read. No
redirect is followed, no proxy of the environment used, no cookie kept: a call goes to the address that the
configuration names, which TLS proves, and nowhere else.
"""

import asyncio
import hmac
import logging
import ssl
from base64 import b64encode
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC
from email.utils import parsedate_to_datetime
from pathlib import Path
from typing import Final

import httpx

from gateway.core.clock import Clock
from gateway.core.webhooks import Call, Webhook

__all__ = ["Endpoint", "WebhookBridge", "sign"]

MAXIMUM_ANSWER_BYTES: Final = 64 * 1024
"""How much of an answer's body is read, and passed over, so that the connection can be used again."""

RETRIED: Final = (408, 425, 429)
"""Refusals that time may heal."""
GONE: Final = 410

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Endpoint:
    """Where a webhook is told."""

    url: str = field(repr=False)
    """It may hold a secret in its path."""
    secrets: tuple[bytes, ...] = field(default=(), repr=False)
    """Each signs: while one takes the place of another, both do."""
    timeout_seconds: float = 10.0
    ca_file: Path | None = None
    """The authorities to trust (PEM) instead of the system's."""


def sign(secrets: Sequence[bytes], identifier: str, timestamp: int, body: bytes) -> str:
    """`webhook-signature` of the Standard Webhooks: for each secret, HMAC-SHA256 of id, time and body."""
    text = b"%b.%d.%b" % (identifier.encode(), timestamp, body)
    return " ".join(f"v1,{b64encode(hmac.digest(secret, text, 'sha256')).decode()}" for secret in secrets)


@dataclass(frozen=True, slots=True)
class _Answer:
    """What came of a call; without a status, nothing did."""

    status: int | None
    reason: str
    retry_after_seconds: float | None = None


class WebhookBridge:
    """Makes the calls of one webhook."""

    def __init__(self, webhook: Webhook, endpoint: Endpoint, clock: Clock) -> None:
        self._webhook = webhook
        self._endpoint = endpoint
        self._clock = clock
        self._woken = asyncio.Event()
        self._finishing = False
        self._in_vain = False
        """Whether a call failed since then."""
        self._finished = asyncio.Event()
        webhook.wake = self._woken.set

    async def run(self) -> None:
        """Tell what waits, as it is due; never returns."""
        verify = await asyncio.to_thread(ssl.create_default_context, cafile=self._endpoint.ca_file)
        async with httpx.AsyncClient(
            verify=verify,
            timeout=None,  # noqa: S113 - one for the whole of a call is around it
            trust_env=False,
            follow_redirects=False,
            limits=httpx.Limits(max_connections=1, max_keepalive_connections=1),
            headers={"user-agent": "tidegate", "accept-encoding": "identity", "content-type": "application/json"},
        ) as client:
            while True:
                await self._wait()
                call = self._webhook.call()
                if call is not None:
                    self._settle(await self._post(client, call))
                    client.cookies.clear()

    async def _wait(self) -> None:
        """Until a call is due; at the end that is at once."""
        while True:
            self._woken.clear()
            seconds = self._webhook.wait_seconds()
            if self._finishing:
                if seconds is not None and not self._in_vain:
                    return
                self._finished.set()
                seconds = None
            elif seconds == 0:
                return
            try:
                async with asyncio.timeout(seconds):
                    await self._woken.wait()
            except TimeoutError:
                return

    def _settle(self, answer: _Answer) -> None:
        match answer.status:
            case int(status) if 200 <= status < 300:
                self._webhook.delivered()
            case int(status) if status == GONE:
                self._webhook.abandon(f"its endpoint {answer.reason}")
            case int(status) if 400 <= status < 500 and status not in RETRIED:
                self._webhook.refused(f"its endpoint {answer.reason}")
            case _:
                self._webhook.failed(answer.reason, answer.retry_after_seconds)
                self._in_vain = self._finishing

    async def _post(self, client: httpx.AsyncClient, call: Call) -> _Answer:
        timestamp = int(self._clock.time())
        headers = {"webhook-id": call.id, "webhook-timestamp": str(timestamp)}
        if self._endpoint.secrets:
            headers["webhook-signature"] = sign(self._endpoint.secrets, call.id, timestamp, call.body)
        answer = _Answer(None, f"no answer came within {self._endpoint.timeout_seconds:g} s")
        try:
            async with asyncio.timeout(self._endpoint.timeout_seconds):
                async with client.stream("POST", self._endpoint.url, content=call.body, headers=headers) as response:
                    answer = self._read(response)
                    await _pass_over(response)
        except TimeoutError:
            pass  # of what came of an answer, the status counts
        except (httpx.HTTPError, httpx.InvalidURL, OSError) as error:
            if answer.status is None:
                answer = _Answer(None, f"it can't be reached: {str(error) or type(error).__name__}")
        return answer

    def _read(self, response: httpx.Response) -> _Answer:
        redirect = ": no redirect is followed" if response.is_redirect else ""
        retry_after = response.headers.get("retry-after", "").strip()
        return _Answer(response.status_code, f"answers {response.status_code}{redirect}", self._seconds(retry_after))

    def _seconds(self, retry_after: str) -> float | None:
        """`Retry-After` (RFC 9110 §10.2.3): seconds, or a date."""
        if retry_after.isdecimal():
            return float(retry_after[:9])
        try:
            moment = parsedate_to_datetime(retry_after)
        except ValueError:
            return None
        return max(0.0, moment.replace(tzinfo=moment.tzinfo or UTC).timestamp() - self._clock.time())

    async def finish(self, timeout_seconds: float) -> None:
        """Try what waits, without pauses and until a call fails, for a bounded time; the rest is dropped."""
        self._finishing = True
        self._woken.set()
        try:
            async with asyncio.timeout(timeout_seconds):
                await self._finished.wait()
        except TimeoutError:
            pass
        self._webhook.close()


async def _pass_over(response: httpx.Response) -> None:
    """Read the body, if it is short, so that the connection can be used again."""
    size_bytes = 0
    async for part in response.aiter_raw():
        size_bytes += len(part)
        if size_bytes > MAXIMUM_ANSWER_BYTES:
            return
