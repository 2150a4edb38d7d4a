"""Reads the times at which services say that a limit resets: durations, instants and HTTP dates."""

from __future__ import annotations

import math
import re
from datetime import UTC, datetime, timedelta, timezone
from email.utils import parsedate_to_datetime

from exai_actors.wire.openai.clock_times import clock_time_in_text

MAX_WAIT_S = 604_800.0
"""A week, the longest window of any known plan. Longer times are taken for mistakes and capped."""

_EPOCH_S = 1e9
_EPOCH_MS = 1e12
_UNITS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86_400.0, "w": 604_800.0}
_PART = (
    r"\d+(?:\.\d+)?\s*"
    r"(?:ms(?:ecs?)?|milliseconds?|s(?:ec(?:ond)?s?)?|m(?:in(?:ute)?s?)?|h(?:(?:ou)?rs?)?"
    r"|d(?:ays?)?|w(?:eeks?)?)(?![a-z])"
)
# ``6m0s``, ``20ms``, ``1 minute and 30 seconds``
_DURATION_TEXT = rf"{_PART}(?:(?:\s*,)?(?:\s*and)?\s*{_PART})*"
_DURATION = re.compile(_DURATION_TEXT, re.IGNORECASE)
_AMOUNT = re.compile(r"(\d+(?:\.\d+)?)\s*(ms|milli|[smhdw])", re.IGNORECASE)
_AGAIN = re.compile(
    r"\b(?:try(?: it)? again|retry|retrying|resets?|wait(?: for)?|come back|available(?: again)?"
    r"|replenish(?:es|ed)|renew(?:s|ed)|refresh(?:es|ed)"
    r"|retry[-_ ]after)\s{0,3}[:=]?(?:\s{1,3}(?:after|in|for|within))?(?: about| at least)?\s{0,3}"
    rf"({_DURATION_TEXT}|\d{{1,15}}(?:\.\d+)?(?![.:-]?\d|\s*[^\W\d_]))",
    re.IGNORECASE,
)
# ``in 02:13:00``, and with days before a point (.NET)
_CLOCK_AGAIN = re.compile(
    r"\b(?:again|retry|resets?|wait|replenished|renewed|refreshed) (?:after|in) "
    r"((?:\d{1,3}\.)?\d{1,3}:[0-5]\d:[0-5]\d)(?![:\d])",
    re.IGNORECASE,
)
_WHEN = r"(\d{4}-\d\d-\d\d(?:[ T]| at )\d\d:\d\d(?::\d\d)?)"
_INSTANT = re.compile(
    r"(?:reset\w{0,9}|again|available|until|retry|refresh\w{0,9}|access|renew\w{0,4})\s{0,3}(?:at|on|after|by)?:?\s{0,3}"
    rf"{_WHEN}(?:\.\d+)? ?(Z|UTC|GMT|[+-]\d\d:?\d\d)?|(?:将在|将于|于|在)\s{{0,3}}{_WHEN}",
    re.IGNORECASE,
)
_EPOCH = re.compile(r"reset\w{0,9}\s{0,3}(?:at|on)?:?\s{0,3}(\d{10}|\d{13})\b", re.IGNORECASE)
# Units of other languages, with what precedes or follows the number.
_CJK_UNIT = r"(?:毫秒|秒钟|秒|分钟|分|小时|小時|时间|時間|天|日|초|분|시간)"
_CJK_PART = rf"\d{{1,9}}(?:\.\d{{1,9}})?\s{{0,3}}个?{_CJK_UNIT}\s{{0,3}}"
_CJK_AMOUNT = re.compile(rf"([\d.]+)\s{{0,3}}个?({_CJK_UNIT})")
_FOREIGN = re.compile(
    # English shares "in" and "minute" with German: "10 requests in 1 minute" is no wait.
    r"\b(?:in|nach)\s{1,3}(\d{1,9}(?:\.\d{1,9})?)\s{0,3}(sekunde|minuten|stunde|tag)\w*"
    r"|\b(?:dans|en|em|tra|fra|por|через|за)\s{1,3}(\d{1,9}(?:\.\d{1,9})?)\s{0,3}"
    r"(seconde|minute|heure|jour|segundo|minuto|hora|d[ií]a|secondo|secondi|minuti|ora|ore|giorn"
    r"|секунд|минут|час|дн|день)\w*"
    rf"|(?<![\d.])({_CJK_PART}(?:{_CJK_PART}){{0,3}})(?:之?后|以后|之?後|以後|후|뒤|内|內)"
    rf"|(?:等待|还需|剩余)[\s:：]{{0,3}}({_CJK_PART}(?:{_CJK_PART}){{0,3}})",
    re.IGNORECASE,
)
_FOREIGN_UNITS = {
    "毫秒": 0.001,
    **dict.fromkeys(("sekunde", "seconde", "segundo", "secondo", "secondi", "секунд"), 1.0),
    **dict.fromkeys(("秒钟", "秒", "초"), 1.0),
    **dict.fromkeys(("minute", "minuto", "minuti", "минут", "minuten", "分钟", "分", "분"), 60.0),
    **dict.fromkeys(("stunde", "heure", "hora", "ora", "ore", "час"), 3600.0),
    **dict.fromkeys(("小时", "小時", "时间", "時間", "시간"), 3600.0),
    **dict.fromkeys(("tag", "jour", "dia", "día", "giorn", "дн", "день", "天", "日"), 86_400.0),
}
# ``PT1H2M3.5S``, ``01:02:03`` and ``10.21:14:00``
_ISO_DURATION = re.compile(
    r"P(?:(\d+)D)?(?:T(?:(\d+)H)?(?:(\d+)M)?(?:(\d+(?:\.\d+)?)S)?)?", re.IGNORECASE
)
_CLOCK_DURATION = re.compile(r"(?:(\d{1,3})\.)?(\d{1,3}):([0-5]\d):([0-5]\d(?:\.\d+)?)")
_BEIJING = timezone(timedelta(hours=8))
_ZONES = {"UTC": "Z", "GMT": "Z"}


