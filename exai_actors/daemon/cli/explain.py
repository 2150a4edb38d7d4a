"""`exai providers explain`: how the broker would treat a given response of a service."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

import click

from exai_actors.daemon.cli.options import json_option

if TYPE_CHECKING:
    from collections.abc import Mapping

    from exai_actors.core.calls import Completion, UpstreamFailure

MAX_FILE_BYTES = 1 << 24
_BLANK_LINE = re.compile(rb"\r?\n\r?\n")


@click.command()
@click.argument("file", type=click.File("rb"), metavar="[FILE]", required=False)
@click.option(
    "--status",
    type=click.IntRange(100, 999),
    metavar="CODE",
    help="The HTTP status, if FILE holds only a body.",
)
@click.option("--model", default="", metavar="NAME", help="The model that was asked.")
@click.option("--rules", is_flag=True, help="List all rules instead.")
@json_option
def explain(file: Any, status: int | None, model: str, rules: bool, as_json: bool) -> None:
    """Show how a saved response would be treated: `curl -i` output, or a body with --status.

    FILE may be - for stdin. Nothing is sent anywhere.
    """
    import time

    from exai_actors.daemon.cli.output import print_json, print_line, printable
    from exai_actors.errors import UsageError

    if rules:
        rows = rule_rows()
        if as_json:
            print_json(rows)
        else:
            print_line("\n".join(_rule_line(row) for row in rows))
        return
    if file is None:
        raise UsageError("name the FILE with the response, or - for stdin; or use --rules")
    found_status, headers, body = parse_response(file.read(MAX_FILE_BYTES))
    status = status or found_status
    if status is None:
        raise UsageError(
            "the file has no status line such as 'HTTP/1.1 429 Too Many Requests' (curl -i writes "
            "one); name the status with --status"
        )
    found = explanation(status, headers, body, model=model, now=time.time())
    if as_json:
        print_json(found)
    else:
        width = max(map(len, found))
        print_line("\n".join(printable(f"{key:<{width}}  {_shown(found[key])}") for key in found))


def parse_response(raw: bytes) -> tuple[int | None, Mapping[str, str], bytes]:
    """Status, headers and body of a file by ``curl -i``; without a status line all is body.

    curl writes a block of headers for each response, also those of a proxy and of redirects: the
    last one counts. A byte order mark and blank lines before the first are skipped; PowerShell
    writes UTF-16.
    """
    from multidict import CIMultiDict

    status: int | None = None
    headers = CIMultiDict[str]()
    if raw[:2] in (b"\xff\xfe", b"\xfe\xff"):
        raw = raw.decode("utf-16", "replace").encode()
    body = raw
    beginning = raw.removeprefix(b"\xef\xbb\xbf").lstrip()
    if beginning[:5].upper() == b"HTTP/":
        body = beginning
    while body[:5].upper() == b"HTTP/":
        head, *rest = _BLANK_LINE.split(body, maxsplit=1)
        body = rest[0] if rest else b""
        first, *lines = head.decode("utf-8", "replace").splitlines()
        words = first.split(None, 2)
        status = int(words[1]) if len(words) > 1 and words[1].isdecimal() else None
        headers = CIMultiDict()
        for line in lines:
            name, colon, value = line.partition(":")
            if colon:
                headers.add(name.strip(), value.strip())
    return status, headers, body


def explanation(
    status: int, headers: Mapping[str, str], body: bytes, *, model: str, now: float
) -> dict[str, Any]:
    """The broker's treatment of a response, row by row; ``now`` is our wall clock."""
    from exai_actors.core.calls import Completion
    from exai_actors.wire.openai.rate_headers import hold_s, service_clock

    body = _inflated(headers, body)
    result = _result(status, headers, body, model, now)
    rows: dict[str, Any] = {"status": status}
    clock_s = service_clock(headers, now=now) - now
    if abs(clock_s) > 60:
        rows["clock"] = f"the service's is {clock_s:+,.0f} s against ours; its own counts"
    if isinstance(result, Completion):
        rows["result"] = "an answer"
        rows["finish_reason"] = result.finish_reason
        wait_s = hold_s(headers, now=service_clock(headers, now=now), answered=True)
        rows["hold"] = "none" if wait_s is None else f"the model, for {_seconds(wait_s)} (headers)"
        return rows
    rows |= _of_failure(result)
    if form := _other_form(result, status, body):
        rows["form"] = form
    return rows


def rule_rows() -> list[dict[str, Any]]:
    """The table of rules, in the order in which they are tried."""
    from exai_actors.wire.openai.refusal_rules import RULES, UNKNOWN, UNKNOWN_ERROR

    return [
        {
            "name": rule.name,
            "provider": rule.provider,
            "statuses": sorted(rule.statuses),
            "codes": list(rule.codes),
            "phrase": "" if rule.phrase is None else rule.phrase.pattern,
            "kind": rule.kind.value,
            "limit": "" if rule.scope is None else rule.scope.value,
            "holder": rule.holder.value,
            "until": rule.until.value,
            "retryable": rule.retryable,
        }
        for rule in (*RULES, *UNKNOWN.values(), UNKNOWN_ERROR)
    ]


