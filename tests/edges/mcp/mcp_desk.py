"""A broker in memory with ``/mcp``: the test sends HTTP requests and lets time pass."""

from __future__ import annotations

import asyncio
import json
from typing import Any, cast

from exai_actors.core.handshake_policy import HandshakePolicy
from exai_actors.edges.http_server.connection import HttpConnection
from exai_actors.edges.http_server.server import HttpServer, Response
from exai_actors.edges.mcp.endpoint import PATH, McpEndpoint
from exai_actors.edges.mcp.settings import McpSettings
from exai_actors.testing.manual_upstream import ManualCall
from exai_actors.testing.tree import ManualTree
from exai_actors.wire.mcp import messages
from tests.edges.http_server.http_socket import Timers
from tests.edges.websocket.memory_socket import MemoryTransport

META: dict[str, Any] = {messages.VERSION_KEY: "2026-07-28", messages.CAPABILITIES_KEY: {}}


class Exchange:
    """One HTTP request on a connection of its own, and its response as far as it has come."""

    def __init__(self, desk: McpDesk, method: str, fields: dict[str, str], body: bytes) -> None:
        self._desk = desk
        self._connection = HttpConnection(desk.http, cast(asyncio.AbstractEventLoop, desk.timers))
        self.transport = MemoryTransport(self._connection)
        self._connection.connection_made(self.transport)
        lines = [f"{method} {PATH} HTTP/1.1", "Host: 127.0.0.1:8079"]
        lines += [f"{name}: {value}" for name, value in fields.items()]
        lines += [f"Content-Length: {len(body)}", "", ""]
        self._connection.data_received("\r\n".join(lines).encode() + body)
        if desk.actors_run:
            desk.settle()

    @property
    def is_over(self) -> bool:
        """Whether the response is complete."""
        return self._connection.is_idle

    @property
    def status(self) -> int | None:
        """The status; None while there is no response."""
        head, _, _ = self.transport.read.partition(b"\r\n\r\n")
        return int(head.split(b" ", 2)[1]) if head else None

    def field(self, name: str) -> str | None:
        head, _, _ = self.transport.read.partition(b"\r\n\r\n")
        for line in head.decode().split("\r\n")[1:]:
            key, _, value = line.partition(": ")
            if key.lower() == name.lower():
                return value
        return None

    @property
    def is_stream(self) -> bool:
        return self.field("Content-Type") == "text/event-stream"

    @property
    def body(self) -> bytes:
        _, _, rest = self.transport.read.partition(b"\r\n\r\n")
        if self.field("Transfer-Encoding") != "chunked":
            return rest
        body = b""
        while rest:
            size, _, rest = rest.partition(b"\r\n")
            body, rest = body + rest[: int(size, 16)], rest[int(size, 16) + 2 :]
        return body

    @property
    def comments(self) -> int:
        return self.body.count(b": keepalive\n\n")

    @property
    def frames(self) -> list[Any]:
        """The messages so far, the answer among them."""
        if not self.is_stream:
            return [json.loads(self.body)] if self.body else []
        lines = self.body.decode().splitlines()
        return [json.loads(line[6:]) for line in lines if line.startswith("data: ")]

    @property
    def reports(self) -> list[str]:
        return [frame["params"]["message"] for frame in self.frames if "method" in frame]

    @property
    def answer(self) -> Any:
        assert self.is_over
        (answer,) = [frame for frame in self.frames if "method" not in frame]
        return answer

    @property
    def result(self) -> Any:
        return self.answer["result"]

    @property
    def text(self) -> str:
        text: str = self.result["content"][0]["text"]
        return text

    def stall(self) -> None:
        """The client does not keep up with what it is sent."""
        transport = self.transport
        sent, transport.buffer = transport.buffer, b"unread"
        self._connection.pause_writing()
        transport.buffer = sent

    def catch_up(self) -> None:
        self._connection.resume_writing()

    def leave(self) -> None:
        """The client closes its socket."""
        self._connection.connection_lost(None)
        self._desk.settle()


class McpDesk:
    def __init__(self, tree: ManualTree | None = None, **settings: Any) -> None:
        self.tree = tree or ManualTree()
        self.timers = Timers()
        self.actors_run = True
        """If not, requests stay without an answer until ``settle``."""
        self.endpoint = McpEndpoint(
            self.tree.open_connection,
            self.tree.clock,
            self.tree.driver.call_later,
            McpSettings(**settings),
        )
        self.http = HttpServer(
            policy=HandshakePolicy(max_connections=10, checks_host=True),
            port=8079,
            pages={PATH: self.endpoint.handler},
            missing=lambda _: Response(404, b""),
            wall=lambda: 0.0,
        )

    def settle(self) -> None:
        for _ in range(5):
            self.timers.turn()
            self.tree.settle()

    def wait(self, seconds: int) -> None:
        for _ in range(seconds):
            self.tree.advance(1.0)
            self.settle()

    def send(self, method: str = "POST", body: Any = None, **fields: Any) -> Exchange:
        """Send a request; ``fields`` are fields of its head, with ``_`` for ``-``."""
        given = {"Accept": "application/json, text/event-stream"}
        if body is not None:
            given["Content-Type"] = "application/json"
        given |= {name.replace("_", "-"): value for name, value in fields.items()}
        data = (
            body if isinstance(body, bytes) else b"" if body is None else json.dumps(body).encode()
        )
        return Exchange(self, method, given, data)

    def ask(
        self, method: str, params: dict[str, Any] | None = None, id_: Any = 1, **fields: Any
    ) -> Exchange:
        """A request as a client of the era with a handshake sends it."""
        body = {"jsonrpc": "2.0", "id": id_, "method": method, "params": params or {}}
        return self.send("POST", body, **fields)

    def initialize(self, **fields: Any) -> str:
        """Begin a session; returns its id."""
        exchange = self.ask("initialize", {"protocolVersion": "2025-11-25"}, **fields)
        assert exchange.status == 200
        session = exchange.field("Mcp-Session-Id")
        assert session is not None
        return session

    def ask_stateless(
        self,
        method: str,
        params: dict[str, Any] | None = None,
        meta: dict[str, Any] | None = None,
        **fields: Any,
    ) -> Exchange:
        """A request as a client of the stateless era sends it."""
        params = {**(params or {}), "_meta": META | (meta or {})}
        head = {"MCP_Protocol_Version": "2026-07-28", "Mcp_Method": method}
        if "name" in params:
            head["Mcp_Name"] = params["name"]
        if "taskId" in params:
            head["Mcp_Name"] = params["taskId"]
        return self.ask(method, params, **head | fields)

    def chat(self, session: str, prompt: str = "Hi?", id_: Any = 1, **meta: Any) -> Exchange:
        params = {"name": "chat", "arguments": {"prompt": prompt}, "_meta": meta}
        return self.ask("tools/call", params, id_, Mcp_Session_Id=session)

    @property
    def calls(self) -> list[ManualCall]:
        """The calls at the service."""
        return self.tree.upstream.calls
