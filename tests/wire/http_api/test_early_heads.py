from __future__ import annotations

import orjson
import pytest

from exai_actors.wire.http_api.early_heads import STREAM, WHOLE, EarlyHead, Fields

JSON = ("content-type", "application/json")
EVENTS = ("content-type", "text/event-stream")


@pytest.mark.parametrize(
    ("early", "status", "fields", "fits"),
    [
        (WHOLE, 200, (JSON,), True),
        (WHOLE, 201, (JSON,), True),
        (WHOLE, 200, (("Content-Type", "Application/JSON; charset=utf-8"),), True),
        (WHOLE, 200, (("content-type", "application/vnd.any+json"),), True),
        (WHOLE, 200, (JSON, ("content-encoding", "identity")), True),
        (WHOLE, 200, (JSON, ("Content-Encoding", "gzip")), False),
        (WHOLE, 400, (JSON,), False),
        (WHOLE, 302, (JSON,), False),
        (WHOLE, 200, (EVENTS,), False),
        (WHOLE, 200, (("content-type", "text/html"),), False),
        (WHOLE, 200, (), False),
        (STREAM, 200, (EVENTS,), True),
        (STREAM, 200, (("content-type", "text/event-stream;charset=utf-8"),), True),
        (STREAM, 200, (EVENTS, ("content-encoding", "gzip")), False),
        (STREAM, 500, (EVENTS,), False),
        (STREAM, 200, (JSON,), False),
        (STREAM, 200, (), False),
    ],
)
def test_what_may_follow_an_early_head(
    early: EarlyHead, status: int, fields: Fields, fits: bool
) -> None:
    assert early.fits(status, fields) is fits


def test_the_signs_of_life_of_a_whole_answer_leave_it_valid() -> None:
    for family in ("chat", "messages", "responses", "embeddings"):
        signs = WHOLE.sign_of_life(family, 3, 1.5) * 2
        assert orjson.loads(signs + b'{"id": 1}') == {"id": 1}
