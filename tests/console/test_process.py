"""The process as its event loop sees it."""

from __future__ import annotations

from exai_actors.console.process import REMEMBERED, TICK_S, ProcessMeter
from exai_actors.runtime import ManualDriver


def test_lags_are_remembered_for_a_while_and_counted_for_ever() -> None:
    driver = ManualDriver()
    meter = ProcessMeter(driver, cpu=lambda: 0.0)
    stop = meter.start()
    for _ in range(20):
        driver.advance(TICK_S)
    assert meter.state(restarts=0, alarms=0).loop_lag_s < 0.001
    # The loop stands still: time passes, and no timer runs.
    driver.pass_time(TICK_S + 0.7)
    driver.run_until_idle()
    driver.advance(0.0)
    assert 0.69 < meter.state(restarts=0, alarms=0).loop_lag_s < 0.71
    for _ in range(REMEMBERED + 1):
        driver.advance(TICK_S)
    assert meter.state(restarts=0, alarms=0).loop_lag_s < 0.001
    slow = [
        count
        for bound, count in zip(meter.lags.bounds, meter.lags.counts, strict=False)
        if bound >= 0.5
    ]
    assert sum(slow) == 1
    assert meter.lags.count == 20 + 1 + REMEMBERED + 1
    stop()
    driver.advance(10.0)
    assert meter.lags.count == 20 + 1 + REMEMBERED + 1
