"""Probes record messages and report missing ones clearly."""

from __future__ import annotations

import asyncio
import threading

import pytest

from exai_actors.messages.recipient import Offer, Recipient
from exai_actors.testing.probe import Probe


def test_a_probe_is_a_recipient_and_keeps_messages_in_order() -> None:
    probe: Probe[int | str] = Probe()
    recipient: Recipient[int | str] = probe
    recipient.tell(1)
    recipient.tell_system("urgent")
    assert recipient.offer(2) == "accepted"
    assert probe.messages == [1, "urgent", 2]
    assert probe.system_messages == ["urgent"]


def test_each_message_is_read_once_and_in_order() -> None:
    probe: Probe[object] = Probe()
    probe.tell(1)
    probe.tell("a")
    assert probe.take(int) == 1
    assert probe.take(str) == "a"
    probe.expect_nothing()


def test_take_names_the_unexpected_message() -> None:
    probe: Probe[object] = Probe("session")
    with pytest.raises(AssertionError, match=r"session: no int, .*received nothing"):
        probe.take(int)
    probe.tell("a")
    with pytest.raises(AssertionError, match="session: expected int, got 'a'"):
        probe.take(int)
    with pytest.raises(AssertionError, match="expected nothing, got \\['a'\\]"):
        probe.expect_nothing()


def test_skip_to_skips_other_messages() -> None:
    probe: Probe[object] = Probe()
    for message in (1, 2, "a", 3):
        probe.tell(message)
    assert probe.skip_to(str) == "a"
    assert probe.unread == [3]
    with pytest.raises(AssertionError, match="no str unread; it received int, int, str, int"):
        probe.skip_to(str)


@pytest.mark.parametrize("answer", ["full", "closed"])
def test_a_refusing_probe_keeps_refused_messages_separately(answer: Offer) -> None:
    probe: Probe[int] = Probe(answer=answer)
    assert probe.offer(1) is answer
    probe.tell(2)
    assert (probe.messages, probe.refused) == ([], [1, 2])


def test_only_a_closed_probe_refuses_system_messages() -> None:
    probe: Probe[int] = Probe(answer="full")
    probe.tell_system(1)
    assert probe.messages == [1]
    probe.answer = "closed"
    probe.tell_system(2)
    assert probe.messages == [1]
    assert probe.refused == [2]


async def test_expect_waits_for_a_message_from_another_thread() -> None:
    probe: Probe[object] = Probe()
    waiting = asyncio.create_task(probe.expect(int))
    await asyncio.sleep(0)
    teller = threading.Thread(target=probe.tell, args=(7,))
    teller.start()
    assert await waiting == 7
    teller.join()


async def test_expect_eventually_skips_other_messages() -> None:
    probe: Probe[object] = Probe()
    waiting = asyncio.create_task(probe.expect_eventually(str))
    await asyncio.sleep(0)
    probe.tell(1)
    probe.tell("a")
    assert await waiting == "a"


async def test_an_expectation_that_times_out_shows_the_messages() -> None:
    probe: Probe[object] = Probe("provider")
    probe.tell(1)
    with pytest.raises(AssertionError, match=r"provider: no str within 0\.01 s; it received int"):
        await probe.expect_eventually(str, timeout_s=0.01)
