"""A supervisor actor with real children, after the cases of OTP's own supervisor tests."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from math import inf
from typing import Any

import pytest

from exai_actors.core.supervision.specs import (
    Backoff,
    ChildSpec,
    OwnBudget,
    RestartPolicy,
    Strategy,
    SupervisorSpec,
)
from exai_actors.core.supervision.supervision import ChildClosed, GiveUp
from exai_actors.errors import UsageError
from exai_actors.runtime import (
    ActorSystem,
    LoopActor,
    LoopRef,
    ManualDriver,
    Nursery,
    PathRef,
    SupervisorActor,
    SupervisorBoard,
)


class Child(LoopActor):
    """Notes its start and its end in the family's log; raises what it is told to raise."""

    def __init__(self, family: Family, name: str) -> None:
        super().__init__()
        self._family = family
        self._name = name
        if name in family.fails_to_construct:
            raise RuntimeError("planted in the constructor")

    def on_start(self) -> None:
        self._family.log.append(f"start {self._name}")
        if self._name in self._family.fails_to_start:
            raise RuntimeError("planted in on_start")

    def on_stop(self) -> None:
        self._family.log.append(f"stop {self._name}")

    def on_receive(self, message: Any) -> None:
        if isinstance(message, BaseException):
            raise message


class Family(Nursery):
    """A supervisor at ``/family``, under a root that restarts it twice."""

    def __init__(
        self,
        *ids: str,
        strategy: Strategy = Strategy.ONE_FOR_ONE,
        restart: RestartPolicy = RestartPolicy.PERMANENT,
        intensity: int = 5,
        shutdown_s: float = 5.0,
        backoff: Backoff | None = None,
        budget: OwnBudget | None = None,
    ) -> None:
        self.log: list[str] = []
        self.fails_to_start: set[str] = set()
        self.fails_to_construct: set[str] = set()
        self.closed: list[tuple[str, ChildClosed | None]] = []
        self.gave_up: list[str] = []
        self.driver = ManualDriver()
        self.system = ActorSystem(self.driver)
        self.board = SupervisorBoard(self.system)
        self.template = ChildSpec(
            "x", restart, shutdown_s, backoff or Backoff(jitter=0.0), budget, dynamic=True
        )
        self.adopts = False
        children = tuple(
            ChildSpec(name, restart, shutdown_s, backoff or Backoff(jitter=0.0), budget)
            for name in ids
        )
        self.spec = SupervisorSpec(strategy, intensity, 30.0, children)
        family = self

        class Root(Nursery):
            def start(self, child_id: str) -> object:
                return family._spawn(SupervisorActor, "/family", family.spec, family, None)

            def gives_up(self, give_up: GiveUp) -> None:
                family.gave_up.append(give_up.child)

        root = SupervisorSpec(Strategy.ONE_FOR_ONE, 2, 30.0, (ChildSpec("family"),))
        self._spawn(SupervisorActor, "/", root, Root(), None)
        self.settle()

    def _spawn(
        self,
        kind: Any,
        path: str,
        spec: SupervisorSpec,
        nursery: Nursery,
        _: None,
    ) -> LoopRef[Any]:
        above = path.rpartition("/")[0] or "/"
        supervisor = None if path == "/" else PathRef(self.system, above)
        return self.system.spawn(
            kind, spec, nursery, self.board, lambda: 0.5, path=path, supervisor=supervisor
        )

    def start(self, child_id: str) -> LoopRef[Child]:
        supervisor = PathRef(self.system, "/family")
        path = f"/family/{child_id}"
        return self.system.spawn(Child, self, child_id, path=path, supervisor=supervisor)

    def specify(self, child_id: str) -> ChildSpec | None:
        if not self.adopts:
            return None
        spec = self.template
        return ChildSpec(
            child_id, spec.restart, spec.shutdown_s, spec.backoff, spec.budget, dynamic=True
        )

    def absent(self, child_id: str, closed: ChildClosed | None) -> None:
        self.closed.append((child_id, closed))

    def settle(self) -> None:
        self.driver.run_until_idle()

    def fail(self, *names: str) -> None:
        for name in names:
            PathRef(self.system, f"/family/{name}").tell_system(ValueError("secret text"))
        self.settle()

    def kill_supervisor(self) -> None:
        PathRef(self.system, "/family").tell_system("an unknown message")
        self.settle()

    def taken(self) -> list[str]:
        log, self.log = self.log, []
        return log

    def alive(self) -> list[str]:
        below = "/family/"
        return [path.removeprefix(below) for path in self.system.paths() if below in path]

    def phase(self, name: str) -> str:
        return self.board.row(f"/family/{name}").phase


