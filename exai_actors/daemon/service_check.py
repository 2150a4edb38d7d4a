"""Try the address and key of each provider, without a request that costs tokens.

The only requests are lists of models: with the key, and where that is accepted once more without
it, since some services list their models to anyone.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import Literal
from urllib.parse import urlsplit

import msgspec

from exai_actors.core.calls import FailureKind, UpstreamFailure
from exai_actors.daemon.config.provider_tables import OpenAIProvider, ProviderConfig
from exai_actors.daemon.config.tables import Config
from exai_actors.daemon.config.wording import did_you_mean
from exai_actors.daemon.settings import http_settings
from exai_actors.edges.http.upstream import HttpUpstream
from exai_actors.ids import ProviderName
from exai_actors.messages.provider import ModelsListed, ModelsUnavailable, ProviderMessage
from exai_actors.messages.recipient import Offer

Verdict = Literal["ok", "warning", "failed"]
MODELS_SHOWN = 3


@dataclass(frozen=True)
class Check:
    """The result for one provider; ``text`` has the cure unless the verdict is ``ok``."""

    provider: str
    verdict: Verdict
    text: str
    models: tuple[str, ...] = ()


async def check_services(config: Config) -> list[Check]:
    """Check all providers of a configuration at the same time; the results in its order."""
    checks = (_check(provider, config) for provider in config.provider)
    return await asyncio.gather(*checks)


async def _check(provider: ProviderConfig, config: Config) -> Check:
    if not isinstance(provider, OpenAIProvider):
        return Check(provider.name, "ok", "built in, there is nothing to connect to")
    key = config.api_keys.get(ProviderName(provider.name))
    if provider.api_key_env and key is None:
        return Check(
            provider.name,
            "failed",
            f"the key is missing; set it with: export {provider.api_key_env}=...",
        )
    answer = await _models(provider, key)
    if isinstance(answer, UpstreamFailure):
        return await _failed(provider, key, answer)
    return await _listed(provider, key, answer)


async def _listed(provider: OpenAIProvider, key: str | None, models: tuple[str, ...]) -> Check:
    where = f"{_count(models)} at {provider.base_url}"
    missing = [model for model in provider.models if model not in models]
    if missing:
        text = f'{where}, but not "{missing[0]}"{did_you_mean(missing[0], models)}'
        return Check(provider.name, "warning", f"{text}; correct `models`", models)
    if not models:
        text = f"{provider.base_url} lists no models; load one there, or write them in `models`"
        return Check(provider.name, "warning", text)
    if key is not None and not isinstance(await _models(provider, None), UpstreamFailure):
        text = (
            f"{where}, which it lists without a key too: only a call shows whether yours is right"
        )
        return Check(provider.name, "warning", text, models)
    return Check(provider.name, "ok", where, models)


async def _failed(provider: OpenAIProvider, key: str | None, failure: UpstreamFailure) -> Check:
    """A refusal or an address without a list of models, with the address that has one if found."""
    if failure.kind in (FailureKind.NOT_FOUND, FailureKind.MALFORMED):
        for address in _other_addresses(provider.base_url):
            there = msgspec.structs.replace(provider, base_url=address)
            models = await _models(there, key)
            if not isinstance(models, UpstreamFailure):
                text = f'has its API at another path; write: base_url = "{address}"'
                return Check(provider.name, "failed", text)
        if provider.models and failure.kind == FailureKind.NOT_FOUND:
            text = (
                f"{provider.base_url} answers, but has no list of models: only a call can show "
                "whether path and key are right"
            )
            return Check(provider.name, "warning", text, provider.models)
    text = failure.message
    if failure.kind == FailureKind.UNAUTHORIZED and key is None:
        text += "; it needs a key: name its variable in api_key_env"
    return Check(provider.name, "failed", text)


def _other_addresses(base_url: str) -> list[str]:
    """The address with ``/v1`` if it lacks that, and without a second one."""
    parts = urlsplit(base_url)
    path = parts.path.rstrip("/")
    paths = [path.removesuffix("/v1")] if path.endswith("/v1/v1") else []
    if not path.endswith("/v1"):
        paths.append(f"{path}/v1")
    return [parts._replace(path=each).geturl() for each in paths]


def _count(models: tuple[str, ...]) -> str:
    if len(models) == 1:
        return f"1 model ({models[0]})"
    shown = ", ".join(models[:MODELS_SHOWN])
    more = ", ..." if len(models) > MODELS_SHOWN else ""
    return f"{len(models)} models ({shown}{more})" if models else "no models"


async def _models(provider: OpenAIProvider, key: str | None) -> tuple[str, ...] | UpstreamFailure:
    upstream = HttpUpstream(
        name=provider.name,
        base_url=provider.base_url,
        api_key=key,
        settings=http_settings(provider),
    )
    reply = _Reply()
    try:
        upstream.ask_models(reply)
        return await reply.answer
    finally:
        await upstream.aclose()


class _Reply:
    """Implements ``Recipient`` for the one message that lists the models."""

    def __init__(self) -> None:
        self.answer: asyncio.Future[tuple[str, ...] | UpstreamFailure] = (
            asyncio.get_running_loop().create_future()
        )

    def tell(self, message: ProviderMessage, /) -> None:
        if self.answer.done():
            return
        match message:
            case ModelsListed(models):
                self.answer.set_result(models)
            case ModelsUnavailable(failure):
                self.answer.set_result(failure)
            case _:
                raise AssertionError(f"{message!r} does not answer a question for models")

    tell_system = tell

    def offer(self, message: ProviderMessage, /) -> Offer:
        self.tell(message)
        return "accepted"
