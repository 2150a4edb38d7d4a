"""The options of every command that connects to a broker."""

from __future__ import annotations

import json
import math
import os
from collections.abc import Callable, Coroutine
from typing import TYPE_CHECKING, Any, ParamSpec, TypeVar

import click

if TYPE_CHECKING:
    from exai_actors.client import BrokerClient

P = ParamSpec("P")
R = TypeVar("R")

# The broker's error for a deadline says more than the client's, so the client waits for it.
GRACE_S = 2.0
MAX_TIMEOUT_S = 86_400  # the wire's; importing that would slow down the help
DEFAULT_URL = "ws://127.0.0.1:8079"  # the client's; importing that would slow down the help


def default_url() -> str:
    """The URL of ``exai serve`` in this environment."""
    host = os.environ.get("EXAI_WS_HOST", "").strip() or "127.0.0.1"
    port = os.environ.get("EXAI_WS_PORT", "").strip() or "8079"
    if host in ("0.0.0.0", "::"):  # noqa: S104 - all addresses, including this machine's
        host = "127.0.0.1"
    return f"ws://[{host}]:{port}" if ":" in host else f"ws://{host}:{port}"


def token_option(text: str) -> Callable[[Callable[P, R]], Callable[P, R]]:
    """``--token`` without surrounding blanks and line ends; None if empty.

    EXAI_WS_TOKEN, the broker's own token and that of the old daemon's clients, comes second.
    """
    return click.option(
        "--token",
        envvar=["EXAI_TOKEN", "EXAI_WS_TOKEN"],
        show_envvar=True,
        metavar="TOKEN",
        callback=lambda _ctx, _param, value: (value or "").strip() or None,
        help=text,
    )


def url_option(command: Callable[P, R]) -> Callable[P, R]:
    """Add ``--url``."""
    return click.option(
        "--url",
        envvar="EXAI_URL",
        default=default_url,
        show_default=DEFAULT_URL,
        show_envvar=True,
        metavar="URL",
        help="The URL of the broker.",
    )(command)


def operator_options(command: Callable[P, R]) -> Callable[P, R]:
    """Add ``--url`` and ``--token-file``; the command gets ``url`` and the ``token``, or None."""
    token = click.option(
        "--token-file",
        "token",
        type=click.File("r"),
        metavar="FILE",
        callback=_operator_token,
        help="A file with an operator's token; the variable EXAI_OPERATOR_TOKEN comes second.",
    )
    return url_option(token(command))


def _operator_token(_ctx: click.Context, _param: click.Parameter, file: Any) -> str | None:
    text: str = file.read() if file else os.environ.get("EXAI_OPERATOR_TOKEN", "")
    return text.strip() or None


def broker_options(command: Callable[P, R]) -> Callable[P, R]:
    """Add ``--url`` and ``--token``."""
    token = token_option("The broker's token; the variable keeps it out of the process list.")
    return url_option(token(command))


def token_file_option(command: Callable[P, R]) -> Callable[P, R]:
    """Add ``--token-file``."""
    return click.option(
        "--token-file",
        type=click.Path(dir_okay=False),
        metavar="FILE",
        help="A file with the broker's token; the variable EXAI_TOKEN comes second.",
    )(command)


class Seconds(click.FloatRange):
    """A number of seconds above 0 and up to ``most``, which NaN is not."""

    name = "number of seconds"

    def __init__(self, most: float) -> None:
        super().__init__(min=0, min_open=True, max=most)

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> float:
        seconds: float = super().convert(value, param, ctx)
        if math.isnan(seconds):
            self.fail(f"{value!r} is not a number of seconds.", param, ctx)
        return seconds


def timeout_option(command: Callable[P, R]) -> Callable[P, R]:
    """Add ``--timeout``."""
    return click.option(
        "--timeout",
        type=Seconds(MAX_TIMEOUT_S),
        metavar="SECONDS",
        help="Give up after this long, waiting included.",
    )(command)


def times(timeout: float | None) -> dict[str, Any]:
    """The options of a call that may take so many seconds."""
    if timeout is None:
        return {}
    return {"deadline_ms": timeout * 1000, "timeout_s": timeout + GRACE_S}


def json_option(command: Callable[P, R]) -> Callable[P, R]:
    """Add ``--json``."""
    return click.option("--json", "as_json", is_flag=True, help="Print JSON.")(command)


def run(work: Coroutine[Any, Any, R]) -> R:
    """Run the work. Ctrl-C cancels it, waits for its cleanup and raises KeyboardInterrupt."""
    # Slower to import than all that `exai mcp` needs for its first answer.
    import asyncio

    return asyncio.run(work)


def ask_broker(
    url: str, token: str | None, question: Callable[[BrokerClient], Coroutine[Any, Any, R]]
) -> R:
    """Connect to the broker and ``run`` the question on that client."""

    async def ask() -> R:
        from exai_actors.client import connect

        async with connect(url, token=token) as broker:
            return await question(broker)

    return run(ask())


async def ask_tool(broker: BrokerClient, tool: str) -> dict[str, Any]:
    """The JSON object with which a tool of the broker itself answers."""
    answer: dict[str, Any] = json.loads((await broker.call(tool)).text)
    if "content" in answer:  # [compat] envelope = "ex-ai" wraps every answer
        answer = json.loads(answer["content"])
    return answer
