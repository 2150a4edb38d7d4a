"""The provider and the fallbacks of a model."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from exai_actors.core.calls import FailureKind, UpstreamFailure
from exai_actors.core.routing import (
    AUTO,
    Route,
    RouteSettings,
    RoutingTable,
    fallback_reason,
    leaves_for,
)
from exai_actors.ids import ProviderName

KIMI, GLM = ProviderName("kimi"), ProviderName("glm")
TABLE = RoutingTable(((KIMI, ("k2", "shared")), (GLM, ("glm-4.5", "shared"))))


def test_a_model_goes_to_the_provider_that_serves_it() -> None:
    assert TABLE.find("glm-4.5") == Route(GLM, "glm-4.5")


def test_a_model_of_two_providers_goes_to_the_first() -> None:
    assert TABLE.find("shared") == Route(KIMI, "shared")


def test_a_model_can_be_named_with_its_provider() -> None:
    assert TABLE.find("glm/shared") == Route(GLM, "shared")


def test_a_model_name_with_a_slash_wins_over_a_provider() -> None:
    table = RoutingTable(((KIMI, ("k2",)), (GLM, ("kimi/k2",))))
    assert table.find("kimi/k2") == Route(GLM, "kimi/k2")


def test_an_unknown_model_has_no_route() -> None:
    assert TABLE.find("gpt") is None
    assert TABLE.find("glm/k2") is None
    assert TABLE.find("") is None


def test_no_model_means_the_configured_default() -> None:
    table = RoutingTable(TABLE.offers, "glm-4.5")
    assert table.default_model == "glm-4.5"
    assert table.find(None) == Route(GLM, "glm-4.5")


def test_an_unserved_default_is_not_replaced() -> None:
    table = RoutingTable(TABLE.offers, "gone")
    assert table.default_model == "gone"
    assert table.find(None) is None


def test_the_first_model_of_the_first_provider_is_the_default() -> None:
    table = RoutingTable(((KIMI, ("k2",)), (GLM, ("glm-4.5",))))
    assert (table.default_model, table.default_provider) == ("k2", KIMI)
    assert table.find(None) == Route(KIMI, "k2")


def test_the_default_stays_with_a_first_provider_that_cannot_list_its_models() -> None:
    table = RoutingTable(((KIMI, ()), (GLM, ("glm-4.5",))))
    assert (table.default_model, table.default_provider) == (None, KIMI)
    assert table.find(None) is None


def test_a_first_provider_that_serves_no_models_leaves_the_default_to_the_next() -> None:
    table = RoutingTable(((KIMI, ()), (GLM, ("glm-4.5",)))).with_models(KIMI, ())
    assert (table.default_model, table.default_provider) == ("glm-4.5", GLM)
    assert table.find("kimi/k2") is None


@pytest.mark.parametrize("default", ["", "glm-4.5", "glm/shared", "gone"])
def test_auto_means_the_default_model(default: str) -> None:
    table = RoutingTable(TABLE.offers, default)
    assert table.find("auto") == table.find(None)
    assert table.is_default("auto")
    assert table.is_default(None)
    assert not table.is_default("k2")
    assert AUTO not in table.models()


def test_a_model_or_route_named_auto_is_itself() -> None:
    served = RoutingTable(((KIMI, ("k2",)), (GLM, ("auto",))))
    assert served.find("auto") == Route(GLM, "auto")
    route = RouteSettings("auto", ("glm-4.5",), ())
    routed = RoutingTable(TABLE.offers, routes=(route,))
    assert routed.find("auto") == Route(GLM, "glm-4.5")
    assert not served.is_default("auto")
    assert not routed.is_default("auto")


@pytest.mark.parametrize("other", ["Auto", "kimi/auto", "auto ", "default"])
def test_only_the_word_itself_means_the_default_model(other: str) -> None:
    assert TABLE.find(other) is None


def test_without_any_model_there_is_no_route() -> None:
    table = RoutingTable(((KIMI, ()), (GLM, ())))
    assert table.default_model is None
    assert table.find(None) is None
    assert table.models() == ()


UNLISTED = RoutingTable(
    ((KIMI, ()), (GLM, ("glm-4.5",))),
    routes=(
        RouteSettings("named", ("kimi/k2", "glm/glm-4.5"), ("quota",)),
        RouteSettings("bare", ("k2", "glm-4.5"), ("quota",)),
        RouteSettings("last", ("glm-4.5", "kimi/k2"), ("quota",)),
        RouteSettings("nowhere", ("glm/gone",), ()),
    ),
)


@pytest.mark.parametrize(
    ("name", "targets"),
    [
        ("named", ((KIMI, "k2"), (GLM, "glm-4.5"))),
        ("bare", ((KIMI, "k2"), (GLM, "glm-4.5"))),
        ("last", ((GLM, "glm-4.5"), (KIMI, "k2"))),
        ("kimi/k2", ((KIMI, "k2"),)),
        ("kimi/moonshot/k2", ((KIMI, "moonshot/k2"),)),
        ("kimi/", ()),
        ("k2", ()),
        ("glm/k2", ()),
        ("nowhere", ()),
    ],
)
def test_a_provider_that_has_not_listed_its_models_is_asked_all_the_same(
    name: str, targets: tuple[tuple[str, str], ...]
) -> None:
    found = []
    route = UNLISTED.find(name)
    while route is not None:
        found.append((route.provider, route.model))
        route = route.fallback
    assert tuple(found) == targets


def test_a_target_that_its_provider_does_not_list_is_left_out() -> None:
    listed = UNLISTED.with_models(KIMI, ("k3",))
    for name in ("named", "bare", "last"):
        assert listed.find(name) == Route(GLM, "glm-4.5")
    assert listed.find("kimi/k2") is None


def test_each_model_is_listed_once_in_configured_order() -> None:
    assert TABLE.models() == ("k2", "shared", "glm-4.5")


def test_new_models_replace_those_of_their_provider_only() -> None:
    table = RoutingTable(TABLE.offers, "k2").with_models(KIMI, ("k3",))
    assert table.offers == ((KIMI, ("k3",)), (GLM, ("glm-4.5", "shared")))
    assert table.find("k2") is None
    assert table.find("shared") == Route(GLM, "shared")
    assert table.default_model == "k2"
    assert TABLE.find("k2") == Route(KIMI, "k2")


def test_the_first_model_is_the_default_as_models_change() -> None:
    table = RoutingTable(((KIMI, ("k1",)), (GLM, ("glm-4.5",))))
    assert table.with_models(KIMI, ("k2",)).default_model == "k2"
    assert table.with_models(GLM, ("glm-5",)).default_model == "k1"
    assert table.with_models(KIMI, ()).default_model == "glm-4.5"


def test_models_of_an_unknown_provider_change_nothing() -> None:
    assert TABLE.with_models(ProviderName("other"), ("x",)).offers == TABLE.offers


OFFERS = st.lists(
    st.tuples(
        st.sampled_from([KIMI, GLM, ProviderName("local")]),
        st.lists(st.sampled_from(["a", "b", "c"]), unique=True).map(tuple),
    ),
    unique_by=lambda offer: offer[0],
).map(tuple)


@given(OFFERS)
def test_routes_and_offers_correspond(
    offers: tuple[tuple[ProviderName, tuple[str, ...]], ...],
) -> None:
    table = RoutingTable(offers)
    for provider, models in offers:
        for model in models:
            assert table.find(f"{provider}/{model}") == Route(provider, model)
            plain = table.find(model)
            assert plain is not None
            first = next(name for name, served in offers if model in served)
            assert plain == Route(first, model)
    assert set(table.models()) == {model for _, models in offers for model in models}


ROUTES = (
    RouteSettings("fast", ("glm/glm-4.5", "gone", "k2", "glm-4.5"), ("busy",)),
    RouteSettings("none", ("gone",), ()),
    RouteSettings("k2", ("glm/shared",), ()),
)


def test_a_route_falls_back_to_its_next_served_model() -> None:
    found = RoutingTable(TABLE.offers, routes=ROUTES).find("fast")
    assert found is not None
    assert (found.provider, found.model, found.fallback_reasons) == (
        GLM,
        "glm-4.5",
        frozenset({"busy"}),
    )
    assert found.fallback == Route(KIMI, "k2")


def test_a_route_hides_a_model_of_its_name() -> None:
    table = RoutingTable(TABLE.offers, routes=ROUTES)
    assert table.find("k2") == Route(GLM, "shared")
    assert table.find("kimi/k2") == Route(KIMI, "k2")


def test_a_route_exists_while_one_of_its_models_is_served() -> None:
    table = RoutingTable(TABLE.offers, routes=ROUTES)
    assert table.find("none") is None
    assert "none" not in table.models()
    assert table.with_models(KIMI, ("gone",)).find("none") == Route(KIMI, "gone")
    assert "fast" in table.models()


@pytest.mark.parametrize(
    ("kind", "reason"),
    [
        (FailureKind.CONNECT, "unreachable"),
        (FailureKind.BROKEN, "unreachable"),
        (FailureKind.RATE_LIMITED, "rate_limited"),
        (FailureKind.OVERLOADED, "overloaded"),
        (FailureKind.QUOTA, "quota"),
        (FailureKind.TIMEOUT, "timeout"),
        (FailureKind.SERVER_ERROR, "server_error"),
        (FailureKind.MALFORMED, "server_error"),
        (FailureKind.TRUNCATED, "server_error"),
        (FailureKind.UNAUTHORIZED, "unauthorized"),
        (FailureKind.MODEL_NOT_FOUND, "model_not_found"),
        (FailureKind.NOT_FOUND, None),
        (FailureKind.REJECTED, None),
        (FailureKind.TOO_LARGE, None),
    ],
)
def test_a_failure_maps_to_a_fallback_reason(kind: FailureKind, reason: str | None) -> None:
    assert fallback_reason(UpstreamFailure(kind, "x")) == reason
    assert fallback_reason(UpstreamFailure(kind, "x", text_sent=True)) is None


@pytest.mark.parametrize(
    ("reason", "would_wait", "on", "leaves"),
    [
        ("quota", False, {"quota"}, True),
        ("quota", False, {"busy"}, False),
        ("quota", True, {"busy"}, True),
        ("circuit_open", True, {"busy"}, True),
        ("unreachable", True, {"busy"}, True),
        ("unreachable", False, {"busy"}, False),
        ("unauthorized", False, {"busy", "quota"}, False),
        ("quota", True, {"unauthorized"}, False),
        (None, True, {"busy"}, True),
        (None, False, {"busy", "quota"}, False),
    ],
)
def test_busy_covers_every_wait_and_nothing_else(
    reason: str | None, would_wait: bool, on: set[str], leaves: bool
) -> None:
    assert leaves_for(reason, frozenset(on), would_wait=would_wait) is leaves


def test_only_marked_routes_serve_responses_by_chat() -> None:
    kimi, openai = ProviderName("kimi"), ProviderName("openai")
    routes = (
        RouteSettings("code", ("kimi/k2", "openai/gpt"), ("quota",), responses_by_chat=True),
        RouteSettings("plain", ("kimi/k2",), ("quota",)),
    )
    everything = RoutingTable(((kimi, ("k2",)), (openai, ("gpt",))), routes=routes)
    responses = everything.only(frozenset((openai,))).with_translated_routes(everything)
    found = responses.find("code")
    assert found is not None
    assert (found.provider, found.model) == (kimi, "k2")
    assert found.fallback == Route(openai, "gpt")
    assert responses.find("plain") is None
    assert responses.find("k2") is None
    assert responses.models() == ("gpt", "code")
    unmarked = RoutingTable(((kimi, ("k2",)),), routes=routes[1:])
    assert unmarked.with_translated_routes(everything) is unmarked
