"""The tools that a client can call, with their arguments and descriptions.

One table of fields per tool yields both the JSON Schema that clients read and the check of their
arguments, so the two cannot disagree. Names, ranges and error texts of ``chat`` are those of the
EX-AI daemon, except that ranges are as wide as services take.

An argument that would change the answer has an effect or is refused by its name. Only those in
``IGNORED`` are ignored, because old clients send them.
"""

from __future__ import annotations

import re
from difflib import get_close_matches
from typing import Annotated, Any, ClassVar, get_args

import msgspec
from msgspec import Meta

from exai_actors.core.calls import CallOptions, ChatCall, ChatMessage
from exai_actors.core.families import Family
from exai_actors.core.relay import KEPT_BYTES, UPSTREAM_PATHS, RelayPipe, RelayRequest, may_pass
from exai_actors.core.routing import AUTO
from exai_actors.core.tools.chat_arguments import (
    FORWARDED,
    IMAGE_BEGINNINGS,
    NEUTRAL,
    NOT_EXTRA,
    REFUSED,
    SUGGESTIONS,
    MoreArguments,
    messages,
)
from exai_actors.core.tools.fields import (
    Field,
    FieldError,
    boolean,
    empty_list,
    integer,
    json_object,
    json_object_or_text,
    number,
    one_of,
    text,
    url_list,
)
from exai_actors.errors import ErrorBody, ErrorCode

MAX_PROMPT_CHARACTERS = 8_000_000
MAX_MODEL_CHARACTERS = 4096
MAX_TOKENS = 10_000_000
_SYSTEM_ROLES = ("system", "developer")
ALIASES = {"listmodels": "list_models", "test_echo": "echo"}


class ChatRequest(
    msgspec.Struct,
    frozen=True,
    gc=False,
    cache_hash=True,
    forbid_unknown_fields=True,
    rename={"timeout_s": "timeout"},
):
    """The arguments of ``chat`` that have an effect. ``timeout_s`` includes the waiting.

    The fast path decodes it directly, with the limits that ``parse_call`` checks; it accepts no
    images, none of ``more``, and nothing that exists for old clients only. ``prompt`` may be empty
    if ``more`` has messages. ``stream`` applies unless the options of the call say otherwise.
    """

    prompt: Annotated[str, Meta(min_length=1)]
    model: Annotated[str, Meta(min_length=1, max_length=MAX_MODEL_CHARACTERS)] | None = None
    continuation_id: Annotated[str, Meta(min_length=1, max_length=200)] | None = None
    temperature: Annotated[float, Meta(ge=0, le=2)] | None = None
    max_tokens: Annotated[int, Meta(ge=1, le=MAX_TOKENS)] | None = None
    images: tuple[str, ...] = ()
    stream: bool = False
    timeout_s: Annotated[float, Meta(ge=0.1, le=3600)] | None = None
    more: MoreArguments | None = None

    def time_allowed(self, options: CallOptions, default_s: float) -> float:
        """The seconds that the request may take, waiting included."""
        allowed = default_s if options.deadline_ms is None else options.deadline_ms / 1000
        return allowed if self.timeout_s is None else min(allowed, self.timeout_s)

    def to_upstream(
        self, model: str, system_prompt: str, history: tuple[ChatMessage, ...], stream: bool
    ) -> ChatCall:
        """The call for the service, where the model is known as ``model``."""
        if self.more is not None:
            return self._with_more(self.more, model, system_prompt, history, stream=stream)
        messages = (*history, ChatMessage("user", self.prompt, self.images))
        if system_prompt:
            messages = (ChatMessage("system", system_prompt), *messages)
        return ChatCall(model, messages, stream, self.temperature, self.max_tokens)

    def _with_more(
        self,
        more: MoreArguments,
        model: str,
        system_prompt: str,
        history: tuple[ChatMessage, ...],
        *,
        stream: bool,
    ) -> ChatCall:
        messages = more.messages or history
        if self.prompt:
            messages = (*messages, ChatMessage("user", self.prompt, self.images))
        if not more.system and any(each.role in _SYSTEM_ROLES for each in more.messages):
            system_prompt = ""
        if more.system or system_prompt:
            messages = (ChatMessage("system", more.system or system_prompt), *messages)
        return ChatCall(model, messages, stream, self.temperature, self.max_tokens, more.parameters)


