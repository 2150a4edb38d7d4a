"""The tools that the broker answers itself."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest
from msgspec.structs import replace

from exai_actors.core.routing import RoutingTable
from exai_actors.core.statistics import BrokerStatistics
from exai_actors.core.tools.local import Event, answer
from exai_actors.core.tools.table import LocalRequest, describe_tools, parse_call
from exai_actors.ids import ProviderName, RequestKey
from tests.idle_provider import IDLE

ROUTING = RoutingTable(((ProviderName("kimi"), ("k2",)), (ProviderName("glm"), ("glm-4.5", "k2"))))
KIMI = replace(
    IDLE,
    kind="openai",
    models=("k2",),
    limit=4,
    free=0,
    in_flight=3,
    queued=2,
    queue_limit=1000,
    granted=10,
    completed=6,
    failed=1,
    mean_service_s=1.5,
)
STATISTICS = BrokerStatistics(
    version="1.2.3",
    uptime_s=60.0,
    connections=2,
    sessions=1,
    draining=False,
    dead_letters=0,
    providers=(KIMI,),
)


def ask(tool: str, text: str = "", events: tuple[Event, ...] = ()) -> str:
    result = answer(LocalRequest(tool, text), ROUTING, STATISTICS, events)
    (output,) = result.outputs
    return output


def ask_json(tool: str, events: tuple[Event, ...] = ()) -> Any:
    return msgspec.json.decode(ask(tool, events=events))


@pytest.mark.parametrize("text", ["hello", "", "no {json} here"])
def test_echo_returns_its_text(text: str) -> None:
    assert ask("echo", text) == text


def test_version_names_the_broker() -> None:
    assert ask_json("version") == {"name": "exai-actors", "version": "1.2.3"}


def test_list_models_lists_each_model_and_the_default() -> None:
    assert ask_json("list_models") == {
        "default_model": "k2",
        "models": [
            {"model": "k2", "provider": "kimi"},
            {"model": "glm-4.5", "provider": "glm"},
            {"model": "k2", "provider": "glm"},
        ],
    }


@pytest.mark.parametrize("tool", ["status", "health"])
def test_status_returns_all_statistics(tool: str) -> None:
    assert msgspec.convert(ask_json(tool), BrokerStatistics) == STATISTICS


def test_activity_lists_events_in_order() -> None:
    events: tuple[Event, ...] = (
        (1.0, RequestKey("r1", run=3), "chat", "completed"),
        (2.0, RequestKey("conn-1/1", "generated"), "chat", "failed"),
    )
    assert ask_json("activity", events)["events"] == [
        {"at": 1.0, "request": "r1", "tool": "chat", "outcome": "completed"},
        {"at": 2.0, "request": None, "tool": "chat", "outcome": "failed"},
    ]


def test_activity_shows_different_requests_under_different_names() -> None:
    requests = (
        RequestKey("1"),
        RequestKey("1", "rpc"),
        RequestKey("rpc:1"),
        RequestKey("op:rpc:1"),
        RequestKey("key:1"),
    )
    events: list[Event] = [(1.0, request, "chat", "completed") for request in requests]
    names = [event["request"] for event in ask_json("activity", tuple(events))["events"]]
    assert names == ["1", "rpc:1", "op:rpc:1", "op:op:rpc:1", "op:key:1"]


def test_every_tool_that_needs_no_provider_has_an_answer() -> None:
    for tool in describe_tools(()):
        match parse_call(tool.name, {"prompt": "hello"}):
            case LocalRequest() as request:
                assert answer(request, ROUTING, STATISTICS, ()).outputs


def test_a_tool_that_is_not_local_is_an_error() -> None:
    with pytest.raises(KeyError):
        ask("chat")