def test_children_start_in_order_and_stop_in_reverse() -> None:
    family = Family("a", "b", "c")
    assert family.taken() == ["start a", "start b", "start c"]
    family.board.stop("/family")
    family.settle()
    assert family.taken() == ["stop c", "stop b", "stop a"]
    assert family.system.paths() == ["/"]


@pytest.mark.parametrize(
    ("strategy", "expected"),
    [
        (Strategy.ONE_FOR_ONE, ["start b"]),
        (Strategy.REST_FOR_ONE, ["stop c", "start b", "start c"]),
        (Strategy.ONE_FOR_ALL, ["stop c", "stop a", "start a", "start b", "start c"]),
    ],
)
def test_the_strategy_decides_which_children_are_restarted(
    strategy: Strategy, expected: list[str]
) -> None:
    family = Family("a", "b", "c", strategy=strategy)
    family.taken()
    family.fail("b")
    assert family.taken() == expected


@pytest.mark.parametrize("intensity", [0, 1, 3])
def test_the_supervisor_gives_up_at_exactly_one_restart_too_many(intensity: int) -> None:
    family = Family("a", "b", intensity=intensity)
    for _ in range(intensity):
        family.fail("a")
    incarnation = family.board.supervisors["/family"].actor_ref.incarnation
    assert incarnation == 1
    family.taken()
    family.fail("a")
    assert family.taken() == ["stop b", "start a", "start b"]
    assert family.board.supervisors["/family"].actor_ref.incarnation == 2


def test_restarts_count_within_the_period_only() -> None:
    family = Family("a", intensity=1)
    for _ in range(5):
        family.fail("a")
        family.driver.advance(30.0)
    assert family.board.supervisors["/family"].actor_ref.incarnation == 1


def test_giving_up_escalates_to_the_root_which_gives_up_at_its_own_intensity() -> None:
    family = Family("a", intensity=0)
    for _ in range(2):
        family.fail("a")
        assert family.gave_up == []
    family.fail("a")
    assert family.gave_up == ["family"]
    assert family.system.paths() == []
    error = [each.error for each in family.board.incidents if each.path == "/family"][-1]
    assert error.startswith("/family gave up: a failed more than 0 times in 30 s")


@pytest.mark.parametrize(
    ("restart", "after_failure", "after_stop"),
    [
        (RestartPolicy.PERMANENT, ["start a"], ["stop a", "start a"]),
        (RestartPolicy.TRANSIENT, ["start a"], ["stop a"]),
        (RestartPolicy.TEMPORARY, [], ["stop a"]),
    ],
)
def test_the_policy_decides_which_ends_lead_to_a_restart(
    restart: RestartPolicy, after_failure: list[str], after_stop: list[str]
) -> None:
    family = Family("a", restart=restart)
    family.taken()
    family.fail("a")
    assert family.taken() == after_failure
    other = Family("a", restart=restart)
    other.taken()
    found = other.system.resolve("/family/a")
    assert found is not None
    found.stop(block=False)
    other.settle()
    assert other.taken() == after_stop


@pytest.mark.parametrize("where", ["fails_to_start", "fails_to_construct"])
def test_a_failure_during_the_start_counts_and_the_next_children_wait(where: str) -> None:
    family = Family("a", "b", intensity=2, strategy=Strategy.REST_FOR_ONE)
    family.taken()
    getattr(family, where).add("a")
    family.fail("a")
    # It gave up, was restarted by the root twice, and could not start its first child.
    assert family.gave_up == ["family"]
    assert "start b" not in family.taken()
    assert family.system.paths() == []


def test_a_failure_waits_for_its_backoff_and_the_wait_is_shown() -> None:
    family = Family("a", "b", backoff=Backoff(min_s=1.0, jitter=0.0, free=1))
    family.taken()
    family.fail("a")
    assert family.taken() == ["start a"]
    family.fail("a")
    row = family.board.row("/family/a")
    assert (row.phase, row.backoff_s, row.restarts) == ("waiting", 1.0, 2)
    family.driver.advance(0.5)
    assert family.board.row("/family/a").backoff_s == 0.5
    assert family.taken() == []
    family.driver.advance(0.5)
    assert family.taken() == ["start a"]
    assert family.phase("a") == "running"


def test_a_healthy_time_resets_the_backoff() -> None:
    family = Family("a", backoff=Backoff(min_s=1.0, jitter=0.0, reset_after_s=10.0))
    for expected in (1.0, 2.0, 4.0):
        family.fail("a")
        assert family.board.row("/family/a").backoff_s == expected
        family.driver.advance(expected)
    family.driver.advance(30.0)
    family.fail("a")
    assert family.board.row("/family/a").backoff_s == 1.0


