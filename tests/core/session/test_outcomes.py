"""A repeated id gets the same outcome, for a while and within limits."""

from __future__ import annotations

import pytest
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from exai_actors.core.calls import Outcome, ToolResult
from exai_actors.core.session.outcomes import OutcomeStore, Remembered
from exai_actors.core.session.packing import pack
from exai_actors.errors import ErrorBody, ErrorCode
from exai_actors.ids import RequestKey
from tests.leftovers import leftovers

KEYS = [RequestKey(name) for name in "abcdef"]
A, B, C = KEYS[:3]


def answer(text: str, reasoning: str = "") -> Outcome:
    return Outcome("completed", ToolResult((text,), reasoning=reasoning))


def bytes_of(outcome: Outcome) -> int:
    """The size of one outcome in a store with small times and fingerprints."""
    return len(pack(Remembered(1, outcome, 10.0)))


TEN = bytes_of(answer("1234567890"))


def test_an_outcome_is_found_with_the_fingerprint_of_its_call() -> None:
    store = OutcomeStore(count=8, size=10_000, lifetime_s=10.0)
    outcome = answer("hello")
    store.remember((A,), 42, outcome, now=0.0)
    found = store.find(A, now=1.0)
    assert found is not None
    assert (found.fingerprint, found.outcome) == (42, outcome)
    assert store.find(B, now=1.0) is None


def test_an_outcome_expires() -> None:
    store = OutcomeStore(count=8, size=10_000, lifetime_s=10.0)
    store.remember((A,), 1, answer("hello"), now=5.0)
    assert store.find(A, now=14.999) is not None
    assert store.find(A, now=15.0) is None
    assert len(store) == 0


def test_a_full_store_drops_several_of_the_oldest_at_a_time() -> None:
    store = OutcomeStore(count=16, size=10_000, lifetime_s=10.0)
    requests = [RequestKey(str(number)) for number in range(17)]
    for request in requests:
        store.remember((request,), 1, answer("hello"), now=0.0)
    assert [each for each in requests if store.find(each, now=0.0)] == requests[2:]


def test_the_oldest_outcome_is_dropped_when_there_are_too_many() -> None:
    store = OutcomeStore(count=2, size=10_000, lifetime_s=10.0)
    for request in (A, B, C):
        store.remember((request,), 1, answer("hello"), now=0.0)
    assert store.find(A, now=0.0) is None
    assert store.find(B, now=0.0) is not None
    assert store.find(C, now=0.0) is not None


def test_the_oldest_outcomes_are_dropped_when_they_are_too_large() -> None:
    store = OutcomeStore(count=8, size=2 * TEN, lifetime_s=10.0)
    for request in (A, B):
        store.remember((request,), 1, answer("1234567890"), now=0.0)
    store.remember((C,), 1, answer("12345678901"), now=0.0)
    assert [request for request in KEYS if store.find(request, now=0.0)] == [C]


def test_text_counts_by_its_bytes() -> None:
    store = OutcomeStore(count=8, size=TEN, lifetime_s=10.0)
    store.remember((A,), 1, answer("一二三四"), now=0.0)
    assert store.find(A, now=0.0) is None
    store.remember((A,), 1, answer("一二三"), now=0.0)
    assert store.find(A, now=0.0) is not None


@pytest.mark.parametrize(
    "outcome",
    [
        answer("12345678901"),
        answer("123456", reasoning="12345"),
        Outcome("failed", error=ErrorBody(ErrorCode.PROVIDER_ERROR, "x" * TEN)),
    ],
)
def test_an_outcome_larger_than_the_store_evicts_nothing(
    outcome: Outcome,
) -> None:
    store = OutcomeStore(count=8, size=TEN, lifetime_s=10.0)
    store.remember((A,), 1, answer("1234567890"), now=0.0)
    store.remember((B,), 1, outcome, now=0.0)
    assert store.find(B, now=0.0) is None
    assert store.find(A, now=0.0) is not None


def test_a_later_outcome_replaces_the_earlier_even_if_it_is_too_large() -> None:
    store = OutcomeStore(count=8, size=TEN, lifetime_s=10.0)
    store.remember((A,), 1, answer("old"), now=0.0)
    store.remember((A,), 2, answer("new"), now=1.0)
    found = store.find(A, now=1.0)
    assert found is not None
    assert found.fingerprint == 2
    store.remember((A,), 3, answer("much too large"), now=2.0)
    assert store.find(A, now=2.0) is None


@pytest.mark.parametrize(
    "store", [OutcomeStore(0, 1000, 10.0), OutcomeStore(8, 1000, 0.0)], ids=["count", "time"]
)
def test_a_store_of_nothing_keeps_nothing(store: OutcomeStore) -> None:
    store.remember((A,), 1, answer("hello"), now=0.0)
    assert store.find(A, now=0.0) is None


class StoreMachine(RuleBasedStateMachine):
    """The store beside a plain list of everything remembered, oldest first."""

    @initialize(count=st.integers(0, 4), size=st.integers(0, 4 * TEN), lifetime_s=st.integers(0, 6))
    def open(self, count: int, size: int, lifetime_s: int) -> None:
        self.store = OutcomeStore(count, size, lifetime_s)
        self.kept: list[tuple[RequestKey, int, int, float]] = []
        self.now = 0.0
        self.calls = 0

    def total_size(self) -> int:
        return sum(size for _, _, size, _ in self.kept)

    @rule(request=st.sampled_from(KEYS), length=st.integers(0, 60), seconds=st.integers(0, 3))
    def remember(self, request: RequestKey, length: int, seconds: int) -> None:
        self.now += seconds
        self.calls += 1
        outcome, expires = answer("x" * length), self.now + self.store.lifetime_s
        self.store.remember((request,), self.calls, outcome, self.now)
        self.kept = [each for each in self.kept if each[0] != request]
        size = len(pack(Remembered(self.calls, outcome, expires)))
        if size <= self.store.most_bytes:
            self.kept.append((request, self.calls, size, expires))
        while len(self.kept) > self.store.count or self.total_size() > self.store.most_bytes:
            self.kept.pop(0)

    @rule(known=st.sampled_from(KEYS), name=st.sampled_from(KEYS))
    def share(self, known: RequestKey, name: RequestKey) -> None:
        self.store.share(known, name)
        found = next((each for each in self.kept if each[0] == known), None)
        if found is not None and known != name:
            self.kept = [each for each in self.kept if each[0] != name]
            self.kept.append((name, *found[1:]))
        while len(self.kept) > self.store.count or self.total_size() > self.store.most_bytes:
            self.kept.pop(0)

    @rule(seconds=st.integers(1, 5))
    def time_passes(self, seconds: int) -> None:
        self.now += seconds

    @invariant()
    def no_bound_is_ever_exceeded(self) -> None:
        assert len(self.store) <= self.store.count

    @invariant()
    def the_store_equals_the_plain_list(self) -> None:
        live = {request: call for request, call, _, expires in self.kept if expires > self.now}
        for request in KEYS:
            found = self.store.find(request, self.now)
            assert (None if found is None else found.fingerprint) == live.get(request)
        # The store has dropped what has expired, so that it cannot be shared any more.
        self.kept = [each for each in self.kept if each[3] > self.now]

    def teardown(self) -> None:
        for request in KEYS:
            self.store.find(request, self.now + self.store.lifetime_s)
        assert leftovers(self.store) == {}


TestStore = StoreMachine.TestCase
