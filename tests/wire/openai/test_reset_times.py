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
        ("It refreshes in 2 days.", 172_800.0),
        ("Your quota renews in 5 hours", 18_000.0),
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


HOUR = 3600.0


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("5-hour limit reached · resets 3pm", 3 * HOUR),
        ("Your limit resets 3pm (UTC).", 3 * HOUR),
        ("Your limit will reset at 3pm (Asia/Shanghai).", 19 * HOUR),
        ("limit reached ∙ resets 7:30am (Europe/Berlin)", 18.5 * HOUR),
        ("usage limit; resets at 15:00 UTC", 3 * HOUR),
        ("resets at 15:00", 3 * HOUR),
        ("resets at 15:00:00", 3 * HOUR),
        ("resets at 20:30 UTC+8", 0.5 * HOUR),
        ("resets at 20:30 (GMT+08:00)", 0.5 * HOUR),
        ("resets 11:00 -0200", HOUR),
        ("You've hit your usage limit. Try again at 9:56 PM.", 9 * HOUR + 56 * 60),
        ("try again at Nov 28th, 2026 9:56 PM.", 4 * 86_400 + 9 * HOUR + 56 * 60),
        ("weekly limit; resets Nov 25, 5pm", 29 * HOUR),
        ("resets Jan 2 at 1am", MAX_WAIT_S),
        ("resets Monday at 9am (UTC)", 6 * 86_400 - 3 * HOUR),
        ("Quota resets tomorrow at 3 a.m.", 15 * HOUR),
        ("Daily quota resets at midnight Pacific time", 20 * HOUR),
        ("Please retry after 12:30 p.m.", 0.5 * HOUR),
        ("resets 12am", 12 * HOUR),
        ("available again at 11:58", 0.0),
        ("available again at 11:50", 24 * HOUR - 600),
        ("限额将于 21:00 重置", HOUR),
        ("请于明天 20:00 后重试", 24 * HOUR),
        ("resets at 15:00 (Atlantis/Capital)", None),
        ("resets at 25:00", None),
        ("resets 13pm", None),
        ("resets Feb 31 at 3pm", None),
        ("resets at 3", None),
        ("The sum is due at 3pm", None),
        ("until 3 models answer", None),
        ("lines 10:30 to 11:00 of the file", None),
    ],
)
def test_a_time_of_day_is_the_next_one_in_its_zone(text: str, seconds: float | None) -> None:
    found = wait_in_text(text, now=NOW)
    assert found == (None if seconds is None else pytest.approx(seconds))


@given(
    st.text()
    | st.from_regex(
        r"resets (at )?[0-9]{1,2}(:[0-9]{2})? ?([ap]m)? ?[(A-Z+/:0-9-]{0,9}", fullmatch=True
    )
    | st.from_regex(r"reset (jan|feb|sat)[a-z]? [0-9]{1,2} at [0-9]{1,2}[ap]m", fullmatch=True)
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
