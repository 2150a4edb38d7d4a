"""Writes HTML in which every text is escaped, wherever it comes from."""

from __future__ import annotations

from html import escape

_VOID = frozenset({"br", "input", "link", "meta", "col"})


class Html(str):
    """Markup; every other string is text."""

    __slots__ = ()


Attribute = str | int | bool | None
"""True writes the name alone; False and None leave the attribute out."""


def element(name: str, attributes: dict[str, Attribute] | None = None, /, *children: str) -> Html:
    """An element with these children; those that are not ``Html`` are escaped."""
    written = "".join(
        f" {key}" if value is True else f' {key}="{escape(str(value))}"'
        for key, value in (attributes or {}).items()
        if value is not None and value is not False
    )
    if name in _VOID:
        return Html(f"<{name}{written}>")
    return Html(f"<{name}{written}>{joined(*children)}</{name}>")


def joined(*children: str) -> Html:
    """The children one after the other."""
    return Html("".join(child if isinstance(child, Html) else escape(child) for child in children))
