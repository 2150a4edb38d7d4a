"""A streamed chat completion, read as its bytes come in.

Services differ in how a stream ends: with a finish reason, with ``[DONE]`` (even without the blank
line that would end its event), or with both; with usage in a last event without choices, in every
event, or within the choice that finishes (Kimi). An end with neither is no answer, nor is one
without a word and without a finish reason.
"""

from __future__ import annotations

from typing import Any

from exai_actors.core.calls import Completion, FailureKind, UpstreamFailure, Usage
from exai_actors.wire.openai.errors import NO_SECRET, Redactor, error_event
from exai_actors.wire.openai.fields import (
    FAILED_REASONS,
    Malformed,
    first_choice,
    load,
    model_failed,
    name_of,
    reasoning_of,
    refusal_of,
    text_of,
    usage_of,
    whole,
)
from exai_actors.wire.openai.server_sent_events import EventTooLarge, ServerSentEvent, SseParser

# An event holds a piece of an answer, but some services send the whole answer as one, escaped.
EVENT_OVERHEAD_BYTES = 1 << 20


class StreamReader:
    """Reads one streamed answer.

    Feed it bytes until ``ended`` or the end of the body, then ``finish``. ``max_answer_bytes``
    bounds content and reasoning together, in UTF-8. ``now`` is the wall clock at the beginning,
    for an error that names an instant.
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
        self._max = max_answer_bytes
        self._speaker = redactor
        self._events = SseParser(2 * max_answer_bytes + EVENT_OVERHEAD_BYTES)
        self._pieces: list[str] = []
        self._reasoning: list[str] = []
        self._size = 0
        self._half = ""
        self._finish_reason = ""
        self._usage: Usage | None = None
        self._done = False
        self._aside = ""
        self._failure: UpstreamFailure | None = None

    @property
    def ended(self) -> bool:
        """Whether ``[DONE]`` or a failure has been read: nothing that follows matters."""
        return self._done or self._failure is not None

    @property
    def failure(self) -> UpstreamFailure | None:
        """What has gone wrong so far."""
        return self._failure

    def feed(self, data: bytes) -> list[str]:
        """The pieces of content in these bytes; none is empty."""
        before = len(self._pieces)
        try:
            for event in self._events.feed(data):
                if self.ended:
                    break
                if event.event == "error":
                    self._fail_with(_error_told(event.data))
                else:
                    self._read(event)
        except Malformed as found:
            self._fail(FailureKind.MALFORMED, f"broke off with {found}")
        except EventTooLarge:
            self._too_large()
        return self._pieces[before:]

    def finish(self) -> Completion | UpstreamFailure:
        """What the stream amounts to, now that no more of it comes."""
        if not self.ended:
            self._read_the_cut_off()
        if self._failure is not None:
            return self._failure
        if not (self._done or self._finish_reason):
            return UpstreamFailure(
                FailureKind.TRUNCATED, "ended its stream before the answer was whole"
            )
        if not (self._finish_reason or self._pieces or self._reasoning):
            said = self._speaker.redact_excerpt(self._aside) or "nothing"
            return UpstreamFailure(
                FailureKind.MALFORMED, f"ended its stream without an answer; it said {said}"
            )
        if self._finish_reason in FAILED_REASONS:
            return model_failed(self._finish_reason, self._speaker)
        return Completion(
            text="".join(self._pieces),
            model=self._model,
            finish_reason=self._finish_reason or "stop",
            usage=self._usage,
            reasoning=whole("".join(self._reasoning)),
        )

    def _read(self, event: ServerSentEvent) -> None:
        data = event.data
        if data.strip() == "[DONE]":
            self._done = True
            self._give_up_half()
            return
        if not data:
            return
        parsed = load(data)
        if not isinstance(parsed, dict):
            raise Malformed("an event that is no JSON object")
        if error := parsed.get("error"):
            self._fail_with(error)
            return
        if "usage" in parsed:
            self._usage = usage_of(parsed["usage"]) or self._usage
        if "model" in parsed and parsed["model"] != self._model:
            self._model = name_of(parsed["model"]) or self._model
        choice = first_choice(parsed)
        if choice is None:
            self._aside = data
            return
        # Some send the message so far beside each delta.
        if (delta := choice.get("delta")) is None:
            delta = choice.get("message")
        if isinstance(delta, dict):
            self._take(delta)
        elif delta:
            raise Malformed("a choice whose delta is no object")
        if reason := choice.get("finish_reason"):
            self._usage = self._usage or usage_of(choice.get("usage"))
            self._finish_reason = name_of(reason) or self._finish_reason
            self._give_up_half()

    def _take(self, delta: dict[str, Any]) -> None:
        content = delta.get("content")
        if text := content if isinstance(content, str) else text_of(content):
            self._add_piece(text)
        elif refusal := refusal_of(delta):
            self._add_piece(refusal)
        if ("reasoning_content" in delta or "reasoning" in delta) and (
            thought := reasoning_of(delta)
        ):
            self._reasoning.append(thought)
            self._grow(thought)

    def _add_piece(self, text: str) -> None:
        if self._half:
            text, self._half = self._half + text, ""
        if not text.isascii():
            # A pair of surrogates may be spread over two pieces: its first half waits.
            if "\ud800" <= text[-1] <= "\udbff":
                text, self._half = text[:-1], text[-1]
            text = whole(text)
        if text:
            self._pieces.append(text)
            self._grow(text)

    def _give_up_half(self) -> None:
        if self._half:
            self._pieces.append(whole(self._half))
            self._half = ""

    def _grow(self, text: str) -> None:
        self._size += len(text) if text.isascii() else len(text.encode("utf-8", "replace"))
        if self._size > self._max:
            self._too_large()

    def _too_large(self) -> None:
        self._fail(FailureKind.TOO_LARGE, f"sent an answer larger than {self._max} bytes")

    def _read_the_cut_off(self) -> None:
        """What its end cuts off of a stream can say how it ended, and nothing else."""
        event = self._events.cut_off()
        if event is None:
            return
        if event.event == "error":
            self._fail_with(_error_told(event.data))
        elif event.data.strip() == "[DONE]":
            self._read(event)

    def _fail_with(self, error: Any) -> None:
        self._failure = error_event(error, now=self._now, redactor=self._speaker)

    def _fail(self, kind: FailureKind, told: str) -> None:
        self._failure = UpstreamFailure(kind, told)


def _error_told(data: str) -> Any:
    """The error in an event of that type: an object, one within another, or plain words."""
    try:
        parsed = load(data)
    except Malformed:
        return data
    return parsed.get("error") or parsed if isinstance(parsed, dict) else parsed
