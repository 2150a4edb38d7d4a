"""The reasons for which requests wait, as values and in words."""

from __future__ import annotations

import msgspec
import pytest

from exai_actors.core.wait_reasons import (
    MAX_CAUSE,
    WaitCode,
    WaitReason,
    clipped,
    facts,
    sentence,
    words,
)

NOW = 1000.0


@pytest.mark.parametrize(
    ("reason", "text"),
    [
        (WaitReason(WaitCode.PERMIT, "kimi", limit=3, used=3), "kimi: 3 of 3 calls in flight"),
        (
            WaitReason(WaitCode.PERMIT, "glm", "glm-5", limit=1, used=1),
            "glm: model glm-5: 1 of 1 calls in flight",
        ),
        (
            WaitReason(WaitCode.TENANT_SHARE, "kimi", limit=1.5, used=2),
            "kimi: all permits are in use, and this tenant has 2 of its share of 1.5",
        ),
        (WaitReason(WaitCode.TURN, "kimi"), "kimi: earlier requests go first"),
        (
            WaitReason(WaitCode.REQUESTS_PER_MINUTE, "kimi", limit=3, used=3, until=NOW + 54.2),
            "kimi: 3 of 3 requests this minute used, next in 55 s",
        ),
        (
            WaitReason(WaitCode.TOKENS_PER_MINUTE, "k", limit=500000, used=499000, until=NOW + 3),
            "k: 499,000 of 500,000 tokens this minute used, next in 3 s",
        ),
        (
            WaitReason(WaitCode.REQUESTS_PER_DAY, "k", limit=200, used=200, until=NOW + 7200),
            "k: 200 of 200 requests this day used, next in 7,200 s",
        ),
        (
            WaitReason(WaitCode.TOKENS_PER_DAY, "k", limit=10, used=12.5, until=NOW + 0.01),
            "k: 12.5 of 10 tokens this day used, next in 0.1 s",
        ),
        (
            WaitReason(WaitCode.HOLD, "kimi", until=NOW + 60.3, kind="quota"),
            "kimi: account refused for quota, trying again in 61 s",
        ),
        (
            WaitReason(
                WaitCode.HOLD, "kimi", "k2", until=NOW + 9, kind="rate_limited", cause="429"
            ),
            "kimi: model k2 refused for its rate limit, trying again in 9 s (429)",
        ),
        (
            WaitReason(WaitCode.HOLD, "k", until=NOW + 9000, probe_at=NOW + 900, kind="overloaded"),
            "k: account refused for overload for 9,000 s, one call is tried in 900 s",
        ),
        (
            WaitReason(WaitCode.CIRCUIT, "k", until=NOW + 5, cause="5 calls failed in a row: 500"),
            "k: failed too often (5 calls failed in a row: 500), next try in 5 s",
        ),
        (WaitReason(WaitCode.CIRCUIT, "k"), "k: failed too often, a test call is in flight"),
        (WaitReason(WaitCode.PAUSED, "k"), "k: paused by its operator"),
        (
            WaitReason(WaitCode.RETRY, "k", until=NOW + 0.31),
            "k: the last attempt failed, next in 0.4 s",
        ),
        (
            WaitReason(WaitCode.CONVERSATION, limit=1, used=1),
            "this session: an earlier request of this conversation is not answered yet",
        ),
        (
            WaitReason(WaitCode.SESSION_WINDOW, limit=8, used=8),
            "this session: 8 of 8 requests with providers",
        ),
    ],
)
def test_a_reason_names_its_limit_figure_and_end(reason: WaitReason, text: str) -> None:
    assert sentence(reason, NOW) == text


@pytest.mark.parametrize("code", WaitCode)
def test_every_code_has_words_whatever_is_known(code: WaitCode) -> None:
    assert words(WaitReason(code), NOW)
    assert words(WaitReason(code, "k", "m", 1, 1, NOW - 5, NOW - 6, "quota", "c"), NOW)


def test_the_codes_are_on_the_wire() -> None:
    assert {code.value for code in WaitCode} >= {
        "permit",
        "tenant_share",
        "turn",
        "requests_per_minute",
        "tokens_per_minute",
        "requests_per_day",
        "tokens_per_day",
        "hold",
        "circuit",
        "paused",
        "retry",
        "conversation",
        "session_window",
    }


def test_facts_are_json_with_durations_in_place_of_instants() -> None:
    reason = WaitReason(
        WaitCode.HOLD,
        "kimi",
        "k2",
        until=NOW + 90,
        probe_at=NOW + 30.00049,
        kind="quota",
        cause="x",
    )
    assert msgspec.json.decode(msgspec.json.encode(facts(reason, NOW))) == {
        "code": "hold",
        "provider": "kimi",
        "model": "k2",
        "kind": "quota",
        "cause": "x",
        "ends_in_s": 90.0,
        "probe_in_s": 30.0,
        "text": sentence(reason, NOW),
    }
    gate = facts(WaitReason(WaitCode.TOKENS_PER_DAY, limit=10, used=2.50049, until=NOW - 1), NOW)
    assert (gate["limit"], gate["used"], gate["ends_in_s"]) == (10, 2.5, 0.0)


@pytest.mark.parametrize(
    ("cause", "shown"),
    [
        ("one\nline\r\n  only", "one line only"),
        ("x" * MAX_CAUSE, "x" * MAX_CAUSE),
        ("x" * (MAX_CAUSE + 1), "x" * (MAX_CAUSE - 3) + "..."),
    ],
)
def test_the_words_of_a_service_are_short_and_on_one_line(cause: str, shown: str) -> None:
    assert clipped(cause) == shown
