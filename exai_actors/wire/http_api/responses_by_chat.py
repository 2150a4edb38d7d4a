"""Responses on a service that has chat completions only: the one translation between families.

The request becomes a chat, and the events of the chat become those of Responses. Lost are: tools
other than functions and free-form ones (searches, namespaces), stored responses, and the members
that a chat has no word for. The model's reasoning goes to the client as ``encrypted_content`` of an
item, and comes back to the service with it, since some refuse a call of a tool without it.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import msgspec

from exai_actors.core.calls import RelayCall, RelayedResponse
from exai_actors.core.pieces import RelaySink
from exai_actors.core.surrogates import tolerant
from exai_actors.wire.openai.server_sent_events import SseParser

MAX_EVENT_BYTES = 33_554_432
_REASONING_MARK = "exai-reasoning:"
_TEXTS = ("input_text", "output_text", "text", "summary_text", "reasoning_text")
_SAME = ("temperature", "top_p", "parallel_tool_calls", "user", "service_tier")
_INCOMPLETE = {"length": "max_output_tokens", "content_filter": "content_filter"}

Object = dict[str, Any]


class NotTranslatable(Exception):
    """The request needs something that no chat has; the message says which."""

    def response(self) -> RelayedResponse:
        """The refusal, as Responses have it."""
        error = {"message": str(self), "type": "invalid_request_error", "code": "not_translatable"}
        body = msgspec.json.encode({"error": {**error, "param": None}})
        return RelayedResponse(400, (("content-type", "application/json"),), body)


def by_chat(call: RelayCall) -> RelayCall:
    """The same call as a chat. Raises NotTranslatable."""
    try:
        request = tolerant(msgspec.json.decode)(call.body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise NotTranslatable(f"the body of this request cannot be read: {error}") from None
    for name in ("previous_response_id", "conversation", "background", "prompt"):
        if request.get(name):
            raise NotTranslatable(
                f'"{name}" needs a service that keeps responses; this route translates to chat '
                "completions, so send the whole input"
            )
    free_form = {
        str(tool.get("name")) for tool in _objects(request.get("tools")) if _type(tool) == "custom"
    }
    return msgspec.structs.replace(
        call,
        family="chat",
        path="chat/completions",
        body=msgspec.json.encode(_chat(request, call)),
        sink=ResponsesSink(call.sink, request, call, frozenset(free_form)),
        # Only its last mark ends a chat with a count of its tokens.
        answers=2,
    )


# The request.


def _chat(request: Object, call: RelayCall) -> Object:
    chat: Object = {"model": call.model, "messages": _messages(request)}
    chat |= {name: request[name] for name in _SAME if request.get(name) is not None}
    if request.get("max_output_tokens") is not None:
        chat["max_tokens"] = request["max_output_tokens"]
    effort = _object(request.get("reasoning")).get("effort")
    if effort:
        chat["reasoning_effort"] = effort
    if form := _response_format(_object(_object(request.get("text")).get("format"))):
        chat["response_format"] = form
    if tools := list(_tools(request)):
        chat["tools"] = tools
        choice = request.get("tool_choice")
        if isinstance(choice, str):
            chat["tool_choice"] = choice
        elif isinstance(choice, dict) and choice.get("name"):
            chat["tool_choice"] = {"type": "function", "function": {"name": choice["name"]}}
    else:
        chat.pop("parallel_tool_calls", None)
    if call.stream:
        chat |= {"stream": True, "stream_options": {"include_usage": True}}
    return chat


def _messages(request: Object) -> list[Object]:
    messages: list[Object] = []
    if isinstance(request.get("instructions"), str) and request["instructions"]:
        messages.append({"role": "system", "content": request["instructions"]})
    items = request.get("input")
    if isinstance(items, str):
        return [*messages, {"role": "user", "content": items}]
    reasoning = ""
    for item in _objects(items):
        match _type(item) or "message":
            case "message":
                role = str(item.get("role", "user"))
                role = "system" if role == "developer" else role
                message: Object = {"role": role, "content": _content(item.get("content"))}
                if role == "assistant" and reasoning:
                    message["reasoning_content"], reasoning = reasoning, ""
                messages.append(message)
            case "reasoning":
                reasoning += _own_reasoning(item)
            case "function_call" | "custom_tool_call":
                _add_call(messages, item, reasoning)
                reasoning = ""
            case "function_call_output" | "custom_tool_call_output":
                output = _content(item.get("output"))
                answer = {"role": "tool", "tool_call_id": item.get("call_id"), "content": output}
                messages.append(answer)
            case _:
                continue
    return messages


def _add_call(messages: list[Object], item: Object, reasoning: str) -> None:
    """Add a call of a tool to the assistant's message that it belongs to."""
    arguments = item.get("arguments")
    if _type(item) == "custom_tool_call":
        arguments = msgspec.json.encode({"input": item.get("input", "")}).decode()
    function = {"name": item.get("name"), "arguments": arguments or "{}"}
    call = {"id": item.get("call_id"), "type": "function", "function": function}
    if not messages or messages[-1]["role"] != "assistant":
        messages.append({"role": "assistant", "content": None})
    last = messages[-1]
    last.setdefault("tool_calls", []).append(call)
    if reasoning:
        last["reasoning_content"] = last.get("reasoning_content", "") + reasoning


