"""Answers the requests of one MCP client, each exactly once, in both eras of the protocol.

The methods of the protocol itself are answered here; those that serve something are functions of
the caller, which get an ``Answer`` to end, immediately or later.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Protocol

from exai_actors import __version__
from exai_actors.wire.mcp import messages
from exai_actors.wire.mcp.messages import Notification, Request, Response, Unreadable

MAX_OPEN = 64
"""Requests of one client without an answer."""
NAME = "exai"
_STATEFUL_ONLY = frozenset(
    {"initialize", "ping", "logging/setLevel", "resources/subscribe", "resources/unsubscribe"}
)
_TASK_METHODS = frozenset({"tasks/get", "tasks/update", "tasks/cancel"})
_STATELESS_ONLY = frozenset({"server/discover", "subscriptions/listen"}) | _TASK_METHODS
_STATUS = {
    messages.PARSE_ERROR: 400,
    messages.INVALID_REQUEST: 400,
    messages.INVALID_PARAMS: 400,
    messages.HEADER_MISMATCH: 400,
    messages.MISSING_CAPABILITY: 400,
    messages.UNSUPPORTED_VERSION: 400,
    messages.METHOD_NOT_FOUND: 404,
}
_TTL_MS = 60_000


class Out(Protocol):
    """The way to the client for the messages about one request of it."""

    def send(self, frame: bytes, /) -> None:
        """A message before the answer."""

    def end(self, frame: bytes, status: int, /) -> None:
        """The answer. ``status`` is the one that HTTP has for it."""


class Answer:
    """One request and its one answer. Whatever follows the answer is dropped.

    ``on_cancel`` is called if the client cancels the request or leaves before it has its answer,
    ``on_end`` with the answer.
    """

    __slots__ = ("_out", "_sent", "_server", "ended", "on_cancel", "on_end", "request")

    def __init__(self, request: Request, out: Out, server: McpServer) -> None:
        self.request = request
        self.ended = False
        self.on_cancel: Callable[[], None] | None = None
        self.on_end: Callable[[], object] | None = None
        self._out = out
        self._server = server
        self._sent = 0

    def progress(self, message: str, meta: dict[str, Any] | None = None) -> None:
        """Report that the request is alive, if the client asked for reports."""
        self._sent += 1
        self.report(
            {"progress": self._sent, "message": message} | ({"_meta": meta} if meta else {})
        )

    def report(self, params: dict[str, Any]) -> None:
        """Send ``notifications/progress`` with these members, if the client asked for any."""
        token = self.request.progress_token
        if token is not None:
            self.notify("notifications/progress", {"progressToken": token, **params})

    def notify(self, method: str, params: dict[str, Any]) -> None:
        self.send(messages.notification(method, params))

    def send(self, frame: bytes) -> None:
        """Send any message before the answer."""
        if not self.ended:
            self._out.send(frame)

    def result(self, value: dict[str, Any], *, cacheable: bool = False) -> None:
        """Answer with a result, which a client may keep for a while if it is ``cacheable``."""
        if self.request.stateless:
            meta = {**messages.object_in(value, "_meta"), messages.SERVER_KEY: server_info()}
            value = {"resultType": "complete", **value, "_meta": meta}
            if cacheable:
                value |= {"ttlMs": _TTL_MS, "cacheScope": "private"}
        self._end(messages.result(self.request.id_, value), 200)

    def error(self, code: int, message: str, data: Any = None) -> None:
        status = _STATUS.get(code, 200) if self.request.stateless else 200
        self._end(messages.error(self.request.id_, code, message, data), status)

    def cancel(self) -> None:
        """The client needs no answer any more; if it can still read one, it says so."""
        on_cancel, self.on_cancel = self.on_cancel, None
        if on_cancel is not None and not self.ended:
            on_cancel()
        self.error(messages.CANCELLED, "the client cancelled the request")

    def _end(self, frame: bytes, status: int) -> None:
        if not self.ended:
            self.ended = True
            self._server.forget(self)
            if self.on_end is not None:
                self.on_end()
            self._out.end(frame, status)


Handler = Callable[[Request, Answer], None]


class McpServer:
    """The requests of one client that have no answer yet, and the methods that answer them.

    ``names_requests``: the ids name requests, as they do where one client has this server to
    itself. ``on_response`` gets the answers to requests that handlers have sent to the client.
    """

    def __init__(
        self,
        handlers: Mapping[str, Handler],
        capabilities: dict[str, Any],
        *,
        instructions: str = "",
        names_requests: bool = True,
        on_response: Callable[[Response], None] = lambda _: None,
    ) -> None:
        self._handlers = handlers
        self._own: dict[str, Handler] = {
            "initialize": self._initialize,
            "server/discover": self._discover,
            "ping": _ping,
        }
        self._capabilities = capabilities
        self._instructions = instructions
        self._names_requests = names_requests
        self._on_response = on_response
        self._open: dict[Answer, None] = {}

    def __len__(self) -> int:
        return len(self._open)

    def receive(self, message: messages.Message, out: Out) -> Answer | None:
        """Handle a message. Returns the answer of a request, which may have ended already.

        Notifications and responses get no answer; ``out`` is not used for them.
        """
        match message:
            case Request():
                answer = Answer(message, out, self)
                self._open[answer] = None
                self._answer(message, answer)
                return answer
            case Notification("notifications/cancelled", params):
                self._cancel(messages.id_of(params.get("requestId")))
            case Response():
                self._on_response(message)
            case Unreadable(code, problem, id_):
                out.end(messages.error(id_, code, problem), 400)
        return None

    def cancel_all(self) -> None:
        """The client is gone."""
        for answer in tuple(self._open):
            answer.cancel()

    def forget(self, answer: Answer) -> None:
        self._open.pop(answer, None)

    def _cancel(self, id_: bytes | None) -> None:
        if self._names_requests:
            for answer in tuple(self._open):
                if answer.request.id_ == id_ and answer.request.method != "initialize":
                    answer.cancel()

    def _answer(self, request: Request, answer: Answer) -> None:
        if self._refuse(request, answer):
            return
        method, handler = request.method, self._handlers.get(request.method)
        if method in (_STATEFUL_ONLY if request.stateless else _STATELESS_ONLY):
            handler = None
        elif method in self._own:
            handler = self._own[method]
        if handler is None:
            answer.error(messages.METHOD_NOT_FOUND, f"Method not found: {method}")
        elif method in _TASK_METHODS and not request.takes_tasks:
            answer.error(
                messages.MISSING_CAPABILITY,
                f"{method} is for clients that declare the extension {messages.TASKS}",
                {"requiredCapabilities": {"extensions": {messages.TASKS: {}}}},
            )
        else:
            handler(request, answer)

    def _refuse(self, request: Request, answer: Answer) -> bool:
        """Refuse a request that cannot be handled, whatever its method; False if it can."""
        if len(self._open) > MAX_OPEN:
            answer.error(messages.BUSY, f"{MAX_OPEN} requests wait for their answers; await some")
        elif self._names_requests and self._is_used(request.id_, answer):
            answer.error(messages.INVALID_REQUEST, "a request with this id has no answer yet")
        elif request.stateless:
            refusal = check_meta(request)
            if refusal is not None:
                answer.error(*refusal)
        return answer.ended

    def _is_used(self, id_: bytes, by: Answer) -> bool:
        return any(each.request.id_ == id_ for each in self._open if each is not by)

    def _initialize(self, request: Request, answer: Answer) -> None:
        wanted = request.params.get("protocolVersion")
        versions = messages.STATEFUL_VERSIONS
        capabilities = {k: v for k, v in self._capabilities.items() if k != "extensions"}
        answer.result(
            {
                "protocolVersion": wanted if wanted in versions else versions[0],
                "capabilities": capabilities,
                "serverInfo": server_info(),
                **({"instructions": self._instructions} if self._instructions else {}),
            }
        )

    def _discover(self, _: Request, answer: Answer) -> None:
        answer.result(
            {
                "supportedVersions": list(messages.STATELESS_VERSIONS),
                "capabilities": self._capabilities,
                **({"instructions": self._instructions} if self._instructions else {}),
            },
            cacheable=True,
        )


def check_meta(request: Request) -> tuple[int, str, Any] | None:
    """The error of a request that does not say what a stateless one must; None if it does."""
    missing = [
        key
        for key, type_ in ((messages.VERSION_KEY, str), (messages.CAPABILITIES_KEY, dict))
        if type(request.meta.get(key)) is not type_
    ]
    if missing:
        return messages.INVALID_PARAMS, f"params._meta lacks {' and '.join(missing)}", None
    if request.version not in messages.STATELESS_VERSIONS:
        supported = list(messages.STATELESS_VERSIONS)
        data = {"supported": supported, "requested": request.version}
        text = f"this protocol version is not supported in _meta; supported: {supported[0]}"
        return messages.UNSUPPORTED_VERSION, text, data
    return None


def server_info() -> dict[str, str]:
    return {"name": NAME, "version": __version__}


def _ping(_: Request, answer: Answer) -> None:
    answer.result({})
