"""One session's requests: joined by name, counted while in flight, ended once."""

from __future__ import annotations

from math import inf

import pytest

from exai_actors.core.calls import CallOptions, Outcome, ToolResult
from exai_actors.core.routing import Route
from exai_actors.core.session.outcomes import OutcomeStore
from exai_actors.core.session.pieces import Pieces, Waiter
from exai_actors.core.session.requests import (
    MAX_WAITERS_AND_NAMES,
    ActiveRequest,
    Repeat,
    SessionRequests,
)
from exai_actors.core.session.window import EnterResult, Window
from exai_actors.core.tools.table import ChatRequest
from exai_actors.errors import ErrorBody, ErrorCode
from exai_actors.ids import ConnectionId, ConversationId, ProviderName, RequestKey
from tests.leftovers import leftovers

A, B, C = (RequestKey(name) for name in "abc")
KEY = RequestKey("order", "idempotency")
ONE, TWO = ConnectionId("one"), ConnectionId("two")
KIMI, GLM = ProviderName("kimi"), ProviderName("glm")
DONE = Outcome("completed", ToolResult(("done",)))
SERVER_ERROR = ErrorBody(ErrorCode.PROVIDER_ERROR, "broken")
FAILED = Outcome("failed", error=SERVER_ERROR)


class Read:
    """A sink that keeps the pieces."""

    def __init__(self) -> None:
        self.pieces: list[str] = []

    def write(self, text: str, /) -> None:
        self.pieces.append(text)

    def write_reasoning(self, text: str, /) -> bool:
        self.pieces.append(f"({text})")
        return True


SINK = Read()


def write(active: ActiveRequest, *texts: str) -> None:
    for text in texts:
        assert active.pieces is not None
        active.pieces.write(text)


def reader_of(active: ActiveRequest) -> Waiter | None:
    assert active.pieces is not None
    return active.pieces.reader


class Session:
    """The requests of a session, with the fields that these tests do not vary."""

    def __init__(self, *, window: int = 8, queue: int = 8, text_limit: float = inf) -> None:
        self.requests = SessionRequests(
            Window(window, conversation_limit=1, queue=queue),
            OutcomeStore(count=100, size=100_000, lifetime_s=60.0),
            text_limit,
        )

    def submit(
        self,
        name: RequestKey,
        prompt: str = "hi",
        *,
        connection: ConnectionId = ONE,
        key: RequestKey | None = None,
        now: float = 0.0,
    ) -> EnterResult | ActiveRequest | Outcome | Repeat:
        """As the actor does: recognise the request, or accept it as a new one."""
        arguments = ChatRequest(prompt)
        waiter = (connection, name)
        known = self.requests.recognise(waiter, hash(arguments), now, key, SINK)
        if known is not None:
            return known
        names = () if name.run else (name,)
        return self.accept(name, arguments, connection, names + ((key,) if key else ()))

    def accept(
        self,
        name: RequestKey,
        arguments: ChatRequest,
        connection: ConnectionId = ONE,
        names: tuple[RequestKey, ...] = (),
        deadline: float = 100.0,
    ) -> EnterResult:
        waiter = (connection, name)
        self.latest = ActiveRequest(
            number=0,
            run=self.requests.next_run(name),
            names=names,
            arguments=arguments,
            options=CallOptions(),
            route=Route(KIMI, "moon", Route(GLM, "star"), frozenset({"server_error"})),
            conversation=ConversationId("talk"),
            waiters=[waiter],
            pieces=Pieces({waiter: SINK}),
            deadline=deadline,
            timeout_s=deadline,
        )
        return self.requests.accept(self.latest)

    def started(self, name: RequestKey, prompt: str = "hi") -> ActiveRequest:
        assert self.submit(name, prompt) == "started"
        return self.latest

    def end(self, name: RequestKey, outcome: Outcome = DONE) -> list[ActiveRequest]:
        active = self.requests.find_named(name)
        assert active is not None
        return self.requests.end(active, outcome, 0.0)


