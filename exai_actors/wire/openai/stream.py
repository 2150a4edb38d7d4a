"""Reads a streamed chat completion as its bytes arrive.

Services end a stream with a finish reason, with ``[DONE]`` (some without the blank line that would
end the event), or with both. Usage comes in a last event without choices, in every event, or within
the choice that finishes (Kimi). A stream that ends with neither a finish reason nor ``[DONE]`` is
truncated; one with only ``[DONE]`` and no text is malformed.

An event that is no chunk is passed over, an error fails the answer wherever it is, and a chunk that
cannot be read fails it too: docs/explanation/answers.md has the whole table.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from contextlib import suppress
from itertools import groupby
from operator import itemgetter
from typing import Any, NamedTuple

from exai_actors.core.calls import Completion, FailureKind, UpstreamFailure
from exai_actors.wire.openai.common_delta import (
    Chunk,
    Template,
    read_common_events,
    read_counts,
    template_of,
)
from exai_actors.wire.openai.error_fields import error_within, is_success
from exai_actors.wire.openai.errors import classify_error
from exai_actors.wire.openai.fields import (
    Malformed,
    UsageReader,
    content_text,
    find_choice,
    finish_failure,
    index_of,
    is_failed,
    parse_finish_reason,
    parse_json,
    parse_name,
    reasoning_text,
    refusal_text,
    repair_surrogates,
)
from exai_actors.wire.openai.redaction import NO_SECRET, Redactor
from exai_actors.wire.openai.server_sent_events import EventTooLarge, ServerSentEvent, SseParser
from exai_actors.wire.openai.tool_calls import ToolCalls

# Some services send the whole answer as one event, in which escapes may double its size.
EVENT_OVERHEAD_BYTES = 1 << 20

FINISH_GRACE_S = 2.0
"""How long usage and ``[DONE]`` may follow a finish reason; some services leave the stream open."""

MAX_PASSED_OVER = 100_000
"""The number of comments, and of events that are no chunk, that a stream may have."""

# Between two JSON values and never within one: a line end without a comma, colon or bracket.
_NEXT_DOCUMENT = re.compile(r"(?<=[]}\"\w])[ \t]*\n\s*(?=[\[{\"\w-])")
_LAST_EVENT = b"data: [DONE]\n\n"
_DONE = re.compile(r"\s*\"?\[done\]\"?\s*", re.IGNORECASE)
_OWN_TYPES = frozenset(
    {"", "message", "data", "delta", "chunk", "completion", "chat.completion.chunk"}
)
_ERROR_TYPE = re.compile(
    r"(?:.*[._-])?(?:error|exception|failed|failure|timeout|abort(?:ed)?)", re.IGNORECASE
)
_CODES = ("code", "status_code", "statusCode")
_PART_OF_TEXT = re.compile(r"delta|message|\"content")
_PART_OF_CHUNK = re.compile(r"choices|delta|content|chat\.completion|finish_reason")
_SOUNDS_LIKE_ERROR = re.compile(
    r"error|exception|fail|denied|invalid|unavailable|overload|exceeded|time[d ]*out|out of memory"
    r"|died|crash|abort|too many|bad gateway|^\s*<|错误|失败|异常|繁忙|超时|不可用|稍后",
    re.IGNORECASE,
)


class Run(NamedTuple):
    """Pieces of one kind that follow each other, joined."""

    text: str
    is_reasoning: bool = False


class StreamReader:
    """Reads one streamed answer: call ``feed`` until ``ended``, then ``finish``.

    If the body ends first, call ``end_of_body`` between. Once ``finished``, only usage may follow,
    for which FINISH_GRACE_S is enough.

    ``max_answer_bytes`` bounds content and reasoning together, in UTF-8. ``now`` is the service's
    wall clock in seconds since 1970 at the beginning, for an error that names an instant.
    ``new_reasoning`` are the pieces of reasoning in the latest data, each with the number of pieces
    of content before it; see ``in_order``.
    """

    __slots__ = (
        "_characters",
        "_cut_reasoning",
        "_done",
        "_event_without_choices",
        "_events",
        "_example",
        "_failure",
        "_fed_from",
        "_finish_reason",
        "_has_delta_text",
        "_high_surrogate",
        "_index",
        "_is_text_completion",
        "_lessons",
        "_max_bytes",
        "_messages_are_whole",
        "_model",
        "_now",
        "_passed_over",
        "_pieces",
        "_possible_error",
        "_reasoning",
        "_reasoning_characters",
        "_redactor",
        "_size",
        "_template",
        "_text_after_finish",
        "_tool_calls",
        "_usage",
        "ended",
        "expects_more",
        "new_reasoning",
    )

    def __init__(
        self,
        model: str,
        max_answer_bytes: int,
        *,
        now: float | None = None,
        redactor: Redactor = NO_SECRET,
    ) -> None:
        self._model = model
        self._now = now
        self._max_bytes = max_answer_bytes
        self._redactor = redactor
        self._events = SseParser(2 * max_answer_bytes + EVENT_OVERHEAD_BYTES)
        self._template: Template | None = None
        # An event with text, from which a template is learned when the next one comes: the first
        # piece should not wait for it.
        self._example: tuple[bytes, Chunk] | None = None
        # How often to look for one: some services send other bytes with each piece.
        self._lessons = 3
        self._pieces: list[str] = []
        self._reasoning: list[str] = []
        self.new_reasoning: list[tuple[int, str]] = []
        self._tool_calls = ToolCalls()
        self._size = self._characters = self._reasoning_characters = 0
        self._high_surrogate = self._cut_reasoning = ""
        self._finish_reason = ""
        self._usage = UsageReader()
        self._index: str | None = None
        self._has_delta_text = False
        self._messages_are_whole: bool | None = None
        self._is_text_completion = False
        self._text_after_finish = False
        self._done = False
        self.ended = False
        """Whether ``[DONE]`` or a failure has been read; later data is ignored."""
        self.expects_more = True
        """Whether the answer has neither ended nor is complete so far."""
        self._fed_from = 0
        """The number of pieces before the latest data."""
        self._passed_over = 0
        self._event_without_choices = ""
        self._possible_error: Any = None
        self._failure: UpstreamFailure | None = None

    @property
    def has_begun(self) -> bool:
        """Whether a piece of the answer or of its reasoning has been read."""
        return bool(self._pieces or self._reasoning or self._tool_calls)

    @property
    def failure(self) -> UpstreamFailure | None:
        """The failure read so far."""
        return self._failure

    @property
    def finished(self) -> bool:
        """Whether a finish reason has been read: the end of the body need not be awaited.

        False where text followed one, as with services that put a finish reason into each chunk.
        """
        return bool(self._finish_reason) and not self._text_after_finish

    @property
    def complete(self) -> bool:
        """Whether all that was read is a complete answer, if nothing more comes."""
        return bool(self._done or self._finish_reason) and self._failure is None

    def feed(self, data: bytes) -> str:
        """The text of the answer in ``data``, without the reasoning."""
        self._fed_from = len(self._pieces)
        if self.new_reasoning:
            self.new_reasoning = []
        rest = self._feed_alike(data)
        if not rest and data:
            return self._pieces[-1]
        self._feed_mixed(rest)
        return "".join(self._pieces[self._fed_from :])

    def in_order(self) -> Iterator[Run]:
        """The text and the reasoning in the latest data, in the order of arrival."""
        start = self._fed_from
        for before, reasoning in groupby(self.new_reasoning, itemgetter(0)):
            if before > start:
                yield Run("".join(self._pieces[start:before]))
                start = before
            yield Run("".join(text for _, text in reasoning), is_reasoning=True)
        if start < len(self._pieces):
            yield Run("".join(self._pieces[start:]))

    def feed_any(self, data: bytes) -> str:
        """The general path of ``feed``."""
        self._fed_from = len(self._pieces)
        self.new_reasoning = []
        self._feed(data)
        self._limit_passed_over()
        return "".join(self._pieces[self._fed_from :])

    def _feed_mixed(self, data: bytes) -> None:
        """Read the common events in one pass, and all others by the general path."""
        if not self._events.is_between_events:
            data = self._feed_one(data)
        while data and self._events.is_between_events and not self.ended:
            if data == _LAST_EVENT:
                self._end()
                return
            rest = self._feed_alike(data)
            if len(rest) == len(data):
                rest = self._feed_common(data)
            if len(rest) == len(data):
                rest = self._feed_counts(data)
            if len(rest) == len(data):
                rest = self._feed_one(data)
                if not rest.startswith(b"data:"):
                    data = rest
                    break
            data = rest
        if data:
            self._feed(data)
        self._limit_passed_over()

    def _feed_alike(self, data: bytes) -> bytes:
        """Read the events that the data begins with and that are one before with another text.

        Return what follows them.
        """
        if self._example is not None:
            self._learn(*self._example)
        if (
            self._template is None
            or not self._events.is_between_events
            or self._high_surrogate
            or self.ended
        ):
            return data
        text, rest = self._template.read(data)
        size = self._size + (len(text) if text.isascii() else len(text.encode()))
        if not text or size > self._max_bytes:
            return data
        # As _add_piece for text without surrogates, which the decoder rejects.
        self._size = size
        self._pieces.append(text)
        self._characters += len(text)
        self._text_after_finish = self._finish_reason != ""
        self._possible_error = None
        return rest

    def _feed_common(self, data: bytes) -> bytes:
        """Read the common events that the data begins with; return what follows them."""
        learns = self._template is None and self._lessons > 0
        chunks, rest = read_common_events(data, until_text=learns)
        if chunks:
            self._events.is_at_start = False
            for chunk in chunks:
                if not self._read_common(chunk):
                    break
            if learns:
                events = data[: -2 - len(rest)]
                self._example = events[events.rfind(b"\n") + 1 :], chunks[-1]
        return rest

    def _feed_counts(self, data: bytes) -> bytes:
        """Read the common event with the token counts; return what follows it."""
        found = read_counts(data)
        if found is None:
            return data
        # As _read_value for such an event.
        counts, document, rest = found
        self._events.is_at_start = False
        self._usage.read(counts.usage)
        if counts.model:
            self._note_model(counts.model)
        self._passed_over += 1
        self._event_without_choices = document.decode()
        return rest

    def _feed_one(self, data: bytes) -> bytes:
        """Read one event, or the rest of one, by the general path; return what follows it."""
        end = data.find(b"\n\n") + 2
        if end < 2:
            end = len(data)
        self._feed(data[:end])
        return data[end:]

    def _feed(self, data: bytes) -> None:
        try:
            for event in self._events.feed(data):
                if self.ended:
                    break
                self._read(event)
        except Malformed as error:
            self._fail(UpstreamFailure(FailureKind.MALFORMED, f"broke off with {error}"))
        except EventTooLarge:
            self._fail_too_large()

    def _limit_passed_over(self) -> None:
        if self._passed_over + self._events.skipped > MAX_PASSED_OVER and not self.ended:
            self._fail(
                UpstreamFailure(
                    FailureKind.MALFORMED,
                    f"sent more than {MAX_PASSED_OVER} comments and events that are no part of an "
                    "answer",
                )
            )

    def _read_common(self, chunk: Chunk) -> bool:
        """As ``_read`` does an event with this chunk; return whether the answer may continue."""
        if chunk.model:
            self._note_model(chunk.model)
        choice = chunk.choices[0]
        if choice.index is not None:
            if self._index is None:
                self._index = "0"
            elif self._index != "0":
                return True
        delta = choice.delta
        if reasoning := delta.reasoning_content or delta.reasoning:
            self._add_reasoning(reasoning)
        if delta.content:
            self._has_delta_text = True
            self._add_piece(delta.content)
        if choice.finish_reason is not None:
            self._finish(choice.finish_reason)
        return self._failure is None

    def _learn(self, event: bytes, chunk: Chunk) -> None:
        """Learn the template of an event, if its text is all that it changes here."""
        self._example = None
        choice = chunk.choices[0]
        delta = choice.delta
        if (
            delta.content
            and not (delta.reasoning_content or delta.reasoning)
            and choice.finish_reason is None
            and (choice.index is None or self._index == "0")
            and (not chunk.model or chunk.model == self._model)
        ):
            self._lessons -= 1
            self._template = template_of(event, chunk)

    def _note_model(self, model: str) -> None:
        if model != self._model:
            self._model = model
            # It may be that of an event with the former model.
            self._template = None

    def end_of_body(self) -> str:
        """The text of an event that the end of the body cut off, if its JSON is whole."""
        self._fed_from = len(self._pieces)
        self.new_reasoning = []
        if not self.ended:
            with suppress(Malformed, EventTooLarge):
                event = self._events.take_unterminated()
                if event is not None:
                    self._read(event)
        return "".join(self._pieces[self._fed_from :])

    def finish(self) -> Completion | UpstreamFailure:
        """The result. Call ``end_of_body`` before if the body has ended."""
        if self._failure is not None:
            return self._failure
        if not (self._done or self._finish_reason):
            return UpstreamFailure(
                FailureKind.TRUNCATED, "ended its stream before the answer was complete"
            )
        if self._possible_error is not None and not self._finish_reason:
            return self._classify(self._possible_error)
        if not (self._finish_reason or self.has_begun):
            excerpt = self._redactor.redact_excerpt(self._event_without_choices)
            found = f"; it sent {excerpt}" if excerpt else ""
            return UpstreamFailure(
                FailureKind.MALFORMED, f"ended its stream without an answer{found}"
            )
        if is_failed(self._finish_reason):
            return finish_failure(self._finish_reason, self._redactor)
        return Completion(
            text="".join(self._pieces),
            model=self._model,
            finish_reason=self._finish_reason or "stop",
            usage=self._usage.usage(has_text=self.has_begun),
            reasoning=repair_surrogates("".join(self._reasoning)),
            tool_calls=self._tool_calls.encoded(),
        )

    def _read(self, event: ServerSentEvent) -> None:
        data, kind = event.data, event.event
        if _ERROR_TYPE.fullmatch(kind):
            self._read_error_event(data)
            return
        for document in _documents(data):
            if self.ended:
                return
            if not document or document.isspace():
                self._passed_over += 1
                continue
            if _DONE.fullmatch(document):
                self._end()
                return
            try:
                parsed = parse_json(document)
            except Malformed:
                if document.startswith("data:"):
                    # A gateway that put its own prefix before that of the service.
                    self._read(ServerSentEvent(document[5:].lstrip(), kind))
                    continue
                if self._is_foreign(document, kind):
                    self._pass_over(document, document)
                    continue
                raise
            self._read_value(parsed, document)
        if kind.lower() == "done":
            self._end()

    def _read_error_event(self, data: str) -> None:
        try:
            values = [(parse_json(document), document) for document in _documents(data)]
        except Malformed:
            if data.lstrip().startswith("{") and _PART_OF_CHUNK.search(data):
                raise
            self._fail_with(data)
            return
        for value, document in values:
            error = error_within(value)
            if error is None and _PART_OF_CHUNK.search(document):
                # A line that lacks the name of its field. Its text must not become that of a
                # failure, which is logged.
                if not (isinstance(value, dict) and value.get("choices")):
                    raise Malformed("JSON that is neither a chunk nor an error")
                self._read_value(value, document)
            else:
                self._fail_with(error or value)
            if self.ended:
                return

    def _read_value(self, parsed: Any, document: str) -> None:
        if error := error_within(parsed):
            self._fail_with(error)
            return
        if not isinstance(parsed, dict):
            self._pass_over(parsed, document)
            return
        if "usage" in parsed:
            self._usage.read(parsed["usage"])
        if model := parse_name(parsed.get("model")):
            self._note_model(model)
        if not parsed.get("choices"):
            self._pass_over(parsed, document)
            return
        choice = find_choice(parsed, self._index)
        if choice is not None:
            if self._index is None:
                self._index = index_of(choice)
            self._read_choice(choice)

    def _is_foreign(self, document: str, kind: str) -> bool:
        """Whether data that is not JSON is no part of the answer, not even a broken one."""
        if self.finished:
            return not _PART_OF_TEXT.search(document)
        if kind.lower() not in _OWN_TYPES:
            return not _PART_OF_CHUNK.search(document)
        return not any(character in document for character in '{}[]"\\')

    def _pass_over(self, value: Any, document: str) -> None:
        """Skip an event that is no chunk, and remember it in case the answer never finishes."""
        self._passed_over += 1
        self._event_without_choices = document
        if isinstance(value, str):
            is_suspect = _SOUNDS_LIKE_ERROR.search(value, 0, 1000) is not None
        else:
            is_suspect = isinstance(value, dict) and (
                bool(value.get("error"))
                or any(isinstance(value.get(key), str) for key in ("message", "msg"))
                or not all(is_success(value.get(key)) for key in _CODES)
                or (type(status := value.get("status")) is int and not is_success(status))
            )
        if is_suspect:
            self._possible_error = value

    def _finish(self, reason: str) -> None:
        self._finish_reason = reason
        self.expects_more = False
        self._flush_surrogate()

    def _end(self) -> None:
        self._done = self.ended = True
        self.expects_more = False
        self._flush_surrogate()

    def _fail(self, failure: UpstreamFailure) -> None:
        self._failure = failure
        self.ended = True
        self.expects_more = False

    def _read_choice(self, choice: dict[str, Any]) -> None:
        delta, message = choice.get("delta"), choice.get("message")
        if isinstance(delta, str):
            delta = {"content": delta}
        elif delta is None and message is None and isinstance(choice.get("text"), str):
            # The form of the older text completions; behind deltas it is the whole answer.
            if self._has_delta_text and not self._is_text_completion:
                message = {"content": choice["text"]}
            else:
                self._is_text_completion = True
                delta = {"content": choice["text"]}
        if isinstance(delta, dict):
            self._read_delta(delta)
        elif delta:
            raise Malformed("a choice whose delta is not an object")
        reason = parse_finish_reason(choice.get("finish_reason"))
        if isinstance(message, dict):
            if delta is None:
                self._read_message(message, is_last=bool(reason))
            elif self._begins_with_all(text := _text_of(message)):
                # Some services repeat the message so far beside each delta.
                self._add_rest(message, text)
        elif message and delta is None:
            raise Malformed("a choice whose message is not an object")
        if reason:
            self._usage.read(choice.get("usage"), replace=False)
            self._finish(reason)

    def _read_delta(self, delta: dict[str, Any]) -> None:
        if reasoning := reasoning_text(delta):
            self._add_reasoning(reasoning)
        if text := content_text(delta.get("content")) or refusal_text(delta):
            self._has_delta_text = True
            self._add_piece(text)
        if calls := delta.get("tool_calls"):
            self._count_characters(self._tool_calls.add_parts(calls))

    def _read_message(self, message: dict[str, Any], *, is_last: bool) -> None:
        """Read a message without a delta: the whole answer so far, or the next part of it."""
        text = _text_of(message)
        if calls := message.get("tool_calls"):
            self._count_characters(self._tool_calls.take_whole(calls))
        if not text or not self._pieces:
            self._add_part(message, text)
        elif self._messages_are_whole is False:
            if not (is_last and self._begins_with_all(text) and len(text) == self._characters):
                self._add_part(message, text)
        elif self._begins_with_all(text):
            if is_last or len(text) > self._characters:
                self._messages_are_whole = True
            self._add_rest(message, text)
        elif self._has_delta_text or self._messages_are_whole:
            # Only once, because it reads all of the text.
            if is_last and not self._finish_reason:
                self._check_repeated(text)
        else:
            self._messages_are_whole = False
            self._add_part(message, text)

    def _add_part(self, message: dict[str, Any], text: str) -> None:
        if text:
            self._add_piece(text)
        if reasoning := reasoning_text(message):
            rest = self._rest_of_reasoning(reasoning)
            self._add_reasoning(reasoning if rest is None else rest)

    def _add_rest(self, message: dict[str, Any], text: str) -> None:
        """Add the rest of a whole message that begins with the text so far."""
        if rest := text[self._characters :]:
            self._high_surrogate = ""
            self._add_piece(rest)
        if reasoning := self._rest_of_reasoning(reasoning_text(message)):
            self._add_reasoning(reasoning)

    def _begins_with_all(self, text: str) -> bool:
        return len(text) >= self._characters and text.startswith("".join(self._pieces))

    def _rest_of_reasoning(self, reasoning: str) -> str | None:
        """The rest of a whole reasoning; None if it does not begin with that so far."""
        so_far = "".join(self._reasoning) if len(reasoning) >= self._reasoning_characters else None
        if so_far is None or not reasoning.startswith(so_far):
            return None
        return reasoning[len(so_far) :]

    def _check_repeated(self, text: str) -> None:
        so_far = "".join(self._pieces)
        if text not in so_far and text.split() != so_far.split():
            raise Malformed("a whole message that is not the text sent before")

    def _add_reasoning(self, reasoning: str) -> None:
        if reasoning:
            self._reasoning.append(reasoning)
            self._cut_reasoning, text = _cut_pair(self._cut_reasoning + reasoning)
            if text:
                self.new_reasoning.append((len(self._pieces), text))
            self._reasoning_characters += len(reasoning)
            self._count(reasoning)

    def _add_piece(self, text: str) -> None:
        if self._high_surrogate:
            text, self._high_surrogate = self._high_surrogate + text, ""
        if not text.isascii():
            self._high_surrogate, text = _cut_pair(text)
        if text:
            self._pieces.append(text)
            self._characters += len(text)
            self._count(text)
            self._text_after_finish = bool(self._finish_reason)
            self._possible_error = None

    def _flush_surrogate(self) -> None:
        if self._high_surrogate:
            self._pieces.append(repair_surrogates(self._high_surrogate))
            self._characters += 1
            self._high_surrogate = ""
        if self._cut_reasoning:
            self.new_reasoning.append((len(self._pieces), repair_surrogates(self._cut_reasoning)))
            self._cut_reasoning = ""

    def _count(self, text: str) -> None:
        self._size += len(text) if text.isascii() else len(text.encode("utf-8", "replace"))
        if self._size > self._max_bytes:
            self._fail_too_large()

    def _count_characters(self, count: int) -> None:
        self._size += count
        if self._size > self._max_bytes:
            self._fail_too_large()

    def _fail_with(self, error: Any) -> None:
        self._fail(self._classify(error))

    def _classify(self, error: Any) -> UpstreamFailure:
        return classify_error(error, now=self._now, model=self._model, redactor=self._redactor)

    def _fail_too_large(self) -> None:
        self._fail(
            UpstreamFailure(
                FailureKind.TOO_LARGE, f"sent an answer larger than {self._max_bytes} bytes"
            )
        )


def _documents(data: str) -> Sequence[str]:
    """The JSON documents of an event: some services put only one line end between two events."""
    if "\n" not in data:
        return (data,)
    try:
        parse_json(data)
    except Malformed:
        return _NEXT_DOCUMENT.split(data)
    return (data,)


def _cut_pair(text: str) -> tuple[str, str]:
    """Half a surrogate pair at the end of ``text``, which waits for its rest, and what precedes."""
    cut = ""
    if "\ud800" <= text[-1] <= "\udbff":
        text, cut = text[:-1], text[-1]
    return cut, repair_surrogates(text)


def _text_of(message: dict[str, Any]) -> str:
    return repair_surrogates(content_text(message.get("content")) or refusal_text(message))
