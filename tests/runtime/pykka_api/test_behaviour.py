"""pykka's API works on actors, references, registry and proxies here as users of pykka expect."""

from __future__ import annotations

import asyncio
import logging
from typing import Any

import pykka
import pytest
from pykka import ActorDeadError, ActorProxy, ActorRegistry, traversable
from pykka._envelope import Envelope

from exai_actors.runtime import (
    ActorSystem,
    Down,
    ExitReason,
    LoopActor,
    LoopFuture,
    LoopRef,
    MailboxFull,
    NoActorSystem,
    PathRef,
)
from tests.runtime.pykka_api.probes import ManualSystem, Recorder, actor_of


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


class TestStarting:
    async def test_start_takes_the_constructors_arguments_and_registers(
        self, live_system: ActorSystem
    ) -> None:
        first = Player.start("first")
        second = Player.start(name="second")
        assert isinstance(first, pykka.ActorRef)
        assert first.actor_class is Player
        assert {actor_of(first).name, actor_of(second).name} == {"first", "second"}
        assert first.path != second.path
        assert ActorRegistry.get_all() == [first, second]
        assert actor_of(first).system is live_system

    def test_start_needs_a_current_system(self, system: ManualSystem) -> None:
        for running in (False, True, False):
            if running:
                system.make_current()
                assert ActorSystem.current() is system
                Recorder.start()
                system.stop_all_nowait()
            with pytest.raises(NoActorSystem, match="make_current"):
                Recorder.start()

    def test_an_actor_made_by_calling_its_class_is_not_started(self, system: ManualSystem) -> None:
        with pytest.raises(NoActorSystem):
            Recorder()
        system.make_current()
        actor = Recorder()
        actor.actor_ref.tell("kept")
        system.run()
        assert (actor.system, actor.hooks, actor.seen) == (system, [], [])
        assert str(actor).startswith("Recorder /anonymous/Recorder-")
        assert actor.on_receive("hello") == "hello"
        assert (len(ActorRegistry.get_all()), system.paths()) == (0, [])

    async def test_a_constructor_may_make_a_proxy_of_the_actor(
        self, live_system: ActorSystem
    ) -> None:
        class SelfReferencing(Player):
            def __init__(self) -> None:
                super().__init__("front room")
                self.me: Any = self.actor_ref.proxy()

        actor = actor_of(SelfReferencing.start())
        assert await actor.me.name == "front room"

    def test_the_mailbox_limit_comes_from_the_class_unless_spawn_sets_one(
        self, system: ManualSystem
    ) -> None:
        class Narrow(Recorder):
            mailbox_limit = 1

        by_class = system.spawn(Narrow, path="/by-class")
        by_spawn = system.spawn(Narrow, path="/by-spawn", mailbox_limit=2)
        assert [by_class.offer(each) for each in range(2)] == ["accepted", "full"]
        assert [by_spawn.offer(each) for each in range(2)] == ["accepted", "accepted"]

    def test_an_async_hook_is_refused_when_the_class_is_made(self) -> None:
        with pytest.raises(TypeError, match=r"Waiting\.on_receive must not be async"):

            class Waiting(LoopActor):
                async def on_receive(self, message: Any) -> None:
                    """Never runs."""

    def test_a_failed_constructor_leaves_no_reference_registered(
        self, system: ManualSystem
    ) -> None:
        with pytest.raises(TypeError):
            system.spawn(Player, path="/a", unknown=1)
        assert ActorRegistry.get_all() == []


class TestReferences:
    async def test_they_are_equal_only_to_themselves(self, live_system: ActorSystem) -> None:
        first, second = Player.start(), Player.start()
        assert first != second
        assert len({first, second, actor_of(first).actor_ref}) == 2

    async def test_urns_are_unique_and_lead_back_to_the_reference(
        self, live_system: ActorSystem
    ) -> None:
        refs = [Player.start() for _ in range(3)]
        assert len({ref.actor_urn for ref in refs}) == 3
        for ref in refs:
            assert ref.actor_urn == actor_of(ref).actor_urn
            assert ActorRegistry.get_by_urn(ref.actor_urn) is ref
        assert ActorRegistry.get_by_urn("urn:nothing") is None

    def test_they_print_class_and_path(self, system: ManualSystem) -> None:
        ref, actor = system.recorder("/a")
        assert str(actor) == str(ref) == "Recorder /a (incarnation 1)"
        assert repr(ref) == "<LoopRef Recorder /a (incarnation 1)>"
        assert (actor.path, actor.incarnation) == ("/a", 1)

    async def test_they_do_not_keep_an_ended_actor_in_memory(
        self, live_system: ActorSystem
    ) -> None:
        ref = Player.start()
        assert ref._actor_weakref() is not None
        await ref.stop(block=False)
        assert ref._actor_weakref() is None


