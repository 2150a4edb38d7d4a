"""What each action on a provider does to calls, from an operator's message to the outcome."""

from __future__ import annotations

import pytest

from exai_actors.core.authentication import Identity
from exai_actors.core.calls import FailureKind, LimitHolder
from exai_actors.core.capacity.settings import CapacitySettings, CircuitSettings, RetrySettings
from exai_actors.core.routing import RouteSettings
from exai_actors.ids import TenantName
from exai_actors.testing.tree import ManualClient
from tests.console.operator_desk import OperatorDesk


def outcomes(client: ManualClient) -> list[str]:
    """The request of each outcome that the client has received since the last look."""
    return sorted(
        frame["request_id"]
        for frame in client.received()
        if frame["op"] == "call_tool_res" or "error" in frame
    )


def finish_all(desk: OperatorDesk) -> None:
    """Answer calls until none is left."""
    while desk.tree.upstream.running:
        desk.tree.upstream.running[0].complete()
        desk.tree.settle()


def test_a_paused_provider_grants_nothing_until_it_is_resumed() -> None:
    desk = OperatorDesk(limit=1)
    client = desk.tree.client()
    client.call("a")
    client.call("b")
    console = desk.console()
    console.act("provider.pause", "kimi", reason="maintenance")
    finish_all(desk)
    assert outcomes(client) == ["a"]
    assert console.text("provider.resume", "kimi") == (
        "1 of 1 queued request can start; new requests are admitted"
    )
    finish_all(desk)
    assert outcomes(client) == ["b"]
    assert desk.tree.statistics().is_conserved


def test_a_pause_counts_the_requests_that_leave_for_another_provider() -> None:
    routes = (RouteSettings("best", ("kimi/moon", "glm/star"), ("unreachable",)),)
    desk = OperatorDesk(limit=1, routes=routes)
    client = desk.tree.client()
    client.call("a")
    client.call("b", arguments={"model": "best"})
    client.call("c")
    assert (
        desk.console()
        .text("provider.pause", "kimi")
        .endswith(
            "1 queued request and new ones wait until it is resumed; 1 queued request leaves for "
            "another provider"
        )
    )
    assert [call.prompt for call in desk.tree.upstreams["glm"].running] == ["hi"]  # type: ignore[index]
    assert desk.tree.statistics().queued == 1


def test_a_draining_provider_finishes_what_it_has_and_takes_nothing_new() -> None:
    desk = OperatorDesk(limit=1)
    client = desk.tree.client()
    client.call("a")
    client.call("b")
    undo = desk.console().act("provider.drain", "kimi")["undo"]
    (refused,) = client.call("c")
    assert refused["error"]["code"] == "SERVICE_UNAVAILABLE"
    finish_all(desk)
    assert outcomes(client) == ["a", "b"]
    assert undo["action"] == "provider.resume"


def test_a_limit_is_raised_and_lowered_without_revoking_a_permit() -> None:
    desk = OperatorDesk(limit=1)
    client = desk.tree.client()
    for name in "abcd":
        client.call(name)
    console = desk.console()
    assert console.text("provider.limit", "kimi", arguments={"limit": 3}) == (
        "limit 1 -> 3: 2 of 3 queued requests can start"
    )
    assert len(desk.tree.upstream.running) == 3
    lowered = console.act("provider.limit", "kimi", arguments={"limit": 1})
    assert len(desk.tree.upstream.running) == 3
    assert lowered["undo"]["arguments"] == {"limit": 3}
    desk.tree.upstream.running[0].complete()
    desk.tree.settle()
    assert len(desk.tree.upstream.running) == 2
    finish_all(desk)
    assert outcomes(client) == ["a", "b", "c", "d"]
    assert desk.tree.statistics().is_conserved


def test_a_rate_gate_is_set_and_removed() -> None:
    desk = OperatorDesk(limit=9)
    client = desk.tree.client()
    console = desk.console()
    gate = {"gate": "requests_per_minute", "limit": 1}
    console.act("provider.gate", "kimi", arguments=gate)
    client.call("a")
    client.call("b")
    assert len(desk.tree.upstream.running) == 1
    console.act("provider.gate", "kimi", arguments={**gate, "limit": 0})
    assert len(desk.tree.upstream.running) == 2


def test_a_hold_is_lifted_and_the_call_is_tried_again() -> None:
    desk = OperatorDesk(limit=1)
    client = desk.tree.client()
    client.call("a")
    desk.tree.upstream.calls[0].fail(FailureKind.RATE_LIMITED, "slow down", retry_after=300.0)
    desk.tree.settle()
    client.call("b")
    console = desk.console()
    assert console.text("provider.lift_hold", "kimi") == (
        "1 hold ends (account held for 302 s: rate_limited); 1 of 2 queued requests can start"
    )
    assert len(desk.tree.upstream.running) == 1, "the service is asked again"
    (effect,) = console.act("provider.lift_hold", "kimi")["effects"]
    assert (effect["ok"], effect["text"]) == (False, "kimi is not held")


