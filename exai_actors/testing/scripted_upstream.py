"""A real HTTP server on 127.0.0.1 that answers as the test says and logs every request.

::

    async with ScriptedUpstream(answer("Hel", gate := Gate(), "lo")) as upstream:
        ...                                  # point a provider at upstream.base_url
        await gate.reached()                 # the first piece is out, the call is held open
        await upstream.wait_for_disconnect() # the client really closed its connection

It serves the OpenAI-compatible ``/v1/chat/completions`` and ``/v1/models``. Each request uses up
one of the given replies, in order of arrival; then ``default`` answers, which echoes the last
message so that every caller can recognise its answer. ``exai_actors.testing.scripted_replies`` has
the replies. ``/v1/messages``, ``/v1/responses`` and ``/v1/embeddings`` take replies from the same
list, which should be ``body(...)`` in the form of that API.

The log is independent of the broker: checks should trust it rather than the broker's counters.
"""

from __future__ import annotations

import asyncio
import socket
import struct
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from types import TracebackType
from typing import NoReturn

import orjson
from aiohttp import web

from exai_actors.errors import UsageError
from exai_actors.testing.scripted_bodies import (
    closing_events,
    completion,
    models_list,
    opening_event,
    plain_bytes,
    text_event,
)
from exai_actors.testing.scripted_replies import (
    CUT,
    HANG,
    RESET,
    End,
    Form,
    Gate,
    Pause,
    Reasoning,
    Reply,
    Step,
    answer,
    body,
    failure,
)
from exai_actors.testing.upstream_log import Fate, SeenRequest, UpstreamLog

Script = Reply | Callable[[SeenRequest], Reply]

LINGER_ZERO = struct.pack("ii", 1, 0)


def echo(request: SeenRequest) -> Reply:
    """The default reply: ``echo: `` and the last message."""
    return answer("echo: ", request.prompt)


class ScriptedUpstream(UpstreamLog):
    """An OpenAI-compatible service under the test's control; an async context manager.

    ``replies`` come first, then ``default``; each is a Reply or a function from request to Reply.
    A function that raises fails the test at the end of the ``async with`` block or of the fixture,
    and so does a reply that was never asked for.
    ``/v1/models`` lists ``models``, or answers with it if it is a Reply. With ``api_key``, requests
    without that key get 401. ``wait_s`` is the timeout of each wait.
    """

    def __init__(
        self,
        *replies: Script,
        default: Script = echo,
        models: tuple[str, ...] | Reply = ("scripted-model",),
        api_key: str | None = None,
        wait_s: float = 10.0,
    ) -> None:
        super().__init__(wait_s)
        _check_scripts(default, *replies)
        self.default = default
        self.models = models
        self.model_requests = 0
        self._replies: deque[Script] = deque(replies)
        self._api_key = api_key
        self._port = 0
        self._runner: web.AppRunner | None = None
        self._handlers: set[asyncio.Task[object]] = set()

    def check_scripts(self) -> None:
        """Raise an AssertionError if a script has failed, or if a reply was never asked for."""
        super().check_scripts()
        if self._replies:
            left = len(self._replies)
            raise AssertionError(
                f"{left} scripted {'reply was' if left == 1 else 'replies were'} never asked for "
                f"(clear_scripts() if that is meant); the upstream saw:\n{self}"
            )

    def clear_scripts(self) -> None:
        """Forget the replies that were not asked for; later requests get the default."""
        self._replies.clear()

    def then(self, *replies: Script) -> None:
        """Add replies for later requests. Raises UsageError for anything else."""
        _check_scripts(*replies)
        self._replies.extend(replies)

    @property
    def base_url(self) -> str:
        """``http://127.0.0.1:PORT/v1``, to be used as a provider's ``base_url``."""
        return f"http://127.0.0.1:{self._port}/v1"

    async def start(self) -> None:
        """Listen on a free port of 127.0.0.1."""
        app = web.Application(client_max_size=0)
        for path in (
            "chat/completions",
            "messages",
            "messages/count_tokens",
            "responses",
            "embeddings",
        ):
            app.router.add_post(f"/v1/{path}", self._chat)
        app.router.add_get("/v1/models", self._list_models)
        self._runner = web.AppRunner(
            app, handler_cancellation=True, access_log=None, shutdown_timeout=0.1
        )
        await self._runner.setup()
        await web.TCPSite(self._runner, "127.0.0.1", 0).start()
        self._port = self._runner.addresses[0][1]

    async def aclose(self) -> None:
        """Close every connection and stop listening. Idempotent."""
        for handler in self._handlers:
            handler.cancel()
        if self._runner is not None:
            await self._runner.cleanup()
            self._runner = None

    async def __aenter__(self) -> ScriptedUpstream:
        await self.start()
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self.aclose()
        if error is None:
            self.check_scripts()

    async def _chat(self, request: web.Request) -> web.StreamResponse:
        raw = await request.read()
        try:
            parsed = orjson.loads(raw)
        except orjson.JSONDecodeError:
            parsed = None
        seen = self.arrived(request.path_qs, dict(request.headers), raw, parsed, request.protocol)
        script = self._refusal(request) or self._next_script()
        fate = Fate.DISCONNECTED
        with self._cancelled_on_close():
            try:
                reply = script if isinstance(script, Reply) else self._made_by(script, seen)
                response = await _Performance(request, seen, reply, self).run()
                fate = Fate.COMPLETED
                return response
            except _BrokenOff:
                fate = Fate.BROKEN_OFF
                return web.Response()
            except ConnectionError:
                return web.Response()
            finally:
                self.ended(seen, fate)

    async def _list_models(self, request: web.Request) -> web.StreamResponse:
        self.model_requests += 1
        self.changed()
        listed = self._refusal(request) or self.models
        reply = listed if isinstance(listed, Reply) else body(models_list(listed))
        seen = SeenRequest(0, request.path_qs, dict(request.headers), b"", None, 0)
        with self._cancelled_on_close():
            try:
                return await _Performance(request, seen, reply, self).run()
            except (_BrokenOff, ConnectionError):
                return web.Response()

    def _next_script(self) -> Script:
        return self._replies.popleft() if self._replies else self.default

    def _made_by(self, script: Callable[[SeenRequest], Reply], seen: SeenRequest) -> Reply:
        try:
            reply = script(seen)
            if not isinstance(reply, Reply):
                raise UsageError(f"a script returned {reply!r} instead of a reply")
        except Exception as error:
            self.script_failed(error)
            raise
        return reply

    def _refusal(self, request: web.Request) -> Reply | None:
        given = request.headers.get("Authorization")
        if self._api_key is None or given == f"Bearer {self._api_key}":
            return None
        return failure(401, "Incorrect API key provided", code="invalid_api_key")

    @contextmanager
    def _cancelled_on_close(self) -> Iterator[None]:
        if (task := asyncio.current_task()) is not None:
            self._handlers.add(task)
        try:
            yield
        finally:
            self._handlers.discard(task)