def _own_reasoning(item: Object) -> str:
    hidden = item.get("encrypted_content")
    if isinstance(hidden, str) and hidden.startswith(_REASONING_MARK):
        return hidden.removeprefix(_REASONING_MARK)
    return ""


def _content(content: Any) -> Any:
    """The text of a message; with an image, its parts."""
    if not isinstance(content, list):
        return content if isinstance(content, str) else ""
    parts: list[Object] = []
    for part in _objects(content):
        if _type(part) in _TEXTS:
            parts.append({"type": "text", "text": _string(part.get("text"))})
        elif _type(part) == "refusal":
            parts.append({"type": "text", "text": _string(part.get("refusal"))})
        elif _type(part) == "input_image" and part.get("image_url"):
            url: Object = {"url": part["image_url"]}
            url |= {"detail": part["detail"]} if part.get("detail") else {}
            parts.append({"type": "image_url", "image_url": url})
    if all(part["type"] == "text" for part in parts):
        return "\n".join(part["text"] for part in parts)
    return parts


def _tools(request: Object) -> Iterator[Object]:
    for tool in _objects(request.get("tools")):
        function: Object = {"name": tool.get("name"), "description": tool.get("description", "")}
        if _type(tool) == "function":
            function["parameters"] = tool.get("parameters") or {"type": "object", "properties": {}}
            if tool.get("strict") is not None:
                function["strict"] = tool["strict"]
        elif _type(tool) == "custom":
            properties = {"input": {"type": "string", "description": "The whole input, as text."}}
            function["parameters"] = {
                "type": "object",
                "properties": properties,
                "required": ["input"],
            }
        else:
            continue
        yield {"type": "function", "function": function}


def _response_format(form: Object) -> Object | None:
    match _type(form):
        case "json_schema":
            return {
                "type": "json_schema",
                "json_schema": {key: value for key, value in form.items() if key != "type"},
            }
        case "json_object":
            return {"type": "json_object"}
        case _:
            return None


# The response.