def test_a_repeat_joins_the_request_in_flight_and_then_gets_its_outcome() -> None:
    session = Session()
    active = session.started(A)
    assert session.submit(A, connection=TWO) is active
    assert active.waiters == [(ONE, A), (TWO, A)]
    session.end(A)
    assert session.submit(A) == DONE


def test_another_call_under_the_name_of_one_in_flight_is_not_joined() -> None:
    session = Session()
    session.started(A, "one")
    assert session.submit(A, "two") is Repeat.OTHER_CALL


def test_a_name_may_be_used_again_for_another_call_after_the_end() -> None:
    session = Session()
    session.started(A, "one")
    session.end(A)
    assert session.submit(A, "two") == "started"
    # While the second is in flight, it is the one that the name means.
    assert session.submit(A, "one") is Repeat.OTHER_CALL
    session.end(A, FAILED)
    assert session.submit(A, "two") == FAILED
    assert session.submit(A, "one") == "started"


def test_the_earlier_outcome_stays_when_the_later_call_is_refused() -> None:
    session = Session()
    session.started(A, "one")
    session.end(A)
    session.submit(A, "two")
    session.end(A, Outcome("refused", error=SERVER_ERROR))
    assert session.submit(A, "one") == DONE


def test_a_name_that_joined_by_a_key_may_be_used_again_but_the_key_may_not() -> None:
    session = Session()
    session.submit(A, "one", key=KEY)
    session.submit(B, "one", key=KEY)
    session.end(A)
    assert session.submit(A, "two", key=KEY) is Repeat.KEY_OF_OTHER_CALL
    assert session.submit(B, "two") == "started"
    assert session.submit(A, "one") == DONE


def test_a_refusal_is_not_stored() -> None:
    session = Session()
    session.started(A)
    session.end(A, Outcome("refused", error=SERVER_ERROR))
    assert session.submit(A) == "started"


def test_a_request_that_was_abandoned_is_new_and_has_another_run() -> None:
    session = Session()
    first = session.started(A)
    session.requests.abandon(first)
    second = session.started(A)
    assert first.run != second.run
    assert session.requests.find(first.run) is None
    assert session.requests.find(second.run) is second


def test_each_run_of_a_request_is_found_by_its_own_key_only() -> None:
    session = Session()
    active = session.started(A)
    former = active.run
    session.requests.run_again(active)
    assert session.requests.find(former) is None
    assert session.requests.find(active.run) is session.requests.find_named(A) is active


def test_a_run_again_keeps_its_place_in_the_window() -> None:
    session = Session(window=1)
    active = session.started(A)
    assert session.submit(B) == "waiting"
    session.requests.run_again(active)
    assert [each.names for each in session.end(A)] == [(B,)]


def test_names_that_come_with_one_key_lead_to_one_request() -> None:
    session = Session()
    assert session.submit(A, key=KEY) == "started"
    active = session.latest
    assert session.submit(B, connection=TWO, key=KEY) is active
    assert session.submit(B) is active, "the name alone is enough from now on"
    session.end(A)
    for name in (A, B, C):
        assert session.submit(name, key=KEY) == DONE
    assert session.submit(C) == DONE


def test_a_name_without_an_id_does_not_become_a_name_of_the_request() -> None:
    session = Session()
    generated = RequestKey("", "generated", 1)
    session.submit(A, key=KEY)
    assert session.submit(generated, key=KEY) is session.latest
    assert session.latest.names == (A, KEY)
    session.end(A)
    assert session.submit(generated, key=KEY) == DONE
    assert not session.requests.is_known(generated)


def test_a_key_of_another_call_is_reported_as_such() -> None:
    session = Session()
    session.submit(A, "one", key=KEY)
    assert session.submit(B, "two", key=KEY) is Repeat.KEY_OF_OTHER_CALL
    assert session.requests.find_named(B) is None


