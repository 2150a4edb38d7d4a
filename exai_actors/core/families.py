"""The families of HTTP APIs: within one, a request is passed on as it is."""

from __future__ import annotations

from typing import Literal

Family = Literal["chat", "messages", "responses", "embeddings"]
"""Chat completions, Anthropic's Messages with its count of tokens, Responses, embeddings."""
