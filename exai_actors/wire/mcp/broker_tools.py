"""The tools that an MCP client gets, and how each becomes calls at the broker."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from exai_actors.errors import ErrorBody, ErrorCode
from exai_actors.wire.json_encoding import to_json
from exai_actors.wire.mcp import messages
from exai_actors.wire.mcp.link import BrokerLink, Call, CallEnd
from exai_actors.wire.mcp.messages import Request
from exai_actors.wire.mcp.server import Answer, Handler
from exai_actors.wire.mcp.tasks import MAX_TASKS, Task, Tasks, shown

INSTRUCTIONS = (
    "exai asks AI models whose accounts several clients share. A question may wait for its turn: "
    "progress says at which position. If your host gives up on long calls, use submit, then poll."
)
PROGRESS_EVERY_S = 4.0
"""The time between two reports of progress, at most."""
PROGRESS_GAP_S = 1.0
"""The time between two reports of progress, at least."""
TASK_AFTER_S = 2.0
"""A call that takes longer becomes a task, for clients that know the extension."""
POLL_S = 20.0
MAX_POLL_S = 50.0
_POLL_AGAIN_MS = 2000

_Schema = dict[str, Any]


def _text(description: str) -> _Schema:
    return {"type": "string", "description": description}


_PROMPT: dict[str, _Schema] = {
    "prompt": _text("The question, with all that the model needs to know."),
    "system": _text("The system prompt, for the whole conversation."),
    "continuation_id": _text("Continues the conversation that an earlier answer named here."),
    "images": {
        "type": "array",
        "items": {"type": "string"},
        "description": "http, https or data URLs of images to look at with the prompt.",
    },
    "temperature": {"type": "number", "minimum": 0, "maximum": 2},
    "max_tokens": {
        "type": "integer",
        "minimum": 1,
        "description": "Most LLM tokens the answer may have.",
    },
    "timeout": {
        "type": "number",
        "minimum": 0.1,
        "maximum": 3600,
        "description": "Seconds after which the question is given up, waiting included.",
    },
}
_MODEL = _text("The model to ask; list_models names them. Left out: the default model.")
_ASKS = {"readOnlyHint": True, "openWorldHint": True}
_LOOKS = {"readOnlyHint": True, "openWorldHint": False}


def _tool(
    name: str,
    description: str,
    properties: dict[str, _Schema],
    required: tuple[str, ...] = (),
    annotations: dict[str, bool] = _LOOKS,
) -> _Schema:
    schema: _Schema = {
        "type": "object",
        "properties": properties,
        "required": list(required),
        "additionalProperties": False,
    }
    return {
        "name": name,
        "description": description,
        "inputSchema": schema,
        "annotations": annotations,
    }


TOOLS: tuple[_Schema, ...] = (
    _tool(
        "chat",
        "Ask an AI model, the default one unless you name another, and wait for its answer.",
        {**_PROMPT, "model": _MODEL},
        ("prompt",),
        _ASKS,
    ),
    _tool(
        "ask",
        "Ask a certain AI model, for example for a second opinion, and wait for its answer.",
        {"model": _text("The model to ask; list_models names them."), **_PROMPT},
        ("model", "prompt"),
        _ASKS,
    ),
    _tool("list_models", "List the models that can be asked, with their providers.", {}),
    _tool(
        "usage",
        "Show your calls and LLM tokens of the last hour and day, and the limits of each account.",
        {},
    ),
    _tool("why", "Show why your questions wait, at which position, and when they may start.", {}),
    _tool(
        "submit",
        "Ask an AI model without waiting: returns an id, with which poll fetches the answer.",
        {**_PROMPT, "model": _MODEL},
        ("prompt",),
        _ASKS,
    ),
    _tool(
        "poll",
        "Fetch the answer to a submitted question, or its state if there is none yet.",
        {
            "id": _text("The id that submit returned."),
            "wait_s": {
                "type": "number",
                "minimum": 0,
                "maximum": MAX_POLL_S,
                "default": POLL_S,
                "description": "Seconds to wait for the answer.",
            },
            "cancel": {"type": "boolean", "description": "Cancel the question instead."},
        },
        ("id",),
    ),
)
"""All tools in the order in which clients see them."""

CAPABILITIES: dict[str, Any] = {"tools": {}, "extensions": {messages.TASKS: {}}}


class BrokerTools:
    """Runs the tools of one client. ``tick`` is to be called each second while it ``is_busy``.

    ``now`` is monotonic, ``wall`` counts from the epoch; ``new_id`` makes ids that cannot be
    guessed.
    """

    def __init__(
        self,
        link: BrokerLink,
        *,
        new_id: Callable[[], str],
        now: Callable[[], float],
        wall: Callable[[], float],
    ) -> None:
        self.tasks = Tasks(link, new_id, now, wall)
        self.now = now
        self._link = link
        self._waits: dict[Answer, _Wait] = {}
        self.handlers: dict[str, Handler] = {
            "tools/list": _list,
            "tools/call": self._call,
            "tasks/get": self._with_task(self._get_task),
            "tasks/update": self._with_task(lambda _task, answer: answer.result({})),
            "tasks/cancel": self._with_task(self._cancel_task),
        }
        self._tools: dict[str, Handler] = {
            "chat": self._chat,
            "ask": self._ask,
            "list_models": self._local,
            "usage": self._local,
            "why": self._why,
            "submit": self._submit,
            "poll": self._poll,
        }

    @property
    def is_busy(self) -> bool:
        """Whether a request or a task has no end yet."""
        return bool(self._waits) or self.tasks.are_running

    def tick(self) -> None:
        """Report progress, and let long calls become tasks."""
        now = self.now()
        self.tasks.forget_old()
        for wait in tuple(self._waits.values()):
            wait.tick(now)

    def _call(self, request: Request, answer: Answer) -> None:
        name, arguments = request.params.get("name"), request.params.get("arguments")
        tool = self._tools.get(name) if type(name) is str else None
        if tool is None:
            text = f"Unknown tool: {str(name)[:100]}; there are {', '.join(self._tools)}"
            answer.error(messages.INVALID_PARAMS, text)
        elif arguments is not None and type(arguments) is not dict:
            answer.error(messages.INVALID_PARAMS, "params.arguments must be an object")
        else:
            tool(request, answer)

    def _chat(self, request: Request, answer: Answer) -> None:
        _Wait(self, answer, self._begin("chat", request), can_be_task=request.takes_tasks)

    def _ask(self, request: Request, answer: Answer) -> None:
        model = _arguments(request).get("model")
        if type(model) is not str or not model.strip():
            answer.result(_failure("model must name the model to ask; list_models names them"))
        else:
            self._chat(request, answer)

    def _local(self, request: Request, answer: Answer) -> None:
        _Wait(self, answer, self._begin(str(request.params["name"]), request))

    def _submit(self, request: Request, answer: Answer) -> None:
        call = self._begin("chat", request)
        task = self.tasks.add(call)
        if task is None:
            self._link.cancel(call)
            answer.result(_failure(f"{MAX_TASKS} submitted questions run; poll or cancel some"))
        else:
            facts = {"id": task.id_, "status": task.status, "next": "call poll with this id"}
            answer.result(_json(facts))

    def _poll(self, request: Request, answer: Answer) -> None:
        arguments = _arguments(request)
        wait_s, task = arguments.get("wait_s", POLL_S), self.tasks.get(arguments.get("id"))
        if task is None:
            answer.result(_failure("there is no question with this id; take the one from submit"))
        elif type(wait_s) not in (int, float) or not 0 <= wait_s <= MAX_POLL_S:
            answer.result(_failure(f"wait_s must be a number from 0 to {MAX_POLL_S:g}"))
        elif arguments.get("cancel") is True:
            self.tasks.cancel(task)
            answer.result(self.state(task))
        elif task.has_ended or not wait_s:
            answer.result(self.state(task))
        else:
            _Wait(self, answer, task.call, polled=task, until=self.now() + wait_s)

    def _why(self, _: Request, answer: Answer) -> None:
        now, lines = self.now(), []
        for call in self._link.calls:
            task = self.tasks.of(call)
            name = f"{call.tool} {call.model}".rstrip() + (f" (id {task.id_})" if task else "")
            lines.append(f"{name}, {now - call.began_at:.0f} s old: {state_of(call, now)}")
        text = "\n".join(lines) or "No question of yours waits or runs."
        answer.result({"content": [{"type": "text", "text": text}], "isError": False})

    def _begin(self, tool: str, request: Request) -> Call:
        """Begin a call at the broker."""
        trace = {
            key: value
            for key in ("traceparent", "tracestate")
            if type(value := request.meta.get(key)) is str
        }
        return self._link.call(tool, _arguments(request), self.now(), trace)

    def _with_task(self, then: Callable[[Task, Answer], None]) -> Handler:
        def handle(request: Request, answer: Answer) -> None:
            task = self.tasks.get(request.params.get("taskId"))
            if task is None:
                answer.error(messages.INVALID_PARAMS, "there is no task with this taskId")
            else:
                then(task, answer)

        return handle

    def _get_task(self, task: Task, answer: Answer) -> None:
        facts = shown(task, self._message(task), _POLL_AGAIN_MS)
        if task.end is not None:
            facts["result"] = {"resultType": "complete", **tool_result(task.end)}
        answer.result(facts)

    def _cancel_task(self, task: Task, answer: Answer) -> None:
        self.tasks.cancel(task)
        answer.result({})

    def _message(self, task: Task) -> str:
        return task.status if task.has_ended else state_of(task.call, self.now())

    def state(self, task: Task) -> dict[str, Any]:
        """The answer to ``poll``: the outcome of the task, or its state."""
        if task.end is not None:
            return tool_result(task.end)
        call = task.call
        facts = {
            "id": task.id_,
            "status": task.status,
            "state": self._message(task),
            "position": call.position,
            "estimate_s": call.estimate_s,
        }
        return _json({key: value for key, value in facts.items() if value is not None})

    # Called by the waits.

    def add_wait(self, wait: _Wait) -> None:
        self._waits[wait.answer] = wait

    def remove_wait(self, wait: _Wait) -> None:
        self._waits.pop(wait.answer, None)

    def cancel(self, call: Call) -> None:
        self._link.cancel(call)


class _Wait:
    """A request that waits: for a call, or for a task until an instant."""

    __slots__ = (
        "_call",
        "_next_at",
        "_polled",
        "_reported_at",
        "_task_at",
        "_tools",
        "_until",
        "answer",
    )

    def __init__(
        self,
        tools: BrokerTools,
        answer: Answer,
        call: Call,
        *,
        can_be_task: bool = False,
        polled: Task | None = None,
        until: float | None = None,
    ) -> None:
        self.answer = answer
        self._tools = tools
        self._call = call
        self._polled = polled
        self._until = until
        self._task_at = call.began_at + TASK_AFTER_S if can_be_task else None
        self._reported_at = tools.now()
        self._next_at = self._reported_at + PROGRESS_EVERY_S
        tools.add_wait(self)
        if polled is None:
            call.ended = self._ended
            call.moved = self._moved
            answer.on_cancel = self._cancelled
        else:
            polled.watch(self._polled_ended)
            answer.on_cancel = self._stop

    def tick(self, now: float) -> None:
        if self._until is not None and now >= self._until:
            self._polled_ended()
        elif self._task_at is not None and now >= self._task_at:
            self._become_task()
        elif now >= self._next_at:
            self._report(now)

    def _report(self, now: float) -> None:
        self._reported_at, self._next_at = now, now + PROGRESS_EVERY_S
        call = self._call
        meta = {"position": call.position, "estimate_s": call.estimate_s, "waits_for": call.reason}
        known = {key: value for key, value in meta.items() if value is not None}
        self.answer.progress(state_of(call, now), known)

    def _moved(self) -> None:
        """Report a new state soon, but not more often than a client wants to read."""
        now, due = self._tools.now(), self._reported_at + PROGRESS_GAP_S
        if now >= due:
            self._report(now)
        else:
            self._next_at = min(self._next_at, due)

    def _ended(self, end: CallEnd) -> None:
        self._tools.remove_wait(self)
        self.answer.result(tool_result(end))

    def _become_task(self) -> None:
        self._task_at = None
        task = self._tools.tasks.add(self._call)
        if task is not None:
            self._call.moved = _do_nothing
            self._tools.remove_wait(self)
            self.answer.on_cancel = None
            message = state_of(self._call, self._tools.now())
            self.answer.result({"resultType": "task", **shown(task, message, _POLL_AGAIN_MS)})

    def _cancelled(self) -> None:
        self._tools.remove_wait(self)
        self._tools.cancel(self._call)

    def _polled_ended(self) -> None:
        self._stop()
        assert self._polled is not None
        self.answer.result(self._tools.state(self._polled))

    def _stop(self) -> None:
        self._tools.remove_wait(self)
        if self._polled is not None:
            self._polled.unwatch(self._polled_ended)


def state_of(call: Call, now: float) -> str:
    """The state of a call in a sentence."""
    because = f" ({call.reason['text']})" if call.reason and "text" in call.reason else ""
    if call.position is not None:
        about = "" if call.estimate_s is None else f", starts in about {call.estimate_s:.0f} s"
        return f"waiting at position {call.position}{about}{because}"
    if call.reason is not None:
        return f"waiting{because}"
    if call.sends:
        return f"in progress, {now - call.began_at:.0f} s after it was asked"
    return "waiting for the connection to the broker"


def tool_result(end: CallEnd) -> dict[str, Any]:
    """The end of a call as the result of ``tools/call``.

    A refusal by the broker is a failure of the tool, too: then the model reads when to try again.
    """
    if end.error is not None:
        return _refusal(end.error)
    result = dict(end.result or {})
    continuation_id = messages.object_in(result, "_meta").get("continuation_id")
    content = result.get("content")
    if continuation_id is not None and type(content) is list:
        text = f"[To continue this conversation: continuation_id {continuation_id}]"
        block = {"type": "text", "text": text, "annotations": {"audience": ["assistant"]}}
        result["content"] = [*content, block]
    return result


def _refusal(error: ErrorBody) -> dict[str, Any]:
    result = _failure(f"{error.code}: {error.message}")
    return {**result, "_meta": {"error": error}}


def _failure(problem: str) -> dict[str, Any]:
    return {"content": [{"type": "text", "text": problem}], "isError": True}


def _json(value: dict[str, Any]) -> dict[str, Any]:
    text = to_json(value).decode()
    return {"content": [{"type": "text", "text": text}], "isError": False}


def _arguments(request: Request) -> dict[str, Any]:
    return messages.object_in(request.params, "arguments")


def _list(_: Request, answer: Answer) -> None:
    answer.result({"tools": TOOLS}, cacheable=True)


def _do_nothing() -> None: ...


def unavailable(problem: str) -> ErrorBody:
    """The error of calls that cannot reach the broker."""
    return ErrorBody(ErrorCode.SERVICE_UNAVAILABLE, problem)
