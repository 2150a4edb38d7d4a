"""Accounts and servers with their addresses and limits, as defaults for keys of ``[[provider]]``.

The figures are the services' own; ``source`` names the page with the limits, ``apis`` that with
the families. Where a service publishes no limit of calls in flight, or another one for each
account, the preset starts with ``START_LIMIT`` and is adaptive. Accounts differ and pages change,
so a key in the file overrides its preset.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec

KIMI_PAGE = "https://platform.moonshot.ai/docs/pricing/limits"
GLM_PAGE = "https://z.ai/manage-apikey/rate-limits (each account sees its own)"
START_LIMIT = 8
_ZAI_APIS = "https://docs.z.ai/devpack/tool/claude"


class Preset(msgspec.Struct, frozen=True):
    """``values`` are keys of ``[[provider]]``; ``about`` describes the account or server."""

    about: str
    source: str
    apis: str
    values: Mapping[str, Any]


def _kimi(
    tier: int, recharge: str, limit: int, requests: int, tokens: int, tokens_per_day: int = 0
) -> Preset:
    values = {
        "kind": "openai",
        "name": "kimi",
        "base_url": "https://api.moonshot.ai/v1",
        "families": ("chat", "messages"),
        "messages_base_url": "https://api.moonshot.ai/anthropic",
        "api_key_env": "KIMI_API_KEY",
        "limit": limit,
        "requests_per_minute": requests,
        "tokens_per_minute": tokens,
    }
    if tokens_per_day:
        values["tokens_per_day"] = tokens_per_day
    about = f"Kimi (Moonshot), tier {tier}: {recharge} recharged"
    return Preset(about, KIMI_PAGE, "https://platform.moonshot.ai/docs/guide/agent-support", values)


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


def _glm(about: str, base_url: str, apis: str = _ZAI_APIS, **more: Any) -> Preset:
    values: dict[str, Any] = {
        "kind": "openai",
        "name": "glm",
        "base_url": base_url,
        "families": ("chat", "messages"),
        "messages_base_url": "https://api.z.ai/api/anthropic",
        "api_key_env": "GLM_API_KEY",
        "limit": 1,
        "model_limits": dict.fromkeys(_GLM_MODELS, 1),
    }
    return Preset(about, GLM_PAGE, apis, values | more)


def _local(
    about: str, source: str, apis: str, port: int, name: str, limit: int, **more: Any
) -> Preset:
    """A server of this machine with all families."""
    values = {
        "kind": "openai",
        "name": name,
        "base_url": f"http://127.0.0.1:{port}/v1",
        "families": ("chat", "messages", "responses", "embeddings"),
        "limit": limit,
    }
    return Preset(about, source, apis, values | more)


def _hosted(about: str, source: str, apis: str, name: str, base_url: str, **more: Any) -> Preset:
    """A service with ``NAME_API_KEY``; without a published ``limit`` a small adaptive one."""
    values: dict[str, Any] = {
        "kind": "openai",
        "name": name,
        "base_url": base_url,
        "api_key_env": f"{name.upper().replace('-', '_')}_API_KEY",
    }
    if "limit" not in more:
        values |= {"limit": START_LIMIT, "adaptive": True}
    return Preset(about, source, apis, values | more)


_OPENROUTER = "https://openrouter.ai/api/v1"
_OPENROUTER_PAGE = "https://openrouter.ai/docs/api-reference/limits"
_OPENROUTER_APIS = "https://openrouter.ai/docs/api-reference/overview"
_ALL = ("chat", "messages", "responses", "embeddings")

PRESETS: Mapping[str, Preset] = {
    "kimi-tier-0": _kimi(0, "$1", 1, 3, 500_000, 1_500_000),
    "kimi-tier-1": _kimi(1, "$10", 50, 200, 2_000_000),
    "kimi-tier-2": _kimi(2, "$20", 100, 500, 3_000_000),
    "kimi-tier-3": _kimi(3, "$100", 200, 5_000, 3_000_000),
    "kimi-tier-4": _kimi(4, "$1,000", 400, 5_000, 4_000_000),
    "kimi-tier-5": _kimi(5, "$3,000", 1_000, 10_000, 5_000_000),
    "kimi-coding": _hosted(
        "Kimi coding plan, which serves known coding agents only and is for one person's; 300 to "
        "1,200 requests in 5 hours",
        "https://www.kimi.com/code/docs",
        "https://www.kimi.com/code/docs",
        "kimi-coding",
        "https://api.kimi.com/coding/v1",
        families=("chat", "messages"),
        messages_base_url="https://api.kimi.com/coding",
        limit=30,
    ),
    "glm": _glm("GLM (Z.ai), paid by use: one call per model", "https://api.z.ai/api/paas/v4"),
    "glm-coding": _glm(
        "GLM (Z.ai), coding plan, which is for one person's agents: one call per model",
        "https://api.z.ai/api/coding/paas/v4",
        f"{_ZAI_APIS} and /codex",
        families=("chat", "messages", "responses"),
        responses_base_url="https://api.z.ai/api/v1",
    ),
    "openai": _hosted(
        "OpenAI; limits per model and usage tier, see your account's page",
        "https://platform.openai.com/docs/guides/rate-limits",
        "https://platform.openai.com/docs/api-reference",
        "openai",
        "https://api.openai.com/v1",
        families=("chat", "responses", "embeddings"),
    ),
    "anthropic": _hosted(
        "Anthropic; its chat completions, which it offers for tests and comparisons, as well as "
        "its own API; limits per model and usage tier",
        "https://platform.claude.com/docs/en/cli-sdks-libraries/libraries/openai-sdk",
        "https://platform.claude.com/docs/en/api/messages",
        "anthropic",
        "https://api.anthropic.com/v1",
        families=("chat", "messages"),
        messages_api_key_header="x-api-key",
        count_tokens="relay",
    ),
    "openrouter": _hosted(
        "OpenRouter, models that are paid for; each model has limits of its own",
        _OPENROUTER_PAGE,
        _OPENROUTER_APIS,
        "openrouter",
        _OPENROUTER,
        families=_ALL,
    ),
    "openrouter-free": _hosted(
        "OpenRouter, models whose names end in :free, with less than 10 credits bought (1,000 "
        "requests a day with more)",
        _OPENROUTER_PAGE,
        _OPENROUTER_APIS,
        "openrouter",
        _OPENROUTER,
        families=_ALL,
        requests_per_minute=20,
        requests_per_day=50,
    ),
    "deepseek": _hosted(
        "DeepSeek: calls in flight per model, none per minute",
        "https://api-docs.deepseek.com/quick_start/rate_limit",
        "https://api-docs.deepseek.com/guides/anthropic_api",
        "deepseek",
        "https://api.deepseek.com",
        families=("chat", "messages"),
        messages_base_url="https://api.deepseek.com/anthropic",
        messages_api_key_header="x-api-key",
        limit=500,
        model_limits={"deepseek-v4-pro": 500, "deepseek-v4-flash": 2500},
    ),
    "groq": _hosted(
        "Groq; limits per model and plan, see your account's page",
        "https://console.groq.com/docs/openai and /docs/rate-limits",
        "https://console.groq.com/docs/openai",
        "groq",
        "https://api.groq.com/openai/v1",
    ),
    "mistral": _hosted(
        "Mistral; limits per workspace, at admin.mistral.ai/plateforme/limits",
        "https://docs.mistral.ai/api",
        "https://docs.mistral.ai/api",
        "mistral",
        "https://api.mistral.ai/v1",
        families=("chat", "embeddings"),
    ),
    "minimax": _hosted(
        "MiniMax, international platform (in China: api.minimaxi.com); limits per model and plan",
        "https://platform.minimax.io/docs/api-reference/text-openai-api",
        "https://platform.minimax.io/docs/api-reference/text-anthropic-api",
        "minimax",
        "https://api.minimax.io/v1",
        families=("chat", "messages"),
        messages_base_url="https://api.minimax.io/anthropic",
    ),
    "ollama": _local(
        "Ollama on this machine",
        "its FAQ: OLLAMA_NUM_PARALLEL is 1",
        "https://docs.ollama.com/api/anthropic-compatibility and /api/openai-compatibility",
        11434,
        "ollama",
        1,
    ),
    "llama.cpp": _local(
        "llama.cpp's server on this machine",
        "its README: --parallel, one slot",
        "https://github.com/ggml-org/llama.cpp/blob/master/tools/server/README.md",
        8080,
        "llama",
        1,
        count_tokens="relay",
    ),
    "vllm": _local(
        "vLLM on this machine",
        "its engine arguments: --max-num-seqs is 256",
        "https://docs.vllm.ai/en/stable/serving/online_serving.html",
        8000,
        "vllm",
        256,
        count_tokens="relay",
    ),
    "lm-studio": _local(
        "LM Studio on this machine",
        "its manual: Max Concurrent Predictions is 4",
        "https://lmstudio.ai/docs/developer/anthropic-compat and /openai-compat",
        1234,
        "lms",
        4,
    ),
}
