"""The pipe of one run: which waiter reads its pieces, and what is counted."""

from __future__ import annotations

from exai_actors.core.session.pieces import Pieces, Waiter
from exai_actors.ids import ConnectionId, RequestKey

FIRST: Waiter = (ConnectionId("conn-1"), RequestKey("a"))
SECOND: Waiter = (ConnectionId("conn-2"), RequestKey("a"))


class Sink:
    """Implements ``PieceSink``; keeps the pieces."""

    def __init__(self) -> None:
        self.texts: list[str] = []
        self.reasoning: list[str] = []
        self.wants_reasoning = True

    def write(self, text: str, /) -> None:
        self.texts.append(text)

    def write_reasoning(self, text: str, /) -> bool:
        self.reasoning.append(text)
        return self.wants_reasoning


def test_the_first_waiter_reads_all_pieces_and_they_are_counted_with_their_length() -> None:
    first, second = Sink(), Sink()
    pieces = Pieces({FIRST: first})
    pieces.join(SECOND, second)
    for text in ("one", "two", "three"):
        pieces.write(text)
    assert (first.texts, second.texts) == (["one", "two", "three"], [])
    assert (pieces.reader, pieces.count, pieces.length) == (FIRST, 3, 11)


def test_the_next_waiter_reads_if_the_first_leaves_before_the_first_piece() -> None:
    first, second = Sink(), Sink()
    pieces = Pieces({FIRST: first, SECOND: second})
    pieces.leave(FIRST)
    pieces.write("one")
    assert (first.texts, second.texts, pieces.reader) == ([], ["one"], SECOND)


def test_nobody_reads_the_rest_of_a_stream_whose_reader_has_left() -> None:
    first, second, late = Sink(), Sink(), Sink()
    pieces = Pieces({FIRST: first, SECOND: second})
    pieces.write("one")
    pieces.leave(FIRST)
    pieces.write("two")
    pieces.join((ConnectionId("conn-3"), RequestKey("a")), late)
    pieces.write("three")
    assert (first.texts, second.texts, late.texts) == (["one"], [], [])
    assert (pieces.reader, pieces.count) == (None, 3)


def test_a_waiter_that_reads_nothing_leaves_without_an_effect() -> None:
    first = Sink()
    pieces = Pieces({FIRST: first, SECOND: Sink()})
    pieces.leave(SECOND)
    pieces.leave(SECOND)
    pieces.write("one")
    assert (first.texts, pieces.reader) == (["one"], FIRST)


def test_a_closed_pipe_passes_nothing_on() -> None:
    first = Sink()
    pieces = Pieces({FIRST: first})
    pieces.close()
    pieces.write("late")
    assert (first.texts, pieces.reader) == ([], None)


def test_another_run_begins_with_the_same_waiters_and_no_pieces() -> None:
    first = Sink()
    pieces = Pieces({FIRST: first})
    pieces.write("of the first run")
    again = pieces.run_again()
    pieces.write("late")
    again.write("of the second run")
    assert first.texts == ["of the first run", "of the second run"]
    assert (again.reader, again.count) == (FIRST, 1)


def test_reasoning_counts_as_a_piece_if_the_reader_wants_it() -> None:
    first = Sink()
    pieces = Pieces({FIRST: first})
    assert pieces.write_reasoning("one")
    first.wants_reasoning = False
    assert not pieces.write_reasoning("two")
    assert pieces.count == 1
    pieces.leave(FIRST)
    assert not pieces.write_reasoning("three")
    assert (first.reasoning, first.texts, pieces.count) == (["one", "two"], [], 1)
    assert pieces.length == len("onetwothree"), "the tokens were spent in any case"