def _result(
    status: int, headers: Mapping[str, str], body: bytes, model: str, now: float
) -> Completion | UpstreamFailure:
    from exai_actors.wire.openai.completions import is_event_stream, parse_completion
    from exai_actors.wire.openai.errors import classify_response
    from exai_actors.wire.openai.rate_headers import service_clock
    from exai_actors.wire.openai.stream import StreamReader

    if not 200 <= status <= 299 or body.lstrip()[:1] in (b"", b"<"):
        return classify_response(status, headers, body, now=now, model=model)
    clock = service_clock(headers, now=now)
    content_type = next((headers[name] for name in headers if name.lower() == "content-type"), "")
    if is_event_stream(content_type, body):
        reader = StreamReader(model, MAX_FILE_BYTES, now=clock)
        reader.feed(body)
        reader.end_of_body()
        return reader.finish()
    return parse_completion(body, model, now=clock)


def _inflated(headers: Mapping[str, str], body: bytes) -> bytes:
    """The body without its compression, as far as it can be read."""
    from exai_actors.wire.openai.content_coding import BadCoding, Inflater, is_compressed

    coding = next((headers[name] for name in headers if name.lower() == "content-encoding"), "")
    if not is_compressed(coding):
        return body
    inflater, portions, size = Inflater(coding), [], 0
    inflater.feed(body)
    try:
        while size < MAX_FILE_BYTES and (portion := inflater.take()):
            portions.append(portion)
            size += len(portion)
    except BadCoding:
        # curl --compressed writes the body without it, and leaves the header.
        return b"".join(portions) or body
    return b"".join(portions)


def _other_form(failure: UpstreamFailure, status: int, body: bytes) -> str:
    """The change for which a request with all arguments in question would be sent once more."""
    from exai_actors.wire.openai.request_form import (
        MAY_BE_ABOUT_THE_FORM,
        USUAL_FORM,
        adapted_form,
    )

    if failure.kind not in MAY_BE_ABOUT_THE_FORM:
        return ""
    status = 400 if 200 <= status <= 299 else status
    form = adapted_form(USUAL_FORM, status, body, streamed=True, limits_tokens=True)
    if form is None:
        return ""
    if not form.streams:
        return "a request for a stream is sent once more, without it"
    if not form.includes_usage:
        return "a request for a stream is sent once more, without stream_options"
    return f"a request with max_tokens is sent once more, with {form.max_tokens_name}"


def _of_failure(failure: UpstreamFailure) -> dict[str, Any]:
    from exai_actors.core.capacity.holds import probe_interval_s
    from exai_actors.core.capacity.retry_policy import hold_s, judge
    from exai_actors.core.capacity.settings import CapacitySettings
    from exai_actors.core.error_bodies import provider_failed
    from exai_actors.core.routing import fallback_reason
    from exai_actors.ids import ProviderName

    settings = CapacitySettings(limit=1)
    verdict = judge(failure)
    hold = "none"
    if verdict.holds:
        seconds = hold_s(failure, 1, 0.5, settings.retry)
        named = "as the service says" if failure.retry_after else "it names no time"
        hold = f"the {failure.holder.value}, for {_seconds(seconds)} ({named})"
        every_s = probe_interval_s(settings.hold_probe_s, failure)
        if every_s < seconds:
            hold += f"; one call is tried every {_seconds(every_s)}"
    retry = "no"
    if verdict.retriable:
        retry = "yes, after the hold" if verdict.holds else "yes, after a short backoff"
    reason = fallback_reason(failure)
    route = "stays: another provider would refuse it as well"
    if reason is not None:
        route = f'continues if its `on` has "{reason}"'
    body = provider_failed(ProviderName("NAME"), failure)
    rule = failure.rule or "none: not a refusal"
    return {
        "rule": rule if failure.recognised else f"{rule} (a default: nothing in it was recognised)",
        "kind": failure.kind.value,
        "limit": "" if failure.scope is None else failure.scope.value,
        "scope": failure.holder.value,
        "hold": hold,
        "retry": retry,
        "circuit": "counts as a failure" if verdict.counts_for_circuit else "does not count",
        "route": route,
        "client": f"{body.code}: {body.message}",
        "details": body.details,
    }


def _seconds(seconds: float) -> str:
    from exai_actors.core.durations import format_seconds

    return format_seconds(seconds)


def _shown(value: Any) -> str:
    if isinstance(value, dict):
        return ", ".join(f"{key} {each}" for key, each in value.items())
    return str(value) if value != "" else "-"


def _rule_line(row: dict[str, Any]) -> str:
    matches = []
    if row["statuses"]:
        matches.append("status " + " ".join("none" if s == 0 else str(s) for s in row["statuses"]))
    if row["codes"]:
        matches.append("code " + " ".join(row["codes"]))
    if row["phrase"]:
        matches.append(f"words {row['phrase']}")
    means = [row["kind"], row["limit"], row["holder"], "retried" if row["retryable"] else ""]
    return f"{row['name']} ({row['provider']}): {'; '.join(matches) or 'anything else'} -> " + (
        ", ".join(each for each in means if each)
    )