class LocalRequest(msgspec.Struct, frozen=True, gc=False, cache_hash=True):
    """A tool that the broker answers itself, without a provider and in one piece."""

    stream: ClassVar[bool] = False
    tool: str
    text: str = ""


ToolRequest = ChatRequest | LocalRequest | RelayRequest


class ToolDescription(msgspec.Struct, frozen=True, gc=False):
    """A tool as ``list_tools`` shows it; ``input_schema`` is JSON Schema."""

    name: str
    description: str
    input_schema: dict[str, Any]


_SHOWN_CHARACTERS = 100
_LIMITS = ("max_tokens", "max_completion_tokens", "max_output_tokens")
_HEADER = re.compile(r"[!-~](?:[ -~]*[!-~])?")
_QUERY = re.compile(r"[!-\"$-~]+")
_json = msgspec.json.Encoder().encode
_canonical = msgspec.json.Encoder(order="deterministic").encode

_CHAT_FIELDS: dict[str, Field] = {
    "prompt": text(1, MAX_PROMPT_CHARACTERS, "What to ask.", blank=False),
    "model": text(
        1, MAX_MODEL_CHARACTERS, "Which model to ask; left out or auto: the default model."
    ),
    "continuation_id": text(
        0, 200, "Goes on with the conversation that an earlier answer named here."
    ),
    "temperature": number(0, 2, "Sampling temperature."),
    "max_tokens": integer(1, MAX_TOKENS, "Most LLM tokens the answer may have."),
    "timeout": number(0.1, 3600, "Seconds after which the request is given up, waiting included."),
    "stream": boolean("Send the answer in pieces as it is written."),
    "images": url_list(
        IMAGE_BEGINNINGS, "http, https or data URLs of images to look at with the prompt."
    ),
    "system": text(
        1, MAX_PROMPT_CHARACTERS, "The system prompt, for the whole conversation.", blank=False
    ),
    "messages": messages("A conversation that you keep yourself; a prompt, if any, follows it."),
    **FORWARDED,
    "extra_body": json_object("Further members of the service's request, which pass unchanged."),
    "files": empty_list(
        "put the text of the files into the prompt",
        "Must be empty: the broker reads no files for a client.",
    ),
    "thinking_mode": one_of(
        ("minimal", "low", "medium", "high", "max"), "Accepted for old clients; has no effect."
    ),
    "use_websearch": boolean("Accepted for old clients; has no effect."),
}
_ECHO_FIELDS: dict[str, Field] = {
    "text": text(0, MAX_PROMPT_CHARACTERS, "What to say back."),
    "message": text(0, MAX_PROMPT_CHARACTERS, "Another name for text."),
    "prompt": text(0, MAX_PROMPT_CHARACTERS, "Another name for text, which old clients use."),
}
_RELAY_FIELDS: dict[str, Field] = {
    "family": one_of(
        get_args(Family), "The API: chat completions, Anthropic's Messages, Responses, embeddings."
    ),
    "body": json_object_or_text(
        "The body of the request, as an object, or as its JSON text to send every byte of it."
    ),
    "query": text(0, MAX_MODEL_CHARACTERS, "The query of its path, such as beta=true."),
    "headers": json_object("Further headers, such as anthropic-beta; those of the API only."),
}
_NO_FIELDS: dict[str, Field] = {}

IGNORED: dict[str, tuple[str, ...]] = {
    "chat": ("thinking_mode", "use_websearch", "_session_id"),
    "echo": ("delay_ms", "include_metadata"),
    "activity": ("lines",),
    "health": ("tail_lines",),
    "status": ("tail_lines",),
    "version": ("model",),
    "list_models": ("model",),
    "usage": (),
}
"""The arguments without effect that old clients send, by tool."""