class TestTheRegistry:
    async def test_it_finds_by_class_base_class_and_name(self, live_system: ActorSystem) -> None:
        player, recorder = Player.start(), Recorder.start()
        assert ActorRegistry.get_by_class(Player) == [player]
        assert ActorRegistry.get_by_class(LoopActor) == [player, recorder]
        assert ActorRegistry.get_by_class_name("Recorder") == [recorder]

    async def test_a_broadcast_reaches_a_class_or_all_actors(
        self, live_system: ActorSystem
    ) -> None:
        refs = [Recorder.start() for _ in range(2)]
        seen = [actor_of(ref).seen for ref in refs]
        Player.start()
        ActorRegistry.broadcast("all")
        ActorRegistry.broadcast("recorders", Recorder)
        ActorRegistry.broadcast("by name", "Recorder")
        for ref in refs:
            await ref.ask("done", block=False)
        assert seen == [["all", "recorders", "by name", "done"]] * 2

    async def test_it_stops_all_actors_from_a_thread(self, live_system: ActorSystem) -> None:
        refs = [Player.start() for _ in range(3)]
        assert await asyncio.to_thread(ActorRegistry.stop_all) == [True, True, True]
        assert [ref.is_alive() for ref in refs] == [False] * 3
        assert ActorRegistry.get_all() == []

    async def test_it_holds_threading_actors_beside_ours(self, live_system: ActorSystem) -> None:
        class OnAThread(pykka.ThreadingActor):
            pass

        player, on_a_thread = Player.start(), OnAThread.start()
        assert ActorRegistry.get_all() == [player, on_a_thread]
        await asyncio.to_thread(on_a_thread.stop)
        assert ActorRegistry.get_all() == [player]


class TestStopping:
    async def test_a_stopping_actor_has_left_the_registry_before_on_stop(
        self, live_system: ActorSystem
    ) -> None:
        found: list[Any] = []

        class Looking(LoopActor):
            def on_stop(self) -> None:
                found.append(self.actor_ref in ActorRegistry.get_all())
                found.append(self.actor_ref.is_alive())
                found.append(self.actor_stopped.is_set())

        await Looking.start().stop(block=False)
        assert found == [False, False, True]

    async def test_stopping_twice_is_harmless(self, live_system: ActorSystem) -> None:
        ref = Player.start()
        both = [ref.stop(block=False), ref.stop(block=False)]
        assert [await each for each in both] == [True, True]
        assert await ref.stop(block=False) is False
        assert ref.actor_stopped.is_set()

    def test_an_actor_that_stops_itself_ends_after_the_present_message(
        self, system: ManualSystem
    ) -> None:
        ref, actor = system.recorder("/a")

        def stop_and_go_on() -> None:
            actor.stop()
            actor.hooks.append("still here")

        ref.tell(stop_and_go_on)
        ref.tell("behind")
        system.run()
        assert actor.hooks == ["start", "still here", "stop"]
        assert not ref.is_alive()

    def test_pykkas_own_stop_message_stops_in_its_turn(self, system: ManualSystem) -> None:
        ref, actor = system.recorder("/a")
        ref.tell("first")
        ref.tell(pykka.messages._ActorStop())
        ref.tell("behind")
        system.run()
        assert actor.seen == ["first"]
        assert actor.hooks == ["start", "stop"]

    async def test_actor_stopped_can_be_waited_for(self, live_system: ActorSystem) -> None:
        ref = Player.start()
        assert await asyncio.to_thread(ref.actor_stopped.wait, 0) is False
        waiting = asyncio.create_task(asyncio.to_thread(ref.actor_stopped.wait, 10))
        await asyncio.sleep(0)
        await ref.stop(block=False)
        assert await waiting is True
        assert ref.actor_stopped.wait() is True


