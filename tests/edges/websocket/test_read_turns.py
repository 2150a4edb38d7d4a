"""However many sockets have data, a turn of the loop reads for a bounded time."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from exai_actors.edges.websocket.read_turns import (
    LONGEST_TURN_S,
    READS_PER_ACTOR_TURN,
    SHORT_BYTES,
    TURN_S,
    ReadTurns,
)


class Loop:
    """A clock, the callbacks for the next turn, and actors that may be behind."""

    def __init__(self) -> None:
        self.now = 100.0
        self.early = 0
        self.actors_are_behind = False
        self.actors_take = 0.0
        self.callbacks: list[Callable[[], None]] = []
        self.reads = ReadTurns(self.callbacks.append, lambda: self.now, self)

    def is_busy(self) -> bool:
        return self.actors_are_behind

    def run_early(self) -> None:
        self.early += 1
        self.now += self.actors_take

    def read(self, times: int, seconds_each: float = 0.0) -> None:
        def receive(_: bytes) -> None:
            self.now += seconds_each

        for _ in range(times):
            self.reads.read(receive, b"")

    def turn(self) -> None:
        callbacks = self.callbacks[:]
        self.callbacks.clear()
        for each in callbacks:
            each()


class Reader:
    """A connection with data for so many turns (``shares``), each of which takes ``seconds``."""

    def __init__(
        self, loop: Loop, seconds: float = 0.0, shares: int = 1, size: int = SHORT_BYTES + 1
    ) -> None:
        self.turns = 0
        self._loop = loop
        self._seconds = seconds
        self._shares = shares
        self._size = size
        self.reads = False
        """Whether it also reads, so that actors run."""
        loop.reads.put(self.read_on, size)

    def read_on(self) -> None:
        self.turns += 1
        self._loop.now += self._seconds
        if self.reads:
            self._loop.read(1)
        if self.turns < self._shares:
            self._loop.reads.put(self.read_on, self._size)


def test_actors_run_between_the_reads_of_a_turn() -> None:
    loop = Loop()
    loop.read(3 * READS_PER_ACTOR_TURN - 1)
    assert loop.early == 2


def test_a_turn_is_over_when_it_has_read_for_its_time() -> None:
    loop = Loop()
    loop.read(4 * READS_PER_ACTOR_TURN)
    assert not loop.reads.is_over, "they took no time"
    loop.read(READS_PER_ACTOR_TURN, TURN_S / READS_PER_ACTOR_TURN)
    assert loop.reads.is_over


def test_a_turn_of_long_reads_is_over_before_the_actors_run() -> None:
    loop = Loop()
    loop.read(1, 2 * TURN_S)
    assert not loop.reads.is_over, "the reads before it may have been of other turns"
    loop.read(1, 2 * TURN_S)
    assert loop.early == 0
    assert loop.reads.is_over


def test_only_reading_counts_in_a_turn_that_does_much_else() -> None:
    loop = Loop()
    loop.actors_take = TURN_S / 2
    for _ in range(4 * READS_PER_ACTOR_TURN):
        loop.now += TURN_S
        loop.read(1, TURN_S / (4 * READS_PER_ACTOR_TURN))
    assert loop.early == 4
    assert not loop.reads.is_over


def test_only_reading_counts_while_the_line_is_served() -> None:
    loop = Loop()
    loop.actors_take = TURN_S
    readers = [Reader(loop, shares=2) for _ in range(2 * READS_PER_ACTOR_TURN)]
    for reader in readers:
        reader.reads = True
    loop.turn()
    assert loop.early == 2
    assert {each.turns for each in readers} == {1}


def test_a_turn_is_over_when_the_actors_between_its_reads_took_long() -> None:
    loop = Loop()
    loop.actors_take = 2 * LONGEST_TURN_S
    loop.read(READS_PER_ACTOR_TURN)
    assert not loop.reads.is_over, "its end is set when they have run"
    loop.read(READS_PER_ACTOR_TURN)
    assert loop.reads.is_over


def test_the_time_of_actors_of_an_earlier_turn_does_not_count() -> None:
    loop = Loop()
    loop.actors_take = LONGEST_TURN_S / 2
    for _ in range(4):
        loop.read(2 * READS_PER_ACTOR_TURN)
        assert not loop.reads.is_over
        loop.turn()


def test_the_line_is_served_no_longer_than_a_turn_with_its_actors() -> None:
    loop = Loop()
    loop.actors_take = LONGEST_TURN_S
    readers = [Reader(loop, shares=2) for _ in range(2 * READS_PER_ACTOR_TURN)]
    for reader in readers:
        reader.reads = True
    loop.turn()
    assert sum(each.turns for each in readers) == READS_PER_ACTOR_TURN


def test_reads_of_several_turns_do_not_add_up() -> None:
    loop = Loop()
    for _ in range(10):
        loop.read(READS_PER_ACTOR_TURN, TURN_S / 2 / READS_PER_ACTOR_TURN)
        loop.turn()
    assert not loop.reads.is_over


def test_a_line_that_takes_long_is_served_in_several_turns_in_its_order() -> None:
    loop = Loop()
    readers = [Reader(loop, TURN_S / 2) for _ in range(5)]
    served = []
    while loop.callbacks:
        loop.turn()
        served.append([each.turns for each in readers])
    assert served == [[1, 1, 0, 0, 0], [1, 1, 1, 1, 0], [1, 1, 1, 1, 1]]


def test_new_data_waits_behind_the_line_until_all_of_it_was_served() -> None:
    loop = Loop()
    for _ in range(3):
        Reader(loop, TURN_S)
    over = []
    for _ in range(3):
        loop.turn()
        over.append(loop.reads.is_over)
    assert over == [True, True, False]


def test_a_reader_with_much_data_has_one_share_in_a_turn() -> None:
    loop = Loop()
    greedy, modest = Reader(loop, shares=1000), Reader(loop)
    loop.turn()
    assert (greedy.turns, modest.turns) == (1, 1)
    assert not loop.reads.is_over, "all had their share"
    loop.turn()
    assert greedy.turns == 2


def test_while_the_actors_are_behind_a_turn_serves_one_reader() -> None:
    loop = Loop()
    readers = [Reader(loop, TURN_S / 2) for _ in range(6)]
    loop.turn()
    loop.actors_are_behind = True
    loop.turn()
    assert [each.turns for each in readers] == [1, 1, 1, 0, 0, 0]
    assert loop.early == 1, "they have a turn of their own first"
    loop.actors_are_behind = False
    loop.turn()
    assert [each.turns for each in readers] == [1, 1, 1, 1, 1, 0]


def test_short_reads_go_before_long_ones_and_keep_none_of_them_from_its_turn() -> None:
    loop = Loop()
    long = [Reader(loop, TURN_S) for _ in range(3)]
    short = [Reader(loop, TURN_S / 2, size=SHORT_BYTES) for _ in range(4)]
    served = []
    for _ in range(2):
        loop.turn()
        served.append((sum(each.turns for each in short), sum(each.turns for each in long)))
    assert served == [(2, 1), (4, 2)]


def test_short_reads_do_not_wait_for_the_actors() -> None:
    loop = Loop()
    loop.reads.is_over = loop.actors_are_behind = True
    short = [Reader(loop, size=1) for _ in range(100)]
    long = [Reader(loop) for _ in range(100)]
    loop.turn()
    assert sum(each.turns for each in short) == 100
    assert sum(each.turns for each in long) == 1


def test_a_fault_of_one_reader_does_not_keep_the_others_waiting() -> None:
    def fails() -> None:
        raise RuntimeError("a fault of a connection")

    loop = Loop()
    loop.reads.put(fails, SHORT_BYTES + 1)
    reader = Reader(loop)
    with pytest.raises(RuntimeError):
        loop.turn()
    loop.turn()
    assert reader.turns == 1
