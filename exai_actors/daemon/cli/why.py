"""`exai why`: why a request waits."""

from __future__ import annotations

from typing import Any

import click

from exai_actors.daemon.cli.columns import indented
from exai_actors.daemon.cli.exit_codes import ExitCode
from exai_actors.daemon.cli.options import json_option, operator_options, run


@click.command()
@click.argument("request")
@click.option("--timeline", is_flag=True, help="Also show its way so far.")
@operator_options
@json_option
def why(request: str, timeline: bool, url: str, token: str | None, as_json: bool) -> None:
    """Show why a REQUEST waits, which requests are ahead, and when it is predicted to run.

    REQUEST is its number, as in `exai top requests`, or the id that its client gave it.
    """
    answer = run(_ask(request, url, token, timeline=timeline))
    from exai_actors.daemon.cli.output import one_line, print_json, print_line

    if as_json:
        print_json(answer)
    else:
        print_line("\n".join(map(one_line, why_lines(answer))))


async def _ask(request: str, url: str, token: str | None, *, timeline: bool) -> dict[str, Any]:
    from exai_actors.client.console import open_console
    from exai_actors.daemon.cli.output import print_error
    from exai_actors.errors import UsageError

    async with open_console(url, token) as console:
        try:
            answer = await console.ask("why", request)
            if timeline:
                answer["timeline"] = (await console.ask("request", answer["request"]))["timeline"]
        except UsageError as error:
            # It may have ended a moment ago.
            print_error(str(error))
            raise SystemExit(ExitCode.INVALID) from None
        return answer


def why_lines(answer: dict[str, Any]) -> list[str]:
    """The answer to ``why``, and its timeline if it has one, in lines for people."""
    lines = [
        f"request {answer['request']}, called {answer['request_id']} by its client",
        f"tenant {answer['tenant']}, session {answer['session']}",
        f"for {answer['provider']}/{answer['model']}: {_state(answer)}",
    ]
    if answer["reason"]:
        lines.append(f"waits for {answer['reason']}: {answer['text']}")
    lines += [f"also for {each['code']}: {each['text']}" for each in answer["also"]]
    if answer["ahead"]:
        lines += ["", "ahead of it:"]
        lines += indented([(*_named(each), each["because"]) for each in answer["ahead"]])
        if more := answer.get("position", 0) - 1 - len(answer["ahead"]):
            lines.append(f"  and {more} more" if more > 0 else "")
    if answer["running"]:
        lines += ["", "with permits:"]
        lines += indented(_named(each) for each in answer["running"])
    if "timeline" in answer:
        lines += ["", "its way:"]
        lines += indented(
            (f"{each['at_s']:>7.1f} s", each["where"], each["event"], each["detail"])
            for each in answer["timeline"]
        )
    return lines


def _state(answer: dict[str, Any]) -> str:
    parts = [answer["state"]]
    if "position" in answer:
        about = "about " if answer["position_is_estimate"] else ""
        parts.append(f"{about}{answer['position']} of {answer['queued']} in line")
    parts.append(f"waited {answer['waited_s']:.1f} s")
    if answer["starts_in_s"] is not None:
        parts.append(f"runs in about {answer['starts_in_s']:.0f} s")
    elif answer["state"] == "running":
        parts.append("runs now")
    return ", ".join(parts)


def _named(each: dict[str, Any]) -> tuple[str, ...]:
    return each["request"] or "-", each["tenant"], each["session"]
