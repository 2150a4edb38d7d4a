"""The actions on actors, the traces of actors and requests, and the question about an actor."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import Any

from exai_actors.console.actions import Actions, Cause, Plan, Replies
from exai_actors.console.parts import Parts
from exai_actors.console.questions import Questions
from exai_actors.console.tables.actors import ACTORS, row_of
from exai_actors.console.traces import IsWanted, Traces
from exai_actors.core.operations import actor_effects
from exai_actors.core.operations.action import (
    Action,
    ActionError,
    Argument,
    ArgumentKind,
    Effect,
    counted,
)
from exai_actors.core.operators import Role
from exai_actors.errors import UsageError
from exai_actors.ids import RequestKey
from exai_actors.runtime import ActorStatistics, ActorSystem, SupervisorBoard

CONSOLES = "/consoles"
MAX_CHILDREN = 200
DEFAULT_MESSAGES = 100

_SUBTREE = Argument("subtree", ArgumentKind.TEXT, "yes: all actors below it too", required=False)
_MESSAGES = Argument(
    "messages", ArgumentKind.COUNT, f"how many; {DEFAULT_MESSAGES} by default", required=False
)


def _action(name: str, title: str, role: Role, help_: str, *arguments: Argument) -> Action:
    return Action(f"actor.{name}", title, "actors", role, help_, arguments)


_SUSPEND = _action("suspend", "Suspend", Role.ADMIN, "Let its messages wait.", _SUBTREE)
_RESUME = _action("resume", "Resume", Role.ADMIN, "End a suspension.", _SUBTREE)
_RESTART = _action("restart", "Restart", Role.ADMIN, "Stop it and start it again.")
_STOP = _action("stop", "Stop", Role.ADMIN, "Stop it until it is restarted.")
_TRACE = _action("trace", "Trace", Role.OPERATOR, "Note its next messages.", _MESSAGES)
_TRACE_REQUEST = Action(
    "request.trace",
    "Trace",
    "requests",
    Role.OPERATOR,
    "Note the next messages that name it.",
    (_MESSAGES,),
)


class ActorActions:
    """Acts on actors through the runtime and their supervisors."""

    def __init__(
        self, system: ActorSystem, supervisors: SupervisorBoard, parts: Parts, traces: Traces
    ) -> None:
        self._system = system
        self._supervisors = supervisors
        self._parts = parts
        self._traces = traces

    def register(self, actions: Actions, questions: Questions) -> None:
        actions.add(_SUSPEND, partial(self._plan_suspension, resumes=False))
        actions.add(_RESUME, partial(self._plan_suspension, resumes=True))
        actions.add(_RESTART, partial(self._plan_end, restarts=True))
        actions.add(_STOP, partial(self._plan_end, restarts=False))
        actions.add(_TRACE, self._plan_trace)
        actions.add(_TRACE_REQUEST, self._plan_request_trace)
        questions.add("actor", Role.VIEWER, self._describe, more=(Role.ADMIN, self._attributes))

    def _plan_suspension(self, target: str, arguments: Mapping[str, Any], *, resumes: bool) -> Plan:
        path, actor = self._find(target)
        subtree = arguments.get("subtree", "no")
        if subtree not in ("yes", "no"):
            raise ActionError("the argument 'subtree' is yes or no")
        with_all = subtree == "yes"
        if path.startswith(CONSOLES) or (with_all and path == "/"):
            raise ActionError("consoles are not suspended: they could not be resumed")
        if (actor.state == "suspended") is not resumes and not with_all:
            raise ActionError(f"{path} is {actor.state}")
        below = len(self._below(path)) if with_all else None
        effect = actor_effects.resumed if resumes else actor_effects.suspended

        def carry_out(_: Cause) -> Replies:
            (self._system.resume if resumes else self._system.suspend)(path, subtree=with_all)
            return ()

        return Plan(effect(actor.user_depth, below, actor.state), carry_out)

    def _plan_end(self, target: str, _: Mapping[str, Any], *, restarts: bool) -> Plan:
        path = self._path_of(target)
        try:
            row = self._supervisors.row(path)
        except UsageError as error:
            raise ActionError(str(error), "unknown") from None
        if path == "/":
            raise ActionError("the root ends with the process; drain the broker instead")
        actor = self._system.statistics_of(path)
        waiting = 0 if actor is None else actor.user_depth
        effect = actor_effects.restarted if restarts else actor_effects.stopped

        def carry_out(_: Cause) -> Replies:
            (self._supervisors.restart if restarts else self._supervisors.stop)(path)
            return ()

        return Plan(effect(waiting, self._lost_with(path), row.phase), carry_out)

    def _plan_trace(self, target: str, arguments: Mapping[str, Any]) -> Plan:
        path, _ = self._find(target)
        return self._plan_to_trace(target, (path,), arguments)

    def _plan_request_trace(self, target: str, arguments: Mapping[str, Any]) -> Plan:
        request = self._parts.request(target)
        if request is None:
            raise ActionError(f"there is no request in flight '{target}'", "unknown")
        session, _, number = target.rpartition("/")
        paths = (
            f"/sessions/{session}",
            f"/connections/{request.connection}",
            f"/providers/{request.provider}",
        )
        name = self._parts.request_name(target)

        def is_wanted(message: Any) -> bool:
            key = getattr(message, "request", None)
            if not isinstance(key, RequestKey) or name is None:
                return False
            # The provider has requests of other sessions, perhaps with the same id.
            of = getattr(message, "session", None)
            text, namespace, session_id = name
            is_other = isinstance(of, str) and of != session_id
            return (key.text, key.namespace) == (text, namespace) and not is_other

        return self._plan_to_trace(f"request {session}/{number}", paths, arguments, is_wanted)

    def _plan_to_trace(
        self,
        of: str,
        paths: tuple[str, ...],
        arguments: Mapping[str, Any],
        is_wanted: IsWanted = lambda _: True,
    ) -> Plan:
        messages = arguments.get("messages", DEFAULT_MESSAGES)
        self._traces.check(messages)
        noted = f"the next {counted(messages, 'message')} are noted in the table traces"

        def carry_out(_: Cause) -> Replies:
            self._traces.begin(of, paths, messages, is_wanted)
            return ()

        return Plan(Effect(noted, ""), carry_out)

    def _describe(self, of: str) -> dict[str, Any]:
        path, actor = self._find(of)
        names = [column.name for column in ACTORS.columns]
        answer: dict[str, Any] = dict(zip(names, row_of(actor), strict=True))
        children = self._below(path, direct=True)
        answer["children"] = children[:MAX_CHILDREN]
        answer["children_count"] = len(children)
        answer["errors"] = [
            {
                "at_s_ago": round(self._system.driver.now() - each.time, 3),
                "path": each.path,
                "error": each.error,
                "consequence": each.consequence,
            }
            for each in self._supervisors.incidents
            if each.path == path
        ]
        try:
            row = self._supervisors.row(path)
        except UsageError:
            answer["supervision"] = None
        else:
            answer["supervision"] = {
                name: getattr(row, name) for name in row.__struct_fields__ if name != "path"
            }
        return answer

    def _attributes(self, of: str) -> dict[str, Any]:
        path, _ = self._find(of)
        ref = self._system.resolve(path)
        actor = None if ref is None else ref._actor_weakref()
        return {"attributes": {} if actor is None else actor_effects.attributes_of(actor)}

    def _path_of(self, target: str) -> str:
        path, _, incarnation = target.partition("#")
        actor = self._system.statistics_of(path)
        if incarnation and actor is not None and str(actor.incarnation) != incarnation:
            raise ActionError(f"{path} has been restarted since")
        return path

    def _find(self, target: str) -> tuple[str, ActorStatistics]:
        path = self._path_of(target)
        actor = self._system.statistics_of(path)
        if actor is None:
            raise ActionError(f"no actor is alive at {path}", "unknown")
        return path, actor

    def _below(self, path: str, *, direct: bool = False) -> list[str]:
        start = path.rstrip("/") + "/"
        return [
            each
            for each in self._system.paths()
            if each.startswith(start)
            and each != path
            and not (direct and "/" in each.removeprefix(start))
        ]

    def _lost_with(self, path: str) -> actor_effects.Lost:
        def is_below(kind: str, name: str) -> bool:
            return f"{kind}/{name}" == path or f"{kind}/".startswith(f"{path}/")

        parts = self._parts
        providers = [
            each for each in parts.statistics().providers if is_below("/providers", each.name)
        ]
        requests = clients = None
        if path == "/sessions":
            requests = len(parts.requests())
        elif session := parts.session(path.removeprefix("/sessions/")):
            requests = session.at_providers + session.waiting
        if path == "/connections":
            clients = len(parts.connections())
        elif parts.connection(path.removeprefix("/connections/")):
            clients = 1
        return actor_effects.Lost(len(self._below(path)), providers, requests, clients)
