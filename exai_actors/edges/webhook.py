"""Sends messages as JSON to one address by POST, one after the other, and never waits for it."""

from __future__ import annotations

import asyncio
import contextlib
from collections import deque
from typing import Any
from urllib.parse import urlsplit

import aiohttp
import structlog

log = structlog.get_logger()

MAX_WAITING = 100
"""Messages that wait; beyond that the oldest are dropped."""

RETRY_AFTER_S = (1.0, 5.0, 25.0)
"""The pauses between the attempts for one message."""

TIMEOUT_S = 10.0
CLOSE_S = 2.0
"""How long the messages that wait may take at the end."""


class Webhook:
    """The connections belong to the running loop. ``token``, if any, is sent as a bearer token."""

    def __init__(
        self,
        url: str,
        token: str = "",
        *,
        retry_after_s: tuple[float, ...] = RETRY_AFTER_S,
        close_s: float = CLOSE_S,
    ) -> None:
        self._url = url
        self._token = token
        self._retry_after_s = retry_after_s
        self._close_s = close_s
        self._waiting: deque[dict[str, Any]] = deque()
        self._task: asyncio.Task[None] | None = None
        self._session: aiohttp.ClientSession | None = None
        self.dropped = 0

    def send(self, message: dict[str, Any]) -> None:
        """Send a message, after those that wait."""
        if len(self._waiting) >= MAX_WAITING:
            self._waiting.popleft()
            self.dropped += 1
        self._waiting.append(message)
        if self._task is None or self._task.done():
            self._task = asyncio.ensure_future(self._send_all())

    async def aclose(self) -> None:
        """Give the messages that wait a moment, then drop them."""
        if self._task is not None:
            await asyncio.wait((self._task,), timeout=self._close_s)
            self._task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._task
        if self._session is not None:
            await self._session.close()

    async def _send_all(self) -> None:
        if self._session is None:
            headers = {"Authorization": f"Bearer {self._token}"} if self._token else {}
            timeout = aiohttp.ClientTimeout(total=TIMEOUT_S)
            self._session = aiohttp.ClientSession(headers=headers, timeout=timeout)
        while self._waiting:
            message = self._waiting.popleft()
            cause = await self._attempt(self._session, message)
            for pause_s in self._retry_after_s:
                if not cause:
                    break
                await asyncio.sleep(pause_s)
                cause = await self._attempt(self._session, message)
            if cause:
                self.dropped += 1
                log.warning("alarm.webhook_failed", host=urlsplit(self._url).hostname, cause=cause)

    async def _attempt(self, session: aiohttp.ClientSession, message: dict[str, Any]) -> str:
        """Send once; return why that failed, empty if it did not."""
        try:
            async with session.post(self._url, json=message, allow_redirects=False) as response:
                return "" if response.status < 300 else f"HTTP {response.status}"
        except (aiohttp.ClientError, OSError, TimeoutError) as error:
            # Its text may hold the address, which is often a secret.
            return type(error).__name__
