"""What users of pykka's actors, references, registry and proxies rely on, kept here."""

from __future__ import annotations

import asyncio
from typing import Any

import pykka
import pytest
from pykka import ActorDeadError, ActorProxy, ActorRegistry, traversable

from exai_actors.runtime import ActorSystem, LoopActor, LoopFuture, LoopRef
from exai_actors.runtime.registry import QuickRefs
from tests.runtime.probes import ManualSystem, Recorder, actor_of


class Playlist:
    def __init__(self) -> None:
        self.position = 3

    def skip(self) -> int:
        self.position += 1
        return self.position


class Player(LoopActor):
    """An actor with attributes and methods to be reached by proxy."""

    volume = 5

    def __init__(self, name: str = "player") -> None:
        super().__init__()
        self.name = name
        self.playlist = traversable(Playlist())
        self._hidden = "hidden"
        self.deferred: list[int] = []

    def louder(self, by: int = 1) -> int:
        self.volume += by
        return self.volume

    def broken(self) -> None:
        raise ValueError("broken")

    def note(self, number: int) -> None:
        self.deferred.append(number)


async def test_start_takes_the_constructors_arguments_and_registers(
    live_system: ActorSystem,
) -> None:
    first = Player.start("first")
    second = Player.start(name="second")
    assert isinstance(first, pykka.ActorRef)
    assert isinstance(first, LoopRef)
    assert first.actor_class is Player
    assert {actor_of(first).name, actor_of(second).name} == {"first", "second"}
    assert first.path != second.path
    assert ActorRegistry.get_all() == [first, second]


async def test_references_are_equal_to_themselves_alone(live_system: ActorSystem) -> None:
    first = Player.start()
    second = Player.start()
    assert first != second
    assert actor_of(first).actor_ref is first
    assert len({first, second, actor_of(first).actor_ref}) == 2


async def test_urns_are_unique_and_lead_back_to_the_reference(live_system: ActorSystem) -> None:
    refs = [Player.start() for _ in range(3)]
    assert len({ref.actor_urn for ref in refs}) == 3
    for ref in refs:
        assert ref.actor_urn == actor_of(ref).actor_urn
        assert ActorRegistry.get_by_urn(ref.actor_urn) is ref
    assert ActorRegistry.get_by_urn("urn:nobody") is None


async def test_the_registry_finds_by_class_base_class_and_name(live_system: ActorSystem) -> None:
    player = Player.start()
    recorder = Recorder.start()
    assert ActorRegistry.get_by_class(Player) == [player]
    assert ActorRegistry.get_by_class(LoopActor) == [player, recorder]
    assert ActorRegistry.get_by_class_name("Recorder") == [recorder]


async def test_a_stopped_actor_leaves_the_registry_before_on_stop(
    live_system: ActorSystem,
) -> None:
    class Looking(LoopActor):
        found: Any = None

        def on_stop(self) -> None:
            Looking.found = (
                self.actor_ref in ActorRegistry.get_all(),
                self.actor_ref.is_alive(),
                self.actor_stopped.is_set(),
            )

    await Looking.start().stop(block=False)
    assert Looking.found == (False, False, True)


async def test_a_broadcast_reaches_a_class_or_everybody(live_system: ActorSystem) -> None:
    refs = [Recorder.start() for _ in range(2)]
    seen = [actor_of(ref).seen for ref in refs]
    Player.start()
    ActorRegistry.broadcast("everybody")
    ActorRegistry.broadcast("recorders", Recorder)
    ActorRegistry.broadcast("by name", "Recorder")
    for ref in refs:
        await ref.ask("done", block=False)
    assert seen == [["everybody", "recorders", "by name", "done"]] * 2


async def test_the_registry_stops_everybody_from_a_thread(live_system: ActorSystem) -> None:
    refs = [Player.start() for _ in range(3)]
    assert await asyncio.to_thread(ActorRegistry.stop_all) == [True, True, True]
    assert [ref.is_alive() for ref in refs] == [False] * 3
    assert ActorRegistry.get_all() == []


async def test_stopping_twice_is_harmless(live_system: ActorSystem) -> None:
    ref = Player.start()
    both = [ref.stop(block=False), ref.stop(block=False)]
    assert [await each for each in both] == [True, True]
    assert await ref.stop(block=False) is False
    assert ref.actor_stopped.is_set()