class TestProxies:
    async def test_a_proxy_reads_sets_and_calls(self, live_system: ActorSystem) -> None:
        proxy: Any = Player.start("front room").proxy()
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
        self, live_system: ActorSystem
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

    async def test_setting_by_proxy_on_the_loops_thread_is_refused(
        self, live_system: ActorSystem
    ) -> None:
        proxy: Any = Player.start().proxy()
        with pytest.raises(Exception, match="would wait forever"):
            proxy.volume = 1

    async def test_answers_can_be_derived_while_the_loop_runs(
        self, live_system: ActorSystem
    ) -> None:
        proxy: Any = Player.start("front room").proxy()
        assert await proxy.name.map(str.upper) == "FRONT ROOM"
        assert await proxy.name.join(proxy.volume) == ["front room", 5]
        assert await proxy.name.filter(str.isalpha) == list("frontroom")
        assert await proxy.name.reduce(lambda count, _: count + 1, 0) == 10


class TestTheInbox:
    """pykka's users do not need it, but it is a documented attribute."""

    def test_it_takes_envelopes(self, system: ManualSystem) -> None:
        _, actor = system.recorder("/a", mailbox_limit=2)
        inbox = actor.actor_inbox
        answer: pykka.Future[str] = pykka.ThreadingFuture()
        refused: pykka.Future[str] = pykka.ThreadingFuture()
        inbox.put(Envelope("told"))
        inbox.put(Envelope("asked", reply_to=answer))
        inbox.put(Envelope("refused", reply_to=refused))
        assert not inbox.empty()
        system.run()
        assert inbox.empty()
        assert actor.seen == ["told", "asked"]
        assert answer.get(timeout=0) == "asked"
        with pytest.raises(MailboxFull):
            refused.get(timeout=0)
        actor.stop()
        system.run()
        late: pykka.Future[str] = pykka.ThreadingFuture()
        inbox.put(Envelope("late", reply_to=late))
        with pytest.raises(ActorDeadError, match="takes no messages"):
            late.get(timeout=0)


class TestOurAdditions:
    def test_an_actor_schedules_messages_and_knows_the_time(self, system: ManualSystem) -> None:
        _, actor = system.recorder("/a")
        actor.schedule(1.0, "due")
        actor.schedule(2.0, "cancelled").cancel()
        system.manual.advance(3.0)
        assert (actor.seen, actor.now()) == (["due"], 3.0)

    def test_an_actor_watches_references_and_paths(self, system: ManualSystem) -> None:
        _, watcher = system.recorder("/watcher")
        target, _ = system.recorder("/target")
        watcher.watch(target, tag="by reference")
        watcher.watch(PathRef(system, "/target"), tag="by path")
        watcher.watch(PathRef(system, "/nowhere"))
        target.stop(block=False)
        system.run()
        assert watcher.seen == [
            Down("/nowhere", 0, ExitReason.NOT_FOUND, None),
            Down("/target", 1, ExitReason.NORMAL, "by path"),
        ]

    def test_an_actor_on_a_thread_or_of_another_system_cannot_be_watched(
        self, system: ManualSystem
    ) -> None:
        _, watcher = system.recorder("/watcher")
        elsewhere, _ = ManualSystem().recorder("/elsewhere")
        with pytest.raises(ValueError, match="belongs to another actor system"):
            watcher.watch(elsewhere)
        on_a_thread: Any = pykka.ThreadingActor.start()
        on_a_thread.stop()
        with pytest.raises(TypeError, match="only actors of an actor system"):
            watcher.watch(on_a_thread)

    def test_an_unexpected_message_is_logged_without_its_content(
        self, system: ManualSystem, caplog: pytest.LogCaptureFixture
    ) -> None:
        ref: LoopRef[LoopActor] = system.spawn(LoopActor, path="/silent")
        with caplog.at_level(logging.WARNING):
            ref.tell("a secret")
            system.run()
        (record,) = caplog.records
        assert record.message == "actor.unexpected_message"
        assert (record.actor, record.message_type) == (str(ref), "str")  # type: ignore[attr-defined]
        assert len(system.dead_letters) == 0
