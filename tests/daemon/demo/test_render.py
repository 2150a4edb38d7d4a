from __future__ import annotations

import io
import re
from collections.abc import Mapping

import click
import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from exai_actors.daemon.demo.render import Style, events, picture, progress_line, summary
from exai_actors.daemon.demo.tally import Figures, SessionView, SlowDown, Snapshot, Vanished
from exai_actors.daemon.demo.terminal import HIDE_CURSOR, SHOW_CURSOR, Display

NONE = Figures(0, 0.0, 0.0, 0.0)
GREEDY = SessionView("greedy", 24, 20, 0, (Figures(87, 0.93, 1.03, 1.24), NONE))
SMALL = SessionView("small", 2, 2, 0, (Figures(7, 0.07, 1.0, 1.21), NONE))
FIRST = Snapshot(
    elapsed=3.31,
    duration=12.0,
    act=0,
    limit=4,
    service_s=0.2,
    holders=("small", "greedy", "greedy"),
    queue=("greedy", "greedy", "small", "greedy"),
    peak=4,
    refused=0,
    utilisation=0.996,
    served=94,
    rate=20.0,
    sessions=(GREEDY, SMALL),
)
LAST = msgspec.structs.replace(
    FIRST,
    elapsed=12.0,
    act=2,
    refused=1,
    sessions=(
        msgspec.structs.replace(GREEDY, acts=(GREEDY.acts[0], Figures(58, 0.66, 1.63, 1.84))),
        msgspec.structs.replace(SMALL, acts=(SMALL.acts[0], Figures(30, 0.34, 0.013, 0.214))),
    ),
    vanished=Vanished(9.7, 0.001, 0.058),
    slow_down=SlowDown(9.9, 1.0, 1.04),
)


def test_the_picture_shows_permits_the_queue_shares_and_waits() -> None:
    assert picture(FIRST, Style(width=80)) == [
        "exai demo  limit 4, 200 ms a call: 20 requests/s are possible        3.3 of 12 s",
        "",
        "  1 of 3    one queue for all 26 clients: first come, first served",
        "  service   ■ ■ ■ □  3 in flight, never more than 4; 99.6 % of the limit used",
        "  waiting   ■■■■",
        "  served    94 (20.0/s)   errors 0   answered 429: 0",
        "",
        "  session  clients waiting  one queue: share, wait     fair shares: share, wait",
        "  greedy        24      20   93 % ██████████   1.03 s",
        "  small          2       2    7 % ██████████   1.00 s",
    ]


def test_the_last_picture_compares_the_acts_and_reports_the_mishaps() -> None:
    assert picture(LAST, Style(width=80))[2:] == [
        "  3 of 3    mishaps: a client vanishes, then the service answers 429",
        "  service   ■ ■ ■ □  3 in flight, never more than 4; 99.6 % of the limit used",
        "  waiting   ■■■■",
        "  served    94 (20.0/s)   errors 0   answered 429: 1",
        "",
        "  session  clients waiting  one queue: share, wait     fair shares: share, wait",
        "  greedy        24      20   93 % ██████       1.03 s   66 % ██████████   1.63 s",
        "  small          2       2    7 % ██████       1.00 s   34 % █             13 ms",
        "",
        "   9.7 s  A client vanished in the middle of its call. The service saw the call",
        "          aborted after 1 ms and was full again after 58 ms.",
        "   9.9 s  The service answered 429 and asked for a pause of 1.00 s. The next",
        "          call came after 1.04 s.",
    ]


def test_the_summary_compares_the_acts_and_ends_with_the_counts_of_the_service() -> None:
    assert summary(LAST, Style(width=80)) == [
        "                                       one queue           fair shares",
        "                               greedy      small     greedy      small",
        "  clients                          24          2         24          2",
        "  requests served                  87          7         58         30",
        "  share                          93 %        7 %       66 %       34 %",
        "  median wait                  1.03 s     1.00 s     1.63 s      13 ms",
        "  99 % waited less             1.24 s     1.21 s     1.84 s     214 ms",
        "",
        "  Counted by the service: never more than 4 calls at once (limit 4), 99.6 % of",
        "  the limit used, one planned 429. The clients saw no errors.",
        "",
        "  In one queue, all wait equally long. With fair shares, a session waits behind",
        "  its own requests: the small one has only two, and gets all it asks for.",
    ]


