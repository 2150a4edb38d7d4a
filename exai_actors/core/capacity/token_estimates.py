"""How many LLM tokens a call takes: guessed before, learned after.

A session's cost is prompt + 2 * completion tokens, the weights of the Virtual Token Counter
(Sheng et al., "Fairness in Serving Large Language Models", arXiv 2401.00588).
"""

from __future__ import annotations

from exai_actors.core.calls import ChatCall, Usage

FIRST_TOKENS_PER_CHARACTER = 0.25
FIRST_COMPLETION = 256.0
TOKENS_PER_IMAGE = 1000.0
WEIGHT = 0.125
MODELS = 256
MAX_TOKENS = 10_000_000.0


class _Learned:
    __slots__ = ("completion", "per_character")

    def __init__(self) -> None:
        self.per_character = FIRST_TOKENS_PER_CHARACTER
        self.completion = FIRST_COMPLETION


class TokenEstimator:
    """Learns per model how many tokens a character is and how long answers are."""

    __slots__ = ("_models",)

    def __init__(self) -> None:
        self._models: dict[str, _Learned] = {}

    def estimate(self, call: ChatCall, characters: float) -> tuple[float, float]:
        """Tokens of the prompt, which has so many ``characters_of``, and of the answer.

        Both at least 1.
        """
        learned = self._models.get(call.model) or self._begin(call.model)
        prompt = characters * learned.per_character
        completion = learned.completion
        most = call.max_tokens
        if most is not None and most < completion:
            completion = most
        return max(1.0, prompt), completion

    def learn(
        self, model: str, characters: float, estimate: float, usage: Usage | None, length: int
    ) -> tuple[float, float]:
        """What a call really took; by the ``length`` of its text if the upstream did not count.

        ``estimate`` is that of its prompt. Absurd counts are bounded.
        """
        learned = self._models.get(model) or self._begin(model)
        if usage is None:
            prompt, completion = estimate, max(1.0, length * learned.per_character)
        else:
            prompt, completion = usage.prompt_tokens, usage.completion_tokens
            if not 1 <= prompt <= MAX_TOKENS:
                prompt = min(max(1.0, prompt), MAX_TOKENS)
            if not 1 <= completion <= MAX_TOKENS:
                completion = min(max(1.0, completion), MAX_TOKENS)
            if characters:
                ratio = min(prompt / characters, 4.0)
                learned.per_character += WEIGHT * (ratio - learned.per_character)
        learned.completion += WEIGHT * (completion - learned.completion)
        return prompt, completion

    def _begin(self, model: str) -> _Learned:
        if len(self._models) >= MODELS:
            del self._models[next(iter(self._models))]
        learned = self._models[model] = _Learned()
        return learned


def characters_of(call: ChatCall) -> float:
    """How long its prompt is, an image as long as text of as many tokens."""
    messages = call.messages
    if len(messages) == 1 and not messages[0].images:
        return len(messages[0].content)
    characters = 0.0
    for message in messages:
        characters += len(message.content)
        if message.images:
            characters += len(message.images) * TOKENS_PER_IMAGE / FIRST_TOKENS_PER_CHARACTER
    return characters
