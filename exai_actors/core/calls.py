"""What is asked of a provider and what it gives back, as plain values."""

from __future__ import annotations

from enum import StrEnum
from typing import final

import msgspec

from exai_actors.errors import ErrorBody


class ChatMessage(msgspec.Struct, frozen=True, gc=False, array_like=True):
    """One turn of a conversation. ``images`` are http(s) or data URLs shown with the text."""

    role: str
    content: str
    images: tuple[str, ...] = ()


class ChatCall(msgspec.Struct, frozen=True, gc=False):
    """One chat completion to run upstream. ``model`` is the name the upstream itself knows."""

    model: str
    messages: tuple[ChatMessage, ...]
    stream: bool = False
    temperature: float | None = None
    max_tokens: int | None = None


class Usage(msgspec.Struct, frozen=True, gc=False, array_like=True):
    """LLM tokens as counted by the upstream."""

    prompt_tokens: int
    completion_tokens: int


@final
class Completion(msgspec.Struct, frozen=True, gc=False):
    """A whole answer. ``reasoning`` is the model's separate thinking text, empty if there is none.

    ``finish_reason`` is the upstream's word (``stop``, ``length``, ``content_filter``, ...).
    """

    text: str
    model: str
    finish_reason: str
    usage: Usage | None = None
    reasoning: str = ""


class IfBusy(StrEnum):
    """What a client wants when no permit is free for its request at once.

    ``wait_in_time``, the default: wait, but be refused at once when the wait is predicted to
    outlast the deadline. ``wait``: wait until the deadline whatever is predicted. ``refuse``: do
    not wait at all.
    """

    WAIT_IN_TIME = "wait_in_time"
    WAIT = "wait"
    REFUSE = "refuse"


class FailureKind(StrEnum):
    """Why an upstream call gave no answer; what a retry policy and an operator go by."""

    CONNECT = "connect"
    TIMEOUT = "timeout"
    UNAUTHORIZED = "unauthorized"
    NOT_FOUND = "not_found"
    RATE_LIMITED = "rate_limited"
    OVERLOADED = "overloaded"
    QUOTA = "quota"
    REJECTED = "rejected"
    SERVER_ERROR = "server_error"
    MALFORMED = "malformed"
    TRUNCATED = "truncated"
    TOO_LARGE = "too_large"
    BROKEN = "broken"


class LimitScope(StrEnum):
    """Which of its limits a provider says was reached."""

    CONCURRENCY = "concurrency"
    REQUESTS_PER_MINUTE = "requests_per_minute"
    TOKENS_PER_MINUTE = "tokens_per_minute"
    REQUESTS_PER_DAY = "requests_per_day"
    TOKENS_PER_DAY = "tokens_per_day"
    WINDOW = "window"


class UpstreamFailure(msgspec.Struct, frozen=True, gc=False):
    """A call that ended without an answer.

    ``message`` is fit for the client: it names the provider's status and words but no secret.
    ``status`` is the HTTP status if one came; ``retry_after`` is in seconds if the upstream told.
    ``text_sent`` says whether pieces of the answer had already been handed on. ``scope`` is the
    limit that was reached, if it said which.
    """

    kind: FailureKind
    message: str
    status: int | None = None
    retry_after: float | None = None
    text_sent: bool = False
    scope: LimitScope | None = None


class Aborted(msgspec.Struct, frozen=True, gc=False):
    """The call was aborted on our request and its connection is closed."""


UpstreamResult = Completion | UpstreamFailure | Aborted


class ToolResult(msgspec.Struct, frozen=True, gc=False, array_like=True):
    """What a tool gives back: text blocks, and facts about how they came to be."""

    outputs: tuple[str, ...]
    continuation_id: str | None = None
    model: str | None = None
    provider: str | None = None
    finish_reason: str | None = None
    usage: Usage | None = None
    reasoning: str = ""


class OutcomeKind(StrEnum):
    """Exactly one of these ends each accepted request."""

    COMPLETED = "completed"
    FAILED = "failed"
    REFUSED = "refused"
    EXPIRED = "expired"
    CANCELLED = "cancelled"


class Outcome(msgspec.Struct, frozen=True, gc=False, array_like=True):
    """The end of a request: a ``result`` when completed, an ``error`` otherwise."""

    kind: OutcomeKind
    result: ToolResult | None = None
    error: ErrorBody | None = None
