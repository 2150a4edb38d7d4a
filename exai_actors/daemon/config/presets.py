"""Accounts and servers with published limits, as defaults for the keys of ``[[provider]]``.

The figures are the services' own; ``source`` names the page. Accounts differ and pages change, so
a key in the file overrides its preset.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec

KIMI_PAGE = "https://platform.moonshot.ai/docs/pricing/limits"
GLM_PAGE = "https://z.ai/manage-apikey/rate-limits (each account sees its own)"


class Preset(msgspec.Struct, frozen=True):
    """``values`` are keys of ``[[provider]]``; ``about`` describes the account or server."""

    about: str
    source: str
    values: Mapping[str, Any]


def _kimi(
    tier: int, recharge: str, limit: int, requests: int, tokens: int, tokens_per_day: int = 0
) -> Preset:
    values = {
        "kind": "openai",
        "name": "kimi",
        "base_url": "https://api.moonshot.ai/v1",
        "api_key_env": "KIMI_API_KEY",
        "limit": limit,
        "requests_per_minute": requests,
        "tokens_per_minute": tokens,
    }
    if tokens_per_day:
        values["tokens_per_day"] = tokens_per_day
    return Preset(f"Kimi (Moonshot), tier {tier}: {recharge} recharged", KIMI_PAGE, values)


# An account without a package may have one call per model in flight.
_GLM_MODELS = (
    "glm-5",
    "glm-4.7",
    "glm-4.7-flash",
    "glm-4.6",
    "glm-4.6v",
    "glm-4.5",
    "glm-4.5-air",
    "glm-4.5-flash",
    "glm-4.5v",
)


def _glm(about: str, base_url: str) -> Preset:
    values = {
        "kind": "openai",
        "name": "glm",
        "base_url": base_url,
        "api_key_env": "GLM_API_KEY",
        "limit": 1,
        "model_limits": dict.fromkeys(_GLM_MODELS, 1),
    }
    return Preset(about, GLM_PAGE, values)


def _local(about: str, source: str, port: int, name: str, limit: int) -> Preset:
    values = {
        "kind": "openai",
        "name": name,
        "base_url": f"http://127.0.0.1:{port}/v1",
        "limit": limit,
    }
    return Preset(about, source, values)


PRESETS: Mapping[str, Preset] = {
    "kimi-tier-0": _kimi(0, "$1", 1, 3, 500_000, 1_500_000),
    "kimi-tier-1": _kimi(1, "$10", 50, 200, 2_000_000),
    "kimi-tier-2": _kimi(2, "$20", 100, 500, 3_000_000),
    "kimi-tier-3": _kimi(3, "$100", 200, 5_000, 3_000_000),
    "kimi-tier-4": _kimi(4, "$1,000", 400, 5_000, 4_000_000),
    "kimi-tier-5": _kimi(5, "$3,000", 1_000, 10_000, 5_000_000),
    "glm": _glm("GLM (Z.ai), paid by use: one call per model", "https://api.z.ai/api/paas/v4"),
    "glm-coding": _glm(
        "GLM (Z.ai), coding plan: one call per model", "https://api.z.ai/api/coding/paas/v4"
    ),
    "ollama": _local(
        "Ollama on this machine", "its FAQ: OLLAMA_NUM_PARALLEL is 1", 11434, "ollama", 1
    ),
    "llama.cpp": _local(
        "llama.cpp's server on this machine", "its README: --parallel, one slot", 8080, "llama", 1
    ),
    "vllm": _local(
        "vLLM on this machine", "its engine arguments: --max-num-seqs is 256", 8000, "vllm", 256
    ),
    "lm-studio": _local(
        "LM Studio on this machine", "its manual: Max Concurrent Predictions is 4", 1234, "lms", 4
    ),
}
