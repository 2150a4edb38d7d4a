"""A supervisor's decisions, after the cases of OTP's own supervisor tests."""

from __future__ import annotations

from collections import deque
from math import inf

import pytest
from hypothesis import given
from hypothesis import strategies as st

from exai_actors.core.supervision.specs import (
    Backoff,
    ChildSpec,
    OwnBudget,
    RestartPolicy,
    Strategy,
    SupervisorSpec,
)
from exai_actors.core.supervision.supervision import (
    AbandonChild,
    AllStopped,
    ChildClosed,
    ChildFinished,
    Command,
    GiveUp,
    Phase,
    StartChild,
    StopChild,
    Supervision,
    WakeAt,
)


class Family:
    """A supervision whose commands are carried out: ``alive`` are the children that run."""

    def __init__(
        self,
        *ids: str,
        strategy: Strategy = Strategy.ONE_FOR_ONE,
        restart: RestartPolicy = RestartPolicy.PERMANENT,
        intensity: int = 5,
        period_s: float = 30.0,
        shutdown_s: float = 5.0,
        backoff: Backoff | None = None,
    ) -> None:
        specs = tuple(
            ChildSpec(name, restart, shutdown_s, backoff or Backoff(jitter=0.0)) for name in ids
        )
        spec = SupervisorSpec(strategy, intensity, period_s, specs)
        self.supervision = Supervision(spec, lambda: 0.5)
        self.now = 0.0
        self.alive: list[str] = []
        self.log: list[str] = []
        self.ends: list[GiveUp | AllStopped] = []
        self.closed: list[ChildClosed] = []
        self.wake_at: float | None = None
        self.pending: deque[Command] = deque()
        self.is_busy = False
        self.fails_to_start: set[str] = set()
        self.slow_to_stop: set[str] = set()
        self.slow_to_start: set[str] = set()
        self.finished: list[str] = []

    def do(self, commands: list[Command]) -> None:
        self.pending += commands
        if self.is_busy:
            return
        self.is_busy = True
        while self.pending:
            self._carry_out(self.pending.popleft())
        self.is_busy = False

    def _carry_out(self, command: Command) -> None:
        match command:
            case StartChild(name):
                self._start(name)
            case StopChild(name):
                self.log.append(f"stop {name}")
                if name not in self.slow_to_stop:
                    self.end(name)
            case AbandonChild(name):
                self.log.append(f"abandon {name}")
                self.alive.remove(name)
            case WakeAt(time):
                self.wake_at = time
            case ChildClosed():
                self.closed.append(command)
            case ChildFinished(name):
                self.finished.append(name)
            case GiveUp() | AllStopped():
                self.ends.append(command)

    def start(self) -> Family:
        self.do(self.supervision.start(self.now))
        return self

    def end(self, name: str, error: str | None = None) -> None:
        self.alive.remove(name)
        self.do(self.supervision.child_ended(name, error, self.now))

    def fail(self, name: str) -> None:
        self.end(name, "a fault")

    def wait(self, seconds: float) -> None:
        self.now += seconds
        if self.wake_at is not None and self.wake_at <= self.now:
            self.wake_at = None
            self.do(self.supervision.woken(self.now))

    def taken(self) -> list[str]:
        log, self.log = self.log, []
        return log

    def phases(self) -> dict[str, Phase]:
        return {view.spec.id: view.phase for view in self.supervision.view(self.now)}

    def _start(self, name: str) -> None:
        assert name not in self.alive
        self.log.append(f"start {name}")
        self.alive.append(name)
        if name in self.fails_to_start:
            self.fail(name)
        elif name not in self.slow_to_start:
            self.do(self.supervision.child_started(name, self.now))


def test_children_start_in_order_and_stop_in_reverse() -> None:
    family = Family("a", "b", "c").start()
    assert family.taken() == ["start a", "start b", "start c"]
    family.do(family.supervision.stop(family.now))
    assert family.taken() == ["stop c", "stop b", "stop a"]
    assert family.ends == [AllStopped()]


def test_a_child_starts_when_the_one_before_it_runs() -> None:
    family = Family("a", "b")
    family.slow_to_start = {"a"}
    family.start()
    assert family.taken() == ["start a"]
    family.do(family.supervision.child_started("a", family.now))
    assert family.taken() == ["start b"]


