"""Accounts and servers with their addresses and limits, as defaults for keys of ``[[provider]]``.

The figures are the services' own; ``source`` names the page. Where a service publishes no limit of
calls in flight, or another one for each account, the preset starts with ``START_LIMIT`` and is
adaptive. Accounts differ and pages change, so a key in the file overrides its preset.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec

KIMI_PAGE = "https://platform.moonshot.ai/docs/pricing/limits"
GLM_PAGE = "https://z.ai/manage-apikey/rate-limits (each account sees its own)"
START_LIMIT = 8


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


def _hosted(about: str, source: str, name: str, base_url: str, **limits: Any) -> Preset:
    """A service with ``NAME_API_KEY``; without a published ``limit`` a small adaptive one."""
    values: dict[str, Any] = {
        "kind": "openai",
        "name": name,
        "base_url": base_url,
        "api_key_env": f"{name.upper()}_API_KEY",
    }
    if "limit" not in limits:
        values |= {"limit": START_LIMIT, "adaptive": True}
    return Preset(about, source, values | limits)


_OPENROUTER = "https://openrouter.ai/api/v1"
_OPENROUTER_PAGE = "https://openrouter.ai/docs/api-reference/limits"

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
    "openai": _hosted(
        "OpenAI; limits per model and usage tier, see your account's page",
        "https://platform.openai.com/docs/guides/rate-limits",
        "openai",
        "https://api.openai.com/v1",
    ),
    "anthropic": _hosted(
        "Anthropic's OpenAI-compatible endpoint, which it offers for tests and comparisons; limits "
        "per model and usage tier",
        "https://platform.claude.com/docs/en/cli-sdks-libraries/libraries/openai-sdk",
        "anthropic",
        "https://api.anthropic.com/v1",
    ),
    "openrouter": _hosted(
        "OpenRouter, models that are paid for; each model has limits of its own",
        _OPENROUTER_PAGE,
        "openrouter",
        _OPENROUTER,
    ),
    "openrouter-free": _hosted(
        "OpenRouter, models whose names end in :free, with less than 10 credits bought (1,000 "
        "requests a day with more)",
        _OPENROUTER_PAGE,
        "openrouter",
        _OPENROUTER,
        requests_per_minute=20,
        requests_per_day=50,
    ),
    "deepseek": _hosted(
        "DeepSeek: calls in flight per model, none per minute",
        "https://api-docs.deepseek.com/quick_start/rate_limit",
        "deepseek",
        "https://api.deepseek.com",
        limit=500,
        model_limits={"deepseek-v4-pro": 500, "deepseek-v4-flash": 2500},
    ),
    "groq": _hosted(
        "Groq; limits per model and plan, see your account's page",
        "https://console.groq.com/docs/openai and /docs/rate-limits",
        "groq",
        "https://api.groq.com/openai/v1",
    ),
    "mistral": _hosted(
        "Mistral; limits per workspace, at admin.mistral.ai/plateforme/limits",
        "https://docs.mistral.ai/api",
        "mistral",
        "https://api.mistral.ai/v1",
    ),
    "minimax": _hosted(
        "MiniMax, international platform (in China: api.minimaxi.com); limits per model and plan",
        "https://platform.minimax.io/docs/api-reference/text-openai-api",
        "minimax",
        "https://api.minimax.io/v1",
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
