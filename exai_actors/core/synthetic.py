"""The built-in synthetic model. Its answers depend on the call and a seed, nothing else.

It is not an AI and says so. Its answer is made of whole sentences and quotes the prompt (shortened
in the middle), so that callers can check that an answer is their own; in a conversation it says
which turn this is and quotes the one before, so that the broker's memory can be seen.
"""

from __future__ import annotations

from functools import lru_cache
from itertools import pairwise
from zlib import crc32

import msgspec

from exai_actors.core.calls import (
    ChatCall,
    ChatMessage,
    Completion,
    FailureKind,
    UpstreamFailure,
    Usage,
)

INTRODUCTION = "This is exai's built-in synthetic model, not an AI."
MAX_ECHO_CHARS = 400
MAX_EARLIER_CHARS = 60

_QUESTION = ('You asked: "', "A real model would answer here, piece by piece, as these words come.")
_TASK = (
    'You asked for: "',
    "A real model would do that here, piece by piece, as these words come.",
)
_REMARK = ('You said: "', "A real model would reply here, piece by piece, as these words come.")
_GREETING = (
    'You said: "',
    "Hello to you, too! Name a service in exai.toml, and a real model answers here.",
)
_FIRST_WORDS = {
    _QUESTION: """am are can could did do does had has have how is may might must shall should was
        were what when where which who whom whose why will would""",
    _TASK: """add ask calculate call change check compare convert count create define describe draft
        draw explain find fix generate give help list make name outline please prove put read
        rewrite say search show solve sort suggest summarise summarize tell test translate try
        write""",
    _GREETING: "greetings hallo hello hey hi howdy",
}
_SHAPES = {word: shape for shape, words in _FIRST_WORDS.items() for word in words.split()}
"""The sentences before and after the quoted prompt, by its first word."""

# They fill an answer up to the length that was asked for.
_MORE = (
    "A permit is the right to one call at a service.",
    "The broker grants permits in fair shares, by the cost of calls.",
    "A request that cannot run yet waits, and its client sees the position.",
    "Ctrl-C cancels a request, and its permit becomes free for the next one.",
    "Nothing of this has left your machine, and nothing of it costs money.",
    "The seed and the prompt decide the order of these sentences.",
    "They are here to fill the length that the configuration asks for.",
    "A real answer would be of more use to you than this one.",
)
_MORE_WORDS = sum(sentence.count(" ") + 1 for sentence in _MORE)
_MASK = (1 << 64) - 1


class SyntheticModel(msgspec.Struct, frozen=True):
    """Settings that determine answers.

    ``tokens`` is the number of pieces of a whole answer, which gets more sentences until it has as
    many words; 0: one for each word of a short answer. ``failure_rate`` is the share of calls that
    fail, from 0 to 1; seed and number of a call decide whether it does.
    """

    tokens: int = 0
    failure_rate: float = 0.0
    seed: int = 0

    def answer(self, call: ChatCall) -> Completion:
        """The whole answer to ``call``; ``pieces`` splits its text."""
        messages = call.messages
        prompt = messages[-1].content if messages else ""
        text = _short_answer(prompt, messages)
        words = text.count(" ") + 1
        if words < self.tokens:
            start = (crc32(prompt.encode("utf-8", "replace")) ^ self.seed) % len(_MORE)
            text = f"{text} {_more(start, self.tokens - words)}"
        tokens = self.tokens or words
        finish_reason = "stop"
        if call.max_tokens is not None and call.max_tokens < tokens:
            tokens, finish_reason = call.max_tokens, "length"
            text = " ".join(text.split(" ", tokens)[:tokens])
        return Completion(
            text=text,
            model=call.model,
            finish_reason=finish_reason,
            usage=Usage(prompt_tokens=_words(messages), completion_tokens=tokens),
        )

    def fails(self, number: int) -> bool:
        """Whether call ``number``, counted from 1, fails."""
        if self.failure_rate <= 0:
            return False
        return _mixed(self.seed, number) < self.failure_rate * (_MASK + 1)

    def failure(self, number: int) -> UpstreamFailure:
        """The failure of call ``number``."""
        return UpstreamFailure(
            FailureKind.SERVER_ERROR,
            f"the synthetic model failed call {number} on purpose "
            f"(failure_rate = {self.failure_rate:g})",
        )


def _short_answer(prompt: str, messages: tuple[ChatMessage, ...]) -> str:
    before, after = _shape(prompt)
    quoted = _shorten(prompt, MAX_ECHO_CHARS)
    stop = "" if quoted.endswith((".", "?", "!", "…")) else "."
    if len(messages) > 1:
        after = f"{_circumstances(messages)}{after}"
    return f'{INTRODUCTION} {before}{quoted}"{stop} {after}'


def _shape(prompt: str) -> tuple[str, str]:
    """The sentences for a question, a task, a greeting or a remark."""
    if prompt.rstrip().endswith("?"):
        return _QUESTION
    first = prompt[:40].split(None, 1)
    return _SHAPES.get(first[0].strip(",.:;!'\"").lower(), _REMARK) if first else _REMARK


def _circumstances(messages: tuple[ChatMessage, ...]) -> str:
    """Sentences on the instructions and the turns before, as far as the call has them."""
    turns = [message.content for message in messages if message.role == "user"]
    found = ""
    if messages[0].role == "system":
        found = f'My instructions: "{_shorten(messages[0].content, MAX_EARLIER_CHARS)}" '
    if len(turns) > 1:
        found += f'This is turn {len(turns)}; before: "{_shorten(turns[-2], MAX_EARLIER_CHARS)}" '
    return found


def _shorten(text: str, most: int) -> str:
    """The text, or the beginning and end of a long one."""
    if len(text) <= most:
        return text
    half = most // 2
    return f"{text[:half]} … {text[-half:]}"


def _words(messages: tuple[ChatMessage, ...]) -> int:
    if len(messages) == 1:
        return messages[0].content.count(" ") + 1
    return sum(message.content.count(" ") + 1 for message in messages)


def pieces(answer: Completion, count: int) -> list[str]:
    """The answer's text as at most ``count`` pieces, cut at spaces; joined they are the text."""
    words = answer.text.split(" ")
    parts = min(max(1, count), len(words))
    cuts = [len(words) * at // parts for at in range(parts + 1)]
    groups = [" ".join(words[a:b]) for a, b in pairwise(cuts)]
    return [f"{group} " for group in groups[:-1]] + groups[-1:]


@lru_cache(maxsize=32)
def _more(start: int, words: int) -> str:
    """Whole sentences with at least so many words."""
    rounds, missing = divmod(words, _MORE_WORDS)
    order = [_MORE[(start + at) % len(_MORE)] for at in range(len(_MORE))]
    sentences = order * rounds
    for sentence in order:
        if missing <= 0:
            break
        sentences.append(sentence)
        missing -= sentence.count(" ") + 1
    return " ".join(sentences)


def _mixed(seed: int, number: int) -> int:
    """A uniform 64-bit number for each pair (SplitMix64 by Steele, Lea and Flood)."""
    state = (seed * 0x9E3779B97F4A7C15 + number * 0xD1B54A32D192ED03) & _MASK
    state = ((state ^ (state >> 30)) * 0xBF58476D1CE4E5B9) & _MASK
    state = ((state ^ (state >> 27)) * 0x94D049BB133111EB) & _MASK
    return state ^ (state >> 31)
