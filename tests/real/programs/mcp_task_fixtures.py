"""The tools that the conformance suite prescribes for its scenarios of the tasks extension.

Their tasks are those of the broker's own tools: each is a call of its ``chat``, over a link whose
broker is played here.
"""

from __future__ import annotations

import asyncio
import json
import time
from typing import Any
from uuid import uuid4

import msgspec

from exai_actors.wire.mcp import broker_tools, messages
from exai_actors.wire.mcp.broker_tools import BrokerTools
from exai_actors.wire.mcp.link import BrokerLink
from exai_actors.wire.mcp.messages import Request
from exai_actors.wire.mcp.server import Answer

TICK_S = 0.02
SLOW = ("slow_compute", "failing_job")
GREETS = "greet"
METHODS = ("tasks/get", "tasks/update", "tasks/cancel")


class Line:
    """Answers each call after its time: by default one second."""

    def __init__(self) -> None:
        self.link: BrokerLink
        self._running: dict[int, asyncio.TimerHandle] = {}

    def send(self, frame: bytes) -> None:
        message: dict[str, Any] = json.loads(frame)
        if message.get("op") == "hello":
            self.link.received(b'{"op":"hello_ack","ok":true}')
        elif message["method"] == "tools/call":
            arguments, id_ = message["params"]["arguments"], message["id"]
            loop, seconds = asyncio.get_running_loop(), arguments.get("seconds", 1)
            self._running[id_] = loop.call_later(seconds, self._answer, id_, arguments["tool"])
        else:
            self._running.pop(message["params"]["requestId"]).cancel()

    def _answer(self, id_: int, tool: str) -> None:
        del self._running[id_]
        content = [{"type": "text", "text": f"{tool} has ended."}]
        result = {"content": content, "isError": tool == "failing_job"}
        answer = {"jsonrpc": "2.0", "id": id_, "result": result}
        self.link.received(json.dumps(answer).encode())


class TaskTools:
    """The tools, for all clients together."""

    def __init__(self) -> None:
        # The scenarios have calls of a second, which are to become tasks.
        broker_tools.TASK_AFTER_S = 0.1
        line = Line()
        line.link = link = BrokerLink(line, "fixtures", None)
        self._tools = BrokerTools(
            link, new_id=lambda: str(uuid4()), now=time.monotonic, wall=time.time
        )
        self.handlers = {name: self._tools.handlers[name] for name in METHODS}
        link.opened()
        self._tick()

    def call(self, request: Request, answer: Answer) -> None:
        name = request.params["name"]
        arguments = messages.object_in(request.params, "arguments")
        if name == GREETS:
            text = f"Hello, {arguments.get('name')}!"
            answer.result({"content": [{"type": "text", "text": text}]})
            return
        asked = {"name": "chat", "arguments": {**arguments, "tool": name}}
        self._tools.handlers["tools/call"](msgspec.structs.replace(request, params=asked), answer)

    def _tick(self) -> None:
        self._tools.tick()
        asyncio.get_running_loop().call_later(TICK_S, self._tick)
