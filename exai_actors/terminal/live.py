"""The feed of a running broker. It reconnects by itself and then watches the same tables."""

from __future__ import annotations

import asyncio
import contextlib
from typing import Any

import msgspec

from exai_actors.client.console import ConsoleClient, open_console
from exai_actors.client.errors import ConnectError
from exai_actors.errors import UsageError
from exai_actors.terminal.source import Listener, SeenTable, Window

ANSWER_S = 10.0
FIRST_RETRY_S = 0.5
LONGEST_RETRY_S = 5.0
MAX_UNSENT = 100


class _Watch:
    """A window, and whether the broker has answered it."""

    def __init__(self, window: Window) -> None:
        self.window = window
        self.sent = window
        self.id = 0
        self.is_answered = True
        self.is_sent = False


class LiveSource:
    """See ``Source``. A window that changes before the broker has answered is sent after that."""

    def __init__(self, url: str, token: str | None) -> None:
        self.greeting: dict[str, Any] = {}
        self.tables: dict[str, SeenTable] = {}
        self._url = url
        self._token = token
        self._watched: dict[str, _Watch] = {}
        self._number = 0
        # By table or by id: of a table, only the latest window matters.
        self._unsent: dict[str | int, dict[str, Any]] = {}
        self._has_unsent = asyncio.Event()
        self._asked: dict[int, asyncio.Future[dict[str, Any]]] = {}
        self._is_connected = False

    def watch(self, table: str, window: Window) -> None:
        watch = self._watched.setdefault(table, _Watch(window))
        if watch.is_sent and watch.window == window:
            return
        watch.window, watch.is_sent = window, False
        self._send_watch(table)

    def unwatch(self, table: str) -> None:
        if self._watched.pop(table, None) is not None:
            self._send(table, {"op": "unwatch", "table": table})

    async def ask(self, question: str, of: str = "") -> dict[str, Any]:
        answer = await self._answer({"op": "ask", "question": question, "of": of})
        found: dict[str, Any] = answer["answer"]
        return found

    async def act(self, action: dict[str, Any]) -> dict[str, Any]:
        return await self._answer({"op": "act", **action})

    async def run(self, listener: Listener) -> None:
        """Raises Unauthorized if the broker refuses the token, UsageError for a wrong URL."""
        retry_s = FIRST_RETRY_S
        while True:
            try:
                async with open_console(self._url, self._token) as console:
                    retry_s = FIRST_RETRY_S
                    await self._follow(console, listener)
            except ConnectError as error:
                listener.lost(str(error))
            finally:
                self._disconnected()
            await asyncio.sleep(retry_s)
            retry_s = min(2 * retry_s, LONGEST_RETRY_S)

    async def _follow(self, console: ConsoleClient, listener: Listener) -> None:
        self.greeting = console.greeting
        self._is_connected = True
        sending = asyncio.ensure_future(self._send_all(console))
        try:
            listener.connected()
            for table in list(self._watched):
                self._send_watch(table)
            while True:
                self._received(await console.receive(), listener)
        finally:
            sending.cancel()
            with contextlib.suppress(asyncio.CancelledError, ConnectError):
                await sending

    async def _send_all(self, console: ConsoleClient) -> None:
        while True:
            while self._unsent:
                await console.send(self._unsent.pop(next(iter(self._unsent))))
            self._has_unsent.clear()
            await self._has_unsent.wait()

    def _disconnected(self) -> None:
        self._is_connected = False
        self._unsent.clear()
        for watch in self._watched.values():
            watch.is_answered, watch.is_sent = True, False
        for asked in self._asked.values():
            if not asked.done():
                asked.set_exception(UsageError("the connection to the broker broke off"))

    def _send(self, key: str | int, message: dict[str, Any]) -> None:
        if self._is_connected:
            self._unsent[key] = message
            self._has_unsent.set()

    def _send_watch(self, table: str) -> None:
        watch = self._watched[table]
        if table not in self.greeting.get("tables", {}) or not watch.is_answered:
            return
        self._number += 1
        watch.id, watch.sent = self._number, watch.window
        watch.is_answered, watch.is_sent = False, True
        window = msgspec.to_builtins(watch.window)
        self._send(table, {"op": "watch", "table": table, "id": watch.id, **window})

    def _received(self, frame: dict[str, Any], listener: Listener) -> None:
        match frame["op"]:
            case "snapshot" | "delta":
                self._table_frame(frame, listener)
            case "error" if "table" in frame:
                self._query_refused(frame, listener)
            case "answer" | "effect" | "error":
                asked = self._asked.get(frame.get("id", 0))
                if asked is not None and not asked.done():
                    asked.set_result(frame)

    def _table_frame(self, frame: dict[str, Any], listener: Listener) -> None:
        name = frame["table"]
        watch = self._watched.get(name)
        if watch is None:
            return
        if frame.get("id") == watch.id:
            watch.is_answered = True
            self.tables[name] = SeenTable(self.greeting["tables"][name], watch.sent)
            if not watch.is_sent:
                self._send_watch(name)
        elif not watch.is_answered:
            return  # of an earlier window
        self.tables[name].apply(frame)
        listener.changed(name)

    def _query_refused(self, frame: dict[str, Any], listener: Listener) -> None:
        watch = self._watched.get(frame["table"])
        if watch is not None:
            watch.is_answered = True
            if not watch.is_sent:
                self._send_watch(frame["table"])
            listener.refused(frame["table"], frame["message"])

    async def _answer(self, message: dict[str, Any]) -> dict[str, Any]:
        if not self._is_connected:
            raise UsageError("not connected to a broker")
        if len(self._unsent) >= MAX_UNSENT:
            raise UsageError(f"{MAX_UNSENT} messages wait for the broker, which does not read them")
        self._number += 1
        number = self._number
        asked = asyncio.get_running_loop().create_future()
        self._asked[number] = asked
        try:
            self._send(number, {**message, "id": number})
            frame: dict[str, Any] = await asyncio.wait_for(asked, ANSWER_S)
        except TimeoutError:
            raise UsageError(f"the broker did not answer within {ANSWER_S:g} s") from None
        finally:
            del self._asked[number]
            # Too late for its reader: an action must not be taken after that.
            self._unsent.pop(number, None)
        if frame["op"] == "error":
            raise UsageError(frame["message"])
        return frame
