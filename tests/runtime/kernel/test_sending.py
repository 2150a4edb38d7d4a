"""The two lanes, the limit, and messages that find no actor."""

from __future__ import annotations

import pytest

from exai_actors.runtime.kernel.cell import ActorCell
from exai_actors.runtime.kernel.errors import MailboxFull
from exai_actors.runtime.kernel.events import DeadLetter, DeadLetterReason, MailboxRefused
from exai_actors.runtime.kernel.requests import request_stop
from tests.runtime.kernel.probes import ManualSystem, Recorder, Unrefusable, ask


def test_messages_are_handled_in_order(system: ManualSystem) -> None:
    actor = system.recorder("/a")
    for number in range(200):
        actor.ref.tell(number)
    system.run()
    assert actor.seen == list(range(200))


def test_the_system_lane_goes_before_the_user_lane(system: ManualSystem) -> None:
    actor = system.recorder("/a")
    actor.ref.tell("user 1")
    actor.ref.tell("user 2")
    actor.ref.tell_system("system 1")
    actor.ref.tell_system("system 2")
    system.run()
    assert actor.seen == ["system 1", "system 2", "user 1", "user 2"]


def test_a_system_message_overtakes_the_rest_of_a_batch_under_way(system: ManualSystem) -> None:
    actor = system.recorder("/a")
    for number in range(20):
        actor.ref.tell(number)
    system.run()
    actor.seen.clear()
    cancel = lambda: actor.ref.tell_system("cancel")  # noqa: E731
    for message in (1, 2, cancel, "last"):
        actor.ref.tell(message)
    system.run()
    assert actor.seen == [1, 2, cancel, "cancel", "last"]


def test_an_offer_returns_whether_the_message_was_taken(system: ManualSystem) -> None:
    actor = system.recorder("/a", limit=2)
    offers = [actor.ref.offer(number) for number in range(3)]
    assert offers == ["accepted", "accepted", "full"]
    system.run()
    assert actor.seen == [0, 1]
    system.stop(actor.ref)
    assert actor.ref.offer("too late") == "closed"
    assert len(system.dead_letters) == 0


def test_a_mailbox_without_room_for_a_message_is_refused(system: ManualSystem) -> None:
    with pytest.raises(ValueError, match="limit of at least 1"):
        system.spawn(Recorder, "/a", limit=0)
    assert system.paths() == []


def test_telling_a_full_actor_raises_nothing_and_leaves_a_dead_letter(
    system: ManualSystem,
) -> None:
    actor = system.recorder("/a", limit=1)
    actor.ref.tell("kept")
    actor.ref.tell("refused")
    system.run()
    assert actor.seen == ["kept"]
    assert system.dead_letters.counts[DeadLetterReason.FULL] == 1


def test_an_unrefusable_message_goes_into_a_full_lane_in_order(system: ManualSystem) -> None:
    actor = system.recorder("/a", limit=1)
    message = Unrefusable()
    actor.ref.tell("first")
    actor.ref.tell(message)
    assert actor.ref.offer(message) == "accepted"
    answer = ask(actor.ref, message)
    actor.ref.tell("refused")
    system.run()
    assert actor.seen == ["first", message, message, message]
    assert answer.content is message


def test_an_unrefusable_message_to_an_ended_actor_is_a_dead_letter(system: ManualSystem) -> None:
    system.ended("/a").tell(Unrefusable())
    assert system.dead_letters.counts[DeadLetterReason.DEAD] == 1


def test_a_system_message_to_an_ended_actor_is_a_dead_letter(system: ManualSystem) -> None:
    system.ended("/a").tell_system("release")
    assert [letter.reason for letter in system.dead_letters.recent()] == [DeadLetterReason.DEAD]


def test_a_request_to_a_full_actor_is_answered_with_an_error_that_names_it(
    system: ManualSystem,
) -> None:
    actor = system.recorder("/a", limit=1)
    actor.ref.tell("kept")
    answer = ask(actor.ref, "refused")
    assert isinstance(answer.content, MailboxFull)
    assert str(answer.content) == "the mailbox of /a is full: 1 messages wait and its limit is 1"
    assert len(system.dead_letters) == 0


def test_a_request_to_an_ended_actor_is_answered_immediately(system: ManualSystem) -> None:
    answer = ask(system.ended("/a"), "hello")
    assert (answer.kind, answer.content) == (
        "dead",
        "Recorder /a (incarnation 1) takes no messages",
    )


def test_requests_left_in_a_closing_mailbox_are_answered(system: ManualSystem) -> None:
    actor = system.recorder("/a")
    answers = [ask(actor.ref, number) for number in range(3)]
    stops: list[bool] = []
    for _ in range(2):
        request_stop(actor.cell, stops.append)
    system.run()
    assert {(answer.kind, answer.content) for answer in answers} == {
        ("dead", "/a stopped before it handled the message")
    }
    request_stop(actor.cell, stops.append)
    assert stops == [True, True, False]
    assert len(system.dead_letters) == 0


def test_dead_letters_keep_the_latest_and_count_all() -> None:
    system = ManualSystem(dead_letter_capacity=2)
    ref = system.ended("/a")
    system.manual.advance(5.0)
    for message in ("a", 1, 2.0):
        ref.tell(message)
    assert [letter.message_type for letter in system.dead_letters.recent()] == ["int", "float"]
    assert [letter.time for letter in system.dead_letters.recent()] == [5.0, 5.0]
    assert system.dead_letters.counts[DeadLetterReason.DEAD] == 3
    assert len(system.events_of(DeadLetter)) == len(system.dead_letters) == 3


def test_a_mailbox_that_refuses_is_reported_once_a_second(system: ManualSystem) -> None:
    ref = system.recorder("/a", limit=1).ref
    ref.tell("kept")
    for _ in range(5):
        ref.offer("refused")
    system.manual.pass_time(1.0)
    ref.offer("refused")
    assert system.events_of(MailboxRefused) == [
        MailboxRefused(0.0, "/a", 1, limit=1, refused=1),
        MailboxRefused(1.0, "/a", 1, limit=1, refused=6),
    ]


def test_messages_sent_in_the_constructor_wait_for_the_start(system: ManualSystem) -> None:
    class Eager(Recorder):
        def __init__(self, cell: ActorCell) -> None:
            super().__init__(cell)
            self.ref.tell(lambda: self.hooks.append("message"))

    actor = system.spawn(Eager, "/a")
    system.run()
    assert actor.hooks == ["start", "message"]
