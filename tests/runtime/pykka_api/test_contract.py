"""The parts of pykka that are not public but that ``pykka_api`` builds on.

Fails when a new pykka changes one of them, so that the pin is moved knowingly. Each part is tested
by using it as ``pykka_api`` does, on actors, references and futures that pykka itself makes.
"""

from __future__ import annotations

import inspect
from importlib.metadata import requires, version
from typing import Any

import pykka
import pytest
from pykka import ActorProxy, ActorRegistry
from pykka._envelope import Envelope
from pykka.messages import ProxyCall, ProxyGetAttr, ProxySetAttr, _ActorStop

from exai_actors.runtime import LoopActor, LoopFuture, LoopRef
from exai_actors.runtime.pykka_api.registry import RefDict
from tests.runtime.pykka_api.probes import ManualSystem


def test_pykka_is_of_a_version_that_was_tested() -> None:
    assert "pykka<5,>=4.5" in (requires("exai-actors") or ())
    major, minor = (int(part) for part in version("pykka").split(".")[:2])
    assert (4, 5) <= (major, minor) < (5, 0)


def test_an_actor_type_must_define_three_hooks_and_ours_does() -> None:
    hooks = {"_create_actor_inbox", "_create_future", "_start_actor_loop"}
    assert pykka.Actor.__abstractmethods__ == hooks
    assert not inspect.isabstract(LoopActor)


def public(kind: type) -> dict[str, inspect.Signature]:
    functions = inspect.getmembers(kind, inspect.isroutine)
    return {
        name: inspect.signature(function)
        for name, function in functions
        if not name.startswith("_") or name in {"_actor_weakref", "_handle_receive", "_stop"}
    }


@pytest.mark.parametrize(
    ("theirs", "ours"),
    [(pykka.Actor, LoopActor), (pykka.ActorRef, LoopRef), (pykka.Future, LoopFuture)],
)
def test_every_method_of_pykka_exists_here_with_the_same_parameters(
    theirs: type, ours: type
) -> None:
    here = public(ours)
    for name, signature in public(theirs).items():
        parameters = [(each.name, each.kind) for each in signature.parameters.values()]
        assert [(each.name, each.kind) for each in here[name].parameters.values()] == parameters, (
            name
        )


class Plain(pykka.ThreadingActor):
    volume = 5

    def louder(self, by: int = 1) -> int:
        self.volume += by
        return self.volume

    def on_receive(self, message: Any) -> Any:
        return f"received {message}"


def test_an_actor_handles_the_messages_of_proxies_and_all_others_by_one_method() -> None:
    actor = Plain()
    assert actor._handle_receive("hello") == "received hello"
    assert actor._handle_receive(ProxyCall(attr_path=("louder",), args=(), kwargs={"by": 2})) == 7
    actor._handle_receive(ProxySetAttr(attr_path=("volume",), value=1))
    assert actor._handle_receive(ProxyGetAttr(attr_path=("volume",))) == 1
    actor._handle_receive(_ActorStop())
    assert actor.actor_stopped.is_set()


def test_no_other_messages_of_pykka_are_special() -> None:
    kinds = {
        kind
        for kind in vars(pykka.messages).values()
        if inspect.isclass(kind) and kind.__module__ == pykka.messages.__name__
    }
    assert kinds == {ProxyCall, ProxyGetAttr, ProxySetAttr, _ActorStop}


def test_a_proxy_reaches_the_actor_through_a_method_of_the_reference() -> None:
    class Ref(pykka.ActorRef[Plain]):
        def __init__(self, actor: Plain) -> None:
            super().__init__(actor)
            self.got: list[Any] = []

        def ask(self, message: Any, **_: Any) -> Any:
            self.got.append(message)

        def tell(self, message: Any) -> None:
            self.got.append(message)

    actor = Plain()
    ref = Ref(actor)
    proxy: Any = ActorProxy(actor_ref=ref)
    assert ref._actor_weakref() is actor
    proxy.volume  # noqa: B018
    proxy.volume = 1
    proxy.louder(2)
    proxy.louder.defer(3)
    assert [type(message) for message in ref.got] == [
        ProxyGetAttr,
        ProxySetAttr,
        ProxyCall,
        ProxyCall,
    ]


def test_an_envelope_holds_a_message_and_a_future_for_the_reply() -> None:
    future: pykka.Future[Any] = pykka.ThreadingFuture()
    envelope = Envelope("message", reply_to=future)
    assert (envelope.message, envelope.reply_to) == ("message", future)
    assert Envelope("message").reply_to is None


class TestTheRegistry:
    """It keeps its references in a list behind a lock, and a RefDict can take the list's place."""

    def test_the_registry_works_on_a_ref_dict_as_on_a_list(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        kinds: list[Any] = [[], RefDict()]
        for refs in kinds:
            monkeypatch.setattr(ActorRegistry, "_actor_refs", refs)
            first, second = Plain.start(), Plain.start()
            assert ActorRegistry.get_all() == [first, second]
            assert ActorRegistry.get_by_urn(second.actor_urn) is second
            assert ActorRegistry.get_by_class(Plain) == [first, second]
            assert ActorRegistry.get_by_class_name("Plain") == [first, second]
            ActorRegistry.unregister(first)
            ActorRegistry.unregister(first)
            assert ActorRegistry.get_all() == [second]
            ActorRegistry.register(first)
            assert ActorRegistry.stop_all() == [True, True]
            assert ActorRegistry.get_all() == []

    def test_a_new_system_puts_it_in_place_once_and_keeps_registered_actors(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        ref = Plain.start()
        monkeypatch.setattr(ActorRegistry, "_actor_refs", [ref])
        ManualSystem()
        in_place = [ActorRegistry._actor_refs]
        ManualSystem()
        assert ActorRegistry._actor_refs is in_place[0]
        assert type(in_place[0]).__name__ == "RefDict"
        assert ActorRegistry.get_all() == [ref]
        ref.stop()
        assert ActorRegistry.get_all() == []
