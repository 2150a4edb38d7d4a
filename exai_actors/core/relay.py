"""Requests that are passed on as they are, and the way of their responses to the client."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import ClassVar, Protocol, final

import msgspec

from exai_actors.core.calls import (
    CallOptions,
    ChatMessage,
    Presence,
    RelayCall,
    RelayedResponse,
)
from exai_actors.core.families import Family
from exai_actors.core.surrogates import tolerant, without_surrogates

_members = msgspec.json.Decoder(dict[str, msgspec.Raw]).decode
_value = tolerant(msgspec.json.Decoder(msgspec.Raw).decode)
_EVENT_STREAM = "text/event-stream"
_DONE = b"[DONE]"
# A member's name with the signs around it, and the end of an object.
_KEY = re.compile(rb'\s*[{,]\s*"(?:[^"\\]|\\.)*+"\s*:\s*')
_END = re.compile(rb"\s*\}")

Fields = tuple[tuple[str, str], ...]

UPSTREAM_PATHS: Mapping[Family, str] = {
    "chat": "chat/completions",
    "messages": "v1/messages",
    "responses": "responses",
    "embeddings": "embeddings",
}
"""The paths behind the address of a service."""

_FORWARDED = frozenset(
    (
        "content-type",
        "accept",
        "anthropic-version",
        "anthropic-beta",
        "anthropic-dangerous-direct-browser-access",
        "user-agent",
        "x-app",
        "originator",
        "session-id",
        "session_id",
        "thread-id",
        "openai-beta",
        "openai-organization",
        "openai-project",
        "http-referer",
        "x-title",
    )
)
_FORWARDED_BEGINNINGS = (
    "x-claude-code-",
    "x-stainless-",
    "x-session-",
    "x-codex-",
    "x-msh-",
    "x-kimi-",
)


# SDKs change others, as x-stainless-retry-count, when they send a request again.
_DECIDING = frozenset(("anthropic-version", "anthropic-beta", "openai-beta"))
"""The headers that make another request of the same body."""

KEPT_BYTES = 262_144
"""The beginning of a response that is kept for a client that asks for it again."""


def may_pass(name: str) -> bool:
    """Whether a service may see the header of this name as its client sent it."""
    lower = name.lower()
    return lower in _FORWARDED or lower.startswith(_FORWARDED_BEGINNINGS)


class RelayReader(Protocol):
    """Writes a relayed response to its client; ignores it once the client has left."""

    def head(self, status: int, fields: Fields, length: int | None, /) -> None:
        """Begin the response; the length of its body may be known."""

    def data(self, data: bytes, /) -> None:
        """A piece of the body."""


class RelayPipe:
    """The response to one request: from the run of it that a provider has, to its readers.

    The first ``kept_bytes`` of the body are kept, so that another reader may join as long as no
    more has passed. A new run closes the one before. ``presence`` is that of its readers.
    """

    __slots__ = (
        "_deserted",
        "_head",
        "_joined",
        "_kept",
        "_kept_bytes",
        "_readers",
        "_run",
        "_size",
        "is_whole",
        "presence",
    )

    def __init__(self, kept_bytes: int = 0) -> None:
        self._readers: list[RelayReader] = []
        self._kept_bytes = kept_bytes
        self._kept: list[bytes] = []
        self._size = 0
        self._head: tuple[int, Fields, int | None] | None = None
        self._run: _Run | None = None
        self._joined: RelayPipe | None = None
        self._deserted: set[RelayPipe] | None = None
        self.presence = Presence()
        self.is_whole = False
        """Whether the answer is complete by the rules of its family."""

    @property
    def source(self) -> RelayPipe:
        """The pipe that serves the readers of this one: itself, unless another took them in."""
        return self if self._joined is None else self._joined.source

    @property
    def has_begun(self) -> bool:
        """Whether a part of the response has passed."""
        return self._head is not None

    @property
    def has_readers(self) -> bool:
        return bool(self._readers)

    def new_run(self) -> _Run:
        """The sink for another run of the request."""
        self._run = _Run(self)
        self.presence.runs = False
        return self._run

    def may_join(self) -> bool:
        """Whether another reader can have the response from its beginning."""
        return self._head is None or 0 < self._size <= self._kept_bytes

    def may_be_repeated(self) -> bool:
        """Whether a repeat of the request gains by joining: not if the service has sent an event
        that no client can read, since that is why clients leave.
        """
        return self.may_join() and (self._head is None or _can_be_read(self._head[1], self._kept))

    def take_in(self, other: RelayPipe) -> None:
        """Serve the readers of another request for the same response; see ``may_join``."""
        other._joined = self
        self.presence.is_away = False
        for reader in other._readers:
            if self._head is not None:
                reader.head(*self._head)
                for data in self._kept:
                    reader.data(data)
            self._readers.append(reader)

    def add(self, reader: RelayReader) -> None:
        """Serve another reader, before the response has begun."""
        self._readers.append(reader)

    def leave(self, reader: RelayReader, *, may_return: bool = False) -> None:
        """Serve this reader no more; it ``may_return`` as that of a repeated request."""
        if reader in self._readers:
            self._readers.remove(reader)
        if not self._readers and self._deserted is not None:
            self._deserted.add(self)
        if may_return and not self._readers:
            self.presence.is_away = True

    def report_desertion(self, deserted: set[RelayPipe]) -> None:
        """Put the pipe into ``deserted`` as soon as it has no reader, and until it is closed."""
        self._deserted = deserted
        if not self._readers:
            deserted.add(self)

    def close(self) -> None:
        """Pass nothing on any more."""
        self._run = None
        if self._deserted:
            self._deserted.discard(self)
        self._deserted = None
        self._readers.clear()
        self._kept.clear()

    def recorded(self) -> RelayedResponse | None:
        """The whole response; None if it was too large to be kept, or has not come."""
        if self._head is None or not self.is_whole or self._size > self._kept_bytes:
            return None
        return RelayedResponse(self._head[0], self._head[1], b"".join(self._kept))

    def _begin(self, status: int, fields: Fields, length: int | None) -> None:
        self._head = status, fields, length
        for reader in self._readers:
            reader.head(status, fields, length)


def _can_be_read(fields: Fields, kept: Sequence[bytes]) -> bool:
    """Whether each complete event of a stream, where it is not compressed, has JSON."""
    named = {name.lower(): value for name, value in fields}
    if "content-encoding" in named or _EVENT_STREAM not in named.get("content-type", ""):
        return True
    *lines, _ = b"".join(kept).replace(b"\r\n", b"\n").split(b"\n")
    for line in lines:
        name, _, data = line.partition(b":")
        if name == b"data" and data.strip() not in (b"", _DONE) and not _is_json(data):
            return False
    return True


def _is_json(data: bytes) -> bool:
    try:
        _value(data)
    except ValueError:
        return False
    return True


class _Run:
    """The sink of one run; without effect once there is another one."""

    __slots__ = ("_pipe",)

    def __init__(self, pipe: RelayPipe) -> None:
        self._pipe = pipe

    def head(self, status: int, fields: Fields, length: int | None, /) -> None:
        if self._pipe._run is self:
            self._pipe._begin(status, fields, length)

    def data(self, data: bytes, /) -> None:
        pipe = self._pipe
        if pipe._run is not self:
            return
        pipe._size += len(data)
        if pipe._size <= pipe._kept_bytes:
            pipe._kept.append(data)
        elif pipe._kept:
            pipe._kept.clear()
        for reader in pipe._readers:
            reader.data(data)

    def whole(self) -> None:
        if self._pipe._run is self:
            self._pipe.is_whole = True


# Final, so that ``type(x) is RelayRequest`` is as good as isinstance(), which asks the metaclass of
# a struct, which takes six times as long.
@final
class RelayRequest(msgspec.Struct, frozen=True, eq=False):
    """A request of one of the families, with its body as it came.

    ``model`` is the name that the client gave. ``path`` and ``headers`` are those of RelayCall.
    """

    family: Family
    path: str
    body: bytes
    headers: Fields
    model: str
    pipe: RelayPipe
    stream: bool = False
    characters: float = 0.0
    max_tokens: int | None = None
    answers: int = 1

    tool: ClassVar[str] = "relay"
    continuation_id: ClassVar[None] = None
    timeout_s: ClassVar[None] = None

    def __hash__(self) -> int:
        return hash((self.path, self.body, _deciding(self.headers)))

    def __eq__(self, other: object) -> bool:
        """Whether the other one is the same request, perhaps sent again."""
        return (
            isinstance(other, RelayRequest)
            and self.path == other.path
            and self.body == other.body
            and _deciding(self.headers) == _deciding(other.headers)
        )

    def time_allowed(self, options: CallOptions, default_s: float) -> float:
        """The seconds that the request may take, waiting included."""
        return default_s if options.deadline_ms is None else options.deadline_ms / 1000

    def to_upstream(
        self,
        model: str,
        _system_prompt: str,
        _history: tuple[ChatMessage, ...],
        stream: bool,
    ) -> RelayCall:
        """The call for the service, where the model is known as ``model``."""
        return RelayCall(
            family=self.family,
            path=self.path,
            body=self.body if model == self.model else with_model(self.body, model),
            headers=self.headers,
            model=model,
            stream=stream,
            characters=self.characters,
            sink=self.pipe.new_run(),
            max_tokens=self.max_tokens,
            answers=self.answers,
            presence=self.pipe.presence,
        )


def _deciding(headers: Fields) -> Fields:
    """The headers on which the response depends; their order says nothing."""
    named = ((name.lower(), value) for name, value in headers)
    return tuple(sorted(each for each in named if each[0] in _DECIDING))


def with_model(body: bytes, model: str) -> bytes:
    """The body with another value of its member ``model``; every other byte stays.

    ``body`` is a JSON object that has the member.
    """
    readable = body
    try:
        members = _members(readable)
    except msgspec.DecodeError:
        readable = without_surrogates(body)
        members = _members(readable)
    new = msgspec.json.encode(model)
    start = _place_of_model(readable, members)
    if start is None:
        # A member is named twice.
        return msgspec.json.encode({**members, "model": msgspec.Raw(new)})
    return body[:start] + new + body[start + len(bytes(members["model"])) :]


def _place_of_model(body: bytes, members: Mapping[str, msgspec.Raw]) -> int | None:
    """Where the value begins. Walks over the members alone: their values may be long."""
    found, end = None, 0
    for name, raw in members.items():
        key, value = _KEY.match(body, end), bytes(raw)
        if key is None or not body.startswith(value, key.end()):
            return None
        if name == "model":
            found = key.end()
        end = key.end() + len(value)
    return found if _END.match(body, end) else None
