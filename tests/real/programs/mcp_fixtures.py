"""The tools, resources and prompts that MCP's conformance suite asks for, on this broker's server.

``python mcp_fixtures.py`` prints ``ready URL``. The suite judges the server; these answers are
those that its descriptions of the scenarios prescribe.
"""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import sys
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

from exai_actors.core.handshake_policy import HandshakePolicy
from exai_actors.daemon.wiring import open_broker
from exai_actors.edges.clock import SystemClock
from exai_actors.edges.http_server.server import HttpServer, Response
from exai_actors.edges.listener import listen
from exai_actors.edges.mcp.client import Offer
from exai_actors.edges.mcp.endpoint import PATH, McpEndpoint
from exai_actors.testing.config import config_for_test
from exai_actors.testing.logs import log_through_logging
from exai_actors.wire.mcp import messages
from exai_actors.wire.mcp.messages import Request
from exai_actors.wire.mcp.messages import Response as ClientResponse
from exai_actors.wire.mcp.server import Answer
from tests.real.programs.mcp_task_fixtures import GREETS, SLOW, TaskTools

PIXEL = (
    "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mP8"
    "z8BQDwAEhQGAhKmMIQAAAABJRU5ErkJggg=="
)
SILENCE = "UklGRiYAAABXQVZFZm10IBAAAAABAAEAQB8AAAB9AAACABAAZGF0YQIAAAAAAA=="
IMAGE = {"type": "image", "data": PIXEL, "mimeType": "image/png"}
PAUSE_S = 0.05
STATE_KEY = b"a key of the fixtures"

Then = Callable[[Any], None]
_asked: dict[bytes, Then] = {}


def text(words: str) -> dict[str, Any]:
    return {"content": [{"type": "text", "text": words}]}


def resource(uri: str, words: str, type_: str = "text/plain") -> dict[str, Any]:
    return {"type": "resource", "resource": {"uri": uri, "mimeType": type_, "text": words}}


def schema(**properties: str) -> dict[str, Any]:
    return {
        "type": "object",
        "properties": {name: {"type": type_} for name, type_ in properties.items()},
        "required": list(properties),
    }


def elicit(message: str, requested: dict[str, Any]) -> dict[str, Any]:
    params = {"message": message, "requestedSchema": requested, "mode": "form"}
    return {"method": "elicitation/create", "params": params}


def sample(prompt: str, tokens: int = 100) -> dict[str, Any]:
    content = {"type": "text", "text": prompt}
    params = {"messages": [{"role": "user", "content": content}], "maxTokens": tokens}
    return {"method": "sampling/createMessage", "params": params}


ROOTS = {"method": "roots/list", "params": {}}
ASK_NAME = elicit("What is your name?", schema(name="string"))
ASK_OK = elicit("Please confirm", schema(ok="boolean"))
SCHEMA: dict[str, Any] = {
    "$schema": "https://json-schema.org/draft/2020-12/schema",
    "type": "object",
    "$defs": {
        "address": {
            "$anchor": "addressDef",
            "type": "object",
            "properties": {"street": {"type": "string"}, "city": {"type": "string"}},
        }
    },
    "properties": {
        "name": {"type": "string"},
        "address": {"$ref": "#/$defs/address"},
        "contactMethod": {"type": "string", "enum": ["phone", "email"]},
        "phone": {"type": "string"},
        "email": {"type": "string"},
    },
    "allOf": [{"anyOf": [{"required": ["phone"]}, {"required": ["email"]}]}],
    "if": {"properties": {"contactMethod": {"const": "phone"}}, "required": ["contactMethod"]},
    "then": {"required": ["phone"]},
    "else": {"required": ["email"]},
    "additionalProperties": False,
}
CAPABILITY_OF = {
    "elicitation/create": "elicitation",
    "sampling/createMessage": "sampling",
    "roots/list": "roots",
}

