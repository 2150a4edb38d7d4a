"""The actions that consoles can take: found by name, checked, previewed and carried out."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any, final

import msgspec

from exai_actors.console.feed import Sources
from exai_actors.core.observe.query import PreparedQuery, Query
from exai_actors.core.operations.action import (
    Action,
    ActionError,
    Effect,
    Undo,
    checked_arguments,
    checked_reason,
)
from exai_actors.core.operators import Operator
from exai_actors.runtime import ActorDeadError, LoopFuture, Timeout
from exai_actors.wire.console.protocol import Act

MAX_TARGETS = 10_000
EVERY_BROKER = "broker"
"""The target of actions that concern the whole broker."""


@dataclass(frozen=True, slots=True)
class Plan:
    """The effect of an action on one target, and how it is carried out.

    ``carry_out`` sends the messages; its argument, the cause, names the operator and the reason.
    Its result is the reply to come, None or the problem as text; None if there is no reply.
    """

    effect: Effect
    carry_out: Callable[[str], LoopFuture[Any] | None]


MakePlan = Callable[[str, Mapping[str, Any]], Plan]
"""Plans an action for the target with this key. Raises ActionError."""


@final
class TargetEffect(msgspec.Struct, frozen=True):
    """The effect on one target; not ``ok`` if it was refused, for the reason in ``text``."""

    target: str
    text: str
    ok: bool = True


@final
class Acted(msgspec.Struct, frozen=True, gc=False):
    """An action of the console has been carried out or previewed."""

    refusable = False
    act: Act
    effects: tuple[TargetEffect, ...]
    undo: dict[str, Any] | None


class Actions:
    """The actions of a broker by name; loop thread only."""

    def __init__(self, sources: Sources) -> None:
        self._sources = sources
        self._actions: dict[str, tuple[Action, MakePlan]] = {}

    def add(self, action: Action, plan: MakePlan) -> None:
        self._actions[action.name] = action, plan

    @property
    def actions(self) -> tuple[Action, ...]:
        return tuple(action for action, _ in self._actions.values())

    def act(
        self, act: Act, operator: Operator, now: float, done: Callable[[Acted], object]
    ) -> None:
        """Preview or carry out an action, and call ``done`` with the effects, perhaps later.

        Raises ActionError or QueryError if it cannot be done to any target.
        """
        action, plan = self._allowed(act, operator)
        arguments = checked_arguments(action, act.arguments)
        reason = checked_reason(act.reason)
        targets = self._targets(action, act, now)
        cause = f"{operator.name}: {reason}" if reason else operator.name
        running = _Running(act, len(targets), done)
        for target in targets:
            try:
                planned = plan(target, arguments)
                reply = None if act.preview else planned.carry_out(cause)
            except ActionError as error:
                running.settled(target, str(error), None, None)
                continue
            if reply is None:
                running.settled(target, None, planned.effect, None)
            else:
                reply.add_done_callback(partial(running.settled, target, None, planned.effect))

    def _allowed(self, act: Act, operator: Operator) -> tuple[Action, MakePlan]:
        if act.action not in self._actions:
            known = ", ".join(self._actions) or "none"
            raise ActionError(f"there is no action '{act.action}'; choose from {known}", "unknown")
        action, plan = self._actions[act.action]
        if not operator.role.may(action.role):
            raise ActionError(
                f"{action.name} needs the role {action.role}; yours is {operator.role}", "forbidden"
            )
        return action, plan

    def _targets(self, action: Action, act: Act, now: float) -> tuple[str, ...]:
        if not action.targets:
            return (EVERY_BROKER,)
        if act.targets and act.filter:
            raise ActionError("name the targets or filter them, not both")
        if not act.filter:
            if not act.targets:
                raise ActionError(f"name a target of {action.name}: a key of {action.table}")
            return tuple(dict.fromkeys(act.targets))
        query = PreparedQuery(self._sources.table(action.table), Query(act.filter))
        matching = query.matching(self._sources.rows(action.table, now))
        if not matching:
            raise ActionError(f"no row of {action.table} matches '{act.filter}'", "unknown")
        if len(matching) > MAX_TARGETS:
            raise ActionError(
                f"{len(matching)} rows of {action.table} match, and an action concerns at most "
                f"{MAX_TARGETS}; narrow the filter"
            )
        return tuple(key for key, _ in matching)


class _Running:
    """Collects the effects of one action on its targets."""

    def __init__(self, act: Act, expected: int, done: Callable[[Acted], object]) -> None:
        self._act = act
        self._left = expected
        self._done = done
        self._effects: list[TargetEffect] = []
        self._undo: list[tuple[str, Undo]] = []

    def settled(
        self,
        target: str,
        problem: str | None,
        effect: Effect | None,
        reply: LoopFuture[Any] | None,
    ) -> None:
        """One target is done, or refused with a ``problem``, or the ``reply`` says which."""
        if reply is not None:
            problem = _problem_in(reply)
        if problem is not None or effect is None:
            self._effects.append(TargetEffect(target, problem or "", ok=False))
        else:
            self._effects.append(TargetEffect(target, effect.text))
            if effect.undo is not None:
                self._undo.append((target, effect.undo))
        self._left -= 1
        if not self._left:
            self._done(Acted(self._act, tuple(self._effects), self._combined_undo()))

    def _combined_undo(self) -> dict[str, Any] | None:
        """One action that undoes all effects; None if they need different ones."""
        if not self._undo:
            return None
        first = self._undo[0][1]
        if any(undo != first for _, undo in self._undo):
            return None
        return {
            "action": first.action,
            "targets": [target for target, _ in self._undo],
            "arguments": first.arguments,
        }


def _problem_in(reply: LoopFuture[Any]) -> str | None:
    try:
        problem: str | None = reply.get()
    except Timeout:
        return "it did not reply in time; look at its row"
    except ActorDeadError:
        return "it has ended; try again in a moment"
    return problem
