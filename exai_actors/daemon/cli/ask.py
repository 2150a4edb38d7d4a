"""`exai ask`."""

from __future__ import annotations

import os
import shutil
import sys
from typing import TYPE_CHECKING, Any

import click

from exai_actors.daemon.cli.exit_codes import ExitCode
from exai_actors.daemon.cli.incomplete import incompleteness
from exai_actors.daemon.cli.options import (
    ask_tool,
    broker_options,
    json_option,
    run,
    timeout_option,
    times,
)

if TYPE_CHECKING:
    from exai_actors.client import BrokerClient, CallResult, Progress

NEW = "new"


@click.command()
@click.argument("prompt", required=False)
@click.option("-m", "--model", metavar="MODEL", help="The model to ask; see `exai models`.")
@click.option(
    "-c",
    "--conversation",
    metavar="ID",
    help="Continue this conversation; `new` begins one and prints its ID on stderr.",
)
@click.option("--system", metavar="TEXT", help="A system prompt.")
@click.option("--temperature", type=float, metavar="NUMBER", help="The sampling temperature.")
@click.option("--max-tokens", type=int, metavar="N", help="The maximum length of the answer.")
@click.option("--no-stream", is_flag=True, help="Print the answer when it is complete.")
@click.option(
    "--reasoning",
    is_flag=True,
    help="Print the model's reasoning, too, on stderr. --json always has it.",
)
@timeout_option
@json_option
@broker_options
def ask(
    prompt: str | None,
    conversation: str | None,
    no_stream: bool,
    reasoning: bool,
    timeout: float | None,
    as_json: bool,
    url: str,
    token: str | None,
    **options: str | float | None,
) -> None:
    """Ask a model and print the answer as it arrives.

    PROMPT is read from stdin if it is `-`, or missing and stdin is not a terminal. Ctrl-C cancels
    the request, at the provider too.
    """
    session, continuation_id = _parts(conversation)
    arguments = {"prompt": _prompt(prompt), "continuation_id": continuation_id, **options}
    given = {name: value for name, value in arguments.items() if value is not None}
    connection = {"url": url, "token": token, "session_id": session}
    from exai_actors.daemon.cli.output import print_error, print_json, printable

    printed = _Printed(shows_reasoning=reasoning)
    answer_to = None if no_stream or as_json else printed
    result, session, origin = run(_ask(given, times(timeout), connection, answer_to))
    if as_json:
        print_json(_as_json(result, session))
    elif no_stream:
        printed.reasoning(str(result.metadata.get("reasoning") or ""))
        printed.answer(result.text)
        printed.end()
    if origin and not as_json and sys.stderr.isatty():
        click.echo(printable(f"answered by {origin}"), err=True)
    if conversation is not None and not as_json:
        click.echo(f"exai: to continue: exai ask -c {_id(result, session)} ...", err=True)
    if problem := incompleteness(result.text, result.metadata):
        print_error(problem)
        raise SystemExit(ExitCode.PROVIDER)


async def _origin(broker: BrokerClient, asked: str | None, result: CallResult) -> str:
    """The model that answered, for a terminal; empty if it is the one that was asked for."""
    model, provider = result.metadata.get("model_used"), result.metadata.get("provider_used")
    if not sys.stderr.isatty() or model is None:
        return ""
    if asked is None:
        asked = await _default_model(broker)
    return "" if asked in (None, model, f"{provider}/{model}") else f"{provider}/{model}"


async def _default_model(broker: BrokerClient) -> str | None:
    from exai_actors.errors import ExaiError

    try:
        default: str | None = (await ask_tool(broker, "list_models"))["default_model"]
    except (ExaiError, KeyError, ValueError):
        # The answer is complete; no error may follow it.
        return None
    return default


def _parts(conversation: str | None) -> tuple[str | None, str | None]:
    """The session and the conversation of an ID; a conversation is known in its session only."""
    if conversation is None or conversation == NEW:
        return None, None
    session, slash, continuation_id = conversation.partition("/")
    if not (session and slash and continuation_id):
        raise click.UsageError(
            f'"{conversation}" is not the ID of a conversation; take the one that -c new or --json '
            "prints"
        )
    return session, continuation_id


def _id(result: CallResult, session: str) -> str:
    return f"{session}/{result.continuation_id}"


class _Printed:
    """The answer on stdout, and on stderr the model's reasoning, which ends its line before it."""

    def __init__(self, *, shows_reasoning: bool) -> None:
        from exai_actors.daemon.cli.output import Pieces

        self.shows_reasoning = shows_reasoning
        self._answer, self._reasoning = Pieces(sys.stdout), Pieces(sys.stderr)

    def reasoning(self, text: str) -> None:
        if self.shows_reasoning:
            self._reasoning.piece(text)

    def answer(self, text: str) -> None:
        self._reasoning.end()
        self._answer.piece(text)

    def end(self) -> None:
        self._reasoning.end()
        self._answer.end()


async def _ask(
    arguments: dict[str, Any],
    call_options: dict[str, Any],
    connection: dict[str, Any],
    printed: _Printed | None,
) -> tuple[CallResult, str, str]:
    """The answer, printed as it arrives unless ``printed`` is None, its session, and its origin."""
    from exai_actors.client import connect

    waiting, asked = _Waiting(), arguments.get("model")
    call_options |= {"on_progress": waiting.show}
    async with connect(**connection) as broker:
        if printed is None:
            try:
                result = await broker.call("chat", arguments, **call_options)
            finally:
                waiting.clear()
            return result, broker.session_id, await _origin(broker, asked, result)

        def on_reasoning(piece: str) -> None:
            waiting.clear()
            printed.reasoning(piece)

        if printed.shows_reasoning:
            call_options |= {"on_reasoning": on_reasoning}
        pieces = broker.stream("chat", arguments, **call_options)
        try:
            async for piece in pieces:
                waiting.clear()
                printed.answer(piece)
        finally:
            waiting.clear()
            printed.end()
        result = pieces.result
        return result, broker.session_id, await _origin(broker, asked, result)


def _as_json(result: CallResult, session: str) -> dict[str, Any]:
    return {
        "text": result.text,
        "outputs": list(result.outputs),
        "continuation_id": result.continuation_id,
        "dropped_turns": result.dropped_turns,
        "conversation": _id(result, session),
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


def waiting_text(progress: Progress) -> str:
    """``waiting at position 2, about 57 s (kimi: ...)``; empty if the request does not wait."""
    from exai_actors.daemon.cli.output import printable

    reason = progress.waits_for or {}
    if progress.position is None and not reason:
        return ""
    text = "waiting" if progress.position is None else f"waiting at position {progress.position}"
    if progress.estimate_s:
        text += f", about {progress.estimate_s:.0f} s"
    if reason.get("text"):
        text += f" ({reason['text']})"
    return printable(text).replace("\n", " ")


class _Waiting:
    """Shows on a terminal, until the answer begins, the place in the queue and the reason."""

    def __init__(self) -> None:
        self._terminal = sys.stderr.isatty()
        self._shown = False

    def show(self, progress: Progress) -> None:
        if not self._terminal:
            return
        self.clear()
        text = waiting_text(progress)
        if text:
            # A line that wraps could not be cleared.
            columns = shutil.get_terminal_size().columns
            line = text if len(text) < columns else f"{text[: columns - 4]}..."
            click.echo(line, err=True, nl=False)
            self._shown = True

    def clear(self) -> None:
        if self._shown:
            click.echo("\r\x1b[K", err=True, nl=False)
            self._shown = False