def test_a_bounded_number_of_waiters_and_names_joins_by_one_key() -> None:
    session = Session()
    session.submit(A, key=KEY)
    joined = 0
    while session.submit(RequestKey(str(joined)), key=KEY) is session.latest:
        joined += 1
    assert session.submit(B, key=KEY) is Repeat.TOO_OFTEN
    assert joined == MAX_WAITERS_AND_NAMES // 2
    assert session.submit(A, key=KEY) is session.latest, "a known name needs no room"


@pytest.mark.parametrize("how", ["end", "abandon"])
def test_the_text_of_a_request_counts_only_while_it_is_in_flight(how: str) -> None:
    session = Session(text_limit=1000)
    session.started(A, "x" * 600)
    if how == "end":
        session.end(A)
    else:
        session.requests.abandon(session.latest)
    session.started(B, "x" * 600)
    assert session.submit(C, "x" * 401) == "too much text"
    assert session.submit(C, "x" * 400) == "started"


def test_the_text_of_images_counts_as_well() -> None:
    session = Session(text_limit=10)
    images = ("12345", "123")
    assert session.accept(A, ChatRequest("x", images=images)) == "started"
    assert session.accept(B, ChatRequest("xx")) == "too much text"
    assert session.accept(B, ChatRequest("x")) == "started"


def test_one_request_alone_may_hold_more_text_than_the_limit() -> None:
    session = Session(text_limit=10)
    assert session.submit(A, "x" * 11) == "started"
    assert session.submit(B, "x") == "too much text"


def test_a_request_that_finds_the_queue_full_leaves_nothing() -> None:
    session = Session(window=1, queue=0, text_limit=10)
    session.started(A, "x" * 5)
    assert session.submit(B, "x" * 5) == "full"
    assert session.requests.find_named(B) is None
    session.end(A)
    session.started(B, "x" * 5)
    session.end(B)
    assert set(leftovers(session.requests)) == {"_outcomes.kept"}


def test_a_request_that_ends_makes_room_for_the_next() -> None:
    session = Session(window=1)
    session.started(A)
    assert session.submit(B) == "waiting"
    assert session.requests.waiting == 1
    (started,) = session.end(A)
    assert started.names == (B,)
    assert session.requests.active() == (started,)


def test_a_connection_that_leaves_deserts_its_own_requests() -> None:
    session = Session()
    shared = session.started(A)
    session.submit(A, connection=TWO)
    mine = session.started(B)
    assert session.requests.leave(ONE) == (mine,)
    assert shared.waiters == [(TWO, A)]
    assert session.requests.read_by((TWO, A)) is shared
    assert session.requests.leave(ONE) == ()


def test_requests_are_found_by_reader_and_by_provider() -> None:
    session = Session()
    mine = session.started(A)
    session.submit(B, connection=TWO)
    theirs = session.latest
    assert session.requests.read_by((ONE, A)) is mine
    assert session.requests.read_by((ONE, B)) is None
    assert session.requests.at(KIMI) == ()
    mine.at_provider = theirs.at_provider = True
    theirs.route = Route(GLM, "star")
    assert session.requests.at(KIMI) == (mine,)
    assert session.requests.at(GLM) == (theirs,)
    session.submit(A, connection=TWO)
    write(mine, "one")
    mine.leave((ONE, A))
    assert session.requests.read_by((ONE, A)) is None
    assert session.requests.read_by((TWO, A)) is None


def test_a_request_that_ends_takes_no_more_pieces() -> None:
    for end in (Session.end, lambda session, _: session.requests.abandon(session.latest)):
        session, read = Session(), Read()
        active = session.started(A)
        pieces = active.pieces
        assert pieces is not None
        active.join((TWO, A), read)
        active.leave((ONE, A))
        pieces.write("one")
        end(session, A)
        pieces.write("late")
        assert read.pieces == ["one"]


def test_the_pieces_of_an_earlier_run_are_ignored() -> None:
    session, read = Session(), Read()
    active = session.started(A)
    active.join((TWO, A), read)
    active.leave((ONE, A))
    earlier = active.pieces
    session.requests.run_again(active)
    assert earlier is not None
    earlier.write("late")
    assert active.piece_count == 0
    write(active, "one")
    assert read.pieces == ["one"]


