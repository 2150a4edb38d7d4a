"""The actions of the scenarios, played on a whole tree of actors.

Settings, each on a line before the first empty one:

    limit 2, queue 10, requests_per_minute 3, coalesce yes   the capacity of each provider
    window 1                                                  the window of each session
    route any: kimi/moon, glm/star on busy overloaded         a route
    finishes kimi                                             on_disconnect = finish

Actions:

    ann asks a [of MODEL] [as KEY] [within 5 s] [or not at all] [at priority 5] [streaming]
    ann cancels a / ann vanishes / ann returns
    kimi answers a [with TEXT] / kimi writes a: TEXT / kimi ends a (an aborted call's connection)
    kimi ends a again
    kimi fails a: overloaded [come back in 5 s]
    5 s pass
    kimi: limit 3 / kimi: pause / kimi: reopen / kimi: drain / kimi: weight batch 2
    kimi crashes

Effects: ``kimi gets a``, ``kimi aborts a``, ``ann receives a: TEXT``, ``ann reads a: TEXT`` (a
chunk), ``ann receives a refused (busy)``, ``ann receives a failed (overloaded)``, ``ann receives a
cancelled``, ``ann receives a expired``, ``ann waits for a at 2`` (each position once).
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

import orjson

from exai_actors.actors.session.settings import SessionSettings
from exai_actors.core.calls import FailureKind
from exai_actors.core.capacity.changes import (
    Change,
    DrainProvider,
    Pause,
    Reopen,
    SetLimit,
    SetWeight,
)
from exai_actors.core.capacity.settings import CapacitySettings, GateSettings
from exai_actors.core.routing import RouteSettings
from exai_actors.ids import ProviderName, TenantName
from exai_actors.messages.connection import TextReceived
from exai_actors.testing.manual_upstream import ManualCall
from exai_actors.testing.tree import ManualClient, ManualTree
from tests.scenarios.scenario import ScenarioError

_ASKS = re.compile(
    r"(?P<who>\w+) asks (?P<id>\w+)(?: of (?P<model>\S+))?(?: as (?P<key>\w+))?"
    r"(?: within (?P<seconds>[\d.]+) s)?(?P<refuse> or not at all)?"
    r"(?: at priority (?P<priority>-?\d+))?(?P<stream> streaming)?"
)
_FAILS = re.compile(
    r"(?P<who>\w+) fails (?P<id>\w+): (?P<kind>\w+)(?: come back in (?P<seconds>[\d.]+) s)?"
)
_SETTING = re.compile(r"(\w+) (\S+)")
_GATES = frozenset(GateSettings.__struct_fields__)


class Stage:
    """A tree with the settings of one scenario."""

    def __init__(self, settings: list[str]) -> None:
        capacity: dict[str, Any] = {"limit": 1}
        session: dict[str, Any] = {}
        routes: list[RouteSettings] = []
        finish_on_disconnect: list[str] = []
        for line in settings:
            word, _, rest = line.partition(" ")
            if word == "route":
                name, _, targets = rest.partition(": ")
                to, _, on = targets.partition(" on ")
                routes.append(RouteSettings(name, tuple(to.split(", ")), tuple(on.split())))
            elif word == "finishes":
                finish_on_disconnect.append(rest)
            elif word == "window":
                session["window"] = int(rest)
            else:
                capacity |= _capacity(line)
        self._tree = ManualTree(
            capacity=CapacitySettings(**capacity),
            session=SessionSettings(**session),
            routes=tuple(routes),
            finish_on_disconnect=tuple(finish_on_disconnect),
        )
        self._clients: dict[str, ManualClient] = {}
        self._seen: dict[str, int] = dict.fromkeys(self._tree.upstreams, 0)
        self._aborted: set[int] = set()

    def act(self, action: str) -> Iterator[str]:
        """Perform the action; yield its trace."""
        self._do(action)
        self._tree.settle()
        yield from self._called()
        yield from self._aborts()
        for name in sorted(self._clients):
            effects = [_effect(frame) for frame in self._clients[name].received()]
            # A position is reported repeatedly; the trace has it once.
            for each in dict.fromkeys(filter(None, effects)):
                yield f"{name} {each}"

    def _do(self, action: str) -> None:
        if match := _ASKS.fullmatch(action):
            self._ask(match)
        elif match := _FAILS.fullmatch(action):
            after = match["seconds"]
            self._call(match["who"], match["id"]).fail(
                FailureKind(match["kind"]),
                match["kind"],
                retry_after=None if after is None else float(after),
            )
        elif match := re.fullmatch(r"([\d.]+) s pass", action):
            self._tree.advance(float(match[1]))
        elif match := re.fullmatch(r"(\w+) (vanishes|returns|crashes)", action):
            self._come_and_go(match[1], match[2])
        elif match := re.fullmatch(r"(\w+) cancels (\w+)", action):
            self._clients[match[1]].ref.tell(_text({"op": "cancel", "request_id": match[2]}))
        elif match := re.fullmatch(r"(\w+) answers (\w+)(?: with (.+))?", action):
            self._call(match[1], match[2]).complete(match[3] or f"answer to {match[2]}")
        elif match := re.fullmatch(r"(\w+) writes (\w+): (.+)", action):
            self._call(match[1], match[2]).chunk(match[3])
        elif match := re.fullmatch(r"(\w+) ends (\w+)( again)?", action):
            call = self._call(match[1], match[2], ended=match[3] is not None)
            if match[3]:
                call.end_again()
            else:
                call.close()
        elif match := re.fullmatch(r"(\w+): (.+)", action):
            problem = self._tree.change(_change(match[2]), match[1])
            if problem is not None:
                raise ScenarioError(problem)
        else:
            raise ScenarioError(f"'{action}' is no action")

    def _ask(self, match: re.Match[str]) -> None:
        frame: dict[str, Any] = {
            "op": "call_tool",
            "request_id": match["id"],
            "name": "chat",
            "arguments": {"prompt": match["key"] or match["id"], "model": match["model"] or "moon"},
        }
        if match["key"]:
            frame["idempotency_key"] = match["key"]
        if match["seconds"]:
            frame["deadline_ms"] = float(match["seconds"]) * 1000
        if match["refuse"]:
            frame["if_busy"] = "refuse"
        if match["priority"]:
            frame["priority"] = int(match["priority"])
        if match["stream"]:
            frame["stream"] = True
        self._client(match["who"]).ref.tell(_text(frame))

    def _come_and_go(self, name: str, how: str) -> None:
        match how:
            case "vanishes":
                self._clients.pop(name).vanish()
            case "returns":
                self._client(name)
            case _:
                provider = self._tree.directory.providers[ProviderName(name)].resolve()
                if provider is None:
                    raise ScenarioError(f"{name} does not live")
                # Not one of its messages.
                provider.tell(object())

    def _client(self, name: str) -> ManualClient:
        if name not in self._clients:
            self._clients[name] = self._tree.client(f"session-{name}")
        return self._clients[name]

    def _call(self, provider: str, request: str, *, ended: bool = False) -> ManualCall:
        calls = self._tree.upstreams[ProviderName(provider)].calls
        for call in reversed(calls):
            if call.prompt == request and call.ended is ended:
                return call
        raise ScenarioError(f"{provider} has no call for {request}")

    def _called(self) -> Iterator[str]:
        for name, upstream in self._tree.upstreams.items():
            for call in upstream.calls[self._seen[name] :]:
                yield f"{name} gets {call.prompt}"
            self._seen[name] = len(upstream.calls)

    def _aborts(self) -> Iterator[str]:
        for name, upstream in self._tree.upstreams.items():
            for call in upstream.calls:
                if call.abort_asked and id(call) not in self._aborted:
                    self._aborted.add(id(call))
                    yield f"{name} aborts {call.prompt}"


def _capacity(line: str) -> dict[str, Any]:
    found: dict[str, Any] = {}
    gates: dict[str, int] = {}
    for word, value in _SETTING.findall(line.replace(",", "")):
        if word in _GATES:
            gates[word] = int(value)
        elif value in ("yes", "no"):
            found[word] = value == "yes"
        else:
            found[word] = float(value) if word.endswith("_s") else int(value)
    return found | ({"gates": GateSettings(**gates, margin_s=0.0)} if gates else {})


def _change(words: str) -> Change:
    match words.split():
        case ["limit", number]:
            return SetLimit(int(number))
        case ["weight", tenant, number]:
            return SetWeight(TenantName(tenant), float(number))
        case ["pause"]:
            return Pause()
        case ["drain"]:
            return DrainProvider()
        case ["reopen"]:
            return Reopen()
    raise ScenarioError(f"'{words}' is no change")


def _effect(frame: dict[str, Any]) -> str:
    """A frame as a line of a trace; empty for frames that every call receives."""
    request = frame.get("request_id")
    if frame["op"] == "stream_chunk":
        return f"reads {request}: {frame['chunk']}"
    if frame["op"] == "progress" and frame.get("position"):
        return f"waits for {request} at {frame['position']}"
    if frame["op"] != "call_tool_res":
        return ""
    error = frame.get("error")
    if error is None:
        return f"receives {request}: {frame['text']}"
    details = error.get("details") or {}
    match error["code"]:
        case "OVER_CAPACITY" | "SERVICE_UNAVAILABLE" if "reason" in details:
            return f"receives {request} refused ({details['reason']})"
        case "PROVIDER_ERROR":
            return f"receives {request} failed ({details['kind']})"
        case "TIMEOUT":
            return f"receives {request} expired"
        case code:
            return f"receives {request} {code.lower()}"


def _text(frame: dict[str, Any]) -> TextReceived:
    return TextReceived(orjson.dumps(frame))