def test_a_narrow_terminal_shows_every_comparison() -> None:
    style = Style(width=50)
    assert picture(LAST, style) == [
        "exai demo  limit 4, 200 ms a call     12.0 of 12 s",
        "",
        "  3 of 3    mishaps: a lost client, a 429",
        "  service   ■ ■ ■ □  at most 4; 99.6 % used",
        "  waiting   ■■■■",
        "  served    94 (20.0/s)   errors 0   429: 1",
        "",
        "  session       one queue    fair shares",
        "  greedy    93 %   1.03 s  66 %   1.63 s",
        "  small      7 %   1.00 s  34 %    13 ms",
        "",
        "   9.7 s  A client vanished in the middle of its",
        "  call. The service saw the call aborted after 1",
        "  ms and was full again after 58 ms.",
        "   9.9 s  The service answered 429 and asked for a",
        "  pause of 1.00 s. The next call came after 1.04",
        "  s.",
    ]
    assert summary(LAST, style)[:7] == [
        "                         one queue     fair shares",
        "                    greedy   small  greedy   small",
        "  clients               24       2      24       2",
        "  requests served       87       7      58      30",
        "  share               93 %     7 %    66 %    34 %",
        "  median wait       1.03 s  1.00 s  1.63 s   13 ms",
        "  99 % waited less  1.24 s  1.21 s  1.84 s  214 ms",
    ]


def test_a_summary_after_one_act_claims_nothing_of_the_other() -> None:
    text = "\n".join(summary(FIRST, Style(width=80)))
    assert "median wait                  1.03 s     1.00 s          -          -" in text
    assert "With fair shares" not in text
    assert "no 429" in text


@pytest.mark.parametrize(
    ("refused", "failed", "words"),
    [
        (0, 0, "0 times 429. The clients saw no errors."),
        (1, 0, "one planned 429. The clients saw no errors."),
        (3, 2, "3 times 429. The clients saw 4 errors."),
    ],
)
def test_errors_and_refusals_are_not_hidden(refused: int, failed: int, words: str) -> None:
    sessions = tuple(msgspec.structs.replace(each, failed=failed) for each in LAST.sessions)
    snapshot = msgspec.structs.replace(LAST, refused=refused, sessions=sessions)
    assert words in " ".join(" ".join(summary(snapshot, Style(width=120))).split())


def test_a_second_act_that_was_too_short_proves_nothing() -> None:
    sessions = (GREEDY, msgspec.structs.replace(SMALL, acts=(SMALL.acts[0], Figures(0, 0, 0, 0))))
    text = "\n".join(summary(msgspec.structs.replace(LAST, sessions=sessions), Style(width=200)))
    assert "gets all it asks for" not in text
    assert "too short for fair shares: exai demo --seconds 12 shows them" in text


def test_a_mishap_that_is_not_over_is_not_reported() -> None:
    going_on = msgspec.structs.replace(
        LAST, vanished=Vanished(9.7, 0.001), slow_down=SlowDown(9.9, 1.0)
    )
    assert list(events(going_on)) == []
    assert len(list(events(LAST))) == 2


def test_a_plain_line_has_the_figures_of_its_act() -> None:
    assert progress_line(FIRST) == (
        " 3.3 s  one queue: served 94 (20.0/s), 3 of 4 in flight, 4 waiting; "
        "greedy 93 % after 1.03 s, small 7 % after 1.00 s"
    )
    second = msgspec.structs.replace(FIRST, act=1)
    assert progress_line(second) == (
        " 3.3 s  fair shares: served 94 (20.0/s), 3 of 4 in flight, 4 waiting"
    )


def test_each_permit_and_request_has_the_colour_of_its_session() -> None:
    lines = picture(
        msgspec.structs.replace(LAST, queue=("small", "visitor")), Style(width=80, colour=True)
    )
    assert lines[3].count(click.style("■ ", fg="magenta")) == 2
    assert lines[3].count(click.style("■ ", fg="cyan")) == 1
    assert click.style("■", fg="cyan") + click.style("■", fg="yellow") in lines[4]