@pytest.mark.parametrize(
    ("strategy", "expected"),
    [
        (Strategy.ONE_FOR_ONE, ["start b"]),
        (Strategy.REST_FOR_ONE, ["stop c", "start b", "start c"]),
        (Strategy.ONE_FOR_ALL, ["stop c", "stop a", "start a", "start b", "start c"]),
    ],
)
def test_a_strategy_restarts_the_failed_child_and_its_dependants(
    strategy: Strategy, expected: list[str]
) -> None:
    family = Family("a", "b", "c", strategy=strategy).start()
    family.taken()
    family.fail("b")
    assert family.taken() == expected
    assert sorted(family.alive) == ["a", "b", "c"]


@pytest.mark.parametrize(
    ("restart", "after_failure", "after_normal_end"),
    [
        (RestartPolicy.PERMANENT, Phase.RUNNING, Phase.RUNNING),
        (RestartPolicy.TRANSIENT, Phase.RUNNING, Phase.STOPPED),
        (RestartPolicy.TEMPORARY, None, None),
    ],
)
def test_the_policy_decides_which_ends_lead_to_a_restart(
    restart: RestartPolicy, after_failure: Phase | None, after_normal_end: Phase | None
) -> None:
    family = Family("a", restart=restart).start()
    family.fail("a")
    assert family.phases().get("a") is after_failure
    family = Family("a", restart=restart).start()
    family.end("a")
    assert family.phases().get("a") is after_normal_end
    assert family.finished == (["a"] if restart is RestartPolicy.TRANSIENT else [])


def test_the_supervisor_survives_its_intensity_and_gives_up_at_one_failure_more() -> None:
    family = Family("a", "b", intensity=3).start()
    for _ in range(3):
        family.fail("a")
    assert sorted(family.alive) == ["a", "b"]
    assert family.supervision.restarts_within_period(family.now) == 3
    family.fail("a")
    assert family.alive == []
    assert family.ends == [GiveUp("a", "a fault", 3)]


def test_failures_older_than_the_period_do_not_count() -> None:
    family = Family("a", intensity=1, period_s=10.0).start()
    family.fail("a")
    family.wait(10.0)
    family.fail("a")
    assert family.alive == ["a"]
    family.wait(9.9)
    family.fail("a")
    assert [type(end) for end in family.ends] == [GiveUp]


def test_an_intensity_of_zero_gives_up_at_the_first_failure() -> None:
    family = Family("a", "b", intensity=0).start()
    family.fail("b")
    assert (family.alive, len(family.ends)) == ([], 1)


def test_a_child_that_cannot_start_counts_like_one_that_fails() -> None:
    family = Family("a", "b", "c", intensity=2)
    family.fails_to_start = {"b"}
    family.start()
    assert family.log.count("start b") == 3
    assert "start c" not in family.log
    assert family.ends == [GiveUp("b", "a fault", 2)]


def test_a_restart_waits_longer_after_each_failure_up_to_a_limit() -> None:
    family = Family("a", intensity=9, backoff=Backoff(1.0, 5.0, 0.0, 60.0)).start()
    for number, delay in enumerate((1.0, 2.0, 4.0, 5.0, 5.0), start=1):
        family.taken()
        family.fail("a")
        family.wait(delay - 0.01)
        assert family.taken() == []
        [view] = family.supervision.view(family.now)
        assert view.restarts == number
        assert view.starts_at == pytest.approx(family.now + 0.01)
        family.wait(0.02)
        assert family.taken() == ["start a"]


def test_a_child_that_ran_long_enough_begins_with_the_shortest_wait_again() -> None:
    family = Family("a", backoff=Backoff(1.0, 60.0, 0.0, 10.0)).start()
    family.fail("a")
    family.wait(1.0)
    family.wait(10.0)
    family.fail("a")
    family.taken()
    family.wait(1.0)
    assert family.taken() == ["start a"]


@given(st.floats(0, 1, exclude_max=True), st.integers(1, 10_000))
def test_jitter_stays_within_its_fraction(draw: float, failures: int) -> None:
    backoff = Backoff(1.0, 8.0, 0.25)
    wait = min(8.0, 2.0 ** min(failures - 1, 10))
    assert 0.75 * wait <= backoff.delay_s(failures, draw) <= 1.25 * wait


@pytest.mark.parametrize("strategy", [Strategy.ONE_FOR_ALL, Strategy.REST_FOR_ONE])
def test_a_group_waits_for_the_backoff_of_the_child_that_failed(strategy: Strategy) -> None:
    family = Family("a", "b", "c", strategy=strategy, backoff=Backoff(2.0)).start()
    family.do(family.supervision.restart_child("a", family.now))
    family.taken()
    family.fail("a")
    assert family.taken() == ["stop c", "stop b"]
    family.wait(1.9)
    assert family.taken() == []
    family.wait(0.1)
    assert family.taken() == ["start a", "start b", "start c"]