class ResponsesSink:
    """Takes the response of a chat and passes on that of Responses. A ``RelaySink``."""

    def __init__(
        self, sink: RelaySink, request: Object, call: RelayCall, free_form: frozenset[str]
    ) -> None:
        self._sink = sink
        self._call = call
        self._free_form = free_form
        self._parser = SseParser(MAX_EVENT_BYTES)
        self._head: tuple[int, tuple[tuple[str, str], ...]] | None = None
        self._body: list[bytes] = []
        self._answer = _Answer(request, call.model, free_form)

    def head(
        self, status: int, fields: tuple[tuple[str, str], ...], _length: int | None, /
    ) -> None:
        named = dict(fields)
        if named.get("content-encoding", "identity") != "identity":
            # It was asked for without; no part of it can be read here.
            fields = tuple(field for field in fields if field[0] != "content-encoding")
            self._answer.failed("the service compressed its answer", "server_error")
        self._head = status, fields
        if self._call.stream:
            self._sink.head(status, fields, None)
            self._write(self._answer.begun())

    def data(self, data: bytes, /) -> None:
        if not self._call.stream:
            self._body.append(data)
            return
        if self._answer.is_over:
            return
        for event in self._parser.feed(data):
            if event.data == "[DONE]":
                self._write(self._answer.ended())
            elif found := _decoded(event.data):
                self._write(self._answer.chunk(found))

    def whole(self) -> None:
        if not self._call.stream and self._head is not None:
            chat = _decoded(b"".join(self._body)) or {}
            body = msgspec.json.encode(self._answer.of_completion(chat))
            self._sink.head(*self._head, len(body))
            self._sink.data(body)
        self._sink.whole()

    def _write(self, events: Iterator[Object]) -> None:
        lines = [
            b"event: %b\ndata: %b\n\n" % (event["type"].encode(), msgspec.json.encode(event))
            for event in events
        ]
        if lines:
            self._sink.data(b"".join(lines))


