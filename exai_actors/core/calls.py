"""Calls to a provider and their results, as plain values."""

from __future__ import annotations

from enum import StrEnum
from typing import Literal, final

import msgspec

from exai_actors.core.families import Family
from exai_actors.core.pieces import RelaySink
from exai_actors.core.trace_context import TraceContext
from exai_actors.errors import ErrorBody
from exai_actors.ids import RequestKey


class ChatMessage(msgspec.Struct, frozen=True, gc=False, array_like=True):
    """One turn of a conversation. ``images`` are http(s) or data URLs sent with the text.

    ``more`` is a JSON object of further members, such as ``tool_calls``.
    """

    role: str
    content: str
    images: tuple[str, ...] = ()
    more: bytes = b""


class ChatCall(msgspec.Struct, frozen=True, gc=False):
    """One chat completion to run upstream. ``model`` is the service's own name for it.

    ``parameters`` is a JSON object of further members for the request.
    """

    model: str
    messages: tuple[ChatMessage, ...]
    stream: bool = False
    temperature: float | None = None
    max_tokens: int | None = None
    parameters: bytes = b""


class Presence(msgspec.Struct, gc=False, eq=False):
    """What a relayed call and its client know of each other without a message.

    ``is_away``: the client has left, but may soon repeat its request; the call is not started
    before. ``runs``: the call has a permit. Its provider granted the first one at ``granted_at``.
    """

    is_away: bool = False
    runs: bool = False
    granted_at: float | None = None


# Final for the same reason as RelayRequest.
@final
class RelayCall(msgspec.Struct, frozen=True, eq=False):
    """A request of a client to pass on as it is, and whose response goes to ``sink`` as it is.

    ``path`` follows the service's address for the family, with its query; ``headers`` are those of
    the client that the service may see. ``characters`` is the estimated length of the prompt,
    ``answers`` how many are asked for. ``presence`` is that of the client, if it may leave.
    """

    family: Family
    path: str
    body: bytes
    headers: tuple[tuple[str, str], ...]
    model: str
    stream: bool
    characters: float
    sink: RelaySink
    max_tokens: int | None = None
    answers: int = 1
    presence: Presence | None = None

    def __hash__(self) -> int:
        return hash((self.path, self.model, self.body))


UpstreamRequest = ChatCall | RelayCall


class RelayedResponse(msgspec.Struct, frozen=True, gc=False, array_like=True):
    """A whole response of a service; ``fields`` are those headers that the client may see."""

    status: int
    fields: tuple[tuple[str, str], ...]
    body: bytes


class Usage(msgspec.Struct, frozen=True, gc=False, array_like=True):
    """LLM tokens as counted by the service.

    ``total_tokens`` is its total if that is not the sum of the two, as where reasoning is counted
    apart. ``cached_tokens`` are part of the prompt, ``reasoning_tokens`` mostly of the completion;
    ``cost`` is in the service's own unit. Each is None if the service sent none.
    """

    prompt_tokens: int
    completion_tokens: int
    total_tokens: int | None = None
    cached_tokens: int | None = None
    reasoning_tokens: int | None = None
    cost: float | None = None


@final
class Completion(msgspec.Struct, frozen=True, gc=False):
    """A complete answer. ``reasoning`` is the model's separate reasoning, empty if there is none.

    ``finish_reason`` is as the service sent it (``stop``, ``length``, ``content_filter``, ...).
    ``tool_calls`` is a JSON array of those that the model asks for, empty if there are none.
    """

    text: str
    model: str
    finish_reason: str
    usage: Usage | None = None
    reasoning: str = ""
    tool_calls: bytes = b""


class IfBusy(StrEnum):
    """The client's choice for a request that cannot run immediately.

    ``wait_in_time``, the default: wait, unless the wait is predicted to outlast the deadline, which
    is refused immediately. ``wait``: wait until the deadline, whatever the prediction. ``refuse``:
    do not wait.
    """

    WAIT_IN_TIME = "wait_in_time"
    WAIT = "wait"
    REFUSE = "refuse"