def test_another_failure_during_a_backoff_is_handled_on_its_own() -> None:
    family = Family("a", "b", backoff=Backoff(min_s=1.0, jitter=0.0))
    family.taken()
    family.fail("a")
    family.driver.advance(0.4)
    family.fail("b")
    family.driver.advance(0.6)
    assert family.taken() == ["start a"]
    family.driver.advance(0.4)
    assert family.taken() == ["start b"]


def test_a_stop_during_a_backoff_ends_it() -> None:
    family = Family("a", "b", backoff=Backoff(min_s=1.0, jitter=0.0))
    family.taken()
    family.fail("a")
    family.board.stop("/family")
    family.driver.advance(10.0)
    assert family.taken() == ["stop b"]
    assert family.system.paths() == ["/"]


@pytest.mark.parametrize("strategy", [Strategy.ONE_FOR_ALL, Strategy.REST_FOR_ONE])
def test_a_failure_while_the_group_restarts_costs_one_restart_each(strategy: Strategy) -> None:
    family = Family("a", "b", "c", strategy=strategy, intensity=2)
    family.taken()
    for name in ("a", "c"):
        PathRef(family.system, f"/family/{name}").tell_system(ValueError("planted"))
    family.settle()
    assert Counter(family.taken())["start a"] >= 1
    assert sorted(family.alive()) == ["a", "b", "c"]
    assert family.gave_up == []


def test_a_stop_while_the_group_restarts_leaves_nothing_behind() -> None:
    family = Family("a", "b", "c", strategy=Strategy.ONE_FOR_ALL)
    PathRef(family.system, "/family/b").tell_system(ValueError("planted"))
    family.board.stop("/family")
    family.settle()
    assert family.system.paths() == ["/"]


def test_a_single_child_is_stopped_and_restarted_by_message() -> None:
    family = Family("a", "b", intensity=0)
    family.taken()
    family.board.restart("/family/a")
    family.settle()
    assert family.taken() == ["stop a", "start a"]
    family.board.stop("/family/a")
    family.settle()
    assert (family.taken(), family.phase("a"), family.closed) == (
        ["stop a"],
        "stopped",
        [("a", None)],
    )
    family.board.restart("/family/a")
    family.settle()
    assert (family.taken(), family.phase("a")) == (["start a"], "running")
    family.board.restart("/family")
    family.settle()
    assert family.taken() == ["stop b", "stop a", "start a", "start b"]


@pytest.mark.parametrize("path", ["/family/nobody", "/nobody", "/", "nonsense", "/family/a/b"])
@pytest.mark.parametrize("verb", ["stop", "restart"])
def test_an_unknown_path_is_a_usage_error(path: str, verb: str) -> None:
    family = Family("a")
    with pytest.raises(UsageError, match="no supervisor has an actor at"):
        getattr(family.board, verb)(path)


def test_a_restart_during_a_stop_brings_the_child_back() -> None:
    family = Family("a")
    family.taken()
    family.board.stop("/family/a")
    family.board.restart("/family/a")
    family.settle()
    assert family.taken() == ["stop a", "start a"]
    assert family.closed == []


def test_a_child_with_its_own_budget_is_closed_and_opens_again() -> None:
    family = Family("a", "b", intensity=0, budget=OwnBudget(2, 30.0, 60.0))
    for _ in range(2):
        family.fail("a")
    assert family.closed == []
    family.fail("a")
    ((name, closed),) = family.closed
    assert closed is not None
    assert (name, closed.restarts, closed.opens_at) == ("a", 2, 60.0)
    row = family.board.row("/family/a")
    assert (row.phase, row.backoff_s) == ("closed", 60.0)
    family.taken()
    family.driver.advance(59.0)
    assert family.taken() == []
    family.driver.advance(1.0)
    assert family.taken() == ["start a"]
    assert sorted(family.alive()) == ["a", "b"]


def test_a_closed_child_opens_early_on_request() -> None:
    family = Family("a", budget=OwnBudget(0, 30.0, 60.0))
    family.fail("a")
    family.taken()
    family.board.restart("/family/a")
    family.settle()
    assert family.taken() == ["start a"]
    family.driver.advance(100.0)
    assert family.taken() == []


def test_a_dynamic_child_is_adopted_restarted_and_forgotten_with_its_budget() -> None:
    family = Family(restart=RestartPolicy.TRANSIENT, budget=OwnBudget(1, 30.0))
    family.adopts = True
    family.start("7")
    family.settle()
    family.fail("7")
    assert family.taken() == ["start 7", "start 7"]
    family.fail("7")
    ((name, closed),) = family.closed
    assert closed is not None
    assert (name, closed.opens_at) == ("7", inf)
    with pytest.raises(UsageError):
        family.board.row("/family/7")


def test_a_dynamic_child_that_fails_to_start_is_restarted_too() -> None:
    family = Family(restart=RestartPolicy.TRANSIENT, budget=OwnBudget(1, 30.0))
    family.adopts = True
    family.fails_to_start.add("7")
    family.start("7")
    family.settle()
    assert family.taken() == ["start 7", "start 7"]
    assert [name for name, _ in family.closed] == ["7"]