def _check_scripts(*scripts: object) -> None:
    for script in scripts:
        if not (isinstance(script, Reply) or callable(script)):
            raise UsageError(
                f"{script!r} is not a reply; create one with answer(...), failure(...), ..."
            )


class _BrokenOff(Exception):
    """The script has closed the connection."""


class _Performance:
    """One reply being given to one request."""

    def __init__(
        self, request: web.Request, seen: SeenRequest, reply: Reply, log: UpstreamLog
    ) -> None:
        self._request = request
        self._seen = seen
        self._reply = reply
        self._log = log

    async def run(self) -> web.StreamResponse:
        """Perform all steps; raises _BrokenOff when the script closes the connection."""
        reply = self._reply
        for step in reply.before:
            await self._wait_at(step)
        if reply.form is Form.SOCKET:
            await self._send_on_socket()
        if reply.form is Form.BODY:
            return await self._send(reply.content_type or "application/json")
        streams = self._seen.stream if reply.always_streams is None else reply.always_streams
        if streams:
            return await self._send("text/event-stream")
        return await self._send_whole()

    async def _send(self, content_type: str) -> web.StreamResponse:
        """Perform the steps in order, each text as one write."""
        response = self._response(content_type)
        await response.prepare(self._request)
        events = self._reply.form is Form.ANSWER
        if events:
            await response.write(opening_event(self._seen))
        for step in self._reply.steps:
            if isinstance(step, str | bytes | Reasoning):
                await response.write(text_event(self._seen, step) if events else plain_bytes(step))
            else:
                await self._wait_at(step)
            self._log.step_done(self._seen)
        if events:
            await response.write(closing_events(self._seen, self._reply))
        await response.write_eof()
        return response

    async def _send_whole(self) -> web.StreamResponse:
        """Perform the steps, then send one JSON object; an End step breaks it off half way."""
        end: End | None = None
        for step in self._reply.steps:
            if isinstance(step, End):
                end = step
                break
            if not isinstance(step, str | bytes | Reasoning):
                await self._wait_at(step)
            self._log.step_done(self._seen)
        whole = completion(self._seen, self._reply)
        response = self._response("application/json")
        response.content_length = len(whole)
        await response.prepare(self._request)
        if end is not None:
            await response.write(whole[: len(whole) // 2])
            await self._wait_at(end)
        await response.write(whole)
        await response.write_eof()
        return response

    async def _send_on_socket(self) -> NoReturn:
        for step in self._reply.steps:
            transport = self._request.transport
            if transport is None or transport.is_closing():
                raise ConnectionResetError
            if isinstance(step, str | bytes | Reasoning):
                transport.write(plain_bytes(step))
            else:
                await self._wait_at(step)
            self._log.step_done(self._seen)
        self._break_off(reset=False)

    async def _wait_at(self, step: Step) -> None:
        if isinstance(step, Gate):
            await step.pass_through()
        elif isinstance(step, Pause):
            await asyncio.sleep(step.seconds)
        elif step is HANG:
            await asyncio.Event().wait()
        elif step in (CUT, RESET):
            self._break_off(reset=step is RESET)
        else:
            raise ValueError(f"{step!r} cannot be sent before the headers")

    def _break_off(self, *, reset: bool) -> NoReturn:
        transport = self._request.transport
        if transport is not None and reset:
            with suppress(OSError):
                raw = transport.get_extra_info("socket")
                raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, LINGER_ZERO)
            transport.abort()
        elif transport is not None:
            transport.close()
        raise _BrokenOff

    def _response(self, content_type: str) -> web.StreamResponse:
        headers = {"Content-Type": content_type, **self._reply.headers}
        return web.StreamResponse(status=self._reply.status, headers=headers)


@contextmanager
def refusing_base_url() -> Iterator[str]:
    """A base URL that refuses every connection while the block runs."""
    with socket.socket() as bound:
        bound.bind(("127.0.0.1", 0))
        yield f"http://127.0.0.1:{bound.getsockname()[1]}/v1"
