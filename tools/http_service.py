"""Small HTTP services for real clients, on loopback and in threads of this process."""

from __future__ import annotations

import json
import threading
from abc import ABC, abstractmethod
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any


class HttpExchange(BaseHTTPRequestHandler):
    """One request, and the means to answer it."""

    protocol_version = "HTTP/1.1"

    @property
    def resource(self) -> str:
        """The path without the query."""
        return self.path.partition("?")[0]

    def read_body(self) -> bytes:
        """The body of the request, which a client may send in chunks."""
        if self.headers.get("Transfer-Encoding", "").lower() != "chunked":
            return self.rfile.read(int(self.headers.get("Content-Length") or 0))
        chunks = []
        while size := int(self.rfile.readline().partition(b";")[0], 16):
            chunks.append(self.rfile.read(size))
            self.rfile.readline()
        self.rfile.readline()
        return b"".join(chunks)

    def send_json(self, value: dict[str, Any], status: int = 200) -> bytes:
        """Send the whole response; returns its body."""
        body = json.dumps(value).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)
        return body

    def send_stream(self, body: bytes) -> None:
        """Send events, and close the connection, which ends them."""
        self.send_response(200)
        self.send_header("Content-Type", "text/event-stream")
        self.send_header("Connection", "close")
        self.end_headers()
        self.wfile.write(body)
        self.close_connection = True

    def log_message(self, *_: object) -> None:
        pass


class HttpService(ABC):
    """Listens on a free port from the start, until this process ends."""

    def __init__(self) -> None:
        service = self

        class Exchange(HttpExchange):
            def do_GET(self) -> None:
                service.serve(self, b"")

            def do_HEAD(self) -> None:
                service.serve(self, b"")

            def do_POST(self) -> None:
                service.serve(self, self.read_body())

        server = ThreadingHTTPServer(("127.0.0.1", 0), Exchange)
        self.address = f"127.0.0.1:{server.server_address[1]}"
        threading.Thread(target=server.serve_forever, daemon=True).start()

    @abstractmethod
    def serve(self, exchange: HttpExchange, body: bytes) -> None:
        """Answer a request; called in a thread of its own for each connection."""
