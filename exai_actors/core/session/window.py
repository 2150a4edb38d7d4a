"""The number of requests of one session that may be with providers at a time.

A request beyond the window is not refused but waits, in order, until an earlier one ends; it is
refused only when the queue is full. At most ``conversation_limit`` requests of one conversation run
at a time, so that each sees the answer to the one before. A later request of another conversation
may pass one that waits for its conversation.
"""

from __future__ import annotations

from itertools import takewhile
from typing import Literal

from exai_actors.core.wait_reasons import WaitCode, WaitReason
from exai_actors.ids import ConversationId, RequestKey

_NOT_RUNNING = ConversationId("")

EnterResult = Literal["started", "waiting", "full", "too much text"]
"""The result of entering the window."""


class Window:
    """The running and the waiting requests of one session.

    At most ``limit`` run, at most ``conversation_limit`` of them of one conversation, and at most
    ``queue`` wait. No request waits that could run.
    """

    __slots__ = (
        "_conversations",
        "_priorities",
        "_running",
        "_waiting",
        "conversation_limit",
        "limit",
        "queue",
    )

    def __init__(self, limit: int, conversation_limit: int, queue: int) -> None:
        self.limit = limit
        self.conversation_limit = conversation_limit
        self.queue = queue
        self._running: dict[RequestKey, ConversationId | None] = {}
        self._waiting: dict[RequestKey, ConversationId | None] = {}
        self._priorities: dict[RequestKey, int] = {}
        self._conversations: dict[ConversationId, set[RequestKey]] = {}

    @property
    def running(self) -> int:
        return len(self._running)

    @property
    def waiting(self) -> int:
        return len(self._waiting)

    def enter(
        self, request: RequestKey, conversation: ConversationId | None, priority: int = 0
    ) -> EnterResult:
        """Start a request, queue it, or refuse it as FULL.

        It is queued behind requests of the same or a higher priority, and behind all of its own
        conversation. Raises ValueError for a request that is already here.
        """
        running = self._running
        if request in running or (self._waiting and request in self._waiting):
            raise ValueError(f"request '{request.text}' is already in the window")
        # This overtakes no one: while there is room in the window, every waiting request waits for
        # its own conversation.
        if conversation is None and len(running) < self.limit:
            running[request] = None
            return "started"
        if len(running) < self.limit and not self._is_full(conversation):
            self._start(request, conversation)
            return "started"
        if len(self._waiting) >= self.queue:
            return "full"
        self._waiting[request] = conversation
        self._priorities[request] = priority
        self._pass_lower(request, conversation, priority)
        return "waiting"

    def wait_reason(self, request: RequestKey, conversation: ConversationId | None) -> WaitReason:
        """Why a request of that conversation waits, or would."""
        if conversation is not None and (
            self._is_full(conversation)
            or any(
                waits == conversation and each != request for each, waits in self._waiting.items()
            )
        ):
            running = len(self._conversations.get(conversation, ()))
            return WaitReason(WaitCode.CONVERSATION, limit=self.conversation_limit, used=running)
        return WaitReason(WaitCode.SESSION_WINDOW, limit=self.limit, used=len(self._running))

    def before(self, request: RequestKey) -> list[RequestKey]:
        """The running requests, and those that wait before this one."""
        return [*self._running, *takewhile(lambda each: each != request, self._waiting)]

    def leave(self, request: RequestKey) -> tuple[RequestKey, ...]:
        """Remove a request, if it is here; return the requests started in its place."""
        conversation = self._running.pop(request, _NOT_RUNNING)
        if conversation is _NOT_RUNNING:
            self._waiting.pop(request, None)
            self._priorities.pop(request, None)
            return ()
        if conversation is not None:
            members = self._conversations[conversation]
            members.discard(request)
            if not members:
                del self._conversations[conversation]
        return self._start_waiting() if self._waiting else ()

    def rename(self, request: RequestKey, name: RequestKey) -> None:
        """Give a running request another name."""
        conversation = self._running.pop(request)
        self._running[name] = conversation
        if conversation is not None:
            members = self._conversations[conversation]
            members.discard(request)
            members.add(name)

    def _pass_lower(
        self, newest: RequestKey, conversation: ConversationId | None, priority: int
    ) -> None:
        passed: list[RequestKey] = []
        for request in reversed(self._waiting):
            if request == newest:
                continue
            mine = conversation is not None and self._waiting[request] == conversation
            if mine or self._priorities[request] >= priority:
                break
            passed.append(request)
        for request in reversed(passed):
            self._waiting[request] = self._waiting.pop(request)

    def _start_waiting(self) -> tuple[RequestKey, ...]:
        started: list[RequestKey] = []
        for request, conversation in self._waiting.items():
            if len(self._running) >= self.limit:
                break
            if not self._is_full(conversation):
                self._start(request, conversation)
                started.append(request)
        for request in started:
            del self._waiting[request]
            del self._priorities[request]
        return tuple(started)

    def _is_full(self, conversation: ConversationId | None) -> bool:
        if conversation is None:
            return False
        return len(self._conversations.get(conversation, ())) >= self.conversation_limit

    def _start(self, request: RequestKey, conversation: ConversationId | None) -> None:
        self._running[request] = conversation
        if conversation is not None:
            self._conversations.setdefault(conversation, set()).add(request)
