"""Threads that meet in the kernel, at every point at which they can meet."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import suppress

import pytest

from exai_actors.messages.recipient import Offer
from exai_actors.runtime.kernel.requests import Request, request_stop
from tests.runtime.kernel.interleaving import Finish, LoopThread, at_every_point, in_a_thread
from tests.runtime.kernel.probes import Answer, ManualSystem, ask

# Slow under a tracer, on lines that other tests reach too.
pytestmark = pytest.mark.without_coverage


class Scene:
    """An actor with some messages waiting, another actor, and an account of sent messages."""

    def __init__(self, *waiting: object, quota: int = 1) -> None:
        self.system = ManualSystem()
        self.actor = self.system.recorder("/a")
        self.other = self.system.recorder("/other")
        self.actor.cell.work.quota = quota
        self.waiting = list(waiting)
        for message in waiting:
            self.actor.ref.tell(message)
        self.answers: list[Answer] = []
        self.offers: list[Offer] = []
        self.told: list[object] = []

    def run(self) -> None:
        self.system.run()

    def stop(self) -> None:
        request_stop(self.actor.cell)
        self.system.run()

    def send_one_of_each(self) -> None:
        self.tell()
        self.offers.append(self.actor.ref.offer("offered"))
        self.answers.append(ask(self.actor.ref, "asked"))

    def tell(self) -> None:
        self.told.append("told")
        self.actor.ref.tell("told")

    def tell_system(self) -> None:
        self.actor.ref.tell_system("system")

    def check_accounts(self) -> None:
        """Every message was handled, or was refused, or is a dead letter."""
        assert self.actor.ref.is_alive() or len(self.actor.cell.mailbox) == 0
        self.system.run()
        seen = self.actor.seen
        sent = len(self.waiting) + len(self.told) + self.offers.count("accepted")
        handled = len([message for message in seen if message != "asked"])
        assert handled + len(self.system.dead_letters) == sent
        for answer in self.answers:
            assert answer.kind == ("value" if "asked" in seen else "dead")
        assert len(self.actor.cell.mailbox) == 0
        assert not self.system.scheduler.is_busy()


def test_a_message_sent_at_any_point_of_a_turn_is_handled_once() -> None:
    def check(scene: Scene) -> None:
        scene.run()
        assert scene.actor.seen == ["waiting", "told"]

    points = at_every_point(lambda: Scene("waiting"), Scene.run, in_a_thread(Scene.tell), check)
    assert points > 100


def test_a_message_sent_at_any_point_of_a_longer_batch_is_handled_once() -> None:
    def check(scene: Scene) -> None:
        scene.run()
        assert [each for each in scene.actor.seen if each != "system"] == [1, 2]
        assert scene.actor.seen.count("system") == 1

    at_every_point(lambda: Scene(1, 2, quota=8), Scene.run, in_a_thread(Scene.tell_system), check)


def test_another_actor_made_ready_at_any_point_of_a_turn_runs() -> None:
    def check(scene: Scene) -> None:
        scene.run()
        assert (scene.actor.seen, scene.other.seen) == (["waiting"], ["just then"])

    at_every_point(
        lambda: Scene("waiting"),
        Scene.run,
        in_a_thread(lambda scene: scene.other.ref.tell("just then")),
        check,
    )


def test_messages_sent_at_any_point_of_a_stop_are_accounted_for() -> None:
    at_every_point(
        lambda: Scene("waiting"),
        Scene.stop,
        in_a_thread(Scene.send_one_of_each),
        Scene.check_accounts,
    )


def test_messages_sent_at_any_point_of_a_failure_are_accounted_for() -> None:
    at_every_point(
        lambda: Scene(ValueError("crash"), "behind"),
        Scene.run,
        in_a_thread(Scene.send_one_of_each),
        Scene.check_accounts,
    )


@pytest.fixture
def loop() -> Iterator[LoopThread]:
    with LoopThread() as loop:
        yield loop


@pytest.mark.parametrize("waiting", [(), ("waiting",)])
@pytest.mark.parametrize("loop_does", [Scene.run, Scene.stop])
@pytest.mark.parametrize("send", [Scene.send_one_of_each, Scene.tell_system])
def test_a_loop_that_comes_in_at_any_point_of_sending_leaves_no_message_behind(
    loop: LoopThread,
    waiting: tuple[str, ...],
    loop_does: Callable[[Scene], None],
    send: Callable[[Scene], None],
) -> None:
    def check(scene: Scene) -> None:
        if send is Scene.tell_system:
            scene.told.append("system")
        loop.do(scene.check_accounts)

    at_every_point(
        lambda: loop.do(lambda: Scene(*waiting)),
        send,
        loop.meanwhile(loop_does),
        check,
    )


@pytest.mark.parametrize("first", [Scene.tell, Scene.tell_system])
def test_two_threads_that_send_at_the_same_time_lose_no_message(
    loop: LoopThread, first: Callable[[Scene], None]
) -> None:
    def check(scene: Scene) -> None:
        loop.do(scene.run)
        assert len(scene.actor.seen) == 2

    at_every_point(lambda: loop.do(Scene), first, in_a_thread(Scene.tell_system), check)


def test_the_last_message_of_three_threads_that_meet_at_an_end_is_accounted_for() -> None:
    scene = Scene()
    scene.stop()
    # One thread found the actor alive and idle, and queues it only now.
    scene.actor.cell.scheduled = True
    scene.system.scheduler.ready.append(scene.actor.cell)
    # Another found room in the lane, and appends only now.
    scene.answers.append(Answer())
    scene.actor.cell.mailbox.user.append(Request("asked", scene.answers[0]))
    scene.system.scheduler.wake()
    scene.run()
    scene.check_accounts()
    assert not scene.actor.cell.scheduled


@pytest.mark.parametrize("is_early", [False, True])
def test_ctrl_c_at_any_point_of_a_turn_leaves_every_living_actor_running(is_early: bool) -> None:
    # Before these functions have begun to watch for it, the turn has not begun.
    inside_a_turn = r"scheduler\.py:(?!(_turn|run_early)$).*"

    def interrupt(_scene: Scene) -> Finish:
        raise KeyboardInterrupt

    def both_waiting() -> Scene:
        scene = Scene("waiting")
        scene.other.ref.tell("waiting")
        return scene

    def run(scene: Scene) -> None:
        if is_early:
            with suppress(KeyboardInterrupt):
                scene.system.scheduler.run_early()
        with suppress(KeyboardInterrupt):
            scene.run()

    def check(scene: Scene) -> None:
        for actor in (scene.actor, scene.other):
            actor.ref.tell("after")
        scene.run()
        for actor in (scene.actor, scene.other):
            assert actor.seen[-1:] == ["after"] or not actor.ref.is_alive()

    at_every_point(both_waiting, run, interrupt, check, within=inside_a_turn)
