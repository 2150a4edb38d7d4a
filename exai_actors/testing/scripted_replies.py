"""The replies of a ScriptedUpstream, and the steps that they consist of.

A reply is a sequence of steps. Text steps are pieces of the answer, other steps happen between
them::

    answer("Hel", gate, "lo")                    # "lo" follows when the test opens the gate
    answer("Hel", CUT)                           # the connection ends in the middle
    failure(429, "slow down", headers={"Retry-After": "2"})
    answer("hello", before=[HANG])               # the request is read and never answered
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from enum import Enum

import orjson

from exai_actors.errors import UsageError


class Gate:
    """A point at which the upstream waits until the test opens it.

    ``await gate.reached()`` returns once the upstream is there, so that a test need not sleep. An
    open gate stays open.
    """

    def __init__(self) -> None:
        self._reached = asyncio.Event()
        self._open = asyncio.Event()

    def open(self) -> None:
        """Let the upstream continue, now or when it gets here."""
        self._open.set()

    async def reached(self, within_s: float = 10.0) -> None:
        """Wait until the upstream has reached this gate; AssertionError if it does not in time."""
        try:
            async with asyncio.timeout(within_s):
                await self._reached.wait()
        except TimeoutError:
            raise AssertionError(
                f"the upstream did not reach this gate within {within_s} s"
            ) from None

    async def pass_through(self) -> None:
        """Called by the upstream: announce the arrival and wait for the opening."""
        self._reached.set()
        await self._open.wait()


@dataclass(frozen=True, slots=True)
class Pause:
    """The upstream waits this long. For demos and benchmarks; tests should use a Gate."""

    seconds: float


@dataclass(frozen=True, slots=True)
class Reasoning:
    """A piece of the model's separate thinking text (``reasoning_content``)."""

    text: str


class End(Enum):
    """An ending in the middle of a reply."""

    CUT = "cut"
    RESET = "reset"
    HANG = "hang"


CUT = End.CUT
"""The connection is closed (FIN) before the body is complete."""

RESET = End.RESET
"""The connection is reset (RST)."""

HANG = End.HANG
"""Nothing more is sent; the connection stays open until the client closes it."""

Step = str | bytes | Reasoning | Gate | Pause | End


class Form(Enum):
    """The encoding of the steps."""

    ANSWER = "answer"
    BODY = "body"
    SOCKET = "socket"


@dataclass(frozen=True, slots=True)
class Reply:
    """The reply to one request. Create it with the functions below.

    ``before`` holds Gate, Pause and End steps that come before the status line.
    """

    steps: tuple[Step, ...] = ()
    form: Form = Form.ANSWER
    status: int = 200
    content_type: str | None = None
    headers: Mapping[str, str] = field(default_factory=dict)
    before: tuple[Step, ...] = ()
    finish_reason: str | None = "stop"
    usage: tuple[int, int] | None = (3, 5)
    done: bool = True
    always_streams: bool | None = None

    def __post_init__(self) -> None:
        for step in self.steps:
            if not isinstance(step, Step):
                raise UsageError(f"{step!r} is not a step of a reply (text, a Gate, CUT and so on)")
        for step in self.before:
            if not isinstance(step, Gate | Pause | End):
                raise UsageError(f"{step!r} cannot come before the status line")


def answer(
    *steps: Step,
    before: Iterable[Step] = (),
    finish_reason: str | None = "stop",
    usage: tuple[int, int] | None = (3, 5),
    done: bool = True,
    headers: Mapping[str, str] | None = None,
    always_streams: bool | None = None,
) -> Reply:
    """A completion: a stream if the request asks for one, otherwise one JSON object.

    Each ``str`` step is one event of the stream; ``bytes`` are sent unchanged, for events that are
    malformed or split. ``usage`` is (prompt tokens, completion tokens). ``done`` is whether a
    stream ends with ``[DONE]``. ``always_streams`` overrides the request: True always streams,
    False never does.
    """
    return Reply(
        steps=steps,
        before=tuple(before),
        finish_reason=finish_reason,
        usage=usage,
        done=done,
        headers=dict(headers or {}),
        always_streams=always_streams,
    )


def body(
    *steps: Step,
    status: int = 200,
    content_type: str = "application/json",
    headers: Mapping[str, str] | None = None,
    before: Iterable[Step] = (),
) -> Reply:
    """Any HTTP response; its body consists of the ``str`` and ``bytes`` steps, one write each.

    The body is chunked unless ``headers`` have a Content-Length.
    """
    return Reply(
        steps=steps,
        form=Form.BODY,
        status=status,
        content_type=content_type,
        headers=dict(headers or {}),
        before=tuple(before),
    )


def failure(
    status: int,
    message: str = "scripted failure",
    *,
    code: str | int | None = None,
    kind: str = "scripted_error",
    headers: Mapping[str, str] | None = None,
    before: Iterable[Step] = (),
) -> Reply:
    """An error of an OpenAI-compatible service: ``{"error": {message, type, code}}``."""
    error = {"error": {"message": message, "type": kind, "code": code}}
    return body(orjson.dumps(error), status=status, headers=headers, before=before)


def html(page: str = "<html><body>It works!</body></html>", *, status: int = 200) -> Reply:
    """A web page instead of an answer: a wrong address, a captive portal, a gateway."""
    return body(page, status=status, content_type="text/html")


def socket_bytes(*steps: Step) -> Reply:
    """Raw bytes on the socket, including the status line; then the connection is closed."""
    return Reply(steps=steps, form=Form.SOCKET)


def hang() -> Reply:
    """The request is read and never answered."""
    return Reply(before=(HANG,))


def hang_up() -> Reply:
    """The request is read and the connection closed without a byte."""
    return Reply(before=(CUT,))