CONTENTS: dict[str, Any] = {
    "test_simple_text": text("This is a simple text response for testing."),
    "test_image_content": {"content": [IMAGE]},
    "test_audio_content": {
        "content": [{"type": "audio", "data": SILENCE, "mimeType": "audio/wav"}]
    },
    "test_embedded_resource": {
        "content": [resource("test://embedded-resource", "This is an embedded resource content.")]
    },
    "test_multiple_content_types": {
        "content": [
            {"type": "text", "text": "Multiple content types test:"},
            IMAGE,
            resource("test://mixed-content-resource", '{"test":"data"}', "application/json"),
        ]
    },
    "test_error_handling": text("This tool intentionally returns an error for testing")
    | {"isError": True},
    "test_logging_tool": text("Done."),
}

# Asked of a client of the era with a handshake, by a request to it.
ASKED: dict[str, Callable[[dict[str, Any]], dict[str, Any]]] = {
    "test_sampling": lambda arguments: sample(arguments["prompt"]),
    "test_elicitation": lambda arguments: elicit(
        arguments["message"], schema(username="string", email="string")
    ),
    "test_elicitation_sep1034_defaults": lambda _: elicit(
        "Please confirm",
        {
            "type": "object",
            "properties": {
                "name": {"type": "string", "default": "John Doe"},
                "age": {"type": "integer", "default": 30},
                "score": {"type": "number", "default": 95.5},
                "status": {
                    "type": "string",
                    "enum": ["active", "inactive", "pending"],
                    "default": "active",
                },
                "verified": {"type": "boolean", "default": True},
            },
        },
    ),
    "test_elicitation_sep1330_enums": lambda _: elicit(
        "Please choose",
        {
            "type": "object",
            "properties": {
                "untitledSingle": {"type": "string", "enum": ["option1", "option2", "option3"]},
                "titledSingle": {"type": "string", "oneOf": _titled()},
                "legacyEnum": {
                    "type": "string",
                    "enum": ["opt1", "opt2", "opt3"],
                    "enumNames": ["Option One", "Option Two", "Option Three"],
                },
                "untitledMulti": {
                    "type": "array",
                    "items": {"type": "string", "enum": ["option1", "option2", "option3"]},
                },
                "titledMulti": {"type": "array", "items": {"anyOf": _titled()}},
            },
        },
    ),
}

# Asked of a stateless client, by a result that requires input: the requests of each round.
INPUTS: dict[str, list[dict[str, Any]]] = {
    "test_input_required_result_elicitation": [{"user_name": ASK_NAME}],
    "test_input_required_result_sampling": [
        {"capital_question": sample("What is the capital of France?")}
    ],
    "test_input_required_result_list_roots": [{"client_roots": ROOTS}],
    "test_input_required_result_request_state": [{"confirm": ASK_OK}],
    "test_input_required_result_tampered_state": [{"confirm": ASK_OK}],
    "test_input_required_result_multiple_inputs": [
        {"user_name": ASK_NAME, "greeting": sample("Generate a greeting", 50), "roots": ROOTS}
    ],
    "test_input_required_result_multi_round": [
        {"step1": elicit("Step 1: What is your name?", schema(name="string"))},
        {"step2": elicit("Step 2: What is your favorite color?", schema(color="string"))},
    ],
    "test_input_required_result_capabilities": [
        {"sampled": sample("Anything?"), "elicited": ASK_NAME}
    ],
    "test_streaming_elicitation": [{"user_name": ASK_NAME}],
}
PROMPT_INPUT = {"user_context": elicit("What context?", schema(context="string"))}

TOOLS = [
    *CONTENTS,
    *ASKED,
    *INPUTS,
    "test_tool_with_logging",
    "test_tool_with_progress",
    "test_missing_capability",
]
PROMPTS: dict[str, tuple[str, ...]] = {
    "test_simple_prompt": (),
    "test_prompt_with_arguments": ("arg1", "arg2"),
    "test_prompt_with_embedded_resource": ("resourceUri",),
    "test_prompt_with_image": (),
    "test_input_required_result_prompt": (),
}
RESOURCES = {
    "test://static-text": {
        "mimeType": "text/plain",
        "text": "This is the content of the static text resource.",
    },
    "test://static-binary": {"mimeType": "image/png", "blob": PIXEL},
    "test://watched-resource": {"mimeType": "text/plain", "text": "Watched."},
}
CAPABILITIES = {
    "tools": {},
    "resources": {"subscribe": False},
    "prompts": {},
    "completions": {},
    "logging": {},
    "extensions": {messages.TASKS: {}},
}


