"""The frames that wait for a session are bounded, by their number and by their size."""

from __future__ import annotations

from exai_actors.actors.connection.kept_frames import SMALL_BYTES, KeptFrames
from exai_actors.messages.connection import BinaryReceived, TextReceived

SMALL = TextReceived(b"x")
LARGE = TextReceived(b"x" * SMALL_BYTES)


def test_frames_are_kept_in_their_order_up_to_the_limit() -> None:
    kept = KeptFrames(2)
    assert [kept.add(each) for each in (SMALL, BinaryReceived(7), SMALL)] == [True, True, False]
    assert list(kept) == [SMALL, BinaryReceived(7)]


def test_more_frames_are_kept_while_they_are_small() -> None:
    kept = KeptFrames(2, many=4)
    assert [kept.add(SMALL) for _ in range(5)] == [True] * 4 + [False]
    assert KeptFrames(0, many=1).add(LARGE)


def test_large_frames_are_kept_up_to_the_lower_limit_only() -> None:
    kept = KeptFrames(2, many=4)
    assert [kept.add(LARGE) for _ in range(3)] == [True, True, False]
    assert not kept.add(SMALL)
