"""The built-in synthetic model. Its answers depend on the call and a seed, nothing else.

It is not an AI and says so. Its answer repeats the prompt (shortened in the middle), so that
callers can check that an answer is their own.
"""

from __future__ import annotations

from functools import lru_cache
from itertools import pairwise
from zlib import crc32

import msgspec

from exai_actors.core.calls import ChatCall, Completion, FailureKind, UpstreamFailure, Usage

INTRODUCTION = "This is exai's built-in synthetic model, not an AI. You said:"
MAX_ECHO_CHARS = 400
FILLER = (
    "Words follow only to fill the length that was asked for: they mean nothing, cost nothing, "
    "and come in an order that the seed and the prompt decide."
)

_WORDS = tuple(FILLER.split())
_MASK = (1 << 64) - 1


class SyntheticModel(msgspec.Struct, frozen=True):
    """Settings that determine answers. ``tokens`` is the number of pieces of a whole answer.

    ``failure_rate`` is the share of calls that fail, from 0 to 1; seed and number of a call decide
    whether it does.
    """

    tokens: int = 16
    failure_rate: float = 0.0
    seed: int = 0

    def answer(self, call: ChatCall) -> Completion:
        """The whole answer to ``call``; ``pieces`` splits its text."""
        prompt = call.messages[-1].content if call.messages else ""
        limit = self.tokens
        cut = False
        if call.max_tokens is not None and call.max_tokens < limit:
            limit, cut = call.max_tokens, True
        text = f"{INTRODUCTION} {_shorten(prompt)}"
        missing = limit - text.count(" ") - 1
        if missing > 0:
            start = (crc32(prompt.encode("utf-8", "replace")) ^ self.seed) % len(_WORDS)
            text = f"{text} {_filler(start, missing)}"
        return Completion(
            text=text,
            model=call.model,
            finish_reason="length" if cut else "stop",
            usage=Usage(prompt_tokens=prompt.count(" ") + 1, completion_tokens=limit),
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


def _shorten(prompt: str) -> str:
    """The prompt, or the beginning and end of a long one."""
    if len(prompt) <= MAX_ECHO_CHARS:
        return prompt
    half = MAX_ECHO_CHARS // 2
    return f"{prompt[:half]} … {prompt[-half:]}"


def pieces(answer: Completion, count: int) -> list[str]:
    """The answer's text as at most ``count`` pieces, cut at spaces; joined they are the text."""
    words = answer.text.split(" ")
    parts = min(max(1, count), len(words))
    cuts = [len(words) * at // parts for at in range(parts + 1)]
    groups = [" ".join(words[a:b]) for a, b in pairwise(cuts)]
    return [f"{group} " for group in groups[:-1]] + groups[-1:]


@lru_cache(maxsize=256)
def _filler(start: int, count: int) -> str:
    return " ".join(_WORDS[(start + at) % len(_WORDS)] for at in range(count))


def _mixed(seed: int, number: int) -> int:
    """A uniform 64-bit number for each pair (SplitMix64 by Steele, Lea and Flood)."""
    state = (seed * 0x9E3779B97F4A7C15 + number * 0xD1B54A32D192ED03) & _MASK
    state = ((state ^ (state >> 30)) * 0xBF58476D1CE4E5B9) & _MASK
    state = ((state ^ (state >> 27)) * 0x94D049BB133111EB) & _MASK
    return state ^ (state >> 31)
