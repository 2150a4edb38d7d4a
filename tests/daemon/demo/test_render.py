from __future__ import annotations

import io
import re
from collections.abc import Mapping

import click
import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from exai_actors.daemon.demo.render import Style, picture, progress_line, summary
from exai_actors.daemon.demo.tally import SessionView, Snapshot
from exai_actors.daemon.demo.terminal import HIDE_CURSOR, SHOW_CURSOR, Display

GREEDY = SessionView("greedy", 24, 22, 60, 0, 0.75, 1.101, 1.214)
SMALL = SessionView("small", 2, 0, 20, 0, 0.25, 0.004, 0.198)
SNAPSHOT = Snapshot(
    elapsed=6.31,
    duration=10.0,
    limit=4,
    service_s=0.2,
    holders=("small", "greedy", "greedy"),
    peak=4,
    calls=83,
    refused=0,
    utilisation=0.996,
    rate=20.0,
    sessions=(GREEDY, SMALL),
)


def test_the_picture_shows_permits_waiting_requests_and_shares() -> None:
    assert picture(SNAPSHOT, Style(width=80)) == [
        "exai demo  limit 4, 200 ms a call: 20 requests/s are possible        6.3 of 10 s",
        "",
        "  upstream  ■ ■ ■ □  3 in flight, never more than 4; 99.6 % of the limit used",
        "  waiting   ■■■■■■■■■■■■■■■■■■■■■■",
        "  served    80 (20.0/s)   errors 0   refused upstream (429) 0",
        "",
        "  session   clients  waiting   served  share                  p50 wait  p99 wait",
        "  greedy         24       22       60  ███████████░░░░  75 %    1.10 s    1.21 s",
        "  small           2        0       20  ████░░░░░░░░░░░  25 %      4 ms    198 ms",
    ]


def test_the_summary_ends_with_the_counts_of_the_service() -> None:
    assert summary(SNAPSHOT, Style(width=80)) == [
        "                                greedy       small       total",
        "  clients                           24           2          26",
        "  requests served                   60          20          80",
        "  errors                             0           0           0",
        "  share of the provider           75 %        25 %",
        "  wait, median                  1.10 s        4 ms",
        "  wait, 99th percentile         1.21 s      198 ms",
        "",
        "  Counted by the service: at most 4 calls at once (limit 4),",
        "  0 refused with 429, 99.6 % of the limit used in 6.3 s.",
        "  In a single queue, every request would have waited 1.10 s.",
    ]


def test_a_narrow_terminal_shows_every_figure() -> None:
    style = Style(width=60)
    assert picture(SNAPSHOT, style) == [
        "exai demo  limit 4, 200 ms a call                6.3 of 10 s",
        "",
        "  upstream  ■ ■ ■ □  3 in flight; 99.6 % of the limit used",
        "  waiting   ■■■■■■■■■■■■■■■■■■■■■■",
        "  served    80 (20.0/s)   errors 0   429 0",
        "",
        "  session  clients waiting  served  share  p50 wait p99 wait",
        "  greedy        24      22      60    75 %   1.10 s   1.21 s",
        "  small          2       0      20    25 %     4 ms   198 ms",
    ]
    assert summary(SNAPSHOT, style) == [
        "                             greedy      small      total",
        "  clients                        24          2         26",
        "  requests served                60         20         80",
        "  errors                          0          0          0",
        "  share of the provider        75 %       25 %",
        "  wait, median               1.10 s       4 ms",
        "  wait, 99th percentile      1.21 s     198 ms",
        "",
        "  Counted by the service: at most 4 calls at once (limit 4),",
        "  0 refused with 429, 99.6 % of the limit used in 6.3 s.",
        "  In a single queue, every request would have waited 1.10 s.",
    ]


def test_a_plain_line_has_the_same_figures() -> None:
    assert progress_line(SNAPSHOT) == (
        " 6.3 s  served 80 (20.0/s), 3 of 4 in flight; greedy 60 (75 %, 22 waiting, "
        "p99 wait 1.21 s); small 20 (25 %, 0 waiting, p99 wait 198 ms)"
    )


def test_each_permit_has_the_colour_of_its_session() -> None:
    line = picture(SNAPSHOT, Style(width=80, colour=True))[2]
    assert line.count(click.style("■ ", fg="magenta")) == 2
    assert line.count(click.style("■ ", fg="cyan")) == 1


def test_colour_does_not_change_the_text() -> None:
    for plain, coloured in zip(
        [*picture(SNAPSHOT, Style()), *summary(SNAPSHOT, Style())],
        [*picture(SNAPSHOT, Style(colour=True)), *summary(SNAPSHOT, Style(colour=True))],
        strict=True,
    ):
        assert click.unstyle(coloured).rstrip() == plain.rstrip()


def test_errors_are_red() -> None:
    wrong = msgspec.structs.replace(SNAPSHOT, refused=3)
    assert click.style("errors 0   refused upstream (429) 3", fg="red") in "\n".join(
        picture(wrong, Style(width=120, colour=True))
    )


def test_without_unicode_the_picture_is_ascii() -> None:
    assert "".join(picture(SNAPSHOT, Style(unicode=False))).isascii()


@given(
    st.integers(1, 200),
    st.builds(
        SessionView,
        name=st.sampled_from(["greedy", "small"]),
        connections=st.integers(0, 10**6),
        waiting=st.integers(0, 500),
        served=st.integers(0, 10**9),
        failed=st.integers(0, 10**9),
        share=st.floats(0, 1),
        wait_p50=st.floats(0, 1e6),
        wait_p99=st.floats(0, 1e6),
    ),
)
def test_no_line_is_wider_than_the_terminal(width: int, session: SessionView) -> None:
    snapshot = msgspec.structs.replace(SNAPSHOT, sessions=(session,), holders=(session.name,) * 4)
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
        shown.show(SNAPSHOT)
        shown.show(SNAPSHOT)
        shown.finish(SNAPSHOT)
    return stream.getvalue()


def test_a_terminal_is_redrawn_in_place_and_its_cursor_restored() -> None:
    text = drawn({"TERM": "xterm"})
    lines = len(picture(SNAPSHOT, Style()))
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


def test_dumb_terminals_and_pipes_get_one_plain_line_per_second() -> None:
    assert "\x1b" not in drawn({"TERM": "dumb"})
    stream = io.StringIO()
    with Display(stream, {"TERM": "xterm"}) as shown:
        for tenth in range(31):
            shown.show(msgspec.structs.replace(SNAPSHOT, elapsed=tenth / 10))
        shown.finish(SNAPSHOT)
    text = stream.getvalue()
    assert "\x1b" not in text
    assert text.count("served 80 (20.0/s)") == 3
    assert text.endswith("every request would have waited 1.10 s.\n")
