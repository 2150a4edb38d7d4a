"""How long an actor's handlers take, as counts by halves of powers of two.

Only some batches are timed, and a count that is full halves all of them: 48 bytes tell the times of
late for next to nothing.
"""

from __future__ import annotations

BUCKETS = 48
_FIRST = 2.0**-20
_A_SECOND = 1 / _FIRST
_FULL = 255


def note(times: bytearray, seconds: float) -> None:
    """Count a handler's time."""
    units = seconds * _A_SECOND
    # Twice a logarithm is that of the square.
    place = (int(units * units) | 1).bit_length() - 1
    if place >= BUCKETS:
        place = BUCKETS - 1
    times[place] += 1
    if times[place] == _FULL:
        times[:] = bytes(each >> 1 for each in times)


def quantile(times: bytes, share: float) -> float | None:
    """The seconds below which ``share`` of the times lie, right to a fifth; None without times."""
    rank = share * sum(times)
    if not rank:
        return None
    below = 0
    for place, count in enumerate(times):
        if count and below + count >= rank:
            lower: float = _FIRST * 2 ** (place / 2)
            return lower * 2 ** ((rank - below) / count / 2)
        below += count
    raise AssertionError("no bucket has the last of the times")
