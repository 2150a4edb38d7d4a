"""Answers about one request: why it waits, and its way so far."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

from msgspec.structs import replace

from exai_actors.actors.log import shown
from exai_actors.actors.provider.actor import ProviderActor
from exai_actors.actors.provider.call import ProviderCall
from exai_actors.actors.provider.explain import Explained
from exai_actors.actors.session.actor import SessionActor
from exai_actors.actors.session.view import SessionView
from exai_actors.core.capacity.ahead import BECAUSE, MAX_AHEAD, Because
from exai_actors.core.operations.action import counted
from exai_actors.core.session.requests import ActiveRequest
from exai_actors.core.wait_reasons import WaitReason, facts
from exai_actors.ids import RequestKey, SessionId, shown_tenant
from exai_actors.runtime import ActorSystem

Sessions = dict[SessionId, SessionActor]


class Explanations:
    """Reads the actors of one system; loop thread only.

    A request is named by its number (``17/3``), or by its client's id if no other has it.
    """

    def __init__(self, system: ActorSystem) -> None:
        self._system = system

    def why(self, of: str) -> dict[str, Any]:
        """Why a request waits. Raises LookupError, with the reason, if ``of`` names none."""
        sessions = self._sessions()
        view, active = _find(sessions, of)
        now, explained = self._system.driver.now(), self._explained(view, active)
        answer = self._facts(view, active, explained, now)
        if explained is None:
            reason = None if active.at_provider else view.requests.wait_reason(active)
            ahead = list(self._before_in_session(view, active, reason))
            answer |= {**_reason(reason, now), "also": [], "ahead": ahead, "running": []}
            return answer
        provider, place = active.route.provider, explained.place
        reason = place.reason and replace(place.reason, provider=provider)
        answer |= _reason(reason, now)
        answer["also"] = [facts(replace(each, provider=provider), now) for each in explained.also]
        answer["ahead"] = [
            {**_name(sessions, call), "code": why.value, "because": BECAUSE[why]}
            for call, why in explained.ahead
        ]
        answer["running"] = [_name(sessions, call) for call in explained.running]
        if place.position is not None:
            answer["position"] = place.position
            answer["position_is_estimate"] = explained.is_estimate
            answer["queued"] = explained.queued
        if place.state == "running":
            answer["text"] = f"it runs at {provider}, attempt {place.call.attempts}"
        return answer

    def timeline(self, of: str) -> dict[str, Any]:
        """The way of a request so far. Raises LookupError, with the reason, if ``of`` names none.

        ``at_s`` counts from its arrival; what is still to come is at a later time than now.
        """
        view, active = _find(self._sessions(), of)
        now, explained = self._system.driver.now(), self._explained(view, active)
        answer = self._facts(view, active, explained, now)
        began = active.deadline - active.timeout_s
        events = self._events(view, active, explained, now)
        answer["age_s"] = round(now - began, 3)
        answer["timeline"] = [
            {"at_s": round(max(0.0, at - began), 3), "where": where, "event": event, "detail": text}
            for at, where, event, text in sorted(events, key=lambda each: each[0])
        ]
        return answer

    def _events(
        self, view: SessionView, active: ActiveRequest, explained: Explained | None, now: float
    ) -> Iterator[tuple[float, str, str, str]]:
        began, provider = active.deadline - active.timeout_s, active.route.provider
        if active.waiters:
            yield began, "connection", "received", f"by {active.waiters[0][0]}"
        yield began, "session", "accepted", f"in {view.path}, may take {active.timeout_s:g} s"
        for tried in active.tried:
            yield began, "provider", "left", f"{tried['provider']}: {tried['code']}"
        if explained is None:
            reason = None if active.at_provider else view.requests.wait_reason(active)
            if reason is not None:
                yield now, "session", "waits", facts(reason, now)["text"]
            yield active.deadline, "session", "deadline", "it ends now at the latest"
            return
        place = explained.place
        call = place.call
        yield call.admitted_at, "provider", "admitted", provider
        match place.state:
            case "running":
                yield call.granted_at, "provider", "granted", f"attempt {call.attempts}"
                yield call.granted_at, "service", "started", f"model {call.model}"
                if active.piece_count:
                    pieces = counted(active.piece_count, "piece")
                    yield now, "service", "answering", f"{pieces} so far"
            case _:
                reason = place.reason and replace(place.reason, provider=provider)
                text = "" if reason is None else facts(reason, now)["text"]
                event = "waits" if place.state == "queued" else "waits to try again"
                yield now, "provider", event, text
                if place.starts_in_s is not None:
                    yield now + place.starts_in_s, "service", "starts", "predicted"
        yield active.deadline, "session", "deadline", "it ends now at the latest"

    def _facts(
        self, view: SessionView, active: ActiveRequest, explained: Explained | None, now: float
    ) -> dict[str, Any]:
        began = active.deadline - active.timeout_s
        place = None if explained is None else explained.place
        state = ("sent" if active.at_provider else "waiting") if place is None else place.state
        running_s = (place and place.running_s) or 0.0
        wait_s = None if place is None else place.starts_in_s
        return {
            "request": view.number_of(active),
            "request_id": view.client_id_of(active),
            "tenant": shown_tenant(view.settings.tenant),
            "session": shown(view.session_id),
            "provider": active.route.provider,
            "model": active.route.model,
            "state": state,
            # One that has just come misses 0 by a rounding error of its deadline.
            "waited_s": max(0.0, round(now - began - running_s, 3)),
            "starts_in_s": None if wait_s is None else round(wait_s, 3),
        }

    def _before_in_session(
        self, view: SessionView, active: ActiveRequest, reason: WaitReason | None
    ) -> Iterator[dict[str, Any]]:
        """The session's requests that have to end, or go, before this one."""
        if reason is None:
            return
        for each in view.requests.before(active)[:MAX_AHEAD]:
            yield {
                "request": view.number_of(each),
                "tenant": shown_tenant(view.settings.tenant),
                "session": shown(view.session_id),
                "code": Because.EARLIER.value,
                "because": BECAUSE[Because.EARLIER],
            }

    def _explained(self, view: SessionView, active: ActiveRequest) -> Explained | None:
        for provider in self._system.behaviours(ProviderActor):
            if active.at_provider and provider.name == active.route.provider:
                return provider.explain(view.session_id, active.run)
        return None

    def _sessions(self) -> Sessions:
        return {actor.session_id: actor for actor in self._system.behaviours(SessionActor)}