def _titled() -> list[dict[str, str]]:
    titles = {"value1": "First Option", "value2": "Second Option", "value3": "Third Option"}
    return [{"const": value, "title": title} for value, title in titles.items()]


def list_tools(_: Request, answer: Answer) -> None:
    described = [
        {
            "name": name,
            "description": f"The fixture {name}.",
            "inputSchema": {"type": "object", "properties": {}},
        }
        for name in (*TOOLS, GREETS, *SLOW)
    ]
    described.append({"name": "json_schema_2020_12_tool", "description": "A fixture.",
                      "inputSchema": SCHEMA})  # fmt: skip
    answer.result({"tools": described}, cacheable=True)


def call_tool(tasks: TaskTools, request: Request, answer: Answer) -> None:
    name = request.params.get("name")
    if name in (GREETS, *SLOW):
        tasks.call(request, answer)
    elif name in CONTENTS:
        answer.result(CONTENTS[name])
    elif name in ASKED:
        ask_client(ASKED[name](messages.object_in(request.params, "arguments")), answer)
    elif name in INPUTS:
        require_input(INPUTS[name], request, answer, text("state-ok"))
    elif name == "test_tool_with_logging":
        steps = ["Tool execution started", "Tool processing data", "Tool execution completed"]
        logs = [{"level": "info", "data": each} for each in steps]
        step_by_step(partial(answer.notify, "notifications/message"), logs, answer)
    elif name == "test_tool_with_progress":
        reports = [{"progress": part, "total": 100} for part in (0, 50, 100)]
        step_by_step(answer.report, reports, answer)
    elif name == "test_missing_capability":
        if "sampling" in request.capabilities:
            answer.result(text("Done."))
        else:
            needed = {"requiredCapabilities": {"sampling": dict[str, Any]()}}
            answer.error(messages.MISSING_CAPABILITY, "this tool needs sampling", needed)
    else:
        answer.error(messages.INVALID_PARAMS, f"Unknown tool: {name}")


def step_by_step(
    tell: Callable[[dict[str, Any]], None], steps: Sequence[dict[str, Any]], answer: Answer
) -> None:
    """Send each step, and last the result, with a pause after each."""
    loop = asyncio.get_running_loop()
    for number, step in enumerate(steps):
        loop.call_later(number * PAUSE_S, tell, step)
    loop.call_later(len(steps) * PAUSE_S, answer.result, text("Done."))


def ask_client(wish: dict[str, Any], answer: Answer) -> None:
    id_ = f"fixture-{len(_asked)}"
    _asked[messages.id_of(id_) or b""] = lambda result: answer.result(text(f"It said: {result}"))
    answer.send(messages.request(id_, wish["method"], wish["params"]))


def answered(response: ClientResponse) -> None:
    then = _asked.pop(response.id_, None)
    if then is not None:
        then(response.result)


def sign(state: str) -> str:
    return f"{state}.{hmac.new(STATE_KEY, state.encode(), hashlib.sha256).hexdigest()}"


def require_input(
    rounds: list[dict[str, Any]], request: Request, answer: Answer, complete: dict[str, Any]
) -> None:
    """Answer with the input that the next round requires, or ``complete`` after the last."""
    state, given = request.params.get("requestState"), request.params.get("inputResponses", {})
    round_ = 0
    if state is not None:
        round_ = int(str(state).partition(".")[0])
        if state != sign(str(round_)):
            answer.error(messages.INVALID_PARAMS, "requestState was changed")
            return
    wanted = {
        key: wish
        for key, wish in rounds[round_].items()
        if CAPABILITY_OF[wish["method"]] in request.capabilities
    }
    if type(given) is not dict:
        answer.error(messages.INVALID_PARAMS, "inputResponses must be an object")
        return
    if wanted and all(type(given.get(key)) is dict for key in wanted):
        round_ += 1
        if round_ == len(rounds):
            answer.result(complete)
            return
        wanted = rounds[round_]
    required = {"inputRequests": wanted, "requestState": sign(str(round_))}
    answer.result({"resultType": "input_required", **required})


