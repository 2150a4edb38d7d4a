"""A session without a grant for too long is served first, and others do not pay for it twice."""

from __future__ import annotations

from itertools import count, pairwise

from exai_actors.core.capacity.fair_queue import FairQueue
from exai_actors.ids import DEFAULT_TENANT, RequestKey, SessionId, TenantName


class Line:
    """A queue for one permit that is granted once a second."""

    def __init__(self, **settings: float | dict[TenantName, float]) -> None:
        self.queue: FairQueue[str] = FairQueue(100_000, **settings)  # type: ignore[arg-type]
        self.now = 0.0
        self._names = count()

    def put(
        self, session: str, tenant: str = DEFAULT_TENANT, cost: float = 1.0, times: int = 1
    ) -> None:
        flow = self.queue.flow(SessionId(session), TenantName(tenant))
        for _ in range(times):
            name = RequestKey(str(next(self._names)))
            assert self.queue.put(flow, name, session, cost, self.now)

    def grants(self, seconds: int) -> list[str]:
        served = []
        for _ in range(seconds):
            self.now += 1.0
            taken = self.queue.take(self.now)
            if taken is not None:
                served.append(taken)
        return served


def test_no_weight_is_so_small_that_its_sessions_starve() -> None:
    weights = {TenantName("tiny"): 0.001}
    line = Line(max_wait_s=20.0, weights=weights)
    line.put("poor", "tiny", times=20)
    line.put("rich", times=1000)
    served = line.grants(200)
    grants = [at for at, session in enumerate(served) if session == "poor"]
    assert len(grants) >= 8
    assert max(after - before for before, after in pairwise(grants)) <= 26


def test_without_the_guard_they_starve() -> None:
    line = Line(max_wait_s=1e9, weights={TenantName("tiny"): 0.001})
    line.put("poor", "tiny", times=20)
    line.put("rich", times=1000)
    assert line.grants(200).count("poor") == 1


def test_the_guard_gives_one_grant_in_four_at_most() -> None:
    tiny = [TenantName(f"tiny {number}") for number in range(3)]
    line = Line(max_wait_s=20.0, weights=dict.fromkeys(tiny, 0.001))
    for tenant in tiny:
        line.put("poor", tenant, times=50)
    line.put("rich", times=1000)
    served = line.grants(300)[len(tiny) :]
    by_guard = [at for at, session in enumerate(served) if session == "poor"]
    assert len(by_guard) >= 30
    assert min(after - before for before, after in pairwise(by_guard)) >= 4


def test_a_grant_by_the_guard_does_not_put_newcomers_behind() -> None:
    line = Line(max_wait_s=20.0, weights={TenantName("tiny"): 0.001})
    line.put("poor", "tiny", times=20)
    line.put("rich", times=1000)
    line.grants(100)
    line.put("new", "newcomers")
    assert "new" in line.grants(4)


def test_expensive_sessions_get_no_more_than_their_share_when_all_wait_long() -> None:
    line = Line(max_wait_s=60.0)
    for number in range(10):
        line.put(f"s{number}", cost=1.0 + 2.0 * number, times=1000)
    served = line.grants(2000)
    got = [served.count(f"s{number}") * (1.0 + 2.0 * number) for number in range(10)]
    assert sum(got) ** 2 / (10 * sum(each**2 for each in got)) > 0.99
