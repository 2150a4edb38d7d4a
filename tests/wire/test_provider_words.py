"""What services say when they refuse, in their own words: as their public pages show it.

Each fixture names the page that it was taken from; 2026-11-24 20:00 in Beijing is its present.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st
from multidict import CIMultiDict

from exai_actors.wire.limit_words import told_in
from exai_actors.wire.rate_headers import LONGEST_S, hold_s, seconds_until
from exai_actors.wire.upstream_errors import classify_response

FIXTURES = sorted((Path(__file__).parent / "fixtures").glob("*.json"))
NOW = 1_795_521_600.0


@pytest.mark.parametrize("path", FIXTURES, ids=lambda path: path.stem)
def test_a_refusal_is_taken_for_what_its_service_means(path: Path) -> None:
    told: dict[str, Any] = orjson.loads(path.read_bytes())
    assert told["source"].startswith("https://")
    failure = classify_response(
        told["status"], CIMultiDict(told["headers"]), orjson.dumps(told["body"]), now=NOW
    )
    scope = failure.scope and failure.scope.value
    assert (failure.kind.value, scope, failure.retry_after) == (
        told["kind"],
        told["scope"],
        told["retry_after"],
    )


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        ({}, None),
        ({"Content-Type": "application/json"}, None),
        ({"x-ratelimit-remaining-requests": "1", "x-ratelimit-reset-requests": "5s"}, None),
        ({"x-ratelimit-remaining-requests": "0"}, None),
        ({"x-ratelimit-reset-requests": "5s"}, None),
        ({"x-ratelimit-remaining-requests": "0", "x-ratelimit-reset-requests": "20ms"}, 0.02),
        ({"x-ratelimit-remaining-requests": "0", "x-ratelimit-reset-tokens": "9s"}, None),
        (
            {
                "x-ratelimit-remaining-requests": "0",
                "x-ratelimit-reset-requests": "2s",
                "x-ratelimit-remaining-tokens": "0",
                "x-ratelimit-reset-tokens": "1m30s",
            },
            90.0,
        ),
        ({"X-RateLimit-Remaining": "0", "X-RateLimit-Reset": f"{NOW + 30:.0f}"}, 30.0),
        ({"X-RateLimit-Remaining": "0", "X-RateLimit-Reset": f"{(NOW + 30) * 1000:.0f}"}, 30.0),
        ({"X-RateLimit-Remaining": "0", "X-RateLimit-Reset": f"{NOW - 30:.0f}"}, None),
        (
            {
                "anthropic-ratelimit-requests-remaining": "0",
                "anthropic-ratelimit-requests-reset": "2026-11-24T12:01:00Z",
            },
            60.0,
        ),
        ({"RateLimit": "limit=10, remaining=0, reset=7"}, 7.0),
        ({"RateLimit": '"default";r=0;t=8'}, 8.0),
        ({"RateLimit": '"default";r=3;t=8'}, None),
        ({"RateLimit-Remaining": "0", "RateLimit-Reset": "4"}, 4.0),
        ({"x-ratelimit-remaining": "0", "x-ratelimit-reset": "99999999"}, LONGEST_S),
        ({"x-ratelimit-remaining": "0", "x-ratelimit-reset": "nan"}, None),
        ({"x-ratelimit-remaining": "0", "x-ratelimit-reset": "soon"}, None),
    ],
)
def test_a_limit_that_is_used_up_says_when_it_opens(
    headers: dict[str, str], seconds: float | None
) -> None:
    assert hold_s(CIMultiDict(headers), now=NOW) == seconds


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("Please try again in 20s.", 20.0),
        ("Please try again in 6m0s. Contact us", 360.0),
        ("please try again after 3 seconds", 3.0),
        ("retry in 2 minutes", 120.0),
        ("resets in 1h2m3s", 3723.0),
        ("please try again later", None),
        ("Your limit will reset at 2026-11-24 20:00:10", 10.0),
        ("Your limit will reset at 2026-11-24 19:00:00", 0.0),
        ("", None),
    ],
)
def test_a_time_in_the_text_is_understood(text: str, seconds: float | None) -> None:
    assert told_in(text, now=NOW) == seconds


@given(st.text())
def test_no_word_of_a_service_is_too_odd(told: str) -> None:
    for seconds in (seconds_until(told, now=NOW), told_in(told, now=NOW)):
        assert seconds is None or seconds >= 0


@given(
    st.dictionaries(
        st.sampled_from(["x-ratelimit-remaining", "x-ratelimit-reset", "RateLimit"]), st.text()
    )
)
def test_no_header_is_too_odd(headers: dict[str, str]) -> None:
    seconds = hold_s(CIMultiDict(headers), now=NOW)
    assert seconds is None or 0 < seconds <= LONGEST_S
