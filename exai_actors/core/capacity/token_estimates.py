"""The LLM tokens of a call: estimated before, learned after."""

from __future__ import annotations

from exai_actors.core.calls import RelayCall, UpstreamRequest, Usage

FIRST_TOKENS_PER_CHARACTER = 0.25
FIRST_COMPLETION = 256.0
TOKENS_PER_IMAGE = 1000.0
LEARNING_RATE = 0.125
MAX_MODELS = 256
MAX_TOKENS = 10_000_000
MAX_TOKENS_PER_CHARACTER = 4.0


class TokenEstimator:
    """Learns for each model the tokens of a character and of an answer.

    Remembers up to ``MAX_MODELS`` models.
    """

    __slots__ = ("_models",)

    def __init__(self) -> None:
        self._models: dict[str, _Learned] = {}

    def estimate(self, call: UpstreamRequest, characters: float) -> tuple[float, float]:
        """Estimate its prompt and answer tokens; ``characters`` is ``characters_of(call)``.

        Both are at least 1.
        """
        learned = self._models.get(call.model) or self._begin(call.model)
        completion = learned.completion
        if call.max_tokens is not None and call.max_tokens < completion:
            completion = call.max_tokens
        prompt = characters * learned.per_character
        if prompt < 1.0:
            prompt = 1.0
        return prompt, completion

    def learn(
        self, model: str, characters: float, estimate: float, usage: Usage | None, length: int
    ) -> tuple[float, float]:
        """The real tokens of a call's prompt and answer, bounded.

        If the service did not count them, they are the ``estimate`` of its prompt, and follow from
        the ``length`` of its answer. A count of 0 for a prompt, or for an answer that has text, is
        a placeholder and no count. A total above the sum counts in full.
        """
        learned = self._models.get(model) or self._begin(model)
        prompt, completion = estimate, length * learned.per_character
        if usage is not None:
            counted = usage.completion_tokens
            if counted or not length:
                completion = counted
                if usage.total_tokens is not None:
                    completion = max(completion, usage.total_tokens - usage.prompt_tokens)
            counted = usage.prompt_tokens
            if counted or not characters:
                prompt = counted if 1 <= counted <= MAX_TOKENS else _bounded(counted)
                if characters:
                    ratio = prompt / characters
                    if ratio > MAX_TOKENS_PER_CHARACTER:
                        ratio = MAX_TOKENS_PER_CHARACTER
                    learned.per_character += LEARNING_RATE * (ratio - learned.per_character)
        if not 1 <= completion <= MAX_TOKENS:
            completion = _bounded(completion)
        learned.completion += LEARNING_RATE * (completion - learned.completion)
        return prompt, completion

    def _begin(self, model: str) -> _Learned:
        if len(self._models) >= MAX_MODELS:
            del self._models[next(iter(self._models))]
        learned = self._models[model] = _Learned()
        return learned


class _Learned:
    __slots__ = ("completion", "per_character")

    def __init__(self) -> None:
        self.per_character = FIRST_TOKENS_PER_CHARACTER
        self.completion = FIRST_COMPLETION


def characters_of(call: UpstreamRequest) -> float:
    """The length of its prompt, with each image as text of as many tokens."""
    if type(call) is RelayCall:
        return call.characters
    characters = 0.0
    for message in call.messages:
        characters += len(message.content)
        if message.images:
            characters += len(message.images) * TOKENS_PER_IMAGE / FIRST_TOKENS_PER_CHARACTER
    return characters


def _bounded(tokens: float) -> float:
    return min(max(1.0, tokens), MAX_TOKENS)
