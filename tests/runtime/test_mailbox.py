"""The two lanes, the limit, and what becomes of messages that find no actor."""

from __future__ import annotations

import threading
from typing import Any

import pykka
import pytest
from pykka import ActorDeadError

from exai_actors.runtime import DeadLetterReason, MailboxFull, MailboxRefused, Offer
from exai_actors.runtime.events import DeadLetter
from tests.runtime.probes import Asked, ManualSystem, Recorder, actor_of


def test_told_messages_are_handled_in_order(system: ManualSystem) -> None:
    ref, actor = system.recorder("/target")
    for number in range(200):
        ref.tell(number)
    system.run()
    assert actor.seen == list(range(200))


def test_the_system_lane_goes_before_all_that_was_told(system: ManualSystem) -> None:
    ref, actor = system.recorder("/target")
    ref.tell("user 1")
    ref.tell("user 2")
    ref.tell_system("system 1")
    ref.tell_system("system 2")
    system.run()
    assert actor.seen == ["system 1", "system 2", "user 1", "user 2"]


def test_a_system_message_overtakes_the_rest_of_a_slice_under_way(system: ManualSystem) -> None:
    ref, actor = system.recorder("/target")
    for number in range(20):
        ref.tell(number)
    system.run()
    actor.seen.clear()
    for number in range(3):
        ref.tell(number)
    ref.tell(lambda: ref.tell_system("cancel"))
    ref.tell("last")
    system.run()
    assert [type(item).__name__ for item in actor.seen] == ["int"] * 3 + ["function", "str", "str"]
    assert actor.seen[4:] == ["cancel", "last"]


def test_an_offer_says_whether_the_message_was_taken(system: ManualSystem) -> None:
    ref, actor = system.recorder("/target", mailbox_limit=2)
    assert [ref.offer(number) for number in range(3)] == [
        Offer.ACCEPTED,
        Offer.ACCEPTED,
        Offer.FULL,
    ]
    system.run()
    assert actor.seen == [0, 1]
    ref.stop(block=False)
    system.run()
    assert ref.offer("too late") is Offer.CLOSED
    assert len(system.dead_letters) == 0


def test_the_limit_comes_from_the_class_unless_the_spawner_says_otherwise(
    system: ManualSystem,
) -> None:
    class Narrow(Recorder):
        mailbox_limit = 1

    by_class = system.spawn(Narrow, path="/by-class")
    by_spawner = system.spawn(Narrow, path="/by-spawner", mailbox_limit=2)
    assert [by_class.offer(number) for number in range(2)] == [Offer.ACCEPTED, Offer.FULL]
    assert [by_spawner.offer(number) for number in range(2)] == [Offer.ACCEPTED, Offer.ACCEPTED]


def test_a_mailbox_without_room_for_a_message_is_refused(system: ManualSystem) -> None:
    with pytest.raises(ValueError, match="limit of at least 1"):
        system.spawn(Recorder, path="/target", mailbox_limit=0)
    assert system.paths() == []


def test_telling_a_full_actor_raises_nothing_and_leaves_a_dead_letter(
    system: ManualSystem,
) -> None:
    ref, actor = system.recorder("/target", mailbox_limit=1)
    ref.tell("kept")
    ref.tell("refused")
    system.run()
    assert actor.seen == ["kept"]
    assert system.dead_letters.counts[DeadLetterReason.FULL] == 1
    statistics = system.statistics_of("/target")
    assert statistics is not None
    assert statistics.refused == 1


def test_what_must_not_be_refused_goes_into_a_full_lane_in_order(system: ManualSystem) -> None:
    ref, actor = system.recorder("/target", mailbox_limit=1)
    terminal = Asked()
    ref.tell("first")
    ref.tell(terminal)
    assert ref.offer(terminal) is Offer.ACCEPTED
    answer = ref.ask(terminal, block=False)
    ref.tell("refused")
    system.run()
    assert actor.seen == ["first", terminal, terminal, terminal]
    assert answer.get() is terminal


def test_what_must_not_be_refused_still_cannot_be_told_to_the_dead(system: ManualSystem) -> None:
    ref, _ = system.recorder("/target")
    ref.stop(block=False)
    system.run()
    ref.tell(Asked())
    assert system.dead_letters.counts[DeadLetterReason.DEAD] == 1


def test_asking_a_full_actor_is_answered_with_an_error_that_names_it(system: ManualSystem) -> None:
    ref, _ = system.recorder("/target", mailbox_limit=1)
    ref.tell("kept")
    answer = ref.ask("refused", block=False)
    with pytest.raises(MailboxFull, match="/target is full: 1 messages wait and its limit is 1"):
        answer.get()
    assert len(system.dead_letters) == 0


def test_a_system_message_to_the_dead_is_a_dead_letter(system: ManualSystem) -> None:
    ref, _ = system.recorder("/target")
    ref.stop(block=False)
    system.run()
    ref.tell_system("release")
    assert [letter.reason for letter in system.dead_letters.recent()] == [DeadLetterReason.DEAD]


