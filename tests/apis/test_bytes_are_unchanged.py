"""No byte of a body changes between client and service, in both directions, over real sockets.

The exception is the value of the model, if the service knows it by another name.
"""

from __future__ import annotations

from random import Random

import pytest

from exai_actors.testing.scripted_replies import body
from tests.apis import odd_bodies
from tests.apis.http_client import EVENT_STREAM, MODEL, Setting, serving
from tests.apis.odd_bodies import cut, joined

PATHS = {
    "chat": "/v1/chat/completions",
    "messages": "/v1/messages",
    "responses": "/v1/responses",
    "embeddings": "/v1/embeddings",
}
LARGE = 4_000_000
OWN_NAME = f'"{MODEL}"'.encode()
# The name with its provider is another name of the same model, also with escapes.
OTHER_NAMES = f'"scripted/{MODEL}"'.encode(), f'"scripted\\/{MODEL}"'.encode()
families = pytest.mark.parametrize("family", PATHS)


async def both_ways(
    setting: Setting,
    family: str,
    chance: Random,
    *,
    name: bytes = OWN_NAME,
    size: int = 0,
    longest: int = 50,
) -> None:
    """Send a request and its answer in pieces, and compare both ends of both."""
    stream = family != "embeddings" and chance.random() < 0.5
    asked = odd_bodies.request(family, chance, size=size, stream=stream)
    answered = (odd_bodies.events if stream else odd_bodies.answer)(family, chance, size=size)
    kind = EVENT_STREAM if stream else "application/json"
    setting.service.then(body(*cut(answered, chance, longest), content_type=kind))
    sent = cut(joined(asked, name), chance, longest)
    got = await setting.client.post_in_pieces(PATHS[family], sent, chunked=chance.random() < 0.5)
    await got.whole()
    assert (got.status, got.is_clean) == (200, True), got.body[:1_000]
    assert got.body == answered
    assert setting.service.requests[-1].raw == joined(asked, OWN_NAME)


@families
async def test_bodies_in_odd_spellings_and_odd_pieces(family: str) -> None:
    async with serving() as setting:
        for seed in range(25):
            await both_ways(setting, family, Random(seed), longest=(1, 7, 50, 2_000)[seed % 4])
        await setting.settled()


@families
async def test_only_the_value_of_a_renamed_model_is_another_one(family: str) -> None:
    async with serving() as setting:
        for seed in range(10):
            chance = Random(seed)
            await both_ways(setting, family, chance, name=OTHER_NAMES[seed % 2], longest=2_000)


@families
@pytest.mark.parametrize("name", [OWN_NAME, OTHER_NAMES[0]], ids=["its own name", "renamed"])
async def test_bodies_of_megabytes_in_odd_pieces(family: str, name: bytes) -> None:
    async with serving() as setting:
        for seed in range(2):
            chance = Random(seed)
            await both_ways(setting, family, chance, name=name, size=LARGE, longest=200_000)