def parse_wait(value: str, *, now: float) -> float | None:
    """Seconds until the time that a header's ``value`` names; None if it names none.

    Understood are durations, numbers of seconds, and instants as a date (HTTP or ISO 8601, in UTC
    unless it names a zone) or as a number since 1970 in seconds or milliseconds. ``now`` is the
    wall clock in seconds since 1970. The result is from 0 to MAX_WAIT_S.
    """
    value = value.strip()
    number = parse_number(value)
    if number is not None:
        if number >= _EPOCH_MS:
            number = number / 1000 - now
        elif number >= _EPOCH_S:
            number -= now
        return bounded(number)
    if _DURATION.fullmatch(value):
        return bounded(sum(float(n) * _seconds_in(unit) for n, unit in _AMOUNT.findall(value)))
    parts = _ISO_DURATION.fullmatch(value) or _CLOCK_DURATION.fullmatch(value)
    if parts is not None and any(parts.groups()):
        lengths = (86_400.0, 3600.0, 60.0, 1.0)
        return bounded(sum(float(n or 0) * s for n, s in zip(parts.groups(), lengths, strict=True)))
    date = _parse_date(value)
    return None if date is None else _seconds_until(date, UTC, now)


def wait_in_text(message: str, *, now: float | None) -> float | None:
    """Seconds until the reset that an error ``message`` announces; None if it announces none.

    Kimi writes ``please try again after 3 seconds``, OpenAI ``Please try again in 20s``, GLM the
    instant in Beijing time, plans a time of day (``resets 3pm``). Services also write in the
    language of their users. Without ``now``, the wall clock, only durations are understood.
    """
    if match := _AGAIN.search(message):
        return parse_wait(match[1], now=now or 0.0)
    if match := _CLOCK_AGAIN.search(message):
        return parse_wait(match[1], now=now or 0.0)
    if match := _FOREIGN.search(message):
        number, *unit = (group for group in match.groups() if group is not None)
        amounts = [(number, unit[0])] if unit else _CJK_AMOUNT.findall(number)
        return bounded(sum(float(n) * _FOREIGN_UNITS[each.lower()] for n, each in amounts))
    if now is None:
        return None
    if match := _EPOCH.search(message):
        return parse_wait(match[1], now=now)
    match = _INSTANT.search(message)
    if match is None:
        until = clock_time_in_text(message, now=now)
        return None if until is None else bounded(until)
    instant, zone = (match[1] or match[3]).replace(" at ", " "), match[2] or ""
    try:
        date = datetime.fromisoformat(instant + _ZONES.get(zone.upper(), zone))
    except ValueError:
        return None
    # GLM writes instants of Beijing, with a space; ISO's T stands for a machine's UTC.
    return _seconds_until(date, UTC if "T" in instant.upper() else _BEIJING, now)


def parse_number(value: str | None) -> float | None:
    """``value`` as a finite number that is not negative; None for anything else."""
    try:
        number = float(value or "")
    except ValueError:
        return None
    return number if math.isfinite(number) and number >= 0 else None


def bounded(seconds: float) -> float:
    """``seconds`` within 0 to MAX_WAIT_S."""
    return min(max(0.0, seconds), MAX_WAIT_S)


def _parse_date(value: str) -> datetime | None:
    for parse in (parsedate_to_datetime, datetime.fromisoformat):
        try:
            return parse(value)
        except (ValueError, OverflowError):
            continue
    return None


def _seconds_until(date: datetime, default_zone: timezone, now: float) -> float:
    return bounded(date.replace(tzinfo=date.tzinfo or default_zone).timestamp() - now)


def _seconds_in(unit: str) -> float:
    return _UNITS["ms" if unit.lower() == "milli" else unit.lower()]
