"""The actions on requests, sessions and connections."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, TypeVar

from exai_actors.console.actions import Actions, Cause, Plan, Replies, ask
from exai_actors.console.parts import Parts
from exai_actors.core.capacity.changes import Arrangement
from exai_actors.core.operations.action import Action, ActionError
from exai_actors.core.operations.client_effects import (
    arranged,
    cancelled,
    disconnected,
    session_ended,
)
from exai_actors.core.operators import Role
from exai_actors.messages.broker import EndSessionBeforeCall
from exai_actors.messages.connection import Disconnect
from exai_actors.messages.session import ArrangeRequest, EndRequest, EndSession
from exai_actors.runtime import ActorSystem, PathRef

_CANCEL = Action(
    "request.cancel", "Cancel", "requests", Role.OPERATOR, "End it; its clients get CANCELLED."
)
_ARRANGEMENTS: tuple[tuple[Arrangement, Action], ...] = (
    (
        "front",
        Action("request.front", "To the front", "requests", Role.OPERATOR, "Let it run next."),
    ),
    (
        "hold",
        Action("request.hold", "Hold", "requests", Role.OPERATOR, "Keep it in the queue."),
    ),
    (
        "release",
        Action("request.release", "Release", "requests", Role.OPERATOR, "End a hold."),
    ),
)
_END = Action(
    "session.end", "End", "sessions", Role.ADMIN, "Cancel its requests and close its connections."
)
_DISCONNECT = Action(
    "connection.disconnect", "Disconnect", "connections", Role.OPERATOR, "Close its socket."
)


T = TypeVar("T")


class ClientActions:
    """Acts on what clients do, by messages to the actors of their sessions and connections."""

    def __init__(self, system: ActorSystem, parts: Parts) -> None:
        self._system = system
        self._parts = parts

    def register(self, actions: Actions) -> None:
        actions.add(_CANCEL, self._plan_cancel)
        for how, action in _ARRANGEMENTS:
            actions.add(action, partial(self._plan_arrangement, how))
        actions.add(_END, self._plan_end)
        actions.add(_DISCONNECT, self._plan_disconnect)

    def _plan_cancel(self, target: str, _: Mapping[str, Any]) -> Plan:
        effect = cancelled(_known(self._parts.request(target), "request in flight", target))
        session, number = _split(target)
        return Plan(effect, self._sending(f"/sessions/{session}", partial(EndRequest, number)))

    def _plan_arrangement(self, how: Arrangement, target: str, _: Mapping[str, Any]) -> Plan:
        effect = arranged(how, _known(self._parts.request(target), "request in flight", target))
        session, number = _split(target)
        message = ArrangeRequest(number, how)
        return Plan(effect, self._sending(f"/sessions/{session}", lambda _: message))

    def _plan_end(self, target: str, _: Mapping[str, Any]) -> Plan:
        effect = session_ended(_known(self._parts.session(target), "session", target))
        if self._parts.has_begun(target):
            return Plan(effect, self._sending(f"/sessions/{target}", EndSession))
        return Plan(effect, self._sending("/broker", partial(EndSessionBeforeCall, target)))

    def _plan_disconnect(self, target: str, _: Mapping[str, Any]) -> Plan:
        effect = disconnected(_known(self._parts.connection(target), "connection", target))
        return Plan(effect, self._sending(f"/connections/{target}", lambda _: Disconnect()))

    def _sending(
        self, path: str, message_for: Callable[[str], object]
    ) -> Callable[[Cause], Replies]:
        """``message_for`` gets the reason, which clients may see, without the operator's name."""

        def carry_out(cause: Cause) -> Replies:
            return (ask(PathRef(self._system, path), message_for(cause.reason), path),)

        return carry_out


def _known(found: T | None, kind: str, target: str) -> T:
    if found is None:
        raise ActionError(f"there is no {kind} '{target}'", "unknown")
    return found


def _split(key: str) -> tuple[str, int]:
    session, _, number = key.rpartition("/")
    return session, int(number)