class _Answer:
    """The items of a response as a chat's chunks build them, and the events that say so."""

    def __init__(self, request: Object, model: str, free_form: frozenset[str]) -> None:
        self._free_form = free_form
        self._sequence = 0
        self._items: list[Object] = []
        self._open: Object | None = None
        self._calls: dict[int, Object] = {}
        self._usage: Object | None = None
        self._finish = ""
        self._error: Object | None = None
        self.is_over = False
        self._response: Object = {
            "id": "resp_exai",
            "object": "response",
            "created_at": 0,
            "status": "in_progress",
            "error": None,
            "incomplete_details": None,
            "instructions": request.get("instructions"),
            "max_output_tokens": request.get("max_output_tokens"),
            "metadata": request.get("metadata") or {},
            "model": model,
            "output": [],
            "parallel_tool_calls": request.get("parallel_tool_calls", True),
            "previous_response_id": None,
            "reasoning": request.get("reasoning") or {"effort": None, "summary": None},
            "store": False,
            "temperature": request.get("temperature", 1.0),
            "text": request.get("text") or {"format": {"type": "text"}},
            "tool_choice": request.get("tool_choice", "auto"),
            "tools": request.get("tools") or [],
            "top_p": request.get("top_p", 1.0),
            "truncation": "disabled",
            "usage": None,
            "user": request.get("user"),
        }

    def begun(self) -> Iterator[Object]:
        yield self._event("response.created", response=self._response)
        yield self._event("response.in_progress", response=self._response)
        if self._error is not None:
            yield from self.ended()

    def failed(self, message: str, code: str) -> None:
        self._error = {"code": code, "message": message}

    def chunk(self, chunk: Object) -> Iterator[Object]:
        """A chunk of the chat."""
        error = chunk.get("error")
        if error and not chunk.get("choices"):
            found = _object(error)
            self.failed(str(found.get("message", error)), str(found.get("code") or "server_error"))
            yield from self.ended()
            return
        self._count(chunk)
        for choice in _objects(chunk.get("choices")):
            delta = _object(choice.get("delta"))
            reasoning = delta.get("reasoning_content") or delta.get("reasoning")
            if isinstance(reasoning, str) and reasoning:
                yield from self._reason(reasoning)
            if isinstance(delta.get("content"), str) and delta["content"]:
                yield from self._say(delta["content"])
            for call in _objects(delta.get("tool_calls")):
                yield from self._call(call)
            if choice.get("finish_reason"):
                self._finish = str(choice["finish_reason"])

    def ended(self) -> Iterator[Object]:
        """The chat is over: the last items, and the response as a whole."""
        if self.is_over:
            return
        self.is_over = True
        yield from self._close()
        for call in self._calls.values():
            yield from self._close_call(call)
        response = self._whole()
        yield self._event(f"response.{response['status']}", response=response)

    def of_completion(self, completion: Object) -> Object:
        """The response for a chat that came in one piece."""
        self._count(completion)
        for choice in _objects(completion.get("choices"))[:1]:
            message = _object(choice.get("message"))
            calls = _objects(message.get("tool_calls"))
            numbered = [call | {"index": at} for at, call in enumerate(calls)]
            delta = message | {"tool_calls": numbered}
            whole = {"delta": delta, "finish_reason": choice.get("finish_reason")}
            for _ in self.chunk({"choices": [whole]}):
                pass
        *_, last = self.ended()
        response: Object = last["response"]
        return response

    def _whole(self) -> Object:
        status = "completed"
        changes: Object = {}
        if self._error is not None:
            status, changes = "failed", {"error": self._error}
        elif self._finish in _INCOMPLETE:
            status = "incomplete"
            changes = {"incomplete_details": {"reason": _INCOMPLETE[self._finish]}}
        output = [_public(item) for item in self._items]
        ends = {"status": status, "output": output, "usage": self._usage}
        return self._response | changes | ends

    def _count(self, chunk: Object) -> None:
        for choice in ({}, *_objects(chunk.get("choices"))):
            usage = _object(chunk.get("usage")) or _object(choice.get("usage"))
            if usage:
                prompt = _number(usage.get("prompt_tokens"))
                answer = _number(usage.get("completion_tokens"))
                details = _object(usage.get("prompt_tokens_details"))
                cached = _number(details.get("cached_tokens"))
                details = _object(usage.get("completion_tokens_details"))
                thought = _number(details.get("reasoning_tokens"))
                self._usage = {
                    "input_tokens": prompt,
                    "input_tokens_details": {"cached_tokens": cached, "cache_write_tokens": 0},
                    "output_tokens": answer,
                    "output_tokens_details": {"reasoning_tokens": thought},
                    "total_tokens": prompt + answer,
                }
        if chunk.get("id"):
            self._response["id"] = f"resp_{chunk['id']}"
        if isinstance(chunk.get("created"), int):
            self._response["created_at"] = chunk["created"]

    def _reason(self, text: str) -> Iterator[Object]:
        if self._open is None or self._open["type"] != "reasoning":
            yield from self._close()
            item: Object = {"type": "reasoning", "summary": [], "encrypted_content": ""}
            yield from self._add("rs", item)
            part = {"type": "summary_text", "text": ""}
            yield self._item_event("reasoning_summary_part.added", summary_index=0, part=part)
        assert self._open is not None
        summary = self._open["summary"] or [{"type": "summary_text", "text": ""}]
        summary[0]["text"] += text
        self._open["summary"] = summary
        yield self._item_event("reasoning_summary_text.delta", summary_index=0, delta=text)

    def _say(self, text: str) -> Iterator[Object]:
        if self._open is None or self._open["type"] != "message":
            yield from self._close()
            item: Object = {
                "type": "message",
                "role": "assistant",
                "status": "in_progress",
                "content": [],
            }
            yield from self._add("msg", item)
            part: Object = {"type": "output_text", "text": "", "annotations": []}
            yield self._item_event("content_part.added", content_index=0, part=part)
        assert self._open is not None
        content = self._open["content"] or [{"type": "output_text", "text": "", "annotations": []}]
        content[0]["text"] += text
        self._open["content"] = content
        yield self._item_event("output_text.delta", content_index=0, delta=text, logprobs=[])

    def _call(self, delta: Object) -> Iterator[Object]:
        number = delta.get("index") if isinstance(delta.get("index"), int) else 0
        assert isinstance(number, int)
        function = _object(delta.get("function"))
        call = self._calls.get(number)
        if call is None:
            yield from self._close()
            name = str(function.get("name") or "")
            call = {
                "type": "function_call",
                "status": "in_progress",
                "call_id": delta.get("id") or f"call_{number}",
                "name": name,
                "arguments": "",
            }
            if name in self._free_form:
                call = call | {"type": "custom_tool_call", "input": ""}
            self._calls[number] = call
            yield from self._add("fc", call)
            self._open = None
        arguments = function.get("arguments")
        if isinstance(arguments, str) and arguments:
            call["arguments"] += arguments
            if call["type"] == "function_call":
                yield self._event(
                    "response.function_call_arguments.delta", **_place(call), delta=arguments
                )

    def _add(self, mark: str, item: Object) -> Iterator[Object]:
        """Begin an item, which stays open until another one begins."""
        item["id"] = f"{mark}_{len(self._items)}"
        item["output_index"] = len(self._items)
        self._items.append(item)
        self._open = item
        yield self._event(
            "response.output_item.added", output_index=item["output_index"], item=_public(item)
        )

    def _close(self) -> Iterator[Object]:
        item = self._open
        if item is None:
            return
        if item["type"] == "message":
            text, part = item["content"][0]["text"], item["content"][0]
            yield self._item_event("output_text.done", content_index=0, text=text, logprobs=[])
            yield self._item_event("content_part.done", content_index=0, part=part)
            item["status"] = "completed"
        else:
            part = item["summary"][0]
            item["encrypted_content"] = _REASONING_MARK + part["text"]
            yield self._item_event(
                "reasoning_summary_text.done", summary_index=0, text=part["text"]
            )
            yield self._item_event("reasoning_summary_part.done", summary_index=0, part=part)
        self._open = None
        yield self._done(item)

    def _close_call(self, call: Object) -> Iterator[Object]:
        call["status"] = "completed"
        if call["type"] == "function_call":
            arguments = call["arguments"]
            yield self._event(
                "response.function_call_arguments.done", **_place(call), arguments=arguments
            )
        else:
            found = _decoded(call.pop("arguments"))
            call["input"] = str(_object(found).get("input", ""))
            place = _place(call)
            text = call["input"]
            yield self._event("response.custom_tool_call_input.delta", **place, delta=text)
            yield self._event("response.custom_tool_call_input.done", **place, input=text)
        yield self._done(call)

    def _done(self, item: Object) -> Object:
        return self._event(
            "response.output_item.done", output_index=item["output_index"], item=_public(item)
        )

    def _item_event(self, kind: str, **members: Any) -> Object:
        assert self._open is not None
        return self._event(f"response.{kind}", **_place(self._open), **members)

    def _event(self, kind: str, **members: Any) -> Object:
        event = {"type": kind, "sequence_number": self._sequence, **members}
        self._sequence += 1
        return event


def _place(item: Mapping[str, Any]) -> Object:
    return {"item_id": item["id"], "output_index": item["output_index"]}


def _public(item: Object) -> Object:
    """The item as it is at the moment, for an event."""
    hidden = {"output_index"} | ({"arguments"} if "input" in item else set())
    return {key: value for key, value in item.items() if key not in hidden}


def _decoded(data: bytes | str) -> Object | None:
    try:
        found = msgspec.json.decode(data)
    except msgspec.DecodeError:
        return None
    return found if isinstance(found, dict) else None


def _object(value: Any) -> Object:
    return value if isinstance(value, dict) else {}


def _string(value: Any) -> str:
    return value if isinstance(value, str) else ""


def _number(value: Any) -> int:
    return int(value) if isinstance(value, int | float) and 0 < value < 1e15 else 0


def _objects(value: Any) -> list[Object]:
    return [each for each in value if isinstance(each, dict)] if isinstance(value, list) else []


def _type(value: Object) -> str:
    return str(value.get("type") or "")