@final
class CallOptions(msgspec.Struct, frozen=True, gc=False):
    """How a client wants a call to be run and reported, apart from the arguments of the tool.

    ``stream`` asks for chunks; None leaves that to the arguments. ``deadline_ms`` counts from the
    arrival of the frame. ``priority`` orders the waiting requests of one session, highest first.
    ``reports_progress`` asks for more than the outcome: accepted, queued and granted. Requests
    with one ``idempotency_key`` are one call with one outcome. ``trace`` is the client's trace.
    ``stream_reasoning`` asks for the pieces of the model's reasoning beside those of the answer.
    ``api`` is the protocol by which the request came, empty for the broker's own.
    """

    stream: bool | None = None
    deadline_ms: float | None = None
    priority: int = 0
    if_busy: IfBusy = IfBusy.WAIT_IN_TIME
    reports_progress: bool = False
    idempotency_key: RequestKey | None = None
    trace: TraceContext | None = None
    stream_reasoning: bool = False
    api: str = ""


class FailureKind(StrEnum):
    """Why an upstream call gave no answer. Retry policies and operators act on it."""

    CONNECT = "connect"
    TIMEOUT = "timeout"
    UNAUTHORIZED = "unauthorized"
    NOT_FOUND = "not_found"
    MODEL_NOT_FOUND = "model_not_found"
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
    """The limit that a service says was reached."""

    CONCURRENCY = "concurrency"
    REQUESTS_PER_MINUTE = "requests_per_minute"
    TOKENS_PER_MINUTE = "tokens_per_minute"
    REQUESTS_PER_DAY = "requests_per_day"
    TOKENS_PER_DAY = "tokens_per_day"
    WINDOW = "window"


class LimitHolder(StrEnum):
    """The holder of a limit: the account with all its calls, one model, or one request."""

    ACCOUNT = "account"
    MODEL = "model"
    REQUEST = "request"


class UpstreamFailure(msgspec.Struct, frozen=True, gc=False):
    """A call that ended without an answer.

    ``message`` goes to the client: it quotes the service but contains no secret. ``status`` is the
    HTTP status, ``retry_after`` the seconds to wait, ``scope`` the limit that was reached; each is
    None if the service sent none. ``text_sent``: pieces of the answer were already passed on.
    ``holder`` is the one of the limit, ``rule`` the name of the rule that recognised the refusal,
    and ``recognised`` is False if none but a default applied. ``resend``: the service has not
    worked on the request, which can be sent once more immediately, on a fresh connection.
    ``response`` is that of the service to a call that is relayed, if it was one.
    """

    kind: FailureKind
    message: str
    status: int | None = None
    retry_after: float | None = None
    text_sent: bool = False
    scope: LimitScope | None = None
    holder: LimitHolder = LimitHolder.ACCOUNT
    rule: str = ""
    recognised: bool = True
    resend: bool = False
    response: RelayedResponse | None = None


class Aborted(msgspec.Struct, frozen=True, gc=False):
    """The broker aborted the call, and its connection is closed."""


UpstreamResult = Completion | UpstreamFailure | Aborted


class ToolResult(msgspec.Struct, frozen=True, gc=False, array_like=True):
    """The answer of a tool: text blocks, and facts about their origin where known.

    ``dropped_turns`` is the number of turns of the conversation that its next call will lack,
    ``tool_calls`` that of a Completion.
    """

    outputs: tuple[str, ...]
    continuation_id: str | None = None
    model: str | None = None
    provider: str | None = None
    finish_reason: str | None = None
    usage: Usage | None = None
    reasoning: str = ""
    dropped_turns: int = 0
    tool_calls: bytes = b""


OutcomeKind = Literal["completed", "failed", "refused", "expired", "cancelled"]
"""How a request ended; each accepted request ends in exactly one of these ways."""


class Outcome(msgspec.Struct, frozen=True, gc=False, array_like=True):
    """The end of a request: a ``result`` when completed, an ``error`` otherwise.

    ``response`` is a service's own, to a request that was relayed and failed, or whose answer is
    kept for repeats.
    """

    kind: OutcomeKind
    result: ToolResult | None = None
    error: ErrorBody | None = None
    response: RelayedResponse | None = None
