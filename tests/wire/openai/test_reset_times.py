"""Times in the messages and headers of services."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from exai_actors.wire.openai.wait_phrases import MAX_WAIT_S, parse_wait, wait_in_text

NOW = 1_795_521_600.0
"""2026-11-24 12:00 UTC, 20:00 in Beijing."""


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
        ("try again in 999999 hours", MAX_WAIT_S),
        ("please try again later", None),
        ("Your limit will reset at 2026-11-24 20:00:10", 10.0),
        ("Your limit will reset at 2026-11-24 19:00:00", 0.0),
        ("resets at 2026-11-24T12:00:30Z", 30.0),
        ("resets at 2026-11-24 12:00:30 UTC", 30.0),
        ("resets at 2026-11-24T14:00:30.5+02:00", 30.0),
        ("Limit used up. Resets at 2026-11-24T12:00:30Z", 30.0),
        ("available again after 2026-11-24 20:01", 60.0),
        ("resets at 2026-11-24T12:00:10", 10.0),
        ("Quota resets at 1795521660", 60.0),
        ("Please wait 20 seconds", 20.0),
        ("wait for 5 minutes before another request", 300.0),
        ("Come back in 3h 47m", 13_620.0),
        ("retry-after: 30", 30.0),
        ("请在 30 秒后重试", 30.0),
        ("请求过于频繁，请5分钟后再试", 300.0),
        ("1小时后恢复", 3600.0),
        ("Bitte in 30 Sekunden erneut versuchen", 30.0),
        ("Veuillez réessayer dans 2 minutes", 120.0),
        ("Повторите через 45 секунд", 45.0),
        ("30秒後にもう一度お試しください", 30.0),
        ("Inténtelo de nuevo en 10 segundos", 10.0),
        ("您的限额将在 2026-11-24 21:00:00 重置", 3600.0),
        ("wait for the 3 models", None),
        ("limit of 10 requests in 1 minute", None),
        ("at most 3 requests in 5 minutes", None),
        ("Your limit will reset at 9999-01-01 00:00:00", MAX_WAIT_S),
        ("Your limit will reset at 2026-13-45 99:99:99", None),
        ("", None),
    ],
)
def test_a_wait_in_a_message_is_read(text: str, seconds: float | None) -> None:
    assert wait_in_text(text, now=NOW) == seconds


@given(
    st.text()
    | st.from_regex(r"reset at [0-9]{4}-[0-9]{2}-[0-9]{2} [0-9:]{8}", fullmatch=True)
    | st.from_regex(r"retry after [0-9]{1,400}(\.[0-9]+)? ?[a-z]{0,7}", fullmatch=True)
    | st.from_regex(r"Sun, 06 Nov [0-9]{1,6} 08:49:37 [+-][0-9]{1,30}", fullmatch=True)
)
def test_any_text_gives_a_bounded_wait_or_none(text: str) -> None:
    for seconds in (parse_wait(text, now=NOW), wait_in_text(text, now=NOW)):
        assert seconds is None or 0 <= seconds <= MAX_WAIT_S


def test_an_instant_needs_the_present() -> None:
    assert wait_in_text("Your limit will reset at 2026-11-24 20:00:10", now=None) is None
    assert wait_in_text("try again in 10s", now=None) == 10.0
