"""A client with its tools and a broker whose frames the test writes."""

from __future__ import annotations

import json
from typing import Any

from exai_actors.wire.mcp import messages
from exai_actors.wire.mcp.broker_tools import CAPABILITIES, BrokerTools
from exai_actors.wire.mcp.link import BrokerLink
from exai_actors.wire.mcp.server import McpServer

STATELESS_META: dict[str, Any] = {
    messages.VERSION_KEY: "2026-07-28",
    messages.CAPABILITIES_KEY: {},
}
TASKS_META = {
    **STATELESS_META,
    messages.CAPABILITIES_KEY: {"extensions": {messages.TASKS: {}}},
}


class Sheet:
    """The messages about one request."""

    def __init__(self) -> None:
        self.before: list[Any] = []
        self.answers: list[Any] = []
        self.statuses: list[int] = []

    def send(self, frame: bytes) -> None:
        self.before.append(json.loads(frame))

    def end(self, frame: bytes, status: int) -> None:
        self.answers.append(json.loads(frame))
        self.statuses.append(status)

    @property
    def answer(self) -> Any:
        (answer,) = self.answers
        return answer

    @property
    def result(self) -> Any:
        return self.answer["result"]

    @property
    def error(self) -> Any:
        return self.answer["error"]

    @property
    def text(self) -> str:
        text: str = self.result["content"][0]["text"]
        return text

    @property
    def reports(self) -> list[str]:
        return [frame["params"]["message"] for frame in self.before]


class Desk:
    """``sent`` are the frames for the broker; ``now`` is the time."""

    def __init__(self, *, names_requests: bool = True) -> None:
        self.now = 100.0
        self.sent: list[Any] = []
        self._ids = 0
        self.link = BrokerLink(self, "session-uuid", "the-token")
        self.tools = BrokerTools(
            self.link, new_id=self._new_id, now=lambda: self.now, wall=lambda: 1.8e9 + self.now
        )
        self.server = McpServer(self.tools.handlers, CAPABILITIES, names_requests=names_requests)

    def send(self, frame: bytes) -> None:
        self.sent.append(json.loads(frame))

    def take(self) -> list[Any]:
        sent, self.sent = self.sent, []
        return sent

    def connect(self) -> None:
        self.link.opened()
        self.from_broker({"op": "hello_ack", "ok": True, "session_id": "session-uuid"})
        del self.sent[0]

    def from_broker(self, frame: Any) -> None:
        self.link.received(json.dumps(frame).encode())

    def ask(
        self, method: str, params: dict[str, Any] | None = None, *, id_: Any = 1, **meta: Any
    ) -> Sheet:
        sheet = Sheet()
        params = dict(params or {})
        if meta:
            params["_meta"] = meta
        message = {"jsonrpc": "2.0", "id": id_, "method": method, "params": params}
        self.server.receive(messages.read(json.dumps(message).encode()), sheet)
        return sheet

    def call(
        self, tool: str, arguments: dict[str, Any] | None = None, *, id_: Any = 1, **meta: Any
    ) -> Sheet:
        return self.ask("tools/call", {"name": tool, "arguments": arguments or {}}, id_=id_, **meta)

    def notify(self, method: str, params: dict[str, Any]) -> None:
        message = {"jsonrpc": "2.0", "method": method, "params": params}
        self.server.receive(messages.read(json.dumps(message).encode()), Sheet())

    def finish(self, key: int = 1, text: str = "Hello.", **meta: Any) -> None:
        """The broker answers the call with this key."""
        content = [{"type": "text", "text": text}]
        result = {"content": content, "isError": False, **({"_meta": meta} if meta else {})}
        self.from_broker({"jsonrpc": "2.0", "id": key, "result": result})

    def queue(self, position: int, estimate_s: float | None = None, key: int = 1) -> None:
        """The broker says at which position the call waits."""
        meta = {"position": position, "waits_for": {"code": "permit", "text": "kimi: 1 of 1 used"}}
        if estimate_s is not None:
            meta["estimate_s"] = estimate_s
        params = {"progressToken": key, "progress": 1, "_meta": meta}
        self.from_broker({"jsonrpc": "2.0", "method": "notifications/progress", "params": params})

    def wait(self, seconds: float) -> None:
        """Let time pass, in ticks of one second."""
        until = self.now + seconds
        while self.now < until:
            self.now = min(until, self.now + 1.0)
            self.tools.tick()

    def _new_id(self) -> str:
        self._ids += 1
        return f"task-{self._ids}"
