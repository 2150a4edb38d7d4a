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

from exai_actors.wire.openai.errors import classify_response
from exai_actors.wire.openai.limit_phrases import told_in
from exai_actors.wire.openai.rate_headers import MAX_S, hold_s, seconds_until

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
        ({"x-ratelimit-remaining": "0", "x-ratelimit-reset": "99999999"}, MAX_S),
        ({"x-ratelimit-remaining": "0", "x-ratelimit-reset": "1d2h"}, 93_600.0),
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
        ("try again in 5 min.", 300.0),
        ("retry after 2 hrs", 7200.0),
        ("try again in 500 ms", 0.5),
        ("try again in about 2 days", 172_800.0),
        ("Please try again in 1 minute and 30 seconds", 90.0),
        ("try again in 1m 30s", 90.0),
        ("try again in 3 moons", None),
        ("try again in 999999 hours", MAX_S),
        ("please try again later", None),
        ("Your limit will reset at 2026-11-24 20:00:10", 10.0),
        ("Your limit will reset at 2026-11-24 19:00:00", 0.0),
        ("resets at 2026-11-24T12:00:30Z", 30.0),
        ("resets at 2026-11-24 12:00:30 UTC", 30.0),
        ("resets at 2026-11-24T14:00:30.5+02:00", 30.0),
        ("Your limit will reset at 9999-01-01 00:00:00", MAX_S),
        ("Your limit will reset at 2026-13-45 99:99:99", None),
        ("", None),
    ],
)
def test_a_time_in_the_text_is_understood(text: str, seconds: float | None) -> None:
    assert told_in(text, now=NOW) == seconds


@given(
    st.text()
    | st.from_regex(r"reset at [0-9]{4}-[0-9]{2}-[0-9]{2} [0-9:]{8}", fullmatch=True)
    | st.from_regex(r"retry after [0-9]{1,400}(\.[0-9]+)? ?[a-z]{0,7}", fullmatch=True)
    | st.from_regex(r"Sun, 06 Nov [0-9]{1,6} 08:49:37 [+-][0-9]{1,30}", fullmatch=True)
)
def test_no_word_of_a_service_is_too_odd(told: str) -> None:
    for seconds in (seconds_until(told, now=NOW), told_in(told, now=NOW)):
        assert seconds is None or 0 <= seconds <= MAX_S


@given(
    st.dictionaries(
        st.sampled_from(["x-ratelimit-remaining", "x-ratelimit-reset", "RateLimit"]), st.text()
    )
)
def test_no_header_is_too_odd(headers: dict[str, str]) -> None:
    seconds = hold_s(CIMultiDict(headers), now=NOW)
    assert seconds is None or 0 < seconds <= MAX_S
