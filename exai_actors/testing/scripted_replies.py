"""What a ScriptedUpstream answers: replies, and the steps they are made of.

A reply is a row of steps. Text steps are pieces of the answer; the others say what happens between
them::

    answer("Hel", gate, "lo")                    # "lo" follows when the test opens the gate
    answer("Hel", CUT)                           # the connection ends in the middle
    failure(429, "slow down", headers={"Retry-After": "2"})
    answer("hello", before=[HANG])               # the request is read, nothing ever comes back
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

    ``await gate.reached()`` returns once the upstream stands at it, so a test knows where it is
    without sleeping. An open gate stays open.
    """

    def __init__(self) -> None:
        self._reached = asyncio.Event()
        self._open = asyncio.Event()

    def open(self) -> None:
        """Let the upstream go on, now or when it gets here."""
        self._open.set()

    async def reached(self, within_s: float = 10.0) -> None:
        """Wait until the upstream has come to this gate; AssertionError if it does not in time."""
        try:
            async with asyncio.timeout(within_s):
                await self._reached.wait()
        except TimeoutError:
            raise AssertionError(
                f"waited {within_s} s for the upstream to come to this gate"
            ) from None

    async def pass_through(self) -> None:
        """Called by the upstream: announce the arrival and wait for the opening."""
        self._reached.set()
        await self._open.wait()


@dataclass(frozen=True, slots=True)
class Pause:
    """The upstream waits this long. For people and benchmarks; tests use a Gate."""

    seconds: float


@dataclass(frozen=True, slots=True)
class Reasoning:
    """A piece of the model's separate thinking text (``reasoning_content``)."""

    text: str


class End(Enum):
    """How a reply can break off."""

    CUT = "cut"
    RESET = "reset"
    HANG = "hang"


CUT = End.CUT
"""The connection is closed in order (FIN), but before the body is whole."""

RESET = End.RESET
"""The connection is reset (RST)."""

HANG = End.HANG
"""Nothing more is sent; the connection stays open until the client drops it."""

Step = str | bytes | Reasoning | Gate | Pause | End


class Form(Enum):
    """How the steps become bytes."""

    ANSWER = "answer"
    BODY = "body"
    SOCKET = "socket"


@dataclass(frozen=True, slots=True)
class Reply:
    """How one request is answered. Made by the functions below; see there.

    ``before`` holds Gate, Pause and End steps that are gone through before the status line.
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
                raise UsageError(f"{step!r} is no step of a reply: text, a Gate, CUT and so on")
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
    """A completion, streamed if the request asks for a stream, one JSON object if not.

    Each ``str`` step is one piece (one event of the stream); ``bytes`` go out as they are, for
    events that are malformed or split. ``usage`` is (prompt tokens, completion tokens). ``done``
    says whether a stream ends with ``[DONE]``. ``always_streams`` True answers every request with
    a stream, False none, whatever was asked.
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
    """Any HTTP response: the ``str`` and ``bytes`` steps are its body, sent piece by piece.

    The body is chunked unless ``headers`` hold a Content-Length.
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
    """An error as OpenAI-compatible services word it: ``{"error": {message, type, code}}``."""
    told = {"error": {"message": message, "type": kind, "code": code}}
    return body(orjson.dumps(told), status=status, headers=headers, before=before)


def html(page: str = "<html><body>It works!</body></html>", *, status: int = 200) -> Reply:
    """A web page where an answer was expected: a wrong address, a captive portal, a gateway."""
    return body(page, status=status, content_type="text/html")


def socket_bytes(*steps: Step) -> Reply:
    """Bytes straight onto the socket, status line included; the connection is closed after them."""
    return Reply(steps=steps, form=Form.SOCKET)


def hang() -> Reply:
    """The request is read and never answered."""
    return Reply(before=(HANG,))


def hang_up() -> Reply:
    """The request is read and the connection closed without a byte."""
    return Reply(before=(CUT,))
