"""The context of a distributed trace, as clients send it."""

from __future__ import annotations

import pytest

from exai_actors.core.trace_context import TraceContext, trace_context

PARENT = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"


@pytest.mark.parametrize(
    ("state", "kept"),
    [
        (None, ""),
        ("congo=t61rcWkgMzE,rojo=00f067aa0ba902b7", "congo=t61rcWkgMzE,rojo=00f067aa0ba902b7"),
        ("a=" + "b" * 511, ""),
        ("a=b\r\nX-Evil: 1", ""),
        ("", ""),
        (7, ""),
        ("ü=1", ""),
    ],
)
def test_a_valid_parent_is_kept_with_a_state_that_a_header_can_hold(
    state: object, kept: str
) -> None:
    assert trace_context(PARENT, state) == TraceContext(PARENT, kept)


@pytest.mark.parametrize(
    "parent",
    [
        None,
        7,
        "",
        PARENT.upper(),
        PARENT + "-more",
        PARENT + "x",
        PARENT[:-1],
        "ff" + PARENT[2:],
        "00-" + "0" * 32 + "-00f067aa0ba902b7-01",
        "00-4bf92f3577b34da6a3ce929d0e0e4736-" + "0" * 16 + "-01",
        PARENT + "\r\nX-Evil: 1",
        PARENT + "\n",
        " " + PARENT,
    ],
)
def test_an_invalid_parent_is_ignored(parent: object) -> None:
    assert trace_context(parent, "a=b") is None


def test_fields_of_a_later_version_are_left_out() -> None:
    later = "01" + PARENT[2:]
    assert trace_context(later + "-new-field") == TraceContext(later)
    assert trace_context(later + "new-field") is None