def test_those_whose_reader_is_full_are_found() -> None:
    session = Session()
    full, _ = session.started(A), session.started(B)
    assert full.pieces is not None
    full.pieces.is_full = True
    assert session.requests.full() == [full]


def test_overdue_requests_come_in_the_order_of_their_deadlines() -> None:
    session = Session()
    assert session.requests.next_deadline() is None
    for name, deadline in ((A, 3.0), (B, 1.0), (C, 5.0)):
        session.accept(name, ChatRequest("hi"), names=(name,), deadline=deadline)
    assert session.requests.next_deadline() == 1.0
    assert [each.names for each in session.requests.overdue(3.0)] == [(B,), (A,)]
    assert session.requests.overdue(0.9) == ()


class TestActiveRequest:
    def request(self, *, at_provider: bool = False) -> ActiveRequest:
        active = Session().started(A)
        active.at_provider = at_provider
        return active

    def test_a_waiter_joins_once(self) -> None:
        active, waiter = self.request(), (TWO, A)
        active.join(waiter, SINK)
        active.join(waiter, SINK)
        assert active.waiters == [(ONE, A), waiter]
        assert reader_of(active) == (ONE, A)

    @pytest.mark.parametrize(("chunks", "reader"), [(0, (TWO, A)), (1, None)])
    def test_the_next_waiter_becomes_the_reader_until_the_first_chunk(
        self, chunks: int, reader: Waiter | None
    ) -> None:
        active = self.request()
        active.join((TWO, A), SINK)
        write(active, *["piece"] * chunks)
        active.leave((ONE, A))
        assert reader_of(active) == reader

    @pytest.mark.parametrize(("chunks", "reader"), [(0, (TWO, A)), (1, None)])
    def test_a_late_waiter_becomes_the_reader_until_the_first_chunk(
        self, chunks: int, reader: Waiter | None
    ) -> None:
        active = self.request()
        active.leave((ONE, A))
        write(active, *["piece"] * chunks)
        active.join((TWO, A), SINK)
        assert reader_of(active) == reader

    def test_a_waiter_that_wants_no_pieces_is_no_reader(self) -> None:
        active = self.request()
        active.join((TWO, A), None)
        active.leave((ONE, A))
        assert reader_of(active) is None
        active.join((ONE, A), SINK)
        assert reader_of(active) == (ONE, A)

    def test_another_waiter_that_leaves_does_not_change_the_reader(self) -> None:
        active = self.request()
        active.join((TWO, A), SINK)
        active.leave((TWO, A))
        assert reader_of(active) == (ONE, A)

    def test_a_reason_of_the_route_leads_to_the_next_target(self) -> None:
        active = self.request(at_provider=True)
        assert active.try_next_target("server_error", SERVER_ERROR)
        assert (active.route, active.at_provider) == (Route(GLM, "star"), False)
        assert active.tried == (
            {"provider": KIMI, "model": "moon", "code": "PROVIDER_ERROR", "message": "broken"},
        )

    def test_the_last_target_is_described_as_well(self) -> None:
        active = self.request()
        active.try_next_target("server_error", SERVER_ERROR)
        assert not active.try_next_target("server_error", SERVER_ERROR)
        assert [each["provider"] for each in active.tried] == [KIMI, GLM]

    @pytest.mark.parametrize(("reason", "sequence"), [("busy", 0), (None, 0), ("server_error", 1)])
    def test_other_reasons_and_a_begun_answer_end_it(
        self, reason: str | None, sequence: int
    ) -> None:
        active = self.request()
        write(active, *["piece"] * sequence)
        assert not active.try_next_target(reason, SERVER_ERROR)
        assert active.route.provider == KIMI
        assert len(active.tried) == 1

    def test_a_request_without_a_route_describes_no_targets(self) -> None:
        active = self.request()
        active.route = Route(KIMI, "moon")
        assert not active.try_next_target("server_error", SERVER_ERROR)
        assert active.tried == ()
