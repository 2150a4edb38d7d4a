"""An HTTP server that answers as a broker does, from a table."""

from __future__ import annotations

import json
import threading
from dataclasses import dataclass
from email.message import Message
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Self

TOKEN = "a-token-of-enough-characters"
MODELS = {
    "object": "list",
    "data": [
        {"id": "chatty", "object": "model", "families": ["chat"]},
        {"id": "all", "object": "model", "families": ["chat", "messages", "responses"]},
    ],
}


@dataclass(frozen=True)
class Received:
    path: str
    headers: Message
    body: Any


class ScriptedBroker:
    """``bodies`` has the status and body of each path; ``requests`` those that came with a body."""

    def __init__(self) -> None:
        self.bodies: dict[str, tuple[int, bytes]] = {
            "/v1/models": (200, json.dumps(MODELS).encode())
        }
        self.requests: list[Received] = []
        broker = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                self._answer()

            def do_POST(self) -> None:
                body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                broker.requests.append(Received(self.path, self.headers, body))
                self._answer()

            def _answer(self) -> None:
                status, body = broker.bodies.get(self.path, (404, b""))
                known = self.headers["Authorization"] == f"Bearer {TOKEN}"
                if self.path.startswith("/v1/") and not known:
                    status, body = 401, b'{"error": {"message": "the token is wrong"}}'
                self.send_response(status)
                for name, value in (
                    ("x-exai-provider", "kimi"),
                    ("x-exai-tenant", "desk"),
                    ("x-request-id", "r1"),
                    ("Content-Length", str(len(body))),
                ):
                    self.send_header(name, value)
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *_: object) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.01,))

    @property
    def url(self) -> str:
        return f"ws://127.0.0.1:{self._server.server_address[1]}"

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()