_TOOLS: dict[str, tuple[str, dict[str, Field], tuple[str, ...]]] = {
    "chat": ("Ask a model and get its answer.", _CHAT_FIELDS, ("prompt",)),
    "relay": (
        "Send a request of an API to a model as it is, and get the response as it is.",
        _RELAY_FIELDS,
        ("family", "body"),
    ),
    "list_models": ("List the models that can be asked, with their providers.", _NO_FIELDS, ()),
    "version": ("The name and the version of this broker.", _NO_FIELDS, ()),
    "status": (
        "The state of the broker and its providers: limits, in flight, queued.",
        _NO_FIELDS,
        (),
    ),
    "health": ("The same as status.", _NO_FIELDS, ()),
    "echo": ("Repeat the given text, without a provider.", _ECHO_FIELDS, ()),
    "usage": (
        "The calls and LLM tokens of the caller's tenant, and the limits of each account.",
        _NO_FIELDS,
        (),
    ),
    "activity": ("The last events of the caller's own session.", _NO_FIELDS, ()),
}


def describe_tools(models: tuple[str, ...]) -> tuple[ToolDescription, ...]:
    """Describe all tools; ``models``, if any, are the choices for the ``model`` of ``chat``.

    So is AUTO, as the default, unless one of them has that name.
    """
    descriptions = []
    for name, (description, fields, required) in _TOOLS.items():
        properties = {key: dict(field.schema) for key, field in fields.items()}
        if name == "chat" and models:
            properties["model"]["enum"] = list(models)
            if AUTO not in models:
                properties["model"]["enum"].append(AUTO)
                properties["model"]["default"] = AUTO
        schema: dict[str, Any] = {"type": "object", "properties": properties}
        schema["additionalProperties"] = False
        if required:
            schema["required"] = list(required)
        descriptions.append(ToolDescription(name, description, schema))
    return tuple(descriptions)


def parse_call(tool: str, arguments: dict[str, Any]) -> ToolRequest | ErrorBody:
    """Check the arguments of a call; the error names the field and its rule."""
    name = ALIASES.get(tool, tool)
    found = _TOOLS.get(name)
    if found is None:
        return ErrorBody(
            ErrorCode.TOOL_NOT_FOUND,
            f"Unknown tool: {tool}",
            {"requested_tool": tool, "available_tools": list(_TOOLS)},
        )
    _, fields, required = found
    try:
        values = _check(fields, arguments)
    except FieldError as error:
        return _invalid(error.field, error.problem, error.value)
    for key, value in arguments.items():
        if key not in fields and value is not None and key not in IGNORED.get(name, ()):
            if name == "chat" and value in NEUTRAL.get(key, ()):
                continue
            return _unknown(name, key, fields)
    if values.get("messages"):
        if values.get("continuation_id"):
            return _invalid("messages", "cannot be combined with continuation_id: use one of them")
        required = ()
    for key in required:
        if values.get(key) is None:
            return _invalid(key, "is required")
    if name == "chat":
        return _chat_request(values)
    if name == "relay":
        return _relay_request(values)
    said = (values[key] for key in _ECHO_FIELDS if values.get(key))
    return LocalRequest(name, next(said, ""))


def _chat_request(values: dict[str, Any]) -> ChatRequest | ErrorBody:
    for member in values.get("extra_body") or ():
        if member in NOT_EXTRA or member in _CHAT_FIELDS:
            problem = f"must not have '{member[:_SHOWN_CHARACTERS]}'"
            if member in _CHAT_FIELDS:
                problem += ", which is an argument of its own"
            return _invalid("extra_body", problem)
    return ChatRequest(
        prompt=values.get("prompt", ""),
        model=values.get("model"),
        continuation_id=values.get("continuation_id") or None,
        temperature=values.get("temperature"),
        max_tokens=values.get("max_tokens"),
        images=values.get("images", ()),
        stream=values.get("stream", False),
        timeout_s=values.get("timeout"),
        more=_more(values),
    )


