"""The actions that consoles can take: found by name, checked, previewed and carried out."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import partial
from itertools import islice
from typing import Any, ClassVar, final

import msgspec
import structlog

from exai_actors.console.audit import Audit
from exai_actors.console.feed import ROWS_A_TURN, Sources
from exai_actors.core.observe.query import PreparedQuery, Query, QueryError
from exai_actors.core.operations.action import (
    Action,
    ActionError,
    Effect,
    Undo,
    checked_arguments,
    checked_reason,
)
from exai_actors.core.operations.audit import MAX_TARGETS_NAMED, AuditEntry, TargetEffect
from exai_actors.core.operators import Operator
from exai_actors.errors import ExaiError, safe_str
from exai_actors.ports import Clock
from exai_actors.runtime import ActorDeadError, Driver, LoopFuture, MailboxFull, PathRef, Timeout
from exai_actors.wire.console.protocol import Act

log = structlog.get_logger()

MAX_TARGETS = 10_000
MAX_KEY_CHARACTERS = 200
MAX_UNDOS = 20
"""Actions that undo one on targets whose states differed."""
REPLY_WITHIN_S = 5.0
WHOLE_BROKER = "broker"
"""The target of actions that concern the whole broker."""
_AT_ONCE = 50

Replies = tuple[LoopFuture[Any], ...]


@dataclass(frozen=True, slots=True)
class Cause:
    """The operator who acts, and the reason, which may be empty."""

    operator: str
    reason: str

    def __str__(self) -> str:
        return f"{self.operator}: {self.reason}" if self.reason else self.operator


@dataclass(frozen=True, slots=True)
class Plan:
    """The effect of an action on one target, and how it is carried out.

    ``carry_out`` sends the messages and returns the replies to come, each None or the problem as
    text. Raises ActionError.
    """

    effect: Effect
    carry_out: Callable[[Cause], Replies]


MakePlan = Callable[[str, Mapping[str, Any]], Plan | LoopFuture[Plan]]
"""Plans an action for the target with this key, perhaps later. Raises ActionError."""


@final
class Acted(msgspec.Struct, frozen=True, gc=False):
    """An action of the console has been carried out or previewed.

    ``undos`` are the actions that together restore the state before, one for all targets that were
    in the same state.
    """

    refusable: ClassVar[bool] = False
    act: Act
    effects: tuple[TargetEffect, ...]
    undos: tuple[dict[str, Any], ...]


@final
class ActRefused(msgspec.Struct, frozen=True, gc=False):
    """An action of the console cannot be done to any target; ``code`` as in ActionError."""

    refusable: ClassVar[bool] = False
    act: Act
    code: str
    text: str


Done = Callable[[Acted | ActRefused], object]


def ask(target: PathRef, message: object, name: str) -> LoopFuture[Any]:
    """The reply to a message. Raises ActionError if no actor lives there."""
    ref = target.resolve()
    if ref is None:
        raise ActionError(f"{name} is not running; try again in a moment")
    return ref.ask(message, block=False, timeout=REPLY_WITHIN_S)


class Actions:
    """The actions of a broker by name; loop thread only."""

    def __init__(self, sources: Sources, audit: Audit, driver: Driver, clock: Clock) -> None:
        self._sources = sources
        self._audit = audit
        self._driver = driver
        self._clock = clock
        self._actions: dict[str, tuple[Action, MakePlan]] = {}

    def add(self, action: Action, plan: MakePlan) -> None:
        self._actions[action.name] = action, plan

    @property
    def actions(self) -> tuple[Action, ...]:
        return tuple(action for action, _ in self._actions.values())

    def act(self, act: Act, operator: Operator, address: str, done: Done) -> None:
        """Preview or carry out an action; call ``done`` once with the effects, perhaps later."""
        order = _Order(act, operator, address, done)
        try:
            action, plan = self._allowed(act, operator)
            arguments = checked_arguments(action, act.arguments)
            cause = Cause(operator.name, checked_reason(act.reason))
            start = partial(self._start, order, plan, arguments, cause)
            if not action.targets:
                start((WHOLE_BROKER,))
            elif act.filter:
                self._select(order, action, start)
            else:
                start(_named(action, act))
        except (ActionError, QueryError) as error:
            self._refuse(order, error)

    def _start(
        self,
        order: _Order,
        plan: MakePlan,
        arguments: dict[str, Any],
        cause: Cause,
        targets: Iterable[str],
    ) -> None:
        act = order.act

        def finish(acted: Acted) -> None:
            if not act.preview:
                self._sources.forget()
                self._note(act, order.operator, order.address, acted.effects, arguments)
            order.done(acted)

        _Running(self._driver, act, partial(_planned, plan, arguments), cause, targets, finish).go()

    def _select(
        self, order: _Order, action: Action, start: Callable[[Iterable[str]], None]
    ) -> None:
        """Start with the rows that match; many are read in several turns of the loop."""
        filter_, table = order.act.filter, action.table
        if order.act.targets:
            raise ActionError("name the targets or filter them, not both")
        query = PreparedQuery(self._sources.table(table), Query(filter_))
        rows = iter(self._sources.fresh(table))
        found: list[str] = []

        def go() -> None:
            part = list(islice(rows, ROWS_A_TURN))
            found.extend(key for key, _ in query.matching(part))
            if len(part) == ROWS_A_TURN:
                self._driver.call_soon(go)
            elif not found:
                problem = f"no row of {table} matches '{filter_}'"
                self._refuse(order, ActionError(problem, "unknown"))
            elif len(found) > MAX_TARGETS:
                problem = (
                    f"{len(found)} rows of {table} match, and an action concerns at most "
                    f"{MAX_TARGETS}; narrow the filter"
                )
                self._refuse(order, ActionError(problem))
            else:
                start(found)

        go()

    def _refuse(self, order: _Order, error: ActionError | QueryError) -> None:
        if not order.act.preview:
            self._note_refusal(order.act, order.operator, order.address, str(error))
        code = error.code if isinstance(error, ActionError) else "bad_query"
        order.done(ActRefused(order.act, code, str(error)))

    def _note_refusal(self, act: Act, operator: Operator, address: str, why: str) -> None:
        suppressed = self._audit.allows_refusal(self._driver.now())
        if suppressed is not None:
            target = ", ".join(act.targets[:MAX_TARGETS_NAMED]) or act.filter
            effect = TargetEffect(target[:MAX_KEY_CHARACTERS], why, ok=False)
            self._note(act, operator, address, (effect,), {}, suppressed)

    def _note(
        self,
        act: Act,
        operator: Operator,
        address: str,
        effects: tuple[TargetEffect, ...],
        arguments: dict[str, Any],
        suppressed: int = 0,
    ) -> None:
        self._audit.note(
            AuditEntry(
                at=self._clock.wall(),
                operator=operator.name,
                role=operator.role,
                address=address,
                action=act.action[:MAX_KEY_CHARACTERS],
                arguments=arguments,
                reason=" ".join(act.reason.split())[:MAX_KEY_CHARACTERS],
                effects=effects[:MAX_TARGETS_NAMED],
                count=len(effects),
                failed=sum(not effect.ok for effect in effects),
                suppressed=suppressed,
            )
        )

    def _allowed(self, act: Act, operator: Operator) -> tuple[Action, MakePlan]:
        if act.action not in self._actions:
            known = ", ".join(self._actions) or "none"
            shown = act.action[:MAX_KEY_CHARACTERS]
            raise ActionError(f"there is no action '{shown}'; choose from {known}", "unknown")
        action, plan = self._actions[act.action]
        if not operator.role.may(action.role):
            raise ActionError(
                f"{action.name} needs the role {action.role}; yours is {operator.role}", "forbidden"
            )
        return action, plan


@dataclass(frozen=True, slots=True)
class _Order:
    act: Act
    operator: Operator
    address: str
    done: Done


def _named(action: Action, act: Act) -> tuple[str, ...]:
    if not act.targets:
        raise ActionError(f"name a target of {action.name}: a key of {action.table}")
    if any(len(target) > MAX_KEY_CHARACTERS for target in act.targets):
        raise ActionError(f"a target has at most {MAX_KEY_CHARACTERS} characters")
    return tuple(dict.fromkeys(act.targets))


def _planned(plan: MakePlan, arguments: Mapping[str, Any], target: str) -> Plan | LoopFuture[Plan]:
    """Whatever goes wrong is a problem of this target: others still get theirs."""
    try:
        return plan(target, arguments)
    except ActionError:
        raise
    except Exception as error:
        log.exception("console.action_failed", target=target, error=safe_str(error))
        raise ActionError(f"internal error ({type(error).__name__}); see the log") from None


class _Running:
    """One action on its targets, a few in each turn of the loop, and its effects."""

    def __init__(
        self,
        driver: Driver,
        act: Act,
        plan: Callable[[str], Plan | LoopFuture[Plan]],
        cause: Cause,
        targets: Iterable[str],
        done: Callable[[Acted], object],
    ) -> None:
        self._driver = driver
        self._act = act
        self._plan = plan
        self._cause = cause
        self._targets = deque(targets)
        self._effects: dict[str, TargetEffect] = {}
        self._undo: list[tuple[str, Undo]] = []
        self._open = len(self._targets)
        self._done = done

    def go(self) -> None:
        for _ in range(min(_AT_ONCE, len(self._targets))):
            self._one(self._targets.popleft())
        if self._targets:
            self._driver.call_soon(self.go)

    def _one(self, target: str) -> None:
        # In the order of the targets, whichever reply comes first.
        self._effects[target] = TargetEffect(target, "", ok=False)
        try:
            plan = self._plan(target)
        except ActionError as error:
            self._settled(target, str(error), None)
            return
        if isinstance(plan, LoopFuture):
            plan.add_done_callback(lambda reply: self._planned_later(target, reply))
        else:
            self._carry_out(target, plan)

    def _planned_later(self, target: str, reply: LoopFuture[Plan]) -> None:
        try:
            plan = reply.get()
        except ExaiError as error:
            self._settled(target, str(error), None)
        except Exception as error:  # noqa: BLE001 - whatever was raised on the other thread
            self._settled(target, f"internal error ({type(error).__name__})", None)
        else:
            self._carry_out(target, plan)

    def _carry_out(self, target: str, plan: Plan) -> None:
        try:
            replies = () if self._act.preview else plan.carry_out(self._cause)
        except ActionError as error:
            self._settled(target, str(error), None)
            return
        except Exception as error:
            log.exception("console.action_failed", target=target, error=safe_str(error))
            self._settled(target, f"internal error ({type(error).__name__}); see the log", None)
            return
        left = len(replies)
        problems: list[str] = []

        def replied(reply: LoopFuture[Any]) -> None:
            nonlocal left
            left -= 1
            if (problem := _problem_in(reply)) is not None:
                problems.append(problem)
            if not left:
                self._settled(target, "; ".join(problems) or None, plan.effect)

        for reply in replies:
            reply.add_done_callback(replied)
        if not replies:
            self._settled(target, None, plan.effect)

    def _settled(self, target: str, problem: str | None, effect: Effect | None) -> None:
        if problem is not None or effect is None:
            self._effects[target] = TargetEffect(target, problem or "", ok=False)
        else:
            self._effects[target] = TargetEffect(target, effect.text, before=effect.before)
            if effect.undo is not None:
                self._undo.append((target, effect.undo))
        self._open -= 1
        if not self._open:
            self._done(Acted(self._act, tuple(self._effects.values()), self._combined_undos()))

    def _combined_undos(self) -> tuple[dict[str, Any], ...]:
        """The actions that undo all effects; none if they would be more than MAX_UNDOS."""
        found: list[tuple[Undo, list[str]]] = []
        for target, undo in self._undo:
            targets = next((targets for each, targets in found if each == undo), None)
            if targets is not None:
                targets.append(target)
            elif len(found) == MAX_UNDOS:
                return ()
            else:
                found.append((undo, [target]))
        return tuple(
            {"action": undo.action, "targets": targets, "arguments": undo.arguments}
            for undo, targets in found
        )


def _problem_in(reply: LoopFuture[Any]) -> str | None:
    try:
        problem: str | None = reply.get()
    except Timeout:
        return "it did not reply in time; look at its row"
    except ActorDeadError:
        return "it has ended; look at its row"
    except MailboxFull:
        return "its mailbox is full; try again in a moment"
    except (ExaiError, OSError) as error:
        return str(error)
    except Exception as error:  # noqa: BLE001 - whatever the actor raised, it has failed
        return f"it failed ({type(error).__name__}); see the log"
    return problem