def test_colour_does_not_change_the_text() -> None:
    for plain, coloured in zip(
        [*picture(LAST, Style()), *summary(LAST, Style())],
        [*picture(LAST, Style(colour=True)), *summary(LAST, Style(colour=True))],
        strict=True,
    ):
        assert click.unstyle(coloured).rstrip() == plain.rstrip()


def test_errors_and_unplanned_refusals_are_red() -> None:
    wide = Style(width=120, colour=True)
    wrong = msgspec.structs.replace(LAST, refused=3)
    assert click.style("answered 429: 3", fg="red") in "\n".join(picture(wrong, wide))
    assert click.style("answered 429: 1", fg="red") not in "\n".join(picture(LAST, wide))


def test_without_unicode_the_picture_is_ascii() -> None:
    assert "".join(picture(LAST, Style(unicode=False))).isascii()


figures = st.builds(
    Figures,
    served=st.integers(0, 10**9),
    share=st.floats(0, 1),
    wait_p50=st.floats(0, 1e6),
    wait_p99=st.floats(0, 1e6),
)


@given(
    st.integers(1, 200),
    st.sampled_from([FIRST, LAST]),
    st.builds(
        SessionView,
        name=st.sampled_from(["greedy", "small"]),
        connections=st.integers(0, 10**6),
        waiting=st.integers(0, 500),
        failed=st.integers(0, 10**9),
        acts=st.tuples(figures, figures),
    ),
)
def test_no_line_is_wider_than_the_terminal(
    width: int, snapshot: Snapshot, session: SessionView
) -> None:
    snapshot = msgspec.structs.replace(snapshot, sessions=(session,), holders=(session.name,) * 4)
    style = Style(width=width)
    assert all(len(line) <= width for line in picture(snapshot, style) + summary(snapshot, style))


class Terminal(io.StringIO):
    """A stream that claims to be a terminal."""

    encoding = "utf-8"

    def isatty(self) -> bool:
        return True


def drawn(env: Mapping[str, str]) -> str:
    stream = Terminal()
    with Display(stream, env) as shown:
        shown.show(FIRST)
        shown.show(FIRST)
        shown.finish(FIRST)
    return stream.getvalue()


def test_a_terminal_is_redrawn_in_place_and_its_cursor_restored() -> None:
    text = drawn({"TERM": "xterm"})
    lines = len(picture(FIRST, Style()))
    assert text.count(f"\x1b[{lines}F") == 2
    assert "\x1b[2J" not in text
    assert text.startswith(HIDE_CURSOR)
    assert text.endswith(SHOW_CURSOR)


def test_the_cursor_is_restored_after_an_interrupt() -> None:
    stream = Terminal()
    with pytest.raises(KeyboardInterrupt), Display(stream, {"TERM": "xterm"}):
        raise KeyboardInterrupt
    assert stream.getvalue().endswith(SHOW_CURSOR)


def test_no_color_is_respected() -> None:
    assert re.search(r"\x1b\[3\dm", drawn({"TERM": "xterm"}))
    assert not re.search(r"\x1b\[\d+m", drawn({"TERM": "xterm", "NO_COLOR": "1"}))


def test_dumb_terminals_and_pipes_get_one_plain_line_per_second_and_each_mishap_once() -> None:
    assert "\x1b" not in drawn({"TERM": "dumb"})
    stream = io.StringIO()
    with Display(stream, {"TERM": "xterm"}) as shown:
        for tenth in range(31):
            snapshot = LAST if tenth > 15 else FIRST
            shown.show(msgspec.structs.replace(snapshot, elapsed=tenth / 10))
        shown.finish(LAST)
    text = stream.getvalue()
    assert "\x1b" not in text
    assert text.count("served 94 (20.0/s)") == 3
    assert text.count("A client vanished") == text.count("asked for a pause of 1.00 s") == 1
    assert text.endswith("gets all it asks for.\n")