def test_asks_left_in_a_closing_mailbox_are_answered(system: ManualSystem) -> None:
    ref, _ = system.recorder("/target")
    answers = [ref.ask(number, block=False) for number in range(3)]
    stops = [ref.stop(block=False) for _ in range(2)]
    system.run()
    for answer in answers:
        with pytest.raises(ActorDeadError, match="/target stopped before it handled the message"):
            answer.get()
    assert [stop.get() for stop in stops] == [True, True]
    assert ref.stop(block=False).get() is False
    assert len(system.dead_letters) == 0


def test_a_drained_actor_finishes_its_backlog_and_takes_nothing_new(system: ManualSystem) -> None:
    ref, actor = system.recorder("/target")
    ref.tell("backlog 1")
    ref.tell("backlog 2")
    ref.drain()
    ref.drain()
    ref.tell("too late")
    assert ref.offer("too late") is Offer.CLOSED
    with pytest.raises(ActorDeadError, match="takes no messages"):
        ref.ask("too late", block=False).get()
    assert ref.is_alive()
    system.run()
    assert actor.seen == ["backlog 1", "backlog 2"]
    assert actor.hooks == ["start", "stop"]
    assert not ref.is_alive()
    assert system.dead_letters.counts[DeadLetterReason.STOPPED_BEHIND] == 1


def test_a_drain_goes_behind_a_full_lane(system: ManualSystem) -> None:
    ref, actor = system.recorder("/target", mailbox_limit=1)
    ref.tell("only")
    ref.drain()
    system.run()
    assert actor.seen == ["only"]
    assert not ref.is_alive()


def test_draining_the_dead_does_nothing(system: ManualSystem) -> None:
    ref, actor = system.recorder("/target")
    ref.stop(block=False)
    system.run()
    ref.drain()
    system.run()
    assert actor.hooks == ["start", "stop"]


def test_dead_letters_keep_the_latest_and_count_all(system: ManualSystem) -> None:
    small = ManualSystem(dead_letter_capacity=2)
    ref, _ = small.recorder("/target")
    ref.stop(block=False)
    small.run()
    small.manual.advance(5.0)
    for message in ("a", 1, 2.0):
        ref.tell(message)
    assert [letter.message_type for letter in small.dead_letters.recent()] == ["int", "float"]
    assert [letter.time for letter in small.dead_letters.recent()] == [5.0, 5.0]
    assert small.dead_letters.counts[DeadLetterReason.DEAD] == 3
    assert len(small.events_of(DeadLetter)) == 3


def test_a_mailbox_that_refuses_is_reported_once_a_second(system: ManualSystem) -> None:
    ref, _ = system.recorder("/target", mailbox_limit=1)
    ref.tell("kept")
    for _ in range(5):
        ref.offer("refused")
    assert [event.refused for event in system.events_of(MailboxRefused)] == [1]
    system.manual.pass_time(1.0)
    ref.offer("refused")
    assert [event.refused for event in system.events_of(MailboxRefused)] == [1, 6]


def test_a_message_told_from_another_thread_wakes_the_actor(system: ManualSystem) -> None:
    ref, actor = system.recorder("/target")
    sender = threading.Thread(target=lambda: ref.tell("hello"))
    sender.start()
    sender.join()
    system.run()
    assert actor.seen == ["hello"]


def test_messages_told_in_the_constructor_wait_for_the_start(system: ManualSystem) -> None:
    class Eager(Recorder):
        def __init__(self) -> None:
            super().__init__()
            self.actor_ref.tell("from the constructor")

    actor = actor_of(system.spawn(Eager, path="/eager"))
    system.run()
    assert actor.hooks == ["start"]
    assert actor.seen == ["from the constructor"]


def test_pykkas_inbox_protocol_works_on_a_mailbox(system: ManualSystem) -> None:
    ref, actor = system.recorder("/target", mailbox_limit=2)
    inbox: Any = ref.actor_inbox
    answer: pykka.Future[str] = pykka.ThreadingFuture()
    inbox.put(pykka._envelope.Envelope("told"))
    inbox.put(pykka._envelope.Envelope("asked", reply_to=answer))
    refused: pykka.Future[str] = pykka.ThreadingFuture()
    inbox.put(pykka._envelope.Envelope("refused", reply_to=refused))
    inbox.put(pykka._envelope.Envelope("refused"))
    assert not inbox.empty()
    system.run()
    assert inbox.empty()
    assert actor.seen == ["told", "asked"]
    assert answer.get(timeout=0) == "asked"
    with pytest.raises(MailboxFull):
        refused.get(timeout=0)
    assert system.dead_letters.counts[DeadLetterReason.FULL] == 1
    unstarted = Recorder()
    unstarted.actor_inbox.put(pykka._envelope.Envelope("waiting"))
    assert unstarted.actor_inbox.get().message == "waiting"
