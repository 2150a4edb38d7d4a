"""More streams of the kinds in ``streams``: holes, hidden failures, and ends in other words."""

from __future__ import annotations

from exai_actors.core.calls import FailureKind
from tests.cases.answers.streams import DONE, Case, one_newline, say, typed, whole

_HEL, _LO = one_newline(say("Hel")), one_newline(say("lo", "stop"))
_BOM = b"\xef\xbb\xbf"
_SERVER_ERROR = FailureKind.SERVER_ERROR
_MALFORMED = FailureKind.MALFORMED


def _case(name: str, *stream: object, text: str | None = "Hello", **more: object) -> Case:
    return Case(name, "own", list(stream), text, **more)  # type: ignore[arg-type]


def _hidden(name: str, *stream: object, kind: FailureKind = _SERVER_ERROR) -> Case:
    return Case(name, "own", list(stream), None, kind)


CASES: list[Case] = [
    # A line that the standard ignores is no hole in the answer (K1, K10).
    _case("bom_in_the_middle", _HEL, _BOM + _LO, DONE),
    _case("blank_before_data", b" " + _HEL, _LO, DONE),
    _case("data_with_a_capital", b"D" + _HEL[1:], _LO, DONE),
    _case("data_in_capitals", b"DATA" + _HEL[4:], b"DATA" + _LO[4:], DONE),
    _case("data_twice", b"data: " + _HEL, b"data: " + _LO, DONE),
    _case("bom_in_data", b"data: " + _BOM + _HEL[6:], _LO, DONE),
    _case("lines_of_json", _HEL[6:-1], _LO[6:]),
    _hidden(
        "lines_of_another_protocol",
        b'{"message": {"content": "Hel"}, "done": false}\n{"message": {"content": "lo"}}\n\n',
        kind=_MALFORMED,
    ),
    _hidden(
        "half_a_line_of_json", say("Hel"), b'{"choices": [{"delta": {"con\n\n', kind=_MALFORMED
    ),
    _hidden("misspelt_field", b"dta" + _HEL[4:], _LO, DONE, kind=_MALFORMED),
    _case("carriage_returns", _HEL.replace(b"\n", b"\r"), _LO.replace(b"\n", b"\r\n"), DONE),
    _case("mixed_line_ends", _HEL[:-1] + b"\r\n", _LO[:-2] + b"\r\n\n", DONE),
    _case(
        "not_a_number",
        b'data: {"choices":[{"delta":{"content":"Hello"},"logprobs":[NaN]}]}\n\n',
        DONE,
    ),
    # Failures without the form of one (K1).
    _hidden("error_event_without_data", say("Hel"), b"event: error\n\n", DONE),
    _hidden("error_event_of_null", say("Hel"), typed("error", "null"), DONE),
    _hidden("event_timeout", say("Hel"), typed("stream.timeout", "{}"), DONE),
    _hidden("page", say("Hel"), b"<html><body>502 Bad Gateway</body></html>\n\n", DONE),
    _hidden("page_as_data", say("Hel"), b"data: <html>502</html>\n\n", DONE),
    _hidden("bare_words", say("Hel"), b"Internal Server Error\n\n", DONE),
    _hidden(
        "chinese_words",
        say("Hel"),
        "data: \u670d\u52a1\u5668\u7e41\u5fd9\n\n".encode(),
        DONE,
        kind=FailureKind.OVERLOADED,
    ),
    _hidden("code_alone", say("Hel"), {"code": 1305}, DONE, kind=FailureKind.RATE_LIMITED),
    _hidden("status_alone", say("Hel"), {"status": 500}, DONE),
    _case("bare_words_and_then_a_finish", say("Hel"), b"Connection error?\n\n", _LO, DONE),
    *(
        _hidden(f"finish_{reason}", say("Hel"), say("", reason), DONE)
        for reason in ("Error", "FAILED", "timeout", "cancelled", "engine_overloaded", "timed_out")
    ),
    *(
        _case(f"finish_{reason}", say("Hello", reason), DONE, finish_reason=reason)
        for reason in ("end_turn", "eos", "content_filter", "sensitive", "MAX_TOKENS")
    ),
    # Text twice, or in another member (K2).
    _case("message_beside_an_empty_delta", say("Hel"), say("lo"), whole("Hello", delta={})),
    _case(
        "text_completions",
        {"choices": [{"text": "Hel", "index": 0}]},
        {"choices": [{"text": "lo", "index": 0, "finish_reason": "stop"}]},
        DONE,
    ),
    # Before and behind the finish reason (K6).
    _case(
        "filter_results_behind",
        say("Hello", "stop"),
        {"choices": [{"index": 0, "finish_reason": None}]},
    ),
    _case(
        "usage_before_the_finish", say("Hel"), {"choices": [], "usage": {"prompt_tokens": 5}}, _LO
    ),
    _hidden("error_behind", say("Hello", "stop"), typed("error", "late"), DONE),
]