def test_under_one_for_one_a_backoff_delays_no_sibling() -> None:
    family = Family("a", "b", backoff=Backoff(2.0))
    family.fails_to_start = {"a"}
    family.start()
    assert family.alive == ["b"]


def test_a_failure_during_a_backoff_restarts_each_child_in_its_own_time() -> None:
    family = Family("a", "b", backoff=Backoff(2.0, jitter=0.0)).start()
    family.fail("a")
    family.wait(1.0)
    family.fail("b")
    family.taken()
    family.wait(1.0)
    assert family.taken() == ["start a"]
    family.wait(1.0)
    assert family.taken() == ["start b"]


def test_a_child_that_fails_while_its_group_stops_is_not_counted_again() -> None:
    family = Family("a", "b", "c", strategy=Strategy.ONE_FOR_ALL, intensity=1)
    family.slow_to_stop = {"c"}
    family.start()
    family.fail("a")
    family.fail("b")
    assert family.alive == ["c"]
    family.end("c")
    assert family.alive == ["a", "b", "c"]
    assert family.ends == []


def test_a_child_that_fails_to_restart_with_its_group_restarts_the_group_again() -> None:
    family = Family("a", "b", strategy=Strategy.ONE_FOR_ALL, intensity=3).start()
    family.taken()
    family.fails_to_start = {"b"}
    family.slow_to_start = {"a"}
    family.fail("a")
    assert family.taken() == ["stop b", "start a"]
    family.do(family.supervision.child_started("a", family.now))
    assert family.taken() == ["start b", "stop a", "start a"]


def test_a_stop_during_a_restart_starts_nothing_more() -> None:
    family = Family("a", "b", strategy=Strategy.ONE_FOR_ALL)
    family.slow_to_stop = {"b"}
    family.start()
    family.fail("a")
    family.do(family.supervision.stop(family.now))
    family.taken()
    family.end("b")
    assert (family.taken(), family.alive, family.ends) == ([], [], [AllStopped()])


def test_a_stop_during_a_backoff_ends_it() -> None:
    family = Family("a", backoff=Backoff(5.0)).start()
    family.fail("a")
    family.do(family.supervision.stop(family.now))
    assert family.ends == [AllStopped()]
    family.wait(10.0)
    assert (family.alive, family.ends) == ([], [AllStopped()])


def test_a_child_that_does_not_stop_in_time_is_abandoned() -> None:
    family = Family("a", "b", shutdown_s=3.0)
    family.slow_to_stop = {"b"}
    family.start()
    family.do(family.supervision.stop(family.now))
    family.taken()
    family.wait(2.9)
    assert family.taken() == []
    family.wait(0.1)
    assert family.taken() == ["abandon b", "stop a"]
    assert family.ends == [AllStopped()]


def test_a_thousand_children_that_fail_together_make_the_supervisor_give_up_once() -> None:
    names = [f"child-{number}" for number in range(1000)]
    family = Family(*names, intensity=10).start()
    for name in list(family.alive):
        if name in family.alive:
            family.fail(name)
    assert (family.alive, len(family.ends)) == ([], 1)
    assert sum(entry.startswith("start") for entry in family.log) == 1010


def test_children_added_later_start_immediately_and_leave_when_they_end() -> None:
    family = Family().start()
    for number in range(3):
        family.do(
            family.supervision.add(ChildSpec(f"c{number}", RestartPolicy.TEMPORARY), family.now)
        )
    with pytest.raises(ValueError, match="a child 'c1' already"):
        family.supervision.add(ChildSpec("c1"), family.now)
    family.end("c0")
    family.fail("c1")
    assert family.phases() == {"c2": Phase.RUNNING}


def test_a_temporary_child_does_not_return_with_its_group() -> None:
    family = Family("a", strategy=Strategy.ONE_FOR_ALL).start()
    family.do(family.supervision.add(ChildSpec("t", RestartPolicy.TEMPORARY), family.now))
    family.fail("a")
    assert family.alive == ["a"]
    assert set(family.phases()) == {"a"}


def test_an_operator_stops_and_restarts_one_child() -> None:
    family = Family("a", "b", "c", strategy=Strategy.ONE_FOR_ALL, intensity=0).start()
    family.taken()
    family.do(family.supervision.stop_child("b", family.now))
    assert family.taken() == ["stop b"]
    assert family.phases()["b"] is Phase.STOPPED
    family.do(family.supervision.restart_child("b", family.now))
    family.do(family.supervision.restart_child("c", family.now))
    assert family.taken() == ["start b", "stop c", "start c"]
    family.do(family.supervision.stop_child("unknown", family.now))
    family.do(family.supervision.restart_child("unknown", family.now))
    assert (family.taken(), family.ends) == ([], [])


