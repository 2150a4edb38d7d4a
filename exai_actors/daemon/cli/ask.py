"""`exai ask`."""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING, Any

import click

from exai_actors.daemon.cli.options import Seconds, broker_options, json_option, run

if TYPE_CHECKING:
    from exai_actors.client import CallResult, Progress

# The broker's error for a deadline says more than the client's, so the client waits for it.
GRACE_S = 2.0
MAX_S = 86_400  # the wire's; importing that would slow down the help


@click.command()
@click.argument("prompt", required=False)
@click.option("-m", "--model", metavar="MODEL", help="The model to ask; see `exai models`.")
@click.option("--no-stream", is_flag=True, help="Print the answer when it is complete.")
@click.option(
    "--timeout",
    type=Seconds(MAX_S),
    metavar="SECONDS",
    help="Give up after this long.",
)
@json_option
@broker_options
def ask(
    prompt: str | None,
    model: str | None,
    no_stream: bool,
    timeout: float | None,
    as_json: bool,
    url: str,
    token: str | None,
) -> None:
    """Ask a model and print the answer as it arrives.

    Without PROMPT, or with `-`, the prompt is read from stdin. Ctrl-C cancels the request, at the
    provider too.
    """
    arguments = {"prompt": _prompt(prompt)}
    if model is not None:
        arguments["model"] = model
    times: dict[str, Any] = {}
    if timeout is not None:
        times = {"deadline_ms": timeout * 1000, "timeout_s": timeout + GRACE_S}
    run(_ask(arguments, times, url, token, stream=not (no_stream or as_json), as_json=as_json))


async def _ask(
    arguments: dict[str, str],
    times: dict[str, Any],
    url: str,
    token: str | None,
    *,
    stream: bool,
    as_json: bool,
) -> None:
    from exai_actors.client import connect
    from exai_actors.daemon.cli.output import Answer, print_json

    waiting = _Waiting()
    async with connect(url, token=token) as broker:
        if stream:
            answer = Answer()
            try:
                async for piece in broker.stream(
                    "chat", arguments, on_progress=waiting.show, **times
                ):
                    waiting.clear()
                    answer.piece(piece)
            finally:
                waiting.clear()
                answer.end()
            return
        try:
            result = await broker.call("chat", arguments, on_progress=waiting.show, **times)
        finally:
            waiting.clear()
    if as_json:
        print_json(_as_json(result))
    else:
        answer = Answer()
        answer.piece(result.text)
        answer.end()


def _as_json(result: CallResult) -> dict[str, Any]:
    return {
        "text": result.text,
        "outputs": list(result.outputs),
        "continuation_id": result.continuation_id,
        "dropped_turns": result.dropped_turns,
        "metadata": result.metadata,
        "request_id": result.request_id,
    }


def _prompt(given: str | None) -> str:
    from exai_actors.errors import UsageError

    if given is None and sys.stdin.isatty():
        raise click.UsageError('no prompt; use exai ask "..." or ... | exai ask')
    try:
        if given is None or given == "-":
            prompt = sys.stdin.buffer.read().decode()
        else:
            prompt = _as_text(given)
    except UnicodeDecodeError:
        where = "on stdin " if given in (None, "-") else ""
        raise UsageError(f"the prompt {where}is not UTF-8 text") from None
    if not prompt.strip():
        raise click.UsageError("the prompt is empty")
    return prompt


def _as_text(argument: str) -> str:
    """The argument; its bytes as UTF-8 where the locale could not decode them."""
    undecoded = any("\udc80" <= char <= "\udcff" for char in argument)
    return os.fsencode(argument).decode() if undecoded else argument


class _Waiting:
    """Shows the position in the queue on a terminal until the answer begins."""

    def __init__(self) -> None:
        self._terminal = sys.stderr.isatty()
        self._shown = False

    def show(self, progress: Progress) -> None:
        if not self._terminal:
            return
        self.clear()
        if progress.position is not None:
            estimate = f", about {progress.estimate_s:.0f} s" if progress.estimate_s else ""
            click.echo(f"waiting: position {progress.position}{estimate}", err=True, nl=False)
            self._shown = True

    def clear(self) -> None:
        if self._shown:
            click.echo("\r\x1b[K", err=True, nl=False)
            self._shown = False
