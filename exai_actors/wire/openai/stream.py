"""Reads a streamed chat completion as its bytes arrive.

Services end a stream with a finish reason, with ``[DONE]`` (some without the blank line that would
end the event), or with both. Usage comes in a last event without choices, in every event, or within
the choice that finishes (Kimi). A stream that ends with neither a finish reason nor ``[DONE]`` is
truncated; one with only ``[DONE]`` and no text is malformed.
"""

from __future__ import annotations

from typing import Any

from exai_actors.core.calls import Completion, FailureKind, UpstreamFailure, Usage
from exai_actors.wire.openai.errors import classify_error
from exai_actors.wire.openai.fields import (
    FAILED_REASONS,
    Malformed,
    content_text,
    finish_failure,
    first_choice,
    parse_json,
    parse_name,
    parse_usage,
    reasoning_text,
    refusal_text,
    repair_surrogates,
)
from exai_actors.wire.openai.redaction import NO_SECRET, Redactor
from exai_actors.wire.openai.server_sent_events import EventTooLarge, ServerSentEvent, SseParser

# Some services send the whole answer as one event, in which escapes may double its size.
EVENT_OVERHEAD_BYTES = 1 << 20


class StreamReader:
    """Reads one streamed answer: call ``feed`` until ``ended`` or end of body, then ``finish``.

    ``max_answer_bytes`` bounds content and reasoning together, in UTF-8. ``now`` is the service's
    wall clock in seconds since 1970 at the beginning, for an error that names an instant.
    """

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
        self._pieces: list[str] = []
        self._reasoning: list[str] = []
        self._size = 0
        self._high_surrogate = ""
        self._finish_reason = ""
        self._usage: Usage | None = None
        self._done = False
        self._event_without_choices = ""
        self._failure: UpstreamFailure | None = None

    @property
    def ended(self) -> bool:
        """Whether ``[DONE]`` or a failure has been read; later data is ignored."""
        return self._done or self._failure is not None

    @property
    def failure(self) -> UpstreamFailure | None:
        """The failure read so far."""
        return self._failure

    def feed(self, data: bytes) -> list[str]:
        """The pieces of content in ``data``; none is empty."""
        before = len(self._pieces)
        try:
            for event in self._events.feed(data):
                if self.ended:
                    break
                self._read(event)
        except Malformed as error:
            self._failure = UpstreamFailure(FailureKind.MALFORMED, f"broke off with {error}")
        except EventTooLarge:
            self._fail_too_large()
        return self._pieces[before:]

    def finish(self) -> Completion | UpstreamFailure:
        """The result, once the body has ended."""
        if not self.ended:
            self._read_unterminated_event()
        if self._failure is not None:
            return self._failure
        if not (self._done or self._finish_reason):
            return UpstreamFailure(
                FailureKind.TRUNCATED, "ended its stream before the answer was complete"
            )
        if not (self._finish_reason or self._pieces or self._reasoning):
            excerpt = self._redactor.redact_excerpt(self._event_without_choices)
            found = f"; it sent {excerpt}" if excerpt else ""
            return UpstreamFailure(
                FailureKind.MALFORMED, f"ended its stream without an answer{found}"
            )
        if self._finish_reason in FAILED_REASONS:
            return finish_failure(self._finish_reason, self._redactor)
        return Completion(
            text="".join(self._pieces),
            model=self._model,
            finish_reason=self._finish_reason or "stop",
            usage=self._usage,
            reasoning=repair_surrogates("".join(self._reasoning)),
        )

    def _read(self, event: ServerSentEvent) -> None:
        data = event.data
        if event.event == "error":
            self._fail_with(_error_in(data))
            return
        if data.strip() == "[DONE]":
            self._done = True
            self._flush_surrogate()
            return
        if not data:
            return
        parsed = parse_json(data)
        if not isinstance(parsed, dict):
            raise Malformed("an event that is not a JSON object")
        if error := parsed.get("error"):
            self._fail_with(error)
            return
        if "usage" in parsed:
            self._usage = parse_usage(parsed["usage"]) or self._usage
        if "model" in parsed and parsed["model"] != self._model:
            self._model = parse_name(parsed["model"]) or self._model
        choice = first_choice(parsed)
        if choice is None:
            self._event_without_choices = data
        else:
            self._read_choice(choice)

    def _read_choice(self, choice: dict[str, Any]) -> None:
        # Some services repeat the message so far beside each delta.
        if (delta := choice.get("delta")) is None:
            delta = choice.get("message")
        if isinstance(delta, dict):
            self._read_delta(delta)
        elif delta:
            raise Malformed("a choice whose delta is not an object")
        if reason := choice.get("finish_reason"):
            self._usage = self._usage or parse_usage(choice.get("usage"))
            self._finish_reason = parse_name(reason) or self._finish_reason
            self._flush_surrogate()

    def _read_delta(self, delta: dict[str, Any]) -> None:
        if text := content_text(delta.get("content")) or refusal_text(delta):
            self._add_piece(text)
        if reasoning := reasoning_text(delta):
            self._reasoning.append(reasoning)
            self._count(reasoning)

    def _add_piece(self, text: str) -> None:
        if self._high_surrogate:
            text, self._high_surrogate = self._high_surrogate + text, ""
        if not text.isascii():
            # A surrogate pair may be split between two pieces: its first half waits.
            if "\ud800" <= text[-1] <= "\udbff":
                text, self._high_surrogate = text[:-1], text[-1]
            text = repair_surrogates(text)
        if text:
            self._pieces.append(text)
            self._count(text)

    def _flush_surrogate(self) -> None:
        if self._high_surrogate:
            self._pieces.append(repair_surrogates(self._high_surrogate))
            self._high_surrogate = ""

    def _count(self, text: str) -> None:
        self._size += len(text) if text.isascii() else len(text.encode("utf-8", "replace"))
        if self._size > self._max_bytes:
            self._fail_too_large()

    def _read_unterminated_event(self) -> None:
        """An event that the end of the body cut off may still end the stream, nothing else."""
        event = self._events.take_unterminated()
        if event is not None and (event.event == "error" or event.data.strip() == "[DONE]"):
            self._read(event)

    def _fail_with(self, error: Any) -> None:
        self._failure = classify_error(
            error, now=self._now, model=self._model, redactor=self._redactor
        )

    def _fail_too_large(self) -> None:
        self._failure = UpstreamFailure(
            FailureKind.TOO_LARGE, f"sent an answer larger than {self._max_bytes} bytes"
        )


def _error_in(data: str) -> Any:
    """The error in an event of type ``error``: an object, an object inside one, or plain text."""
    try:
        parsed = parse_json(data)
    except Malformed:
        return data
    return parsed.get("error") or parsed if isinstance(parsed, dict) else parsed
