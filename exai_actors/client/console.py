"""A console's connection to a broker: one table and its changes."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import msgspec
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed, InvalidHandshake, InvalidURI

from exai_actors.client.errors import ConnectError, Unauthorized
from exai_actors.client.urls import NO_URL, parse_url
from exai_actors.errors import ErrorBody, ErrorCode, UsageError

PATH = "/admin"
MAX_FRAME_BYTES = 33_554_432
OPEN_TIMEOUT_S = 10.0
_UNAUTHORIZED = 4003
_START_IT = "Start one with `exai serve`, or set EXAI_URL"


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

    async def watch(self, table: str, **query: Any) -> AsyncIterator[WatchedTable]:
        """Yield a table now and after each change.

        ``query`` has the fields of the protocol's ``watch``: filter, sort, limit, skip, every_s.
        Raises UsageError for a table that there is not or a query that makes no sense, and
        ConnectError when the connection ends.
        """
        await _send(self._socket, {"op": "watch", "table": table, **query})
        watched = WatchedTable(self.greeting["tables"].get(table, []))
        while True:
            frame = await _received(self._socket, self._url)
            if frame["op"] == "error":
                raise UsageError(frame["message"])
            watched.apply(frame)
            yield watched


@asynccontextmanager
async def open_console(url: str, token: str | None) -> AsyncIterator[ConsoleClient]:
    """Connect to the broker at ``url`` as an operator.

    Raises ConnectError if there is none, Unauthorized if it refuses the token, and UsageError for a
    URL that is none.
    """
    shown = parse_url(url).display
    try:
        socket = await connect(
            url.rstrip("/") + PATH,
            max_size=MAX_FRAME_BYTES,
            open_timeout=OPEN_TIMEOUT_S,
            compression=None,
            proxy=None,
        )
    except InvalidURI as error:
        raise UsageError(f"{shown} {NO_URL}: {error.msg}") from None
    except TimeoutError:
        why = f"no answer within {OPEN_TIMEOUT_S:g} s"
        raise ConnectError(shown, why, "Is it a broker that listens there?") from None
    except OSError as error:
        raise ConnectError(shown, error.strerror or str(error), _START_IT) from None
    except InvalidHandshake as error:
        raise ConnectError(shown, str(error), "Is it a broker that listens there?") from None
    async with socket:
        await _send(socket, {"op": "hello", "token": token or "", "version": 1})
        try:
            greeting = await _received(socket, shown)
        except ConnectError:
            if socket.close_code != _UNAUTHORIZED:
                raise
            raise _unauthorized(shown, token) from None
        yield ConsoleClient(socket, greeting, shown)


def _unauthorized(url: str, token: str | None) -> Unauthorized:
    needs = "does not accept the operator's token" if token else "needs the token of an operator"
    text = f"{url} {needs}; use that of an [[operator]] entry"
    return Unauthorized(ErrorBody(ErrorCode.UNAUTHORIZED, text, {"needs": "operator"}))


async def _send(socket: ClientConnection, message: dict[str, Any]) -> None:
    await socket.send(msgspec.json.encode(message).decode())


async def _received(socket: ClientConnection, url: str) -> dict[str, Any]:
    try:
        frame: dict[str, Any] = msgspec.json.decode(await socket.recv())
    except ConnectionClosed:
        why = socket.close_reason or "the connection broke off"
        raise ConnectError(url, why, "The broker's log says more") from None
    return frame