def _relay_request(values: dict[str, Any]) -> RelayRequest | ErrorBody:
    body, headers = values["body"], values.get("headers") or {}
    encoded = body.encode("utf-8", "surrogatepass") if isinstance(body, str) else _json(body)
    try:
        content = msgspec.json.decode(encoded)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return _invalid("body", "is no valid JSON")
    if not isinstance(content, dict):
        return _invalid("body", "must be a JSON object")
    model = content.get("model")
    if not isinstance(model, str) or not model:
        return _invalid("body", "its member 'model' is required, and is a text")
    fields = []
    for header, value in headers.items():
        if not (may_pass(header) and isinstance(value, str) and _HEADER.fullmatch(value)):
            return _invalid("headers", f"'{header[:_SHOWN_CHARACTERS]}' cannot be passed on")
        fields.append((header, value))
    family, query = values["family"], values.get("query", "")
    if query and not _QUERY.fullmatch(query):
        return _invalid("query", "must be the query of a URL, without white space")
    limits = [content.get(name) for name in _LIMITS]
    answers = content.get("n")
    return RelayRequest(
        family=family,
        path=UPSTREAM_PATHS[family] + (f"?{query}" if query else ""),
        body=encoded,
        headers=tuple(fields),
        model=model,
        pipe=RelayPipe(KEPT_BYTES),
        stream=content.get("stream") is True,
        characters=float(len(encoded)),
        max_tokens=min((each for each in limits if type(each) is int and each > 0), default=None),
        answers=answers if type(answers) is int else 1,
    )


def _more(values: dict[str, Any]) -> MoreArguments | None:
    named = {key: value for key, value in values.items() if key in FORWARDED}
    forwarded = {**(values.get("extra_body") or {}), **named}
    parameters = _canonical(forwarded) if forwarded else b""
    system, own_messages = values.get("system", ""), values.get("messages", ())
    if not (parameters or system or own_messages):
        return None
    return MoreArguments(system, own_messages, parameters)


def _unknown(tool: str, name: str, fields: dict[str, Field]) -> ErrorBody:
    """The error for an argument that the tool does not have."""
    details: dict[str, Any] = {"field": name[:_SHOWN_CHARACTERS]}
    shown = name if len(name) <= _SHOWN_CHARACTERS else name[:_SHOWN_CHARACTERS] + "..."
    if tool == "chat" and name in REFUSED:
        problem = f"argument '{name}' is not supported: {REFUSED[name]}"
    else:
        problem = f"unknown argument '{shown}'"
        known = [key for key in fields if key not in IGNORED.get(tool, ())]
        suggestion = SUGGESTIONS.get(name) if tool == "chat" else None
        if suggestion is None and len(name) <= _SHOWN_CHARACTERS:
            suggestion = next(iter(get_close_matches(name.lower(), known, 1)), None)
        if suggestion is not None:
            problem += f"; did you mean '{suggestion}'?"
            details["suggestion"] = suggestion
        else:
            problem += f"; {tool} takes {', '.join(known) if known else 'none'}"
    return ErrorBody(ErrorCode.VALIDATION_ERROR, problem, details)


def _check(fields: dict[str, Field], arguments: dict[str, Any]) -> dict[str, Any]:
    values = {}
    for key, value in arguments.items():
        field = fields.get(key)
        if field is not None and value is not None:
            values[key] = field.check(key, value)
    return values


def _invalid(field: str, problem: str, value: Any = None) -> ErrorBody:
    details: dict[str, Any] = {"field": field}
    if value is not None:
        details["value"] = value
    return ErrorBody(
        ErrorCode.VALIDATION_ERROR, f"Validation failed for '{field}': {problem}", details
    )
