"""The broker without HTTP: ``python -m tools.bench_without_http serve --config FILE``.

The same program, except that every socket is a WebSocket's from its first byte, and that the HTTP
server with its pages and APIs is dropped at the start. Their modules are loaded all the same.
"""

from __future__ import annotations

from exai_actors.daemon.cli.main import main
from exai_actors.edges.http_server.server import HttpServer
from exai_actors.edges.websocket.connection import WebSocketConnection
from exai_actors.edges.websocket.handshake import common_handshake
from exai_actors.edges.websocket.server import WebSocketServer


def _drop(self: WebSocketServer, http: HttpServer) -> None: ...


def _receive_handshake(self: WebSocketConnection, data: bytes) -> None:
    handshake = common_handshake(data)
    if handshake is not None and self._host.accepts(handshake.request):
        self._accept(handshake)
    else:
        self._receive_header(data)


def _take_http_out() -> None:
    WebSocketServer.serve_http = _drop  # type: ignore[method-assign]
    WebSocketConnection._receive_first = _receive_handshake  # type: ignore[method-assign]


if __name__ == "__main__":
    _take_http_out()
    main()