def _find(sessions: Sessions, of: str) -> tuple[SessionView, ActiveRequest]:
    name = of.strip()
    session, slash, number = name.partition("/")
    found = [
        (actor.view, active)
        for actor in sessions.values()
        if slash and actor.path.rpartition("/")[2] == session
        for active in actor.view.requests.active()
        if str(active.number) == number
    ] or list(_named(sessions.values(), name))
    if not found:
        raise LookupError(f"there is no request '{name}' without an outcome")
    if len(found) > 1:
        numbers = ", ".join(view.number_of(active) for view, active in found[:5])
        more = ", ..." if len(found) > 5 else ""
        raise LookupError(
            f"{len(found)} requests have the id '{name}'; choose one by its number: {numbers}{more}"
        )
    return found[0]


def _name(sessions: Sessions, call: ProviderCall) -> dict[str, Any]:
    actor = sessions.get(call.flow.session)
    view = None if actor is None else actor.view
    active = None if view is None else view.requests.find(call.run.request)
    return {
        "request": "" if view is None or active is None else view.number_of(active),
        "tenant": shown_tenant(call.flow.tenant.name),
        "session": shown(call.flow.session),
    }


def _named(
    actors: Iterable[SessionActor], name: str
) -> Iterator[tuple[SessionView, ActiveRequest]]:
    """The requests that their clients know by this id."""
    keys = [RequestKey(name, "op"), RequestKey(name, "rpc"), RequestKey(f'"{name}"', "rpc")]
    for actor in actors:
        for key in keys:
            active = actor.find_named(key)
            if active is not None:
                yield actor.view, active
                break


def _reason(reason: WaitReason | None, now: float) -> dict[str, Any]:
    if reason is None:
        return {"reason": "", "text": "", "figures": {}}
    figures = facts(reason, now)
    return {"reason": figures.pop("code"), "text": figures.pop("text"), "figures": figures}
