"""The protocol reference agrees with the code."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from exai_actors.core.authentication import Authenticator, Identity
from exai_actors.core.calls import FailureKind, ToolResult, Usage
from exai_actors.core.tools.table import describe_tools
from exai_actors.errors import ErrorBody, ErrorCode
from exai_actors.wire.clients import encode
from exai_actors.wire.clients.close_reasons import CloseReason
from exai_actors.wire.clients.connection import Close, Connection
from exai_actors.wire.clients.dialects.op_reader import ANSWERS
from exai_actors.wire.clients.dialects.rpc_reader import METHODS
from exai_actors.wire.clients.dialects.rpc_writer import MCP_VERSIONS, NUMBERS
from exai_actors.wire.clients.frames import Hello, Initialize, Malformed
from tests.wire.clients.wire_client import call, parsed, piece, read

PAGE = (Path(__file__).parents[3] / "docs" / "reference" / "protocol.md").read_text("utf-8")
EXAMPLES = [json.loads(block) for block in re.findall(r"```json\n(.*?)\n```", PAGE, re.DOTALL)]
REQUESTS = [
    each
    for each in EXAMPLES
    if each.get("op") in ANSWERS or ("id" in each and each.get("method") in METHODS)
]


def test_every_example_of_a_request_is_valid() -> None:
    assert len(REQUESTS) == 4
    for example in REQUESTS:
        first = Connection().receive(json.dumps(example).encode())
        if isinstance(first, Close):
            assert not isinstance(read(example), Malformed)
        else:
            assert isinstance(first, Hello | Initialize)


def test_the_example_of_a_result_is_accurate() -> None:
    frame = call(next(each for each in REQUESTS if each.get("op") == "call_tool"))
    result = ToolResult(("Hello.",), "c-1", "kimi-k2", "kimi", "stop", Usage(9, 3))
    assert parsed(encode.result(frame.reply, result)) in EXAMPLES


def test_the_examples_of_a_json_rpc_stream_are_accurate() -> None:
    frame = call(next(each for each in REQUESTS if each.get("method") == "tools/call"))
    assert frame.options.stream is True
    assert parsed(piece(frame.reply, 0, "Hello.")) in EXAMPLES
    result = ToolResult(("Hello.",), "c-1", "kimi-k2", "kimi", "stop")
    assert parsed(encode.result(frame.reply, result)) in EXAMPLES


def test_the_example_of_an_error_is_accurate() -> None:
    example = next(each for each in EXAMPLES if each.get("ok") is False)
    frame = call({"op": "call_tool", "name": "chat", "request_id": example["request_id"]})
    error = example["error"]
    body = ErrorBody(ErrorCode(error["code"]), error["message"], error["details"])
    assert parsed(encode.error(frame.reply, body)) == example


@pytest.mark.parametrize("code", ErrorCode)
def test_every_error_code_and_its_number_is_documented(code: ErrorCode) -> None:
    assert f"| `{code}` |" in PAGE
    assert str(NUMBERS[code]).replace("-", "−") in PAGE


@pytest.mark.parametrize("reason", CloseReason)
def test_every_close_reason_is_documented(reason: CloseReason) -> None:
    row = rf"^\| {reason.code} \|.*{re.escape(reason.reason)}"
    assert re.search(row, PAGE, re.MULTILINE)


def test_every_tool_and_argument_is_documented() -> None:
    table = PAGE.partition("## The tools")[2].partition("\n## ")[0]
    named = set(re.findall(r"`(\w+)`", table))
    for tool in describe_tools(()):
        assert named >= {tool.name, *tool.input_schema["properties"]}


@pytest.mark.parametrize("kind", FailureKind)
def test_every_kind_of_failure_is_documented(kind: FailureKind) -> None:
    assert f"`{kind.value}`" in PAGE


def test_every_word_for_a_refused_rotation_is_documented() -> None:
    old, taken = "the first token there is", "the token of somebody else"
    access = Authenticator(old, ((taken, Identity()),))
    refused = [(old, ""), ("unknown", taken), (old, "short"), (old, taken)]
    words = [access.rotate(*tokens) for tokens in refused]
    assert len({*words}) == len(words)
    for word in (*words, "rotation_pending"):
        assert f"`{word}`" in PAGE


@pytest.mark.parametrize("word", sorted({*ANSWERS, *METHODS, *MCP_VERSIONS}))
def test_every_operation_method_and_version_is_documented(word: str) -> None:
    assert word in PAGE
