"""The alarms of the broker: the figures that raise each, and what clears it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, get_args

import pytest
from msgspec.structs import replace

from exai_actors.core.alarm_readings import (
    AlarmName,
    AlarmReadings,
    ProcessFigures,
    Thresholds,
    rules,
)
from exai_actors.core.calls import FailureKind
from exai_actors.core.observe.alarms import Alarm, Alarms
from exai_actors.core.observe.call_figures import CallFigures
from exai_actors.core.statistics import BrokerStatistics, MemoryStatistics, ProviderStatistics
from exai_actors.ids import ProviderName
from tests.idle_provider import IDLE

KIMI = ProviderName("kimi")


class Scene:
    """A broker whose figures the test sets, with its alarms."""

    def __init__(self, thresholds: Thresholds | None = None) -> None:
        self.provider = IDLE
        self.others: tuple[ProviderStatistics, ...] = (replace(IDLE, name="glm"),)
        self.process = ProcessFigures(0, 0.0, 0.1, (0.0, "/broker"))
        self.broker: dict[str, Any] = {}
        self.figures = CallFigures()
        self.now = 1000.0
        self.alarms = Alarms(rules(thresholds or Thresholds()))
        self._readings = AlarmReadings()
        self.texts: set[str] = set()
        self.look()

    def look(self, seconds: float = 1.0) -> list[tuple[str, str]]:
        """Let so many seconds pass, a look each; return the alarms that are raised."""
        statistics = BrokerStatistics("0", 1.0, 0, 0, False, 0, (self.provider, *self.others))
        statistics = replace(statistics, **self.broker)
        until = self.now + seconds
        while self.now < until:
            self.now += 1.0
            calls = {KIMI: self.figures}
            readings = list(self._readings.take(statistics, calls, self.process, self.now))
            self.texts = {each.text for each in readings}
            self.alarms.update(readings, self.now)
        return [(alarm.rule, alarm.subject) for alarm in self.raised]

    @property
    def raised(self) -> tuple[Alarm, ...]:
        return self.alarms.raised()

    def provider_is(self, **figures: Any) -> None:
        self.provider = replace(self.provider, **figures)

    def process_is(self, **figures: Any) -> None:
        self.process = replace(self.process, **figures)

    def broker_is(self, **figures: Any) -> None:
        self.broker = figures


def limited(scene: Scene, times: int) -> None:
    scene.figures.failures[FailureKind.RATE_LIMITED] += times


def waited(scene: Scene, *seconds: float) -> None:
    for each in seconds:
        scene.figures.waits.add(each)


def no_provider(scene: Scene) -> None:
    scene.provider_is(mode="paused")
    scene.others = ()


def draining(scene: Scene) -> None:
    no_provider(scene)
    scene.broker_is(draining=True)


Act = Callable[[Scene], object]

RAISED: dict[str, tuple[Act, str]] = {
    "no_usable_provider": (no_provider, ""),
    "provider_closed": (lambda scene: scene.provider_is(mode="closed"), "kimi"),
    "circuit_open": (lambda scene: scene.provider_is(circuit="open"), "kimi"),
    "provider_held": (
        lambda scene: scene.provider_is(held_for_s=9.0, held_because="quota"),
        "kimi",
    ),
    "rate_limited": (lambda scene: limited(scene, 10), "kimi"),
    "queue_full": (lambda scene: scene.provider_is(queued=9), "kimi"),
    "long_waits": (lambda scene: waited(scene, 1.0, 70.0), "kimi"),
    "restarts": (lambda scene: scene.process_is(restarts=3), ""),
    "dead_letters": (lambda scene: scene.broker_is(dead_letters=100), ""),
    "not_conserved": (lambda scene: scene.provider_is(free=1), "kimi"),
    "loop_lag": (lambda scene: scene.process_is(loop_lag_s=0.25), ""),
    "memory": (lambda scene: scene.process_is(memory_share=0.85), "process"),
    "mailbox_full": (lambda scene: scene.process_is(fullest=(0.85, "/sessions/7")), "/sessions/7"),
}

QUIET: dict[str, Act] = {
    "another provider is usable": lambda scene: scene.provider_is(mode="paused"),
    "a draining provider is deliberate": lambda scene: scene.provider_is(mode="draining"),
    "a draining broker is deliberate": draining,
    "a few refusals": lambda scene: limited(scene, 9),
    "other failures": lambda scene: scene.figures.failures.update({FailureKind.TIMEOUT: 50}),
    "a queue below its threshold": lambda scene: scene.provider_is(queued=8),
    "one long wait among many short ones": lambda scene: waited(scene, *[1.0] * 99, 70.0),
    "two restarts": lambda scene: scene.process_is(restarts=2),
    "a permit over a lowered limit": lambda scene: scene.provider_is(limit=1, free=2, over=1),
    "a loop a little late": lambda scene: scene.process_is(loop_lag_s=0.2),
}


@pytest.mark.parametrize(
    ("act", "text"),
    [
        (lambda scene: scene.process_is(restarts=3), "3 failed actors were started again in ten"),
        (lambda scene: scene.broker_is(dead_letters=100), "100 dead letters in a minute"),
        (lambda scene: limited(scene, 10), "10 refusals for its rate in a minute"),
    ],
)
def test_an_alarm_says_how_many(act: Act, text: str) -> None:
    scene = Scene()
    scene.look()
    act(scene)
    scene.look(5.0)
    assert scene.raised[0].text.startswith(text)


@pytest.mark.parametrize(
    ("counts", "texts"),
    [
        (
            {"restarts": 1},
            {"1 failed actor was started again in ten minutes", "0 dead letters in a minute"},
        ),
        (
            {"dead_letters": 1},
            {"0 failed actors were started again in ten minutes", "1 dead letter in a minute"},
        ),
    ],
)
def test_a_single_one_is_not_many(counts: dict[str, int], texts: set[str]) -> None:
    scene = Scene()
    scene.look()
    if "restarts" in counts:
        scene.process_is(**counts)
    else:
        scene.broker_is(**counts)
    scene.look()
    assert texts <= scene.texts


def test_every_alarm_is_tried() -> None:
    assert set(RAISED) == set(get_args(AlarmName)) == {rule.name for rule in rules(Thresholds())}


@pytest.mark.parametrize("name", RAISED)
def test_each_figure_raises_its_alarm_alone_with_a_text_and_clears_it_in_time(name: str) -> None:
    scene = Scene()
    assert scene.look(10) == []
    act, subject = RAISED[name]
    act(scene)
    assert scene.look(5) == [(name, subject)]
    (alarm,) = scene.raised
    assert alarm.text
    assert alarm.value >= alarm.threshold
    scene.provider, scene.others = IDLE, (replace(IDLE, name="glm"),)
    scene.process_is(loop_lag_s=0.0, memory_share=0.1, fullest=(0.0, "/broker"))
    assert scene.look(700) == []


@pytest.mark.parametrize("name", QUIET)
def test_daily_business_raises_nothing(name: str) -> None:
    scene = Scene()
    QUIET[name](scene)
    assert scene.look(60) == []


def test_violations_and_anomalies_count_even_if_the_books_balance_again() -> None:
    for figure in ("anomalies", "violations"):
        scene = Scene()
        scene.provider_is(**{figure: 1})
        assert scene.look(300) == [("not_conserved", "kimi")]
        assert scene.look(400) == []


def test_refusals_of_an_earlier_minute_do_not_count() -> None:
    scene = Scene()
    for _ in range(20):
        limited(scene, 1)
        scene.look(10)
    assert scene.raised == ()
    limited(scene, 5)
    assert scene.look() == [("rate_limited", "kimi")]


def test_half_of_the_refusals_that_raise_the_alarm_keep_it() -> None:
    scene = Scene()
    limited(scene, 10)
    assert scene.look() == [("rate_limited", "kimi")]
    for _ in range(6):
        scene.look(30)
        limited(scene, 3)
    assert scene.look() == [("rate_limited", "kimi")]
    scene.look(61)
    for _ in range(6):
        limited(scene, 2)
        scene.look(30)
    assert scene.look() == []


def test_a_provider_that_was_started_again_begins_at_zero() -> None:
    scene = Scene()
    limited(scene, 9)
    scene.look()
    scene.figures = CallFigures()
    assert scene.look() == []
    limited(scene, 1)
    assert scene.look() == [("rate_limited", "kimi")]


def test_short_buffers_are_short_memory() -> None:
    scene = Scene()
    scene.broker_is(memory=MemoryStatistics(alarm=True, buffered=7))
    assert scene.look() == [("memory", "buffers")]


def test_a_provider_without_models_is_not_usable() -> None:
    scene = Scene()
    scene.others = ()
    scene.provider_is(models=(), trouble="HTTP 401")
    assert scene.look(5) == [("no_usable_provider", "")]
    assert "HTTP 401" in scene.raised[0].text


def test_thresholds_are_configurable() -> None:
    scene = Scene(Thresholds(queue_share=0.3, wait_s=0.5))
    scene.provider_is(queued=3)
    waited(scene, 1.0)
    assert scene.look() == [("queue_full", "kimi"), ("long_waits", "kimi")]
