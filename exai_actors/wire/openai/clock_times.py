"""Reads times of day at which services say that a limit resets: ``resets 3pm (Asia/Tokyo)``."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta, timezone, tzinfo
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

JUST_PAST_S = 300.0
"""A time of day that is past by no more than this is now, not tomorrow."""

_DAYS = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")
_MONTHS = ("jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec")
# Abbreviations that have one meaning; CST and IST have several.
_ZONES = {
    **dict.fromkeys(("pt", "pst", "pdt", "pacific"), "America/Los_Angeles"),
    **dict.fromkeys(("et", "est", "edt", "eastern"), "America/New_York"),
    **dict.fromkeys(("cet", "cest"), "Europe/Paris"),
    **dict.fromkeys(("beijing", "北京"), "Asia/Shanghai"),
    "jst": "Asia/Tokyo",
    "kst": "Asia/Seoul",
}
_BEFORE = (
    r"(?:\b(?:resets?|resetting|again|available|until|till|refresh(?:es|ed)?|renew(?:s|ed)?"
    r"|retry|replenished|back|access)\s{1,3}(?:(?:at|on|by|after)\s{1,3})?"
    r"|(?:将在|将于|请于|于|在|到)\s{0,3})"
)
_DATE = (
    rf"(?:(?P<month>{'|'.join(_MONTHS)})[a-z]{{0,6}}\.?\s{{1,3}}(?P<day>\d{{1,2}})(?:st|nd|rd|th)?"
    rf"(?:,?\s{{1,3}}(?P<year>\d{{4}}))?|(?P<weekday>{'|'.join(_DAYS)})[a-z]{{0,6}}"
    r"|(?P<later>tomorrow|明天)|today|今天)(?:,?\s{1,3}at\b|,)?\s{0,3}"
)
_TIME = (
    r"(?:(?P<hour>\d{1,2})(?:[:：](?P<minute>[0-5]\d)(?:[:：][0-5]\d)?)?"
    r"\s{0,2}(?P<half>[ap]\.?m\b\.?)?|(?P<midnight>midnight))"
)
_ZONE = (
    r"(?:UTC|GMT)?(?P<offset>[+-]\d{1,2}(?::?\d\d)?)(?!\d)|UTC|GMT|Z\b"
    r"|(?P<place>[A-Z][A-Za-z]{1,20}(?:/[A-Z][A-Za-z_]{1,20}){1,2})"
    rf"|(?P<short>{'|'.join(_ZONES)})\b"
)
_CLOCK_TIME = re.compile(
    rf"{_BEFORE}(?:{_DATE})?{_TIME}(?![\d:：-]*\d)(?:\s{{0,2}}[(（]?(?:{_ZONE}))?",
    re.IGNORECASE,
)


def clock_time_in_text(message: str, *, now: float) -> float | None:
    """Seconds until the time of day that an error ``message`` announces; None if it has none.

    That is the next such time, in the zone that is stated, otherwise in UTC, in Chinese in Beijing.
    """
    match = _CLOCK_TIME.search(message)
    if match is None or not (match["minute"] or match["half"] or match["midnight"]):
        return None
    try:
        present = datetime.fromtimestamp(now, _zone_of(match))
        date = present.replace(
            hour=_hour_of(match), minute=int(match["minute"] or 0), second=0, microsecond=0
        )
        return max(0.0, (_on_its_day(match, date, present) - present).total_seconds())
    except (ValueError, OverflowError, ZoneInfoNotFoundError):
        return None


def _on_its_day(match: re.Match[str], date: datetime, present: datetime) -> datetime:
    earliest = present - timedelta(seconds=JUST_PAST_S)
    if match["month"]:
        date = date.replace(
            year=int(match["year"] or date.year),
            month=_MONTHS.index(match["month"].lower()) + 1,
            day=int(match["day"]),
        )
        is_past = not match["year"] and date < present - timedelta(days=1)
        return date.replace(year=date.year + 1) if is_past else date
    if match["weekday"]:
        date += timedelta(days=(_DAYS.index(match["weekday"].lower()) - date.weekday()) % 7)
        return date if date >= earliest else date + timedelta(days=7)
    if match["later"] or date < earliest:
        date += timedelta(days=1)
    return date


def _hour_of(match: re.Match[str]) -> int:
    if match["midnight"]:
        return 0
    hour = int(match["hour"])
    if not match["half"]:
        return hour % 24 if hour == 24 else hour
    if not 1 <= hour <= 12:
        raise ValueError(hour)
    return hour % 12 + (12 if match["half"].lower().startswith("p") else 0)


def _zone_of(match: re.Match[str]) -> tzinfo:
    if match["place"]:
        return ZoneInfo(match["place"])
    if match["short"]:
        return ZoneInfo(_ZONES[match["short"].lower()])
    if offset := match["offset"]:
        digits = offset[1:].replace(":", "").rjust(2, "0")
        digits = digits.rjust(4, "0") if len(digits) == 3 else digits.ljust(4, "0")
        length = timedelta(hours=int(digits[:2]), minutes=int(digits[2:]))
        return timezone(-length if offset[0] == "-" else length)
    return UTC if match[0][0].isascii() else ZoneInfo("Asia/Shanghai")