def list_prompts(_: Request, answer: Answer) -> None:
    described = [
        {
            "name": name,
            "description": f"The fixture {name}.",
            "arguments": [{"name": each, "required": True} for each in arguments],
        }
        for name, arguments in PROMPTS.items()
    ]
    answer.result({"prompts": described}, cacheable=True)


def get_prompt(request: Request, answer: Answer) -> None:
    name, arguments = request.params.get("name"), messages.object_in(request.params, "arguments")
    match name:
        case "test_simple_prompt":
            contents = [{"type": "text", "text": "This is a simple prompt for testing."}]
        case "test_prompt_with_arguments":
            said = ", ".join(f"{key}='{value}'" for key, value in arguments.items())
            contents = [{"type": "text", "text": f"Prompt with arguments: {said}"}]
        case "test_prompt_with_embedded_resource":
            embedded = resource(str(arguments["resourceUri"]), "Embedded resource content.")
            contents = [embedded, {"type": "text", "text": "Please process the resource above."}]
        case "test_prompt_with_image":
            contents = [IMAGE, {"type": "text", "text": "Please analyze the image above."}]
        case "test_input_required_result_prompt":
            message = {"role": "user", "content": {"type": "text", "text": "With context."}}
            require_input([PROMPT_INPUT], request, answer, {"messages": [message]})
            return
        case _:
            answer.error(messages.INVALID_PARAMS, f"Unknown prompt: {name}")
            return
    answer.result({"messages": [{"role": "user", "content": each} for each in contents]})


def list_resources(_: Request, answer: Answer) -> None:
    described = [
        {"uri": uri, "name": uri, "description": "A fixture.", "mimeType": each["mimeType"]}
        for uri, each in RESOURCES.items()
    ]
    answer.result({"resources": described}, cacheable=True)


def list_templates(_: Request, answer: Answer) -> None:
    template = {"uriTemplate": "test://template/{id}/data", "name": "template"}
    answer.result({"resourceTemplates": [template]}, cacheable=True)


def read_resource(request: Request, answer: Answer) -> None:
    uri = str(request.params.get("uri"))
    if uri in RESOURCES:
        contents = RESOURCES[uri]
    elif uri.startswith("test://template/"):
        contents = {"mimeType": "application/json", "text": f'{{"id":"{uri.split("/")[3]}"}}'}
    else:
        answer.error(messages.INVALID_PARAMS, "Resource not found", {"uri": uri})
        return
    answer.result({"contents": [{"uri": uri, **contents}]}, cacheable=True)


def complete(_: Request, answer: Answer) -> None:
    answer.result({"completion": {"values": [], "total": 0, "hasMore": False}})


def acknowledge(_: Request, answer: Answer) -> None:
    answer.result({})


def offer(tasks: TaskTools) -> Offer:
    return Offer(
        {
            "tools/list": list_tools,
            "tools/call": partial(call_tool, tasks),
            **tasks.handlers,
            "prompts/list": list_prompts,
            "prompts/get": get_prompt,
            "resources/list": list_resources,
            "resources/templates/list": list_templates,
            "resources/read": read_resource,
            "resources/subscribe": acknowledge,
            "resources/unsubscribe": acknowledge,
            "completion/complete": complete,
            "logging/setLevel": acknowledge,
        },
        CAPABILITIES,
        answered,
    )


async def main() -> None:
    log_through_logging()
    async with open_broker(config_for_test()) as broker:
        endpoint = McpEndpoint(
            broker._open_connection,
            SystemClock(),
            broker.system.driver.call_later,
            offer=offer(TaskTools()),
        )
        listener = await listen(lambda: http.connection(), "127.0.0.1", 0)
        http = HttpServer(
            policy=HandshakePolicy(max_connections=100, checks_host=True),
            port=listener.port,
            pages={PATH: endpoint.handler},
            missing=lambda _: Response(404, b""),
            wall=SystemClock().wall,
        )
        print(f"ready http://127.0.0.1:{listener.port}{PATH}", flush=True)  # noqa: T201 - its first line
        await asyncio.get_running_loop().run_in_executor(None, sys.stdin.read)
        listener.close()
        endpoint.close()
        http.abort()


if __name__ == "__main__":
    asyncio.run(main())
