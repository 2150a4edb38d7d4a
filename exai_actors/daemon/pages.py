"""The pages that the broker's port answers over HTTP."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import orjson

from exai_actors.core.health import reasons_not_ready
from exai_actors.core.statistics import BrokerStatistics
from exai_actors.edges.http_server.server import Page, PageRequest, Response
from exai_actors.wire.http_api.families import PATHS

JSON = "application/json"
_WITHOUT_V1 = frozenset(path.removeprefix("/v1") for path in PATHS) | {"/models"}


def pages(url: str, version: str, statistics: Callable[[], BrokerStatistics]) -> Mapping[str, Page]:
    """The pages by path; ``url`` is the address for WebSocket clients."""

    def index(_: PageRequest) -> Response:
        return Response(200, _introduction(url, version).encode())

    def alive(_: PageRequest) -> Response:
        # 200 as long as it can be sent: a failing liveness probe would end a draining broker.
        now = statistics()
        content = {"status": "ok", "version": version, "uptime_s": round(now.uptime_s, 3)}
        return Response(200, orjson.dumps(content), JSON)

    def ready(_: PageRequest) -> Response:
        reasons = reasons_not_ready(statistics())
        content = {"ready": not reasons, "reasons": list(reasons)}
        return Response(503 if reasons else 200, orjson.dumps(content), JSON)

    return {"/": Page(index), "/healthz": Page(alive), "/readyz": Page(ready)}


def missing(url: str, console: Callable[[], Response]) -> Callable[[PageRequest], Response]:
    """Answers requests for other paths; those for the API of OpenAI with an error of its form, and
    those below the console's with ``console``.
    """

    def answer(request: PageRequest) -> Response:
        path = request.head.path
        if path.startswith("/v1/v1/"):
            # An SDK of Anthropic adds it to its address.
            right = path.removeprefix("/v1")
            return _not_served(
                f"{path} is at {right} here: leave /v1 out of the client's base URL."
            )
        if path == "/v1" or path.startswith("/v1/"):
            message = (
                "This broker serves chat completions, Messages, Responses, embeddings and models "
                "at /v1/chat/completions, /v1/messages, /v1/responses, /v1/embeddings and "
                f"/v1/models, and nothing at {path}."
            )
            return _not_served(message)
        if path in _WITHOUT_V1:
            # An SDK of OpenAI takes it from its address.
            return _not_served(f"{path} is at /v1{path} here: add /v1 to the client's base URL.")
        if path.startswith("/console/"):
            return console()
        text = f"There is nothing here. Clients connect over WebSocket to {url}.\n"
        return Response(404, text.encode())

    return answer


def _not_served(message: str) -> Response:
    error = {"message": message, "type": "invalid_request_error", "code": "not_served"}
    return Response(404, orjson.dumps({"error": error}), JSON)


def _introduction(url: str, version: str) -> str:
    return (
        f"exai {version} shares a few AI accounts fairly among many clients.\n\n"
        f"Clients connect over WebSocket to {url}, in JSON frames or JSON-RPC.\n"
        "SDKs of OpenAI find their API at /v1, those of Anthropic at the address itself.\n"
        "MCP clients find theirs at /mcp.\n"
        "Over HTTP this port also answers /healthz (is it alive?), /readyz (does it accept "
        "work?) and /metrics.\n"
        "People watch it at /console.\n"
    )
