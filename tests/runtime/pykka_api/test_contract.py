"""The parts of pykka that are not public but that the runtime builds on.

Fails when a new pykka changes one of them, so that the pin can be moved with open eyes.
"""

from __future__ import annotations

import inspect
from importlib.metadata import requires, version

import pykka
from pykka import _actor, _envelope, _future, _proxy, _ref, _registry, messages


def test_pykka_is_of_the_version_that_was_read() -> None:
    assert "pykka<5,>=4.5" in (requires("exai-actors") or ())
    major, minor = (int(part) for part in version("pykka").split(".")[:2])
    assert (4, 5) <= (major, minor) < (5, 0)


def test_the_hooks_for_implementors_of_actor_types_are_there() -> None:
    assert pykka.Actor.__abstractmethods__ == {
        "_create_actor_inbox",
        "_create_future",
        "_start_actor_loop",
    }
    assert isinstance(inspect.getattr_static(pykka.Actor, "_create_actor_inbox"), staticmethod)
    assert isinstance(inspect.getattr_static(pykka.Actor, "_create_future"), staticmethod)


def test_an_actor_sets_no_other_fields_than_ours_does() -> None:
    source = inspect.getsource(_actor.Actor.__init__)
    fields = {line.split()[0] for line in source.splitlines() if line.strip().startswith("self.")}
    assert fields == {
        "self.actor_urn",
        "self.actor_inbox",
        "self.actor_stopped",
        "self._actor_ref",
    }


def test_a_reference_sets_no_other_fields_than_ours_does() -> None:
    source = inspect.getsource(_ref.ActorRef.__init__)
    fields = {line.split()[0] for line in source.splitlines() if line.strip().startswith("self.")}
    assert fields == {
        "self._actor_weakref",
        "self.actor_class",
        "self.actor_urn",
        "self.actor_inbox",
        "self.actor_stopped",
    }


def test_a_reference_has_no_other_methods_than_ours_overrides_or_can_inherit() -> None:
    methods = {name for name, _ in inspect.getmembers(_ref.ActorRef, inspect.isfunction)}
    assert methods == {
        "__init__",
        "__repr__",
        "__str__",
        "ask",
        "is_alive",
        "proxy",
        "stop",
        "tell",
    }


def test_an_envelope_holds_a_message_and_where_to_reply() -> None:
    envelope = _envelope.Envelope("message", reply_to=None)
    assert _envelope.Envelope.__slots__ == ["message", "reply_to"]
    assert (envelope.message, envelope.reply_to) == ("message", None)


def test_the_messages_that_are_not_plain_are_these_four() -> None:
    kinds = {
        name
        for name, kind in vars(messages).items()
        if inspect.isclass(kind) and kind.__module__ == messages.__name__
    }
    assert kinds == {"_ActorStop", "ProxyCall", "ProxyGetAttr", "ProxySetAttr"}
    handled = inspect.getsource(_actor.Actor._handle_receive)
    for kind in kinds:
        assert kind in handled


def test_the_registry_keeps_a_list_behind_a_lock() -> None:
    source = inspect.getsource(_registry.ActorRegistry)
    uses = {line.strip() for line in source.splitlines() if "_actor_refs" in line}
    assert uses == {
        "_actor_refs: ClassVar[list[ActorRef[Any]]] = []",
        "_actor_refs_lock: ClassVar[threading.RLock] = threading.RLock()",
        "with cls._actor_refs_lock:",
        "return cls._actor_refs[:]",
        "for ref in cls._actor_refs",
        "refs = [ref for ref in cls._actor_refs if ref.actor_urn == actor_urn]",
        "cls._actor_refs.append(actor_ref)",
        "if actor_ref in cls._actor_refs:",
        "cls._actor_refs.remove(actor_ref)",
    }


def test_a_future_sets_no_other_fields_than_ours_handles() -> None:
    source = inspect.getsource(_future.Future.__init__)
    fields = {line.split()[0] for line in source.splitlines() if line.strip().startswith("self.")}
    assert fields == {"self._get_hook", "self._get_hook_result"}
    methods = {name for name, _ in inspect.getmembers(_future.Future, inspect.isfunction)}
    assert methods == {
        "__await__",
        "__init__",
        "__iter__",
        "__repr__",
        "filter",
        "get",
        "join",
        "map",
        "reduce",
        "set",
        "set_exception",
        "set_get_hook",
    }


def test_a_proxy_uses_of_a_reference_what_ours_has() -> None:
    source = inspect.getsource(_proxy)
    used = {
        name
        for name in ("_actor_weakref", "is_alive", "ask", "tell")
        if f"actor_ref.{name}(" in source
    }
    assert used == {"_actor_weakref", "is_alive", "ask", "tell"}
