"""A console's connection to a broker: a table and its changes, questions, and actions."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import Any

import msgspec
from websockets.asyncio.client import ClientConnection
from websockets.asyncio.client import connect as open_websocket
from websockets.exceptions import ConnectionClosed

from exai_actors.client.connecting import LOG_SAYS_MORE, OTHER_PROGRAM, connecting, proxy_for
from exai_actors.client.errors import ConnectError, Unauthorized
from exai_actors.client.urls import BrokerUrl, parse_url
from exai_actors.errors import ErrorBody, ErrorCode, UsageError

PATH = "/admin"
MAX_FRAME_BYTES = 33_554_432
OPEN_TIMEOUT_S = 10.0
_UNAUTHORIZED = 4003

_decode = msgspec.json.Decoder(dict[str, Any]).decode


class WatchedTable:
    """A table as the broker last sent it; ``rows`` have the cells in the order of ``columns``."""

    def __init__(self, columns: list[dict[str, str]]) -> None:
        self.columns = columns
        self.rows: dict[str, list[Any]] = {}
        self.matching = 0
        self.total = 0

    def apply(self, frame: dict[str, Any]) -> None:
        """Take over a snapshot or a change."""
        self.matching, self.total = frame["matching"], frame["total"]
        if frame["op"] == "snapshot":
            self.rows = {key: cells for key, *cells in frame["rows"]}
            return
        for key in frame.get("gone", ()):
            self.rows.pop(key, None)
        for key, cells in frame.get("cells", {}).items():
            for column, cell in cells.items():
                self.rows[key][int(column)] = cell
        self.rows.update({key: cells for key, *cells in frame.get("rows", ())})
        if "order" in frame:
            self.rows = {key: self.rows[key] for key in frame["order"]}


class ConsoleClient:
    """One connection that has been admitted; ``greeting`` is the broker's answer to hello."""

    def __init__(self, socket: ClientConnection, greeting: dict[str, Any], url: str) -> None:
        self.greeting = greeting
        self._socket = socket
        self._url = url
        self._last_id = 0

    async def watch(self, table: str, **query: Any) -> AsyncIterator[WatchedTable]:
        """Yield a table now and after each change.

        ``query`` has the fields of the protocol's ``watch``: filter, sort, limit, skip, every_s.
        Raises UsageError for an unknown table or a query that makes no sense, and
        ConnectError when the connection ends.
        """
        await self.send({"op": "watch", "table": table, **query})
        watched = WatchedTable(self.greeting["tables"].get(table, []))
        while True:
            frame = await self.receive()
            if frame["op"] == "error":
                raise UsageError(frame["message"])
            watched.apply(frame)
            yield watched

    async def send(self, message: dict[str, Any]) -> None:
        """Send a message of the console protocol. Raises ConnectError if the connection ended."""
        try:
            await _send(self._socket, message)
        except ConnectionClosed:
            raise _ended(self._socket, self._url) from None

    async def receive(self) -> dict[str, Any]:
        """The next message of the broker. Raises ConnectError when the connection ends."""
        return await _received(self._socket, self._url)

    async def ask(self, question: str, of: str = "") -> dict[str, Any]:
        """The answer to a question about one thing.

        Raises UsageError if there is none, Unauthorized if the operator's role may not ask, and
        ConnectError when the connection ends.
        """
        frame = await self._exchange({"op": "ask", "question": question, "of": of})
        answer: dict[str, Any] = frame["answer"]
        return answer

    async def act(
        self,
        action: str,
        targets: Sequence[str] = (),
        *,
        filter: str = "",  # noqa: A002 - the protocol's name
        arguments: Mapping[str, Any] | None = None,
        reason: str = "",
        preview: bool = False,
    ) -> dict[str, Any]:
        """Do something to the targets or to all that match; return the protocol's ``effect``.

        Errors are those of ``ask``. A target that was refused is not ``ok`` among the effects.
        """
        return await self._exchange(
            {
                "op": "act",
                "action": action,
                "targets": list(targets),
                "filter": filter,
                "arguments": dict(arguments or {}),
                "reason": reason,
                "preview": preview,
            }
        )

    async def _exchange(self, message: dict[str, Any]) -> dict[str, Any]:
        """Send a message and wait for its answer. No table may be watched on this connection."""
        self._last_id += 1
        await self.send({**message, "id": self._last_id})
        while True:
            frame = await self.receive()
            if frame.get("id") != self._last_id:
                continue
            if frame["op"] != "error":
                return frame
            if frame["code"] == "forbidden":
                details = {"needs": "role"}
                body = ErrorBody(ErrorCode.UNAUTHORIZED, frame["message"], details)
                raise Unauthorized(body)
            raise UsageError(frame["message"])


@asynccontextmanager
async def open_console(
    url: str, token: str | None, *, open_timeout_s: float = OPEN_TIMEOUT_S
) -> AsyncIterator[ConsoleClient]:
    """Connect to the broker at ``url`` as an operator.

    Raises ConnectError if no broker accepts the connection and answers in time, Unauthorized if it
    refuses the token, and UsageError if the URL is invalid.
    """
    parsed = parse_url(url)
    async with connecting(parsed, open_timeout_s):
        socket, greeting = await _open(url.rstrip("/") + PATH, token, parsed)
    async with socket:
        yield ConsoleClient(socket, greeting, parsed.display)


async def _open(
    address: str, token: str | None, url: BrokerUrl
) -> tuple[ClientConnection, dict[str, Any]]:
    socket = await open_websocket(
        address,
        max_size=MAX_FRAME_BYTES,
        open_timeout=None,
        compression=None,
        proxy=proxy_for(url),
    )
    try:
        await _send(socket, {"op": "hello", "token": token or "", "version": 1})
        greeting = await _received(socket, url.display)
        if greeting.get("op") != "hello_ack" or "tables" not in greeting:
            raise ConnectError(url.display, "the answer to hello is not a console's", OTHER_PROGRAM)
    except BaseException as error:
        socket.transport.abort()
        if isinstance(error, ConnectError) and socket.close_code == _UNAUTHORIZED:
            raise _unauthorized(url.display, token) from None
        raise
    return socket, greeting


def _unauthorized(url: str, token: str | None) -> Unauthorized:
    needs = "does not accept the operator's token" if token else "needs the token of an operator"
    text = f"{url} {needs}; use that of an [[operator]] entry"
    return Unauthorized(ErrorBody(ErrorCode.UNAUTHORIZED, text, {"needs": "operator"}))


async def _send(socket: ClientConnection, message: dict[str, Any]) -> None:
    await socket.send(msgspec.json.encode(message).decode())


def _ended(socket: ClientConnection, url: str) -> ConnectError:
    return ConnectError(url, socket.close_reason or "the connection broke off", LOG_SAYS_MORE)


async def _received(socket: ClientConnection, url: str) -> dict[str, Any]:
    try:
        return _decode(await socket.recv())
    except ConnectionClosed:
        raise _ended(socket, url) from None
    except msgspec.DecodeError as error:
        raise ConnectError(url, f"sent no message of a console: {error}", OTHER_PROGRAM) from None
