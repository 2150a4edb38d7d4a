"""A recipient that records messages, for tests of the sender."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any, Generic, TypeVar

from exai_actors.messages.recipient import Offer

M = TypeVar("M")
T = TypeVar("T")


class Probe(Generic[M]):
    """Implements ``messages.recipient.Recipient`` and records every message in order.

    ``messages`` has all messages, ``system_messages`` those that came on the system lane.
    ``take``, ``expect`` and ``expect_nothing`` read each message once, in order. ``offer`` returns
    ``answer``. Unless that is ACCEPTED, messages go to ``refused`` instead, where a real recipient
    would make them dead letters; while it is FULL the system lane still accepts messages.
    """

    def __init__(self, name: str = "probe", *, answer: Offer = "accepted") -> None:
        self.name = name
        self.answer = answer
        self.messages: list[M] = []
        self.system_messages: list[M] = []
        self.refused: list[M] = []
        self._read = 0
        self._wakers: list[Callable[[], object]] = []

    def __repr__(self) -> str:
        return f"Probe({self.name!r}, {len(self.messages)} messages, {self._read} read)"

    def tell(self, message: M, /) -> None:
        self.offer(message)

    def tell_system(self, message: M, /) -> None:
        if self.answer == "closed":
            self.refused.append(message)
            return
        self.system_messages.append(message)
        self._record(message)

    def offer(self, message: M, /) -> Offer:
        if self.answer == "accepted":
            self._record(message)
        else:
            self.refused.append(message)
        return self.answer

    @property
    def unread(self) -> list[M]:
        """The messages that were not read yet."""
        return self.messages[self._read :]

    def take(self, kind: type[T]) -> T:
        """The next unread message. AssertionError when there is none or it is of another type."""
        if self._read == len(self.messages):
            raise AssertionError(
                f"{self.name}: no {kind.__name__}, nothing unread; {self._received()}"
            )
        message: Any = self.messages[self._read]
        if not isinstance(message, kind):
            raise AssertionError(f"{self.name}: expected {kind.__name__}, got {message!r}")
        self._read += 1
        return message

    def skip_to(self, kind: type[T]) -> T:
        """The next unread message of this type, skipping others before it."""
        for index in range(self._read, len(self.messages)):
            message: Any = self.messages[index]
            if isinstance(message, kind):
                self._read = index + 1
                return message
        raise AssertionError(f"{self.name}: no {kind.__name__} unread; {self._received()}")

    async def expect(self, kind: type[T], timeout_s: float = 5.0) -> T:
        """Wait until a message is unread, then ``take`` it. AssertionError after ``timeout_s``."""
        await self._until(lambda: bool(self.unread), kind, timeout_s)
        return self.take(kind)

    async def expect_eventually(self, kind: type[T], timeout_s: float = 5.0) -> T:
        """Wait for a message of this type, skipping others before it."""
        await self._until(
            lambda: any(isinstance(message, kind) for message in self.unread), kind, timeout_s
        )
        return self.skip_to(kind)

    def expect_nothing(self) -> None:
        """AssertionError if a message is unread."""
        if self.unread:
            raise AssertionError(f"{self.name}: expected nothing, got {self.unread!r}")

    def _record(self, message: M) -> None:
        self.messages.append(message)
        for wake in tuple(self._wakers):
            wake()

    async def _until(self, there: Callable[[], bool], kind: type, timeout_s: float) -> None:
        # The actors may run on another thread's loop than the waiting test.
        loop = asyncio.get_running_loop()
        came = asyncio.Event()

        def wake() -> None:
            loop.call_soon_threadsafe(came.set)

        self._wakers.append(wake)
        try:
            async with asyncio.timeout(timeout_s):
                while not there():
                    came.clear()
                    await came.wait()
        except TimeoutError:
            raise AssertionError(
                f"{self.name}: no {kind.__name__} within {timeout_s} s; {self._received()}"
            ) from None
        finally:
            self._wakers.remove(wake)

    def _received(self) -> str:
        if not self.messages:
            return "it received nothing"
        return "it received " + ", ".join(type(message).__name__ for message in self.messages[-10:])