def test_a_restarted_supervisor_adopts_the_living_and_starts_the_others() -> None:
    family = Family("a", "b", "c")
    family.adopts = True
    family.start("7")
    family.settle()
    family.taken()
    PathRef(family.system, "/family").tell_system("an unknown message")
    PathRef(family.system, "/family/b").tell_system(ValueError("planted"))
    family.settle()
    assert family.taken() == ["start b"]
    assert sorted(family.alive()) == ["7", "a", "b", "c"]
    family.fail("7", "c")
    assert sorted(family.taken()) == ["start 7", "start c"]
    family.board.stop("/family")
    family.settle()
    assert family.taken() == ["stop 7", "stop c", "stop b", "stop a"]


def test_a_child_that_is_expected_and_not_alive_is_started() -> None:
    family = Family()
    family.adopts = True
    family.expected = lambda: ("5", "6")  # type: ignore[method-assign]
    family.start("5")
    family.settle()
    family.taken()
    family.kill_supervisor()
    assert family.taken() == ["start 6"]
    assert sorted(family.alive()) == ["5", "6"]


def test_a_child_that_does_not_stop_in_time_is_abandoned_with_all_below_it() -> None:
    family = Family("a", "b", shutdown_s=2.0)
    below = family.system.spawn(Child, family, "below", path="/family/b/below")
    family.settle()
    family.taken()
    # An actor whose turn never comes.
    stuck = family.system.resolve("/family/b")
    assert stuck is not None
    stuck._cell.scheduled = True
    family.board.stop("/family")
    family.settle()
    assert family.taken() == []
    family.driver.advance(2.0)
    assert family.taken() == ["stop a"]
    assert not below.is_alive()
    assert family.system.paths() == ["/"]


def test_a_child_that_is_restarted_although_it_does_not_stop_is_restarted_once() -> None:
    family = Family("a", shutdown_s=2.0)
    family.taken()
    stuck = family.system.resolve("/family/a")
    assert stuck is not None
    stuck._cell.scheduled = True
    family.board.restart("/family/a")
    family.settle()
    family.driver.advance(2.0)
    assert family.taken() == ["start a"]
    assert (family.phase("a"), family.board.restarts) == ("running", 0)


def steps(family: Family, act: Callable[[], object]) -> int:
    """How many starts and stops an action causes."""
    family.taken()
    act()
    family.driver.advance(1.0)
    return len(family.taken())


def test_a_thousand_children_that_fail_together_are_restarted_once_each() -> None:
    names = tuple(map(str, range(1000)))
    family = Family(*names, budget=OwnBudget(3, 30.0, 60.0), backoff=Backoff(min_s=0.1))
    assert steps(family, lambda: family.fail(*names)) == 1000
    assert len(family.alive()) == 1000
    assert family.board.supervisors["/family"].actor_ref.incarnation == 1
    for _ in range(4):
        family.fail(*names)
        family.driver.advance(5.0)
    assert family.alive() == []
    assert len(family.closed) == 1000


def test_a_thousand_children_without_budgets_end_their_supervisor_after_its_intensity() -> None:
    names = tuple(map(str, range(1000)))
    family = Family(*names, intensity=3)
    family.taken()
    family.fail(*names)
    log = family.taken()
    assert sorted(family.alive()) == sorted(names), "the root has restarted the supervisor"
    assert log.count("start 5") <= 2
    assert len(log) <= 2 * 1000 + 10


def test_the_tree_is_shown_depth_first() -> None:
    family = Family("b", "a", intensity=4)
    family.fail("a")
    rows = [
        (row.path, row.depth, row.kind, row.strategy, row.phase, row.restarts, row.used)
        for row in family.board.rows()
    ]
    assert rows == [
        ("/", 0, "SupervisorActor", "one_for_one", "running", 0, 0),
        ("/family", 1, "SupervisorActor", "one_for_one", "running", 0, 1),
        ("/family/b", 2, "Child", None, "running", 0, None),
        ("/family/a", 2, "Child", None, "running", 1, None),
    ]
    error = family.board.row("/family/a").last_error
    assert error is not None
    assert error.startswith("ValueError at")
    assert "secret" not in error
    family.system.suspend("/family/a")
    family.settle()
    assert family.phase("a") == "suspended"


def test_incidents_name_path_error_and_consequence_and_are_bounded() -> None:
    family = Family("a", "b", intensity=100)
    for _ in range(30):
        family.fail("a")
    assert len(family.board.incidents) == 20
    last = family.board.incidents[-1]
    assert (last.path, last.consequence) == ("/family/a", "restarted")
    assert family.board.restarts == 30
