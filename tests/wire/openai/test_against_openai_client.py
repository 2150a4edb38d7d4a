"""Odd streams through our reader and through OpenAI's own client; each difference is judged."""

import json
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

import httpx2
import pytest
from openai import APIError, OpenAI, Stream
from openai.types.chat import ChatCompletionChunk

from exai_actors.core.calls import Completion
from exai_actors.wire.openai.stream import StreamReader
from tests.cases.answers import odd_streams

COUNT = 300
JUDGED = json.loads((Path(odd_streams.__file__).parent / "differences.json").read_text())


class Difference(NamedTuple):
    """What both made of streams with oddities ``kinds``: the whole text, another, or a failure."""

    kinds: tuple[str, ...]
    ours: str
    theirs: str
    example: bytes


def read_ours(raw: bytes) -> str | None:
    reader = StreamReader("m", 100_000)
    # Portions that cut lines, characters and line ends.
    pieces = [reader.feed(raw[at : at + 37]) for at in range(0, len(raw), 37)]
    pieces.append(reader.end_of_body())
    result = reader.finish()
    if not isinstance(result, Completion):
        return None
    assert "".join(pieces) == result.text
    return result.text


def read_theirs(client: Any, raw: bytes) -> str | None:
    request = httpx2.Request("POST", "http://service/v1/chat/completions")
    response = httpx2.Response(200, content=raw, request=request)
    text = ""
    try:
        for chunk in Stream(cast_to=ChatCompletionChunk, response=response, client=client):
            if chunk.choices and chunk.choices[0].delta.content:
                text += chunk.choices[0].delta.content
    except (APIError, ValueError, AttributeError, TypeError):
        return None
    return text


def named(text: str | None, intended: str | None) -> str:
    if text is None:
        return "failure"
    return "whole" if text == intended else "other text"


@cache
def streams() -> list[odd_streams.Stream]:
    return odd_streams.odd_streams(COUNT, seed=10)


@cache
def differences() -> tuple[Difference, ...]:
    client = OpenAI(api_key="none", base_url="http://service/v1")
    found = []
    for stream in streams():
        raw = stream.encoded()
        ours, theirs = read_ours(raw), read_theirs(client, raw)
        if ours != theirs:
            names = named(ours, stream.intended), named(theirs, stream.intended)
            found.append(Difference(tuple(stream.kinds), *names, raw))
    return tuple(found)


def judgements(difference: Difference) -> list[dict[str, str]]:
    return [
        each
        for each in JUDGED
        if each["kind"] in difference.kinds
        and (each["ours"], each["theirs"]) == (difference.ours, difference.theirs)
    ]


def test_every_difference_from_the_client_of_openai_is_judged() -> None:
    unjudged = {each[:3]: each.example for each in differences() if not judgements(each)}
    assert not unjudged


def test_every_judgement_is_about_a_difference_that_occurs() -> None:
    used = [judgement for each in differences() for judgement in judgements(each)]
    assert [each for each in JUDGED if each not in used] == []
    assert all(each["why"] for each in JUDGED)


@pytest.mark.parametrize("number", range(COUNT))
def test_our_reader_gives_the_intended_answer(number: int) -> None:
    stream = streams()[number]
    assert read_ours(stream.encoded()) == stream.intended, stream.kinds