async def test_the_stopped_flag_can_be_waited_for(live_system: ActorSystem) -> None:
    ref = Player.start()
    assert await asyncio.to_thread(ref.actor_stopped.wait, 0) is False
    waiting = asyncio.create_task(asyncio.to_thread(ref.actor_stopped.wait, 10))
    await asyncio.sleep(0)
    await ref.stop(block=False)
    assert await waiting is True
    assert ref.actor_stopped.wait() is True


async def test_a_reference_prints_class_and_path(live_system: ActorSystem) -> None:
    ref = live_system.spawn(Player, path="/music")
    assert str(ref) == "Player /music (incarnation 1)"
    assert repr(ref) == "<LoopRef Player /music (incarnation 1)>"


async def test_a_reference_does_not_keep_an_ended_actor_in_memory(
    live_system: ActorSystem,
) -> None:
    ref = Player.start()
    assert ref._actor_weakref() is not None
    await ref.stop(block=False)
    assert ref._actor_weakref() is None


async def test_a_proxy_reads_sets_and_calls(live_system: ActorSystem) -> None:
    ref = Player.start("front room")
    proxy: Any = ref.proxy()
    assert isinstance(proxy, ActorProxy)
    assert isinstance(proxy.name, LoopFuture)
    assert await proxy.name == "front room"
    assert await proxy.louder() == 6
    assert await proxy.louder(by=2) == 8
    assert await proxy.volume == 8
    assert await proxy.playlist.position == 3
    assert await proxy.playlist.skip() == 4
    proxy.note.defer(1)
    proxy.note.defer(2)
    assert await proxy.deferred == [1, 2]

    def set_from_a_thread() -> int:
        proxy.volume = 1
        volume: int = proxy.volume.get()
        return volume

    assert await asyncio.to_thread(set_from_a_thread) == 1
    with pytest.raises(AttributeError, match="nothing"):
        proxy.nothing  # noqa: B018
    with pytest.raises(AttributeError):
        proxy._hidden  # noqa: B018


async def test_an_error_behind_a_proxy_reaches_the_caller_and_ends_the_actor(
    live_system: ActorSystem,
) -> None:
    ref = Player.start()
    proxy: Any = ref.proxy()
    with pytest.raises(ValueError, match="broken"):
        await proxy.broken()
    assert not ref.is_alive()
    with pytest.raises(ActorDeadError):
        ref.proxy()
    with pytest.raises(ActorDeadError):
        await proxy.name


async def test_setting_by_proxy_on_the_loops_thread_is_refused(live_system: ActorSystem) -> None:
    proxy: Any = Player.start().proxy()
    with pytest.raises(Exception, match="would wait for ever"):
        proxy.volume = 1


async def test_answers_can_be_derived_while_the_loop_runs(live_system: ActorSystem) -> None:
    proxy: Any = Player.start("front room").proxy()
    assert await proxy.name.map(str.upper) == "FRONT ROOM"
    assert await proxy.name.join(proxy.volume) == ["front room", 5]
    assert await proxy.name.filter(str.isalpha) == list("frontroom")
    assert await proxy.name.reduce(lambda count, _: count + 1, 0) == 10


def test_pykkas_own_stop_message_stops_in_its_turn(system: ManualSystem) -> None:
    ref, actor = system.recorder("/a")
    ref.tell("first")
    ref.tell(pykka.messages._ActorStop())
    ref.tell("behind")
    system.run()
    assert actor.seen == ["first"]
    assert actor.hooks == ["start", "stop"]
    again, _ = system.recorder("/a")
    stopped = again.ask(pykka.messages._ActorStop(), block=False)
    system.run()
    assert stopped.get() is True


class TestQuickRefs:
    """It must behave like the list it replaces, as far as the registry goes."""

    def test_it_behaves_like_a_list_of_references(self, system: ManualSystem) -> None:
        refs = [system.recorder(f"/{number}")[0] for number in range(3)]
        quick = QuickRefs(refs[:2])
        quick.append(refs[2])
        quick.remove(refs[1])
        assert list(quick) == quick[:] == [refs[0], refs[2]]
        assert len(quick) == 2
        assert refs[1] not in quick
        with pytest.raises(ValueError, match="is not registered"):
            quick.remove(refs[1])

    def test_a_new_system_puts_it_in_place_and_keeps_those_registered(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        ref = pykka.ThreadingActor.start()
        monkeypatch.setattr(ActorRegistry, "_actor_refs", [ref])
        ManualSystem()
        ManualSystem()
        assert type(ActorRegistry._actor_refs).__name__ == "QuickRefs"
        assert ActorRegistry.get_all() == [ref]
        ref.stop()
        assert ActorRegistry.get_all() == []