@pytest.mark.parametrize("model", [None, "moon"])
def test_with_its_hold_the_wait_of_a_refused_request_ends(model: str | None) -> None:
    desk = OperatorDesk(limit=1)
    client = desk.tree.client()
    client.call("a")
    holder = LimitHolder.ACCOUNT if model is None else LimitHolder.MODEL
    desk.tree.upstream.calls[0].fail(
        FailureKind.RATE_LIMITED, "slow down", retry_after=300.0, holder=holder
    )
    desk.tree.settle()
    assert not desk.tree.upstream.running
    console = desk.console()
    arguments = {} if model is None else {"model": model}
    assert "1 of 1 queued request can start" in console.text(
        "provider.lift_hold", "kimi", arguments=arguments
    )
    finish_all(desk)
    assert outcomes(client) == ["a"]


def test_a_circuit_is_reset_and_opens_again_only_after_as_many_failures() -> None:
    capacity = CapacitySettings(
        1, retry=RetrySettings(attempts=1), circuit=CircuitSettings(failures_in_a_row=2)
    )
    desk = OperatorDesk(capacity=capacity)
    client = desk.tree.client()

    def fail(name: str) -> str:
        client.call(name)
        desk.tree.upstream.running[0].fail()
        desk.tree.settle()
        return desk.tree.statistics().circuit

    assert [fail("a"), fail("b")] == ["closed", "open"]
    desk.console().act("provider.reset_circuit", "kimi")
    assert [fail("c"), fail("d")] == ["closed", "open"]


@pytest.mark.parametrize("shown", ["ada", "default"])
def test_the_weight_of_a_tenant_is_changed_at_all_providers(shown: str) -> None:
    tenants = tuple((f"token-of-{name}", Identity(TenantName(name))) for name in ("ada", "bob"))
    desk = OperatorDesk(tokens=tenants if shown == "ada" else ())
    if shown == "ada":
        for account in desk.tree.accounts.values():
            account.weights[TenantName("ada")] = account.weights[TenantName("bob")] = 1.0
        for name in ("ada", "bob"):
            desk.tree.client(token=f"token-of-{name}").call("a")
    console = desk.console()
    effect = console.act("tenant.weight", shown, arguments={"weight": 3})
    name = "" if shown == "default" else shown
    assert [desk.tree.statistics(each).weights[name] for each in ("kimi", "glm")] == [3.0, 3.0]
    assert effect["undo"]["arguments"] == {"weight": 1.0}
    if shown == "ada":
        assert effect["effects"][0]["text"].endswith("goes from 50% to 75%")


def test_a_look_after_an_action_shows_its_effect() -> None:
    """Rows that are kept for consoles that watch are not those that it gets."""
    desk = OperatorDesk()
    console = desk.console()
    desk.console().send({"op": "watch", "table": "providers", "every_s": 60})
    for action, mode in ("pause", "paused"), ("resume", "open"), ("drain", "draining"):
        console.act(f"provider.{action}", "kimi")
        (snapshot,) = desk.console().send({"op": "watch", "table": "providers"})
        columns = [each["name"] for each in console.greeting["tables"]["providers"]]
        (row,) = [cells for key, *cells in snapshot["rows"] if key == "kimi"]
        assert row[columns.index("mode")] == mode


@pytest.mark.parametrize("weight", [10**400, -(10**309), True, "2"])
def test_an_argument_that_is_no_number_is_refused(weight: object) -> None:
    refused = OperatorDesk().console().act("tenant.weight", "default", arguments={"weight": weight})
    assert refused["code"] == "bad_action"
    assert "is a number" in refused["message"]


def test_a_configured_tenant_may_have_the_name_of_the_default_one() -> None:
    desk = OperatorDesk(tokens=(("token-of-default", Identity(TenantName("default"))),))
    for account in desk.tree.accounts.values():
        account.weights[TenantName("default")] = 1.0
    desk.console().act("tenant.weight", "default", arguments={"weight": 3})
    for provider in ("kimi", "glm"):
        weights = desk.tree.statistics(provider).weights
        assert (weights["default"], weights.get("")) == (3.0, None)


@pytest.mark.parametrize(
    ("action", "arguments", "problem"),
    [
        ("provider.limit", {"limit": 2_000_000}, "a limit is 0 to 1000000"),
        ("provider.limit", {"limit": 2, "model": "none"}, "has no limit of its own"),
        ("provider.gate", {"gate": "per_second", "limit": 2}, "there is no rate gate 'per_second'"),
        ("tenant.weight", {"weight": 0.0}, "a weight is 0.001 to 1000"),
        ("tenant.weight", {"weight": 2}, "there is no tenant 'kimi'"),
    ],
)
def test_a_change_that_makes_no_sense_is_refused(
    action: str, arguments: dict[str, object], problem: str
) -> None:
    desk = OperatorDesk()
    (effect,) = desk.console().act(action, "kimi", arguments=arguments)["effects"]
    assert not effect["ok"]
    assert problem in effect["text"]