def test_a_stopped_supervisor_takes_no_child() -> None:
    family = Family("a").start()
    family.do(family.supervision.stop(family.now))
    family.taken()
    family.do(family.supervision.add(ChildSpec("b"), family.now))
    family.do(family.supervision.restart_child("a", family.now))
    assert family.taken() == []


def test_the_smallest_and_largest_values_of_a_spec_are_accepted() -> None:
    assert ChildSpec("a", shutdown_s=0.001).shutdown_s == 0.001
    assert ChildSpec("a", shutdown_s=inf).shutdown_s == inf
    assert Backoff(0.0, 0.0, jitter=0.0).delay_s(3, 0.5) == 0.0
    assert Backoff(5.0, 5.0, jitter=0.99).delay_s(1, 0.5) == 5.0
    assert OwnBudget(0, 0.001, 0.001).intensity == 0
    assert SupervisorSpec(intensity=0, period_s=0.001).intensity == 0


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: ChildSpec(""), "needs an id"),
        (lambda: ChildSpec("a", shutdown_s=0), "shutdown time of 'a'"),
        (lambda: Backoff(5.0, 1.0), "min_s <= max_s"),
        (lambda: Backoff(max_s=float("inf")), "min_s <= max_s"),
        (lambda: Backoff(jitter=1.0), "jitter"),
        (lambda: SupervisorSpec(intensity=-1), "intensity"),
        (lambda: SupervisorSpec(period_s=0), "intensity"),
        (lambda: SupervisorSpec(children=(ChildSpec("a"), ChildSpec("a"))), "the id 'a'"),
    ],
)
def test_a_spec_that_makes_no_sense_is_refused(make: object, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make()  # type: ignore[operator]


STEPS = st.lists(
    st.tuples(
        st.sampled_from(["fail", "end", "stop_child", "restart_child", "wait", "started", "stop"]),
        st.integers(0, 5),
    ),
    max_size=60,
)


@given(
    STEPS,
    st.sampled_from(Strategy),
    st.sets(st.sampled_from("abcdef")),
    st.sets(st.sampled_from("abcdef")),
)
def test_whatever_happens_children_stop_in_order_and_the_end_comes_once(
    steps: list[tuple[str, int]],
    strategy: Strategy,
    slow_to_stop: set[str],
    slow_to_start: set[str],
) -> None:
    family = Family(*"abcdef", strategy=strategy, intensity=3, backoff=Backoff(1.0))
    family.slow_to_stop, family.slow_to_start = slow_to_stop, slow_to_start
    family.start()
    for action, number in steps:
        name = "abcdef"[number]
        match action:
            case "fail" | "end" if name in family.alive:
                family.end(name, "a fault" if action == "fail" else None)
            case "stop_child":
                family.do(family.supervision.stop_child(name, family.now))
            case "restart_child":
                family.do(family.supervision.restart_child(name, family.now))
            case "started":
                family.do(family.supervision.child_started(name, family.now))
            case "wait":
                family.wait(float(number))
            case "stop":
                family.do(family.supervision.stop(family.now))
            case _:
                pass
        phases = family.phases()
        running = {Phase.STARTING, Phase.RUNNING, Phase.TO_STOP, Phase.STOPPING}
        assert sorted(family.alive) == sorted(n for n, p in phases.items() if p in running)
        assert list(phases.values()).count(Phase.STOPPING) <= 1
    family.do(family.supervision.stop(family.now))
    for _ in range(7):
        family.wait(5.0)
    assert (family.alive, len(family.ends)) == ([], 1)
    assert set(family.phases().values()) == {Phase.STOPPED}


def owning(*ids: str, intensity: int = 1, closed_s: float = 60.0) -> Family:
    """Children with budgets of their own, under a supervisor that allows no restart."""
    family = Family()
    budget = OwnBudget(intensity, 30.0, closed_s)
    specs = tuple(ChildSpec(name, backoff=Backoff(jitter=0.0), budget=budget) for name in ids)
    family.supervision = Supervision(SupervisorSpec(intensity=0, children=specs), lambda: 0.5)
    return family.start()


def test_a_child_with_a_budget_of_its_own_costs_its_supervisor_nothing() -> None:
    family = owning("a", "b")
    family.fail("a")
    family.fail("b")
    assert family.ends == []
    assert family.supervision.restarts_within_period(family.now) == 0
    views = family.supervision.view(family.now)
    assert [view.used for view in views] == [1, 1]


def test_exactly_one_restart_too_many_closes_the_child_and_no_other() -> None:
    family = owning("a", "b", intensity=2)
    for _ in range(2):
        family.fail("a")
    assert family.closed == []
    family.fail("a")
    assert family.closed == [ChildClosed("a", "a fault", 2, 60.0)]
    assert family.phases() == {"a": Phase.CLOSED, "b": Phase.RUNNING}
    family.wait(59.0)
    assert family.alive == ["b"]
    family.wait(1.0)
    assert family.alive == ["b", "a"]
    family.fail("a")
    assert family.closed[1:] == [], "its budget is fresh"


def test_a_closed_child_can_be_stopped_and_restarted() -> None:
    family = owning("a", intensity=0)
    family.fail("a")
    family.do(family.supervision.stop_child("a", family.now))
    assert family.phases() == {"a": Phase.STOPPED}
    family.wait(100.0)
    assert family.alive == []
    family.do(family.supervision.restart_child("a", family.now))
    assert family.alive == ["a"]


def test_a_child_that_is_closed_for_good_stays_stopped_and_a_dynamic_one_is_forgotten() -> None:
    family = owning("a", intensity=0, closed_s=inf)
    spec = ChildSpec("x", RestartPolicy.TRANSIENT, budget=OwnBudget(0, 30.0), dynamic=True)
    family.do(family.supervision.adopt(spec, family.now))
    family.alive.append("x")
    family.fail("a")
    family.fail("x")
    assert [each.opens_at for each in family.closed] == [inf, inf]
    assert family.phases() == {"a": Phase.STOPPED}


def test_a_child_that_was_started_early_does_not_hide_the_backoff_of_another() -> None:
    family = owning("a", "b", intensity=0)
    family.fail("a")
    family.do(family.supervision.restart_child("a", family.now))
    family.now = 45.0
    family.fail("b")
    family.now = 50.0
    family.fail("a")
    # The first closing of a, at 0 s, would have ended at 60 s: only 105 s and 110 s count.
    assert family.wake_at == 105.0
    family.wait(55.0)
    assert family.alive == ["b"]
    family.wait(5.0)
    assert family.alive == ["b", "a"]


def test_the_first_restarts_in_a_row_may_be_free() -> None:
    backoff = Backoff(min_s=1.0, max_s=3.0, jitter=0.0, free=2)
    assert [backoff.delay_s(failures, 0.5) for failures in range(1, 7)] == [0, 0, 1, 2, 3, 3]


def test_an_adopted_child_runs_and_stops_with_the_others() -> None:
    family = Family("a").start()
    family.do(family.supervision.adopt(ChildSpec("b"), family.now))
    family.alive.append("b")
    assert family.supervision.ids == ("a", "b")
    with pytest.raises(ValueError, match="'b' already"):
        family.supervision.adopt(ChildSpec("b"), family.now)
    family.do(family.supervision.stop(family.now))
    assert family.taken() == ["start a", "stop b", "stop a"]
    family.ends.clear()
    family.alive.append("late")
    family.do(family.supervision.adopt(ChildSpec("late"), family.now))
    assert family.alive == []


@pytest.mark.parametrize("strategy", [Strategy.ONE_FOR_ALL, Strategy.REST_FOR_ONE])
def test_a_budget_of_its_own_needs_independent_siblings(strategy: Strategy) -> None:
    child = ChildSpec("a", budget=OwnBudget(1, 30.0))
    with pytest.raises(ValueError, match="only under one_for_one"):
        SupervisorSpec(strategy, children=(child,))


@pytest.mark.parametrize("values", [(-1, 30.0, 1.0), (1, 0.0, 1.0), (1, 30.0, 0.0)])
def test_an_impossible_budget_is_refused(values: tuple[int, float, float]) -> None:
    with pytest.raises(ValueError, match="own budget"):
        OwnBudget(*values)


def test_giving_up_shows_from_its_beginning() -> None:
    family = Family("a", "b", intensity=0).start()
    family.slow_to_stop = {"b"}
    beginning = family.supervision.giving_up
    family.fail("a")
    assert (beginning, family.supervision.giving_up) == (None, GiveUp("a", "a fault", 0))
    assert family.ends == []
    family.end("b")
    assert family.ends == [GiveUp("a", "a fault", 0)]
