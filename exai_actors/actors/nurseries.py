"""The supervisors of the tree: the specs of their children, and the steps if one is not restarted.

A provider or session that fails too often ends alone: it has a budget of its own. The guardian and
the supervisors use the budget of the root.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from math import inf

import msgspec
import structlog

from exai_actors.actors.admissions import SessionBook, SessionRecord
from exai_actors.actors.awaited_providers import AwaitedProviders
from exai_actors.actors.statistics_board import StatisticsBoard
from exai_actors.core.supervision.specs import (
    Backoff,
    ChildSpec,
    OwnBudget,
    RestartPolicy,
    SupervisorSpec,
)
from exai_actors.core.supervision.supervision import ChildClosed, GiveUp
from exai_actors.ids import ProviderName
from exai_actors.runtime import Nursery

log = structlog.get_logger()


class RestartSettings(msgspec.Struct, frozen=True):
    """How often failed actors are restarted, and after which waits.

    The first restart in a row is immediate.
    """

    backoff: Backoff = Backoff(min_s=0.1, max_s=0.8, jitter=0.2, reset_after_s=10.0, free=1)
    provider: OwnBudget = OwnBudget(5, 30.0, 60.0)
    session: OwnBudget = OwnBudget(3, 30.0)
    root_intensity: int = 5
    root_period_s: float = 60.0


class RootNursery(Nursery):
    """The supervisors and the guardian, each made by a function of its own, in this order.

    As in OTP, they may take as long to stop as their children do, which have times of their own.
    """

    def __init__(
        self,
        makers: dict[str, Callable[[], object]],
        settings: RestartSettings,
        on_give_up: Callable[[GiveUp], None],
    ) -> None:
        self._makers = makers
        self._on_give_up = on_give_up
        self.spec = SupervisorSpec(
            intensity=settings.root_intensity,
            period_s=settings.root_period_s,
            children=tuple(
                ChildSpec(name, shutdown_s=inf, backoff=settings.backoff) for name in makers
            ),
        )

    def start(self, child_id: str) -> object:
        return self._makers[child_id]()

    def gives_up(self, give_up: GiveUp) -> None:
        self._on_give_up(give_up)


class ProviderNursery(Nursery):
    """The providers. One that fails too often is closed for a while."""

    def __init__(
        self,
        spawn: Callable[[ProviderName], object],
        names: Iterable[ProviderName],
        settings: RestartSettings,
        board: StatisticsBoard,
        awaited: AwaitedProviders,
    ) -> None:
        self._spawn = spawn
        self._budget = settings.provider
        self._board = board
        self._awaited = awaited
        self.spec = SupervisorSpec(
            children=tuple(
                ChildSpec(name, backoff=settings.backoff, budget=settings.provider)
                for name in names
            ),
        )

    def start(self, child_id: str) -> object:
        spawned = self._spawn(ProviderName(child_id))
        self._awaited.started(ProviderName(child_id))
        return spawned

    def absent(self, child_id: str, closed: ChildClosed | None) -> None:
        name, budget = ProviderName(child_id), self._budget
        if closed is None:
            self._board.close_provider(name, "an operator has stopped its actor")
        else:
            log.critical(
                "provider.closed",
                provider=name,
                restarts=budget.intensity,
                within_s=budget.period_s,
                opens_in_s=budget.closed_s,
            )
            self._board.close_provider(
                name,
                f"its actor failed more than {budget.intensity} times in {budget.period_s:g} s; "
                f"it is started again {budget.closed_s:g} s after that",
            )
        self._awaited.absent(name)


class SessionNursery(Nursery):
    """The sessions of the book. One that fails too often is given up."""

    def __init__(
        self,
        spawn: Callable[[SessionRecord], object],
        book: SessionBook,
        settings: RestartSettings,
        on_gone: Callable[[SessionRecord], None],
    ) -> None:
        self._spawn = spawn
        self._book = book
        self._settings = settings
        self._on_gone = on_gone
        self.spec = SupervisorSpec()

    def start(self, child_id: str) -> object:
        record = self._book.numbered(child_id)
        return None if record is None else self._spawn(record)

    def specify(self, child_id: str) -> ChildSpec | None:
        if self._book.numbered(child_id) is None:
            return None
        return ChildSpec(
            child_id,
            RestartPolicy.TRANSIENT,
            backoff=self._settings.backoff,
            budget=self._settings.session,
            dynamic=True,
        )

    def expected(self) -> Iterable[str]:
        return [record.number for record in self._book.records() if record.has_begun]

    def absent(self, child_id: str, closed: ChildClosed | None) -> None:
        record = self._book.numbered(child_id)
        if record is not None:
            if closed is not None:
                log.error("session.given_up", actor=f"/sessions/{child_id}", error=closed.error)
            self._book.close(record)
            self._on_gone(record)


class TemporaryNursery(Nursery):
    """Actors that live as long as their sockets."""

    def __init__(self) -> None:
        self.spec = SupervisorSpec()

    def specify(self, child_id: str) -> ChildSpec | None:
        return ChildSpec(child_id, RestartPolicy.TEMPORARY, shutdown_s=2.0)
